"""Decode image files: to check them, or into the small arrays that miniatures use."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cds_lib.errors import UsageError
from cds_lib.study.data.images import refuse
from cds_lib.study.data.registry import single_writer
from cds_lib.study.files import new_folder

Size = tuple[int, int]  # width, height

THREADS = 4  # decoding small files waits for the disk more than it computes
NARROW = 100  # largest aspect ratio: the long side of a narrower image would take gigabytes once it is resized
_CHUNK = 1024
# What Pillow may open, whatever the file's name: given an EPS named .jpg, it would otherwise start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def broken_images(paths: Sequence[Path], sizes: Sequence[Size] | None = None) -> list[str]:
    """Decode every image; return path and fault of each that cannot be decoded or has another size."""
    return [fault for fault in decoded(paths, lambda image: None, sizes) if fault]


def arrays(splits: Mapping[str, Sequence[Path]], name: str, root: Path, side: int) -> list[np.ndarray]:
    """Return the images of each split, (N, 3, side, side) uint8, decoded once and kept as `root`/arrays/`name`.

    An image's short side is resized to `side` (Pillow, bilinear with antialiasing), then its centre is cut out. The
    arrays are memory-mapped, and changes to them stay private to the caller. UsageError: images that cannot be used
    (named and counted), another writer, `root` not writable.
    """
    folder = root / "arrays" / name
    if not folder.is_dir():
        with single_writer(root, f"arrays_{name}"):
            if not folder.is_dir():  # another process may have made it meanwhile
                with new_folder(folder) as building:
                    cure = "repair them, or import the set again"
                    decode_into(building, splits, side, lambda image: square(image, side), cure)
    try:
        return [np.load(folder / f"{split}.npy", mmap_mode="c", allow_pickle=False) for split in splits]
    except (ValueError, EOFError) as error:
        raise UsageError(f"{folder} is damaged ({error}): delete it and run again.") from error


def decode_into(
    folder: Path,
    files: Mapping[str, Sequence[Path]],
    side: int,
    use: Callable[[Image.Image], np.ndarray],
    cure: str,
    size: Size | None = None,
) -> None:
    """Decode images, all of one `size` if it is given, into new files `folder`/<name>.npy (N, 3, side, side) uint8.

    `use` turns an image into its array (side, side, 3). UsageError: unusable images, with the cure.
    """
    broken = []
    for name, paths in files.items():
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 3, side, side)}
        with open(folder / f"{name}.npy", "wb") as file:  # one by one: a large set would not fit into memory
            np.lib.format.write_array_header_1_0(file, header)
            for made in decoded(paths, use, size and [size] * len(paths)):
                if isinstance(made, str):
                    broken.append(made)
                else:
                    file.write(made.transpose(2, 0, 1).tobytes())
            file.flush()
            os.fsync(file.fileno())  # nobody checks the pixels again
    refuse(broken, sum(map(len, files.values())), "cannot be used", cure)


def square(image: Image.Image, side: int) -> np.ndarray:
    """Resize the image's short side to `side` and return its centre, (side, side, 3) uint8."""
    factor = side / min(image.size)
    width, height = (max(side, round(length * factor)) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def read_rgb(path: Path, size: Size | None = None) -> Image.Image:
    """Read a whole image as 8-bit RGB, as the released pipelines do: no transparency, no rotation by EXIF.

    Raises what Pillow's decoders raise, also for formats other than `FORMATS`. Raises ValueError for an image with more
    than 8 bits a channel (which Pillow clips to 255), one too narrow to be cut to a square, or one of another `size`.
    """
    with Image.open(path, formats=FORMATS) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"it has more than 8 bits a channel, as Pillow's mode {image.mode}")
        if max(image.size) > NARROW * min(image.size) or image.size != (size or image.size):
            wanted = "{} x {}".format(*size) if size else "less narrow"
            raise ValueError(f"it is {image.width} x {image.height}, and has to be {wanted}")
        return image.convert("RGB")


def decoded(
    paths: Sequence[Path], use: Callable[[Image.Image], Any], sizes: Sequence[Size] | None = None
) -> Iterator[Any]:
    """Yield `use(image)` in order; if an image cannot be decoded or has another size, a text with its path and fault.

    A few threads decode a chunk of the images at a time. After half a minute a progress bar appears.
    """

    def one(path: Path, size: Size | None) -> Any:
        try:
            return use(read_rgb(path, size))
        except Exception as error:  # Pillow's decoders raise many kinds
            return f"{path}: {(str(error) or type(error).__name__).splitlines()[0]}"

    wanted = sizes or [None] * len(paths)
    quiet = {"delay": 30, "mininterval": 0.5 if sys.stderr.isatty() else 30}
    with ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(paths), desc="  images decoded", **quiet) as bar:
        for start in range(0, len(paths), _CHUNK):  # map() alone would hold every result at once
            chunk = slice(start, start + _CHUNK)
            for made in pool.map(one, paths[chunk], wanted[chunk]):
                yield made
                bar.update()
