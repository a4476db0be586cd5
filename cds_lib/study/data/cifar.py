"""Read the official CIFAR-10 / CIFAR-100 python batches (cs.toronto.edu/~kriz/cifar.html) without trusting the pickles.

A batch is a pickled dict. `data` is (N, 3072) uint8: each row holds the red, green, then blue plane of a 32 x 32 image,
row by row. The labels are `labels` (CIFAR-10) or `fine_labels` (CIFAR-100, which may also have `coarse_labels`; they
are not used). The official files were written by Python 2, so keys and names arrive as bytes; copies written by Python
3 have text. The meta file holds the class names.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from cds_lib.errors import UsageError
from cds_lib.study.data.images import Images
from cds_lib.study.data.registry import DataSet


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Restore bytes as Python 3 pickles them up to protocol 2: `_codecs.encode(text, "latin1")`; no other codec."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("it asks for a codec other than latin1")
    return text.encode("latin1")


def _dtype(kind: str | bytes, align: int = 0, copy: int = 1) -> np.dtype:
    """Build a numpy.dtype from an old pickle, which has 0 and 1 for booleans: NumPy 2.4 warns about that."""
    found = np.dtype(_text(kind), align=bool(align), copy=bool(copy))
    if found.kind not in "biufSU":  # no object references, no records of them
        raise pickle.UnpicklingError(f"it asks for the NumPy type {kind!r}, which no CIFAR file needs")
    return found


def _text(value: object) -> object:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


_ADMITTED = {  # by name alone: the official files use module names of an old NumPy
    "ndarray": np.ndarray,
    "dtype": _dtype,
    "encode": _latin1_bytes,
    "_reconstruct": np.empty(0).__reduce__()[0],
    "scalar": np.int64(0).__reduce__()[0],
    "_frombuffer": np.empty(1).__reduce_ex__(5)[0],
}


class RestrictedUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and scalars, and built-in containers, numbers and strings; refuses everything else."""

    def find_class(self, module: str, name: str) -> object:
        if name not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file needs")
        return _ADMITTED[name]


def read(known: DataSet, folder: Path) -> Images:
    """Read the official folder, whatever its number of images. UsageError (without a full stop) names a file that is
    missing, truncated or of another kind."""
    parts: dict[str, list[Any]] = {"train": [], "test": [], "meta": []}
    for file in known.files:
        path, use = folder / file.name, _names if file.part == "meta" else _batch
        try:
            with open(path, "rb") as handle:
                content = RestrictedUnpickler(handle, encoding="bytes").load()
            parts[file.part].append(use(known, {_text(key): value for key, value in content.items()}))
        except Exception as error:  # a broken pickle can raise nearly anything
            reason = str(error) or type(error).__name__
            raise UsageError(
                f"{path} cannot be read ({reason}): it is missing, truncated or not a {known.title} file"
            ) from error
    arrays = [np.concatenate(arrays) for part in ("train", "test") for arrays in zip(*parts[part], strict=True)]
    return Images(*arrays, *parts["meta"])


def _batch(known: DataSet, content: dict[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (N, 3, S, S) uint8 and labels (N,) int64 of one file (S = `known.image_size`).

    CIFAR-100 is sorted by class and file name, as in an import of its PNG files. The committed runs used that order;
    the official archive has another.
    """
    side, key = known.image_size, "fine_labels" if known.name == "cifar100" else "labels"
    data, labels = content["data"], np.asarray(content[key])
    if data.dtype != np.uint8 or data.shape != (labels.size, 3 * side * side) or labels.dtype.kind not in "iu":
        raise ValueError(f"`data` must be uint8 rows of {3 * side * side} bytes, and `{key}` an integer for each")
    images, labels = data.reshape(-1, 3, side, side), labels.ravel().astype(np.int64)
    names = content.get("filenames")
    if known.name == "cifar100" and isinstance(names, list) and len(names) == len(labels):  # copies may lack them
        order = np.lexsort(([str(_text(name)) for name in names], labels))
        images, labels = images[order], labels[order]
    return images, labels


def _names(known: DataSet, content: dict[Any, Any]) -> tuple[str, ...]:
    """Return the class names of the meta file, in label order."""
    return tuple(str(_text(name)) for name in content[f"{'fine_' * (known.name == 'cifar100')}label_names"])
