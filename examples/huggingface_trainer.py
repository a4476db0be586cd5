"""CDS in Hugging Face's Trainer (pip install transformers accelerate): CDS losses in training, logits in evaluation.

python examples/huggingface_trainer.py
"""

import tempfile

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy import CLASSES, toy_images
from transformers import EvalPrediction, Trainer, TrainingArguments

from cds_lib import CDS
from cds_lib.augment import normalise, two_views
from cds_lib.augment.pixels import CIFAR_MEAN, CIFAR_STD


class ForTrainer(nn.Module):
    """Adapt CDS to Trainer: pixel_values (B, 3, S, S) uint8 and labels (B,) give "loss" and, in eval mode, "logits"."""

    def __init__(self, model: CDS):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.training:
            return {"loss": sum(self.model(*two_views(pixel_values), labels).values())}
        logits = self.model(normalise(pixel_values, CIFAR_MEAN, CIFAR_STD))
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def accuracy(found: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main(epochs: int = 4) -> float:
    """Train and return the accuracy, 0 to 1, on unseen images."""
    torch.manual_seed(0)
    training, unseen = (
        [{"pixel_values": image, "labels": label} for image, label in zip(*toy_images(seed=seed), strict=True)]
        for seed in (0, 1)
    )
    model = ForTrainer(CDS(timm.create_model("test_resnet", num_classes=CLASSES), num_classes=CLASSES))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, per_device_train_batch_size=32, learning_rate=3e-3, weight_decay=0.05,
            report_to="none", save_strategy="no", use_cpu=True, seed=0, disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=training, eval_dataset=unseen, compute_metrics=accuracy)
        trainer.train()
        return trainer.evaluate()["eval_accuracy"]


if __name__ == "__main__":
    print("accuracy", main())
