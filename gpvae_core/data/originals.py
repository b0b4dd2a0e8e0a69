"""Data sets from the files in which their authors publish them: downloaded, or laid into the data folder by hand."""

import gzip
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from gpvae_core.data.archives import UNREADABLE, Arrays
from gpvae_core.data.downloads import fetch, fetch_from_any
from gpvae_core.data.recipes import shrunk_original
from gpvae_core.data.torchvision_compat import torchvision_datasets
from gpvae_core.errors import InputError

# As torchvision lists them. Importing it takes twice as long as importing torch, and a first visitor would wait for it.
MNIST_MIRRORS = ["https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"]
MNIST_FILES = {
    "train_images": ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "train_labels": ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
    "test_images": ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
    "test_labels": ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
}
CIFAR = "cifar-10-binary.tar.gz"  # its bytes as they are: the other archive of the same page holds pickles
CIFAR_URL, CIFAR_MD5 = f"https://www.cs.toronto.edu/~kriz/{CIFAR}", "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_PARTS = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
COLOUR = (32, 32, 3)  # of CIFAR-10 and SVHN, as arrays
FACES = "img_align_celeba"  # CelebA's folder of aligned faces, 178 x 218 pixels each
FACE_SIDE, FACE_CROP = 64, (35, 55, 143, 163)  # left, top, right, bottom: the face without hair and ground
FACE_PARTS = (0.8, 0.1)  # of the faces, in random order, to train and to validate


def build_mnist(raw: Path, timeout: float) -> Arrays:
    """From the four IDX files."""
    return {
        array: _idx(fetch_from_any(MNIST_MIRRORS, name, md5, raw, timeout))
        for array, (name, md5) in MNIST_FILES.items()
    }


def _idx(archive: Path) -> NDArray[np.uint8]:
    """Two zeros, 8 for bytes, the number of axes; four bytes for the length of each; then the values."""
    data = gzip.decompress(archive.read_bytes())
    begin = 4 + 4 * data[3]
    return np.frombuffer(data, np.uint8, offset=begin).reshape(np.frombuffer(data[4:begin], ">i4")).copy()


def build_omniglot(raw: Path, timeout: float) -> Arrays:
    """Background = training, evaluation = test; 105x105 black on white -> 28x28 white on black, by area."""
    source = torchvision_datasets().Omniglot
    arrays = {}
    for split, part in (("train", "images_background"), ("test", "images_evaluation")):
        folder = raw / source.folder
        archive = fetch(f"{source.download_url_prefix}/{part}.zip", source.zips_md5[part], folder, timeout)
        shutil.unpack_archive(archive, folder)
        # torchvision's own reader takes the order of the file system, which differs between machines
        files = sorted((folder / part).rglob("*.png"))
        pages = [np.asarray(Image.open(file).convert("L")) for file in files]
        arrays[f"{split}_images"] = np.stack([shrunk_original(page) for page in pages])
        _, labels = np.unique([str(file.parent) for file in files], return_inverse=True)
        arrays[f"{split}_labels"] = labels.astype(np.uint16)
    return arrays


# --- colour -------------------------------------------------------------------------------------------------------


def build_cifar10(raw: Path, timeout: float) -> Arrays:
    """From the archive of bytes."""
    return _cifar10(fetch(CIFAR_URL, CIFAR_MD5, raw, timeout))


def read_cifar10(folder: Path) -> Arrays | None:
    """The same from the archive in ``folder``; None where it is not there."""
    return _cifar10(folder / CIFAR) if (folder / CIFAR).is_file() else None


def _cifar10(archive: Path) -> Arrays:
    """Of each image a byte for its label, then 32 x 32 bytes of red, of green and of blue."""
    arrays: Arrays = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            files = {Path(member.name).name: member for member in members if member.isfile()}
            for split, names in CIFAR_PARTS.items():
                parts = [members.extractfile(files[name]) for name in names]
                rows = np.frombuffer(b"".join(part.read() for part in parts if part), np.uint8).reshape(-1, 3073)
                pixels = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                arrays |= {f"{split}_images": np.ascontiguousarray(pixels), f"{split}_labels": rows[:, 0].copy()}
    except (tarfile.TarError, *UNREADABLE) as error:
        raise InputError(f"{archive} is no whole archive of CIFAR-10 ({error}); copy or download it again") from None
    return arrays


def build_svhn(raw: Path, timeout: float) -> Arrays:
    """From the two files of cropped digits."""
    parts = torchvision_datasets().SVHN.split_list
    return _svhn({split: fetch(*_url_and_md5(parts[split]), raw, timeout) for split in ("train", "test")})


def _url_and_md5(entry: Sequence[str]) -> tuple[str, str]:
    url, _, md5 = entry
    return url, md5


def read_svhn(folder: Path) -> Arrays | None:
    """The same from train_32x32.mat and test_32x32.mat in ``folder``; None where they are not both there."""
    files = {split: folder / f"{split}_32x32.mat" for split in ("train", "test")}
    return _svhn(files) if all(file.is_file() for file in files.values()) else None


def _svhn(files: dict[str, Path]) -> Arrays:
    """X (32, 32, 3, N) and y (N, 1), in which 10 stands for the digit 0."""
    arrays: Arrays = {}
    for split, file in files.items():
        try:
            content = loadmat(file)
            pixels, labels = np.moveaxis(content["X"], 3, 0), content["y"].reshape(-1) % 10
        except (TypeError, MatReadError, *UNREADABLE) as error:
            raise InputError(f"{file} is no whole file of SVHN ({error}); copy or download it again") from None
        arrays |= {f"{split}_images": np.ascontiguousarray(pixels), f"{split}_labels": labels.astype(np.uint8)}
    return arrays


def build_celeba(raw: Path, timeout: float) -> Arrays:
    """Raises ValueError: its authors' server gives it to people, not to programs."""
    raise ValueError(f"its server wants a person; unpack {FACES}.zip into the data folder")


def read_celeba(folder: Path) -> Arrays | None:
    """The aligned faces below ``folder``, cropped to 64 x 64; None where there are none.

    Kim (2022) says "tightly cropped" and no more: here the middle 108 x 108 pixels, averaged down. Faces have no class.
    """
    found = next((place for place in (folder / FACES, folder / "celeba" / FACES) if place.is_dir()), None)
    files = sorted(found.glob("*.jpg")) if found else []
    if not files:
        return None
    images = np.empty((len(files), FACE_SIDE, FACE_SIDE, 3), np.uint8)
    for face, image in zip(_faces(files), images, strict=True):
        image[:] = face
    order = np.random.default_rng(0).permutation(len(files))  # one split for everybody
    ends = np.cumsum([round(share * len(files)) for share in FACE_PARTS])
    parts = dict(zip(("train", "validation", "test"), map(np.sort, np.split(order, ends)), strict=True))
    return {f"{split}_images": images[rows] for split, rows in parts.items()}


def _faces(files: Sequence[Path]) -> Iterator[NDArray[np.uint8]]:
    for file in files:
        try:
            with Image.open(file, formats=["JPEG"]) as image:
                yield np.asarray(image.convert("RGB").resize((FACE_SIDE,) * 2, Image.Resampling.BOX, FACE_CROP))
        except (SyntaxError, *UNREADABLE) as error:
            raise InputError(f"{file} is damaged ({error}); copy it again") from None
