"""Data sets in files as the field passes them round: our .npz and Keras's, and MNIST's own four IDX files.

Images are bytes, (N, H, W) grey or (N, H, W, 3) in colour. Labels and a validation set may be missing from our .npz.
"""

import gzip
import zlib
from collections.abc import Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from gpvae_core.errors import InputError
from gpvae_core.files import check_ordinary

Arrays = dict[str, NDArray[Any]]
OURS = ("train_images", "train_labels", "test_images", "test_labels")
KERAS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION = ("validation_images", "validation_labels")  # where a data set has its own
Shape = tuple[int, ...]  # of one image
GREY: Shape = (28, 28)
IDX = ("train-images", "train-labels", "t10k-images", "t10k-labels")
RAW = ("", "MNIST/raw")  # where the IDX files may be, below the data folder: by hand, or by torchvision
UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, MemoryError, BadZipFile, zlib.error)


def read_archive(path: Path, shape: Shape | None = None) -> Arrays:
    """The arrays of an .npz with our keys or Keras's; with ``shape``, of each image, its labels are required as well.

    Raises InputError with what was found instead.
    """
    check_ordinary(path)
    try:
        # from memory: of a damaged file numpy would leave the handle open
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            arrays = {key: np.asanyarray(archive[key]) for key in archive.files}  # what is no array is named below
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except (*UNREADABLE, AttributeError, TypeError) as error:  # a lone .npy is no context and has no files
        raise InputError(f"{path} is not a whole data set ({error}); {_cure(shape)}") from None
    for keys in (OURS, KERAS):
        if set(keys if shape else keys[::2]) <= arrays.keys():
            names = {ours: key for ours, key in zip(OURS, keys, strict=True) if key in arrays}
            names |= {key: key for key in VALIDATION if key in arrays}
            return _checked({ours: arrays[key] for ours, key in names.items()}, str(path), names, shape)
    raise InputError(
        f"{path} holds {_described(arrays)}; give it the arrays {', '.join(OURS)} or Keras's {', '.join(KERAS)}, or "
        f"{_cure(shape)}"
    )


def _cure(shape: Shape | None) -> str:
    """What helps with a damaged file: of a data set of known ``shape``, which can be had again, or somebody's own."""
    again = "save it again with numpy.savez_compressed, or delete it if it came from a download"
    return "delete it, and the data set is made again" if shape else again


def read_idx(folder: Path) -> Arrays | None:
    """The four arrays of OURS from MNIST's IDX files below ``folder``, packed or not; None where there are none.

    Raises InputError where some are missing, or are not what their names say.
    """
    for below in RAW:
        files = {part: _idx_file(folder / below, part) for part in IDX}
        missing = [part for part, file in files.items() if file is None]
        if len(missing) < len(IDX):
            if missing:
                raise InputError(
                    f"{folder / below} holds some of MNIST's files but not {', '.join(missing)}; put all four there, "
                    "or delete them, and MNIST is downloaded"
                )
            arrays = {key: _read_idx(file) for key, file in zip(OURS, files.values(), strict=True) if file}
            return _checked(arrays, str(folder / below), dict(zip(OURS, IDX, strict=True)), GREY)
    return None


def _idx_file(folder: Path, part: str) -> Path | None:
    """train-images-idx3-ubyte.gz and its like; the packed one first, whose checksum tells when it is damaged."""
    kind = "idx3-ubyte" if part.endswith("images") else "idx1-ubyte"
    names = [f"{part}{joint}{kind}{suffix}" for suffix in (".gz", "") for joint in "-."]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, type 8, the number of dimensions, each as four bytes, then the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be unpacked ({error}); copy it again") from None
    dimensions = data[3] if len(data) > 3 else 0
    shape = tuple(int(n) for n in np.frombuffer(data[4 : 4 + 4 * dimensions].ljust(4 * dimensions, b"\0"), ">i4"))
    values = data[4 + 4 * dimensions :]
    if data[:3] != b"\0\0\x08" or dimensions not in (1, 3) or len(values) != prod(shape):
        raise InputError(
            f"{path} is no whole IDX file of bytes (it begins with {data[:4].hex() or 'nothing'} and has {len(values)} "
            f"values for the shape {shape}); copy it again"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _checked(arrays: Arrays, name: str, keys: Mapping[str, str], shape: Shape | None) -> Arrays:
    """``arrays``, found under ``keys``, as they are: bytes of one shape, as many whole labels, where there are any.

    With ``shape`` every set is labelled and its images are of that shape. Raises InputError for anything else.
    """
    wanted = shape or arrays["train_images"].shape[1:]
    for split in ("train", "validation", "test"):
        images, labels = arrays.get(f"{split}_images"), arrays.get(f"{split}_labels")
        if images is None:
            continue
        least = 2 if split == "train" else 1  # one of them is held out for validation
        right = _pictures(images) and images.dtype == np.uint8 and images.shape[1:] == wanted and len(images) >= least
        if not right or (labels is None and shape is not None) or not _labelled(images, labels):
            found = _described(
                {
                    keys[f"{split}_{part}"]: arrays[f"{split}_{part}"]
                    for part in ("images", "labels")
                    if f"{split}_{part}" in arrays
                }
            )
            sides = ", ".join(map(str, shape)) if shape else "H, W) or (N, H, W, 3"
            raise InputError(
                f"{name} holds {found}; images must be uint8 (N, {sides}), of training images two at least, with as "
                f"many whole labels (N,): {_cure(shape)}"
            )
        if labels is not None and labels.dtype.kind == "i":
            arrays[f"{split}_labels"] = labels.astype(np.min_scalar_type(int(labels.max())))
    return arrays


def _pictures(images: NDArray[Any]) -> bool:
    return images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)


def _labelled(images: NDArray[Any], labels: NDArray[Any] | None) -> bool:
    """Whether there are as many whole labels as images, or none at all."""
    return labels is None or (labels.shape == images.shape[:1] and labels.dtype.kind in "iu" and labels.min() >= 0)


def _described(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Key, shape and type of each, the first eight."""
    texts = [f"{key} {array.shape} {array.dtype}" for key, array in list(arrays.items())[:8]]
    return (", ".join(texts) + (" and more" if len(arrays) > 8 else "")) or "no arrays"
