"""Images decoded from files: to check them, or into small arrays, as miniatures use them."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cds_lib.study.data.listing import refuse
from cds_lib.study.data.registry import single_writer
from cds_lib.study.files import new_folder

THREADS = 4  # decoding small files waits for the disk more than it computes
NARROW = 100  # largest aspect ratio: the long side of a narrower image would take gigabytes once it is resized
_CHUNK = 1024
# What Pillow may open, whatever the file is called: for an EPS named .jpg it would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def broken_images(paths: Sequence[Path]) -> list[str]:
    """Decode every image: path and fault of each that cannot be decoded."""
    found = decoded(paths, lambda image: None)
    return [f"{path}: {fault}" for path, fault in zip(paths, found, strict=True) if fault]


def arrays(splits: Mapping[str, Sequence[Path]], name: str, root: Path, side: int) -> list[np.ndarray]:
    """The images of each split (N, 3, side, side) uint8, decoded once and kept as `root`/arrays/`name`.

    An image's short side is resized to `side` (Pillow, bilinear with antialiasing), then its centre is cut out. The
    arrays are mapped, not read, and private to the caller. UsageError: images that cannot be decoded (named and
    counted), another writer, `root` not writable.
    """
    folder = root / "arrays" / name
    if not folder.is_dir():
        with single_writer(root, f"arrays_{name}"):
            if not folder.is_dir():  # another process may have made it meanwhile
                with new_folder(folder) as building:
                    cure = "repair them, or import the set again"
                    decode_into(building, splits, side, lambda image: square(image, side), cure)
    return [np.load(folder / f"{split}.npy", mmap_mode="c", allow_pickle=False) for split in splits]


def decode_into(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    side: int,
    use: Callable[[Image.Image], np.ndarray | str],
    cure: str,
) -> None:
    """Decode images into new files `folder`/<name>.npy (N, 3, side, side) uint8, mapped to save memory.

    `use` turns an image into its array (side, side, 3), or a phrase that says what is wrong with it. UsageError: images
    that are wrong, with the cure. OSError: the disk is full.
    """
    broken = []
    for name, paths in files.items():
        file = folder / f"{name}.npy"
        images = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(paths), 3, side, side))
        if hasattr(os, "posix_fallocate"):  # not on macOS; writing to a mapped sparse file on a full disk is fatal
            with open(file, "r+b") as whole:
                os.posix_fallocate(whole.fileno(), 0, file.stat().st_size)
        for row, made in enumerate(decoded(paths, use)):
            if isinstance(made, str):
                broken.append(f"{paths[row]}: {made}")
            else:
                images[row] = made.transpose(2, 0, 1)
        images.flush()
    refuse(broken, sum(map(len, files.values())), "cannot be used", cure)


def square(image: Image.Image, side: int) -> np.ndarray:
    """The centre (side, side, 3) uint8 of the image, whose short side is resized to `side`."""
    factor = side / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def read_rgb(path: Path) -> Image.Image:
    """The whole image as RGB of 8 bits, as the released pipelines read it: no transparency, no rotation by EXIF.

    Raises what Pillow's decoders raise, also for formats other than `FORMATS`, and ValueError for an image with more
    than 8 bits a channel (which Pillow clips to 255) or one that is too narrow to be cut to a square.
    """
    with Image.open(path, formats=FORMATS) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has more than 8 bits a channel, as Pillow's mode {image.mode}")
        if max(image.size) > NARROW * min(image.size):
            raise ValueError(f"it is {image.width} x {image.height}, too narrow")
        return image.convert("RGB")


def decoded(paths: Sequence[Path], use: Callable[[Image.Image], Any]) -> Iterator[Any]:
    """`use` of every image, in order; for one that cannot be decoded, a phrase that says why.

    A few threads decode a chunk of the images at a time. After half a minute a progress bar appears.
    """

    def one(path: Path) -> Any:
        try:
            image = read_rgb(path)
        except Exception as error:  # Pillow's decoders raise many kinds
            return f"cannot be decoded ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        return use(image)

    quiet = {"delay": 30, "mininterval": 0.5 if sys.stderr.isatty() else 30}
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(paths), desc="  images decoded", **quiet) as bar:
        for start in range(0, len(paths), _CHUNK):  # map() alone would hold every result at once
            for made in pool.map(one, paths[start : start + _CHUNK]):
                yield made
                bar.update()
