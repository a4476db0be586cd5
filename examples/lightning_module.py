"""CDS in Lightning (pip install lightning): views are made on the device, eval mode returns logits.

python examples/lightning_module.py
"""

import lightning as L
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from toy import CLASSES, toy_images

from cds_lib import CDS
from cds_lib.augment import normalise, two_views
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD


class LightningCDS(L.LightningModule):
    """CDS on batches (images (B, 3, S, S) uint8, labels (B,)). gather: whether to contrast images of all devices."""

    def __init__(self, name: str, num_classes: int, lr: float = 3e-3, gather: bool = False):
        super().__init__()
        self.save_hyperparameters()
        self.model = CDS(timm.create_model(name, num_classes=num_classes), num_classes, gather=gather)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        images, labels = batch
        losses = self.model(*two_views(images), labels)
        self.log_dict({f"train_{name}": loss for name, loss in losses.items()})
        return sum(losses.values())

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        images, labels = batch
        logits = self.model(normalise(images, CIFAR_MEAN, CIFAR_STD))
        self.log("accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_optimizer_v2(self.model, "adamw", lr=self.hparams.lr, weight_decay=0.05)


def main(epochs: int = 4) -> float:
    """Train and return the accuracy, 0 to 1, on unseen images."""
    L.seed_everything(0)
    training, unseen = (TensorDataset(*toy_images(seed=seed)) for seed in (0, 1))
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(LightningCDS("test_resnet", CLASSES), DataLoader(training, 32, shuffle=True), DataLoader(unseen, 64))
    return trainer.callback_metrics["accuracy"].item()


if __name__ == "__main__":
    print("accuracy", main())
