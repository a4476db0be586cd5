"""CDS in your own training loop: images in memory, a timm network, plain PyTorch.    python examples/plain_loop.py"""

from pathlib import Path

import timm
import torch
from toy import CLASSES, toy_images

import cds_lib
from cds_lib.augment import Batches, evaluation_batches


def main(epochs: int = 4, out: Path = Path("network.safetensors")) -> float:
    """Train, export the network and return its accuracy, 0 to 1, on unseen images."""
    torch.manual_seed(0)
    batches = Batches(*toy_images(), batch_size=32, seed=0)  # both views are made on the images' device
    model = cds_lib.CDS(timm.create_model("test_resnet", num_classes=CLASSES), num_classes=CLASSES)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=epochs * len(batches))
    for epoch in range(epochs):
        for (view1, view2), labels, _ in batches.epoch(epoch):
            losses = model(view1, view2, labels)  # by name: the cross-entropy, and one per tap
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            schedule.step()
        print(epoch + 1, {name: round(loss.item(), 3) for name, loss in losses.items()})
    cds_lib.export_backbone(model, out)  # the network alone, under timm's names

    network = timm.create_model("test_resnet", num_classes=CLASSES, checkpoint_path=str(out)).eval()
    right = 0
    with torch.inference_mode():
        for images, labels in evaluation_batches(*toy_images(seed=1), batch_size=64):
            right += (network(images).argmax(1) == labels).sum().item()
    return right / 256


if __name__ == "__main__":
    print("accuracy", main())
