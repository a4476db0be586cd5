from cds_lib import augment as augment
from cds_lib import losses as losses
from cds_lib import methods as methods
from cds_lib import models as models
from cds_lib.cds import CDS as CDS
from cds_lib.cds import ContrastiveDeepSupervision as ContrastiveDeepSupervision
from cds_lib.export import export_backbone as export_backbone
from cds_lib.losses.contrastive import SupConLoss as SupConLoss
from cds_lib.losses.contrastive import supcon_loss as supcon_loss

__version__: str
