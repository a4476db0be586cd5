"""CDS with timm's optimizer (layer decay), schedule, label smoothing and EMA.  python examples/timm_style.py"""

import timm
import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy
from toy import CLASSES, toy_images

from cds_lib import CDS
from cds_lib.augment import Batches, Colour, PaddedView, evaluation_batches


def main(epochs: int = 4) -> float:
    """Train and return the accuracy, 0 to 1, of the averaged weights on unseen images."""
    torch.manual_seed(0)
    plain, strong = PaddedView(cutout=True), PaddedView(colour=Colour((0.6, 0.6, 0.6, 0.1), blur_p=0.3))
    batches = Batches(*toy_images(), batch_size=32, seed=0, augmentation=(plain, strong))
    network = timm.create_model("test_resnet", num_classes=CLASSES)
    model = CDS(network, num_classes=CLASSES, criterion=LabelSmoothingCrossEntropy(0.1))
    optimizer = create_optimizer_v2(model, "adamw", lr=3e-3, weight_decay=0.05, layer_decay=0.9)
    schedule, _ = create_scheduler_v2(optimizer, "cosine", num_epochs=epochs, warmup_epochs=1, warmup_lr=1e-4)
    average = ModelEmaV3(model, decay=0.95, use_warmup=True)
    for epoch in range(epochs):
        schedule.step(epoch)
        for step, ((view1, view2), labels, _) in enumerate(batches.epoch(epoch)):
            loss = sum(model(view1, view2, labels).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update(model, step=epoch * len(batches) + step)
        print(epoch + 1, f"{loss.item():.3f}")
    average.module.eval()
    with torch.inference_mode():
        images, labels = next(evaluation_batches(*toy_images(seed=1), batch_size=256))
        return accuracy(average.module(images), labels)[0].item() / 100


if __name__ == "__main__":
    print("accuracy", main())
