"""How well are the classes separated at each stage, in the feature space that the t-SNE figures are drawn from?"""

from cds_lib.study.plan.table import Table
from cds_lib.study.tables._headline import STAGES, measured

TABLE = Table(
    title="t-SNE of the four stages of ResNet-18 on CIFAR-100",
    question="Are the classes further apart in the stages of a network that was trained with contrastive deep "
    "supervision?",
    unpublished="no such figure is on the poster",
    build=lambda profile: [
        cell
        for measure in ("knn", "silhouette")
        for stage in STAGES
        for cell in measured(profile, f"{measure}_{stage}", "tsne")
    ],
)
