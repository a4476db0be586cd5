"""A visit to a device: its description, the images for the checks, and the results as lines of JSON and as a table."""

import contextlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor

from cds_lib.errors import UsageError

CLASSES = 100


@dataclass
class Visit:
    """The device, the data, the time limit, and the results so far."""

    device: torch.device
    small: bool
    images: list[Tensor]  # training images (N, 3, 32, 32) uint8 and labels, test images and labels; on the device
    real: bool = False
    ends: float = math.inf
    results: list[dict[str, Any]] = field(default_factory=list)
    step_seconds: float = math.inf  # the fastest CDS step seen
    compiled: bool = False  # whether the fastest step was compiled

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def say(
        self, check: str, what: str, value: Any, low: float = 0, high: float | None = None, expected: str = ""
    ) -> None:
        """Record and print a result. If `high` is given, it must lie in [low, high]. expected: the speed on an H100."""
        result = {"check": check, "what": what, "value": value}
        if high is not None:
            result |= {"range": [low, high], "ok": bool(low <= value <= high)}
        if expected and self.gpu:
            result |= {"expected": expected}
        self.results.append(result)
        print(json.dumps(result), flush=True)

    def now(self) -> float:
        """Return the time, once the device has finished its work."""
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def milliseconds(self, call: Callable[[], Any], times: int) -> float:
        """Return the mean milliseconds of a number of calls, after two warm-up calls."""
        for _ in range(2):
            call()
        began = self.now()
        for _ in range(times):
            call()
        return 1e3 * (self.now() - began) / times


def load(folder: Path | None, device: torch.device, small: bool) -> tuple[list[Tensor], str]:
    """Return training images and labels, test images and labels, and a note on where they are from."""
    if folder is None:
        counts, random = (100, 20) if small else (12_800, 2_000), np.random.default_rng(0)
        arrays = [
            made
            for count in counts
            for made in (random.integers(0, 256, (count, 3, 32, 32), np.uint8), random.integers(CLASSES, size=count))
        ]
        note = "random images: no loss or accuracy of them means anything"
    elif (folder / "labels.npz").exists():
        arrays, note = _sheets(folder), f"sheets of images in {folder.name}"
    else:
        from cds_lib.study.data import sets  # needs the packages of the study

        data = sets.load("cifar100", folder, "real", 32)
        arrays = [data.train_images, data.train_labels, data.test_images, data.test_labels]
        note = data.provenance["note"]
    every = [max(1, len(arrays[0]) // 100), max(1, len(arrays[2]) // 20)] if small else [1, 1]
    arrays = [array[:: every[part // 2]] for part, array in enumerate(arrays)]
    note = f"{len(arrays[0]):,} training and {len(arrays[2]):,} test images: {note}"
    return [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays], note


def _sheets(folder: Path) -> list[np.ndarray]:
    """Read CIFAR packed as sheets of 1,000 images, 25 columns and 40 rows: train_00.webp (or .png), ..., test_00.webp,
    ..., with y_train and y_test in labels.npz. A folder with only a part of the sheets must have the first ones."""
    labels, arrays = np.load(folder / "labels.npz"), []
    for part in ("train", "test"):
        files = sorted(file for file in folder.glob(f"{part}_*") if file.suffix in (".webp", ".png"))
        sheets = [np.asarray(Image.open(file).convert("RGB")).reshape(-1, 32, 25, 32, 3) for file in files]
        if not sheets:
            raise UsageError(f"There is no sheet {part}_00.webp in {folder}: give the folder of a packed CIFAR.")
        images = np.concatenate([sheet.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32) for sheet in sheets])
        arrays += [images, labels[f"y_{part}"][: len(images)].astype(np.int64)]
    return arrays


def machine(device: torch.device) -> dict[str, str]:
    """Return the hardware and versions that decide the speed."""
    found = {
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else f"none ({platform.machine()} CPU)",
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
        "driver": "none",
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
    }
    if device.type == "cuda":
        found["bfloat16"] = str(torch.cuda.is_bf16_supported(including_emulation=False))
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            found["driver"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    return found


def table(visit: Visit, about: str) -> str:
    """Return all results as a Markdown table."""
    lines = [f"{about}. What is expected, of an H100, was reasoned, not measured.\n"]
    lines += ["| check | what | value | must be in | expected | |", "|---|---|---:|---|---|---|"]
    for result in visit.results:
        value, verdict = result["value"], {True: "ok", False: "**missed**", None: ""}[result.get("ok")]
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        cells = (result["check"], result["what"], shown, result.get("range", ""), result.get("expected", ""), verdict)
        lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)
