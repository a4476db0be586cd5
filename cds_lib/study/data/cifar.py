"""Read the official CIFAR-10 / CIFAR-100 python batches (cs.toronto.edu/~kriz/cifar.html) without trusting the pickles.

A batch is a pickled dict: `data` (N, 3072) uint8, each row the red, green, then blue plane of a 32 x 32 image, row by
row; `labels` (CIFAR-10) or `fine_labels` (CIFAR-100; `coarse_labels` may be there and is not used). The official files
were written by Python 2, so keys and names arrive as bytes; copies written by Python 3 have text. The meta file holds
the names.
"""

import pickle
from pathlib import Path

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.listing import Arrays, some
from cds_lib.study.data.registry import DataSet, md5_of


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes with pickle protocols up to 2: `_codecs.encode(text, "latin1")`; no other codec."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("it asks for a codec other than latin1")
    return text.encode("latin1")


def _dtype(kind: str | bytes, align: int = 0, copy: int = 1) -> np.dtype:
    """numpy.dtype for old pickles, which have 0 and 1 for booleans: NumPy 2.4 warns about that."""
    found = np.dtype(_text(kind), align=bool(align), copy=bool(copy))
    if found.kind not in "biufSU":  # no references to objects, no records of them
        raise pickle.UnpicklingError(f"it asks for the NumPy type {kind!r}, which no CIFAR file needs")
    return found


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


_ADMITTED = {  # by name alone: the official files have the module names of an old NumPy
    "ndarray": np.ndarray,
    "dtype": _dtype,
    "encode": _latin1_bytes,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.int64(0).__reduce__()[0],
    "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
}


class RestrictedUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and scalars and the built-in containers, numbers and strings; everything else is refused."""

    def find_class(self, module: str, name: str) -> object:
        if name not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return _ADMITTED[name]


def _unpickle(path: Path) -> dict[str, object]:
    """The dict in a batch or meta file, keys as text. Raises UsageError for a missing or broken file or no dict."""
    try:
        with open(path, "rb") as handle:
            content = RestrictedUnpickler(handle, encoding="bytes").load()
        return {str(_text(key)): value for key, value in content.items()}
    except FileNotFoundError:
        raise UsageError(f"{path} is missing") from None
    except Exception as error:  # a broken pickle can raise nearly anything
        reason = str(error) or type(error).__name__
        raise UsageError(f"{path} cannot be read ({reason}): it is truncated or not a CIFAR file") from error


def read_batch(known: DataSet, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One batch file -> images (N, 3, S, S) uint8 and labels (N,) int64 (S = `known.image_size`).

    CIFAR-100 comes in the order of classes and file names, as from an import of its PNG files: the committed runs had
    that order, and the official archive has another. Raises UsageError, naming the file, for anything that is not
    `data` rows of 3 S S bytes with one label each in 0..classes-1.
    """
    content, side, last = _unpickle(path), known.image_size, known.classes - 1
    key = "fine_labels" if known.name == "cifar100" else "labels"
    try:
        data, labels = content["data"], np.asarray(content[key])
        good = data.dtype == np.uint8 and data.shape == (labels.size, 3 * side * side) and labels.dtype.kind in "iu"
        good = good and 0 <= labels.min() <= labels.max() <= last
    except (KeyError, AttributeError, ValueError):  # missing, no array, or nested lists of several lengths
        good = False
    if not good:
        raise UsageError(
            f"{path} is no batch of {known.title}: `data` must be uint8 rows of {3 * side * side} bytes, and `{key}` "
            f"an integer in 0..{last} for each"
        )
    images, labels = data.reshape(-1, 3, side, side), labels.ravel().astype(np.int64)
    names = content.get("filenames")
    if known.name == "cifar100" and isinstance(names, list) and len(names) == len(labels):  # copies may lack them
        order = np.lexsort(([str(_text(name)) for name in names], labels))
        images, labels = images[order], labels[order]
    return images, labels


def read_names(known: DataSet, path: Path) -> tuple[str, ...]:
    """The class names of a meta file, in label order. Raises UsageError if there is not one name per class."""
    names = _unpickle(path).get("fine_label_names" if known.name == "cifar100" else "label_names")
    if not isinstance(names, list) or len(names) != known.classes:
        raise UsageError(f"{path} must name {known.classes} classes")
    return tuple(str(_text(name)) for name in names)


def faults(known: DataSet, root: Path) -> list[str]:
    """One sentence for every file that is missing, cannot be read, or has another md5 than the published one."""
    found, unpublished = [], known.unpublished(root)
    for file in known.files:
        path = root / known.folder / file.path
        if file.path in unpublished:
            try:
                read_names(known, path) if file.part == "meta" else read_batch(known, path)
                found.append(f"{path}: checksum not the published one (md5 {md5_of(path)}, published {file.md5})")
            except UsageError as error:
                found.append(f"{error}; {known.cure(root)}.")
    return found


def read(known: DataSet, folder: Path) -> Arrays:
    """Read the official folder, whatever its number of images. Raises UsageError as `read_batch` and `read_names`, and
    for a class without training or test images."""
    names = read_names(known, folder / known.part("meta")[0].path)
    parts = []
    for part in ("train", "test"):
        images, labels = zip(*(read_batch(known, folder / file.path) for file in known.part(part)), strict=True)
        parts += [np.concatenate(images), np.concatenate(labels)]
        if empty := sorted(set(range(known.classes)).difference(parts[-1].tolist())):
            raise UsageError(f"{folder} has no {part} images of {some([names[k] for k in empty])}")
    return Arrays(*parts, names)
