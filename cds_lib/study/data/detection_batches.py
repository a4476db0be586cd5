"""Batches for detectors: images of similar shape, mirrored at random, decoded by worker processes during training."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from cds_lib.augment.batches import ORDER, VIEW1, epoch_generator
from cds_lib.augment.share import WHOLE, Share
from cds_lib.errors import UsageError
from cds_lib.study.data.coco import CocoImage
from cds_lib.study.data.stream import Decoder, decode, in_order

FLIP_P = 0.5

Target = dict[str, Tensor]


class DetectionBatches:
    """Training batches: every image once an epoch; wide and tall images are not mixed, to save padding.

    Args:
        images: with at least one object each; crowds are not trained on.
        batch_size: the last batch of each shape may be smaller.
        seed: decides all randomness, together with the epoch.
        device: device of the images and targets.
        workers: decoding processes, 0 for this process; the batches are the same.
        share: part of every batch that is decoded here. If it is empty, because a last batch holds fewer images than
            there are processes, the batch's first image is used but does not count: see `training.distributed`.

    Raises:
        UsageError: there is no image. RunError, while iterating, names an image that cannot be decoded or has another
            size than in its annotations.
    """

    def __init__(
        self,
        images: Sequence[CocoImage],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        workers: int,
        share: Share = WHOLE,
    ):
        if not images:
            raise UsageError("There is no image with an object to train on; import COCO with its annotations.")
        self.images = list(images)
        self.batch_size, self.seed, self.share = batch_size, seed, share
        self.device, self.decoder = device, Decoder(_Pixels(self.images), device, workers, list)
        tall = np.array([image.height > image.width for image in self.images])
        self.shapes = [np.flatnonzero(tall), np.flatnonzero(~tall)]

    def __len__(self) -> int:
        """Batches an epoch."""
        return sum(-(-len(shape) // self.batch_size) for shape in self.shapes)

    def epoch(self, epoch: int) -> Iterator[tuple[tuple[list[Tensor]], list[Target], Tensor]]:
        """Yield ((images,), targets, index). Images are (3, H, W) float32 in 0..1. A target is {"boxes" (N, 4) float32
        corners, "labels" (N,) int64}. index (B,) int64: positions in the training set of the whole batch's images."""
        generator = epoch_generator(self.seed, epoch, ORDER, "cpu")
        flip = torch.rand(len(self.images), generator=epoch_generator(self.seed, epoch, VIEW1, "cpu")) < FLIP_P
        batches: list[list[int]] = []
        for shape in self.shapes:
            order = shape[torch.randperm(len(shape), generator=generator).numpy()].tolist()
            batches += [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        owned = [batch[self.share.of(len(batch))] or batch[:1] for batch in batches]
        for index, own, images in zip(batches, owned, self.decoder.batches(owned), strict=True):
            targets = [_target(self.images[i]) for i in own]
            for position, i in enumerate(own):
                if flip[i]:
                    images[position] = images[position].to(self.device, non_blocking=True).flip(2)
                    targets[position]["boxes"] = _mirrored(targets[position]["boxes"], self.images[i].width)
            kept = [{key: target[key][~target["iscrowd"]] for key in ("boxes", "labels")} for target in targets]
            yield (_floats(images, self.device),), _moved(kept, self.device), torch.tensor(index)


class DetectionEvaluation:
    """Evaluation batches: every image once, in order, with all its objects, crowds included."""

    def __init__(self, images: Sequence[CocoImage], *, batch_size: int, device: torch.device, workers: int):
        self.images, self.device, self.order = images, device, in_order(len(images), batch_size)
        self.decoder = Decoder(_Pixels(images), device, workers, list)

    def __iter__(self) -> Iterator[tuple[list[Tensor], list[Target]]]:
        for index, pixels in zip(self.order, self.decoder.batches(self.order), strict=True):
            yield _floats(pixels, self.device), _moved([_target(self.images[i]) for i in index], self.device)


class _Pixels(Dataset):
    """Image i as (3, H, W) uint8. Holds no objects, because every worker is sent a copy of the data set."""

    def __init__(self, images: Sequence[CocoImage]):
        self.images = [(image.file, (image.width, image.height)) for image in images]

    def __getitem__(self, index: int) -> Tensor:
        file, size = self.images[index]
        return torch.from_numpy(file) if isinstance(file, np.ndarray) else TF.pil_to_tensor(decode(file, size))


def _target(image: CocoImage) -> Target:
    fields = {"boxes": image.boxes, "labels": image.labels, "area": image.area, "iscrowd": image.crowd}
    return {key: torch.from_numpy(value.copy()) for key, value in fields.items()}


def _mirrored(boxes: Tensor, width: int) -> Tensor:
    left, top, right, bottom = boxes.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)


def _floats(images: list[Tensor], device: torch.device) -> list[Tensor]:
    return [image.to(device, non_blocking=True).float().div_(255) for image in images]


def _moved(targets: list[Target], device: torch.device) -> list[Target]:
    return [{key: value.to(device, non_blocking=True) for key, value in target.items()} for target in targets]
