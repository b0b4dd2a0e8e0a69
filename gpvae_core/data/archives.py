"""Data sets in files as the field passes them round: our .npz and Keras's, and MNIST's own four IDX files.

Images are bytes, (N, H, W) grey or (N, H, W, 3) in colour. Labels and a validation set may be missing from our .npz.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gpvae_core.errors import InputError, short
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
MALFORMED = (*UNREADABLE, TypeError, SyntaxError, TokenError, OverflowError, struct.error)
MOST_BYTES = 4_000_000_000  # of arrays: CelebA's faces are 2.5 GB
FREE, TIMES = 20_000_000, 300  # bytes that any file may unpack to, and by what factor a larger one may grow
MOST_HEADER = 10_000  # bytes of an array's description: numpy itself reads no longer one
SHOWN = 8  # arrays in a message
PIECE = 1_000_000  # bytes that are read at once


@dataclass(frozen=True)
class Promise:
    """What the header of an array says before any of it is read; the values begin at byte ``start``."""

    shape: Shape
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


Promises = dict[str, Promise]


class _Sparing(BufferedReader):
    """A file that gives no more than PIECE at once: zipfile takes the list of an archive's members whole."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > PIECE:
            raise BadZipFile("its list of arrays is too long")
        return super().read(size)


def read_archive(path: Path, shape: Shape | None = None) -> Arrays:
    """The arrays of an .npz with our keys or Keras's; with ``shape``, of each image, its labels are required as well.

    Only they are unpacked, and only once their headers fit. Raises InputError with what was found instead, also where
    they would take more memory than such a file should.
    """
    check_ordinary(path)
    try:
        with _Sparing(FileIO(path)) as file, ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            names = _names(members, shape)
            if names is None:
                found = {key: _promise(archive, info) for key, info in list(members.items())[: SHOWN + 1]}
                raise InputError(
                    f"{path} holds {_described(found)}; give it the arrays {', '.join(OURS)} or Keras's "
                    f"{', '.join(KERAS)}, or {_cure(shape)}"
                )
            promises = {ours: _promise(archive, members[key]) for ours, key in names.items()}
            _check_promises(promises, str(path), names, shape)
            _check_size(sum(promise.nbytes for promise in promises.values()), path)
            arrays = {ours: _array(archive, members[names[ours]], promise) for ours, promise in promises.items()}
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except InputError:
        raise
    except MALFORMED as error:
        raise InputError(f"{path} is not a whole data set ({short(error, 80)}); {_cure(shape)}") from None
    return _settled(arrays, str(path), names, shape)


def _names(members: Container[str], shape: Shape | None) -> dict[str, str] | None:
    """Our key -> that in the archive, of what is needed or of use; None where something needed is missing."""
    for keys in (OURS, KERAS):
        if all(key in members for key in (keys if shape else keys[::2])):
            names = {ours: key for ours, key in zip(OURS, keys, strict=True) if key in members}
            return names | {key: key for key in VALIDATION if key in members}
    return None


def _promise(archive: ZipFile, member: ZipInfo) -> Promise:
    """Raises one of MALFORMED for what is no array, or not packed as numpy packs."""
    name = short(member.filename)
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name} is not packed as numpy packs")
    with archive.open(member) as opened:
        head = BytesIO(opened.read(MOST_HEADER))
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(head)]
        shape, fortran, dtype = read(head, max_header_size=MOST_HEADER)
    except MALFORMED:
        raise ValueError(f"{name} does not begin as an array") from None
    promise = Promise(shape, dtype, fortran, head.tell())
    if dtype.hasobject or min(shape, default=0) < 0 or promise.start + promise.nbytes != member.file_size:
        raise ValueError(f"{name} does not hold the numbers that its header promises")
    return promise


def _array(archive: ZipFile, member: ZipInfo, promise: Promise) -> NDArray[Any]:
    with archive.open(member) as opened:
        opened.read(promise.start)
        values, found = _taken(opened.read, promise.nbytes)
    if found != promise.nbytes:
        raise EOFError(f"{short(member.filename)} ends early")
    return values.view(promise.dtype).reshape(promise.shape, order="F" if promise.fortran else "C")


def _taken(read: Callable[[int], bytes], count: int) -> tuple[NDArray[np.uint8], int]:
    """``count`` bytes of a stream, and how many it has: count + 1 stands for any more."""
    values, at = np.empty(count, np.uint8), 0
    while at < count and (piece := read(min(PIECE, count - at))):
        values[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    return values, at + len(read(1))


def _check_size(total: int, path: Path) -> None:
    """Raise InputError where so many bytes are more than a file of this size unpacks to, or than is read at all."""
    most = min(MOST_BYTES, max(FREE, TIMES * path.stat().st_size))
    if total > most:
        raise InputError(
            f"{path} promises arrays of {total:,} bytes, more than the {most:,} that a file of its size may unpack to; "
            "give it fewer images"
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
            arrays: Arrays = {key: _read_idx(file) for key, file in zip(OURS, files.values(), strict=True) if file}
            promises = {key: Promise(array.shape, array.dtype, False, 0) for key, array in arrays.items()}
            _check_promises(promises, str(folder / below), dict(zip(OURS, IDX, strict=True)), GREY)
            return arrays
    return None


def _idx_file(folder: Path, part: str) -> Path | None:
    """train-images-idx3-ubyte.gz and its like; the packed one first, whose checksum tells when it is damaged."""
    kind = "idx3-ubyte" if part.endswith("images") else "idx1-ubyte"
    names = [f"{part}{joint}{kind}{suffix}" for suffix in (".gz", "") for joint in "-."]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of bytes: two zeros, type 8, the number of dimensions, each as four bytes, then the values."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(4)
            dimensions = start[3] if start[:3] == b"\0\0\x08" and start[3:] in (b"\1", b"\3") else 0
            shape: Shape = tuple(np.frombuffer(file.read(4 * dimensions).ljust(4 * dimensions, b"\0"), ">u4").tolist())
            _check_size(prod(shape), path)
            values, found = _taken(file.read, prod(shape)) if dimensions else (np.empty(0, np.uint8), 0)
    except InputError:
        raise
    except MALFORMED as error:
        raise InputError(f"{path} cannot be unpacked ({short(error, 80)}); copy it again") from None
    if not dimensions or found != prod(shape):
        has = f"more than {prod(shape)}" if found > prod(shape) else found
        raise InputError(
            f"{path} is no whole IDX file of bytes (it begins with {start.hex() or 'nothing'} and has {has} values for "
            f"the shape {shape}); copy it again"
        )
    return values.reshape(shape)


def _check_promises(promises: Promises, name: str, keys: Mapping[str, str], shape: Shape | None) -> None:
    """Raise InputError unless images are bytes of one shape, with as many whole labels, where there are any.

    ``keys``: where each was found. With ``shape`` every set is labelled and its images are of that shape.
    """
    wanted = shape or promises["train_images"].shape[1:]
    for split in ("train", "validation", "test"):
        images, labels = promises.get(f"{split}_images"), promises.get(f"{split}_labels")
        if images is None:
            continue
        least = 2 if split == "train" else 1  # one of them is held out for validation
        right = _pictures(images) and images.shape[1:] == wanted and images.shape[0] >= least
        if not right or (labels is None and shape is not None) or not _labelled(images, labels):
            raise _refusal(promises, split, name, keys, shape)


def _settled(arrays: Arrays, name: str, keys: Mapping[str, str], shape: Shape | None) -> Arrays:
    """``arrays`` with labels of the smallest type that holds them. Raises InputError for a negative label."""
    for split in ("train", "validation", "test"):
        labels = arrays.get(f"{split}_labels")
        if labels is not None and labels.dtype.kind == "i":
            if labels.min() < 0:
                raise _refusal(arrays, split, name, keys, shape)
            arrays[f"{split}_labels"] = labels.astype(np.min_scalar_type(int(labels.max())))
    return arrays


def _refusal(
    found: Mapping[str, Promise | NDArray[Any]], split: str, name: str, keys: Mapping[str, str], shape: Shape | None
) -> InputError:
    both = [f"{split}_{part}" for part in ("images", "labels") if f"{split}_{part}" in found]
    sides = ", ".join(map(str, shape)) if shape else "H, W) or (N, H, W, 3"
    return InputError(
        f"{name} holds {_described({keys[key]: found[key] for key in both})}; images must be uint8 (N, {sides}), of "
        f"training images two at least, with as many whole labels (N,) from 0 up: {_cure(shape)}"
    )


def _pictures(images: Promise) -> bool:
    sides = images.shape[1:3]
    grey_or_colour = len(images.shape) == 3 or (len(images.shape) == 4 and images.shape[3] == 3)
    return grey_or_colour and min(sides) > 0 and images.dtype == np.uint8


def _labelled(images: Promise, labels: Promise | None) -> bool:
    """Whether there are as many whole labels as images, or none at all."""
    return labels is None or (labels.shape == images.shape[:1] and labels.dtype.kind in "iu")


def _described(found: Mapping[str, Promise | NDArray[Any]]) -> str:
    """Key, shape and type of each, the first few."""
    texts = [f"{short(key)} {short(one.shape)} {short(one.dtype)}" for key, one in list(found.items())[:SHOWN]]
    return (", ".join(texts) + (" and more" if len(found) > SHOWN else "")) or "no arrays"
