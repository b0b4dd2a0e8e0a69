"""Data sets as uint8 images with labels and splits: DATASETS is the only list of their names."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit
from zipfile import BadZipFile

import numpy as np
import pooch
import requests
import torch
from numpy.typing import NDArray
from PIL import Image

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.errors import InputError
from gpvae_core.files import write_atomically
from gpvae_core.images import FORMATS, SIDE, read_image, to_model_input
from gpvae_core.paths import user_cache
from gpvae_core.torchvision_compat import torchvision_datasets

HELD_OUT = 0.1  # of the training set, for validation
DIGITS = "sklearn/datasets/data/digits.csv.gz"
SIMULATED = (8_000, 2_000)  # training, test
Images = NDArray[Any]


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W), uint8 0..255 or float32 pixels; labels (N,) or None; true latents (N, d) or None."""

    images: Images
    labels: Images | None = None
    latents: Images | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Images) -> "ImageSet":
        pick = [None if a is None else a[rows] for a in (self.labels, self.latents)]
        return ImageSet(self.images[rows], *pick)

    def pixels(self, rows: Any = slice(None)) -> torch.Tensor:
        """Model input: float32 (n, 1, H, W), pixels in [0,1] (simulated ones may lie outside)."""
        return as_pixels(torch.from_numpy(self.images[rows]))


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images. ``dynamic``: each use of a training image draws its pixels anew."""

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    dynamic: bool = False

    def split(self, name: str) -> ImageSet:
        """'train', 'validation' or 'test', as they are evaluated: pixels that training draws anew are drawn once."""
        images: ImageSet = getattr(self, name)
        return bernoulli_draw(images, 0) if self.dynamic and name == "train" else images


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """(n, H, W) uint8 or float -> (n, 1, H, W) float32 pixels."""
    return (images.float() / 255 if images.dtype == torch.uint8 else images).unsqueeze(1)


def load_dataset(spec: str, data_dir: Path | None = None, *, seed: int = 0, timeout: float = 30.0) -> Dataset:
    """A data set by name: one of DATASETS, or 'folder:PATH', or 'simulated:CHECKPOINT'.

    ``seed`` chooses the tenth of the training set that is held out for validation, and every random draw.
    ``timeout`` in seconds, for each network connection. Raises InputError with the cure.
    """
    name, _, argument = spec.partition(":")
    data_dir = data_dir or user_cache()
    if spec in DATASETS:
        train, test = DATASETS[spec](data_dir, seed, timeout)
    elif name in _BY_ARGUMENT and argument:
        train, test = _BY_ARGUMENT[name](argument, seed)
    else:
        names = ", ".join([*DATASETS, "folder:PATH", "simulated:CHECKPOINT"])
        raise InputError(f"data set '{spec}' is unknown; choose one of {names}")
    return _hold_out(Dataset(spec, train, train, test, dynamic=spec in DYNAMIC), seed)


def _hold_out(dataset: Dataset, seed: int) -> Dataset:
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    held = max(1, round(HELD_OUT * len(order)))
    validation = dataset.validation.take(np.sort(order[:held]))
    if dataset.dynamic:  # evaluated on a fixed draw
        validation = bernoulli_draw(validation, seed)
    return replace(dataset, train=dataset.train.take(np.sort(order[held:])), validation=validation)


# --- built once from a download -------------------------------------------------------------------------------


def _archived(name: str, build: Callable[[Path, float], dict[str, Images]]) -> Callable[..., tuple[ImageSet, ImageSet]]:
    """A data set kept as <data-dir>/<name>.npz, downloaded and built the first time."""

    def load(data_dir: Path, seed: int, timeout: float) -> tuple[ImageSet, ImageSet]:
        path = data_dir / f"{name}.npz"
        if not path.exists():
            try:
                with TemporaryDirectory() as raw:
                    arrays = build(Path(raw), timeout)
            except (requests.RequestException, OSError, ValueError) as error:
                raise InputError(
                    f"data set '{name}' is not at {path} and could not be downloaded ({_reason(error)}); connect "
                    f"to the network, or copy {name}.npz there from another machine, or use the data set digits, which "
                    "needs neither"
                ) from None
            buffer = BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **arrays)
            write_atomically(path, buffer.getvalue())
        return _read_archive(path)

    return load


def _reason(error: Exception) -> str:
    """One clause on why a download failed."""
    host = (
        urlsplit(str(error.request.url)).hostname
        if isinstance(error, requests.RequestException) and error.request
        else None
    )
    if isinstance(error, requests.Timeout):
        return f"{host} did not answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{host} answered {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {host}"
    return str(error).splitlines()[0][:200]


def _read_archive(path: Path) -> tuple[ImageSet, ImageSet]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            sets = [ImageSet(archive[f"{s}_images"], archive[f"{s}_labels"]) for s in ("train", "test")]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path} is not a whole data set ({error}); delete it, and it is built again") from None
    return sets[0], sets[1]


def _fetch(url: str, md5: str, folder: Path, timeout: float) -> Path:
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=timeout)
    name = url.rsplit("/", 1)[1]
    return Path(pooch.retrieve(url, known_hash=f"md5:{md5}", fname=name, path=folder, downloader=downloader))


def _fetch_from_any(mirrors: list[str], name: str, md5: str, folder: Path, timeout: float) -> Path:
    failures: list[Exception] = []
    for mirror in mirrors:
        try:
            return _fetch(mirror + name, md5, folder, timeout)
        except (requests.RequestException, OSError, ValueError) as error:
            failures.append(error)
    raise failures[0]


def _build_mnist(raw: Path, timeout: float) -> dict[str, Images]:
    source = torchvision_datasets().MNIST
    folder = raw / "MNIST" / "raw"
    for name, md5 in source.resources:
        archive = _fetch_from_any(source.mirrors, name, md5, folder, timeout)
        torchvision_datasets().utils.extract_archive(str(archive), str(folder))
    arrays = {}
    for split in ("train", "test"):
        part = source(str(raw), train=split == "train", download=False)
        arrays[f"{split}_images"] = part.data.numpy()
        arrays[f"{split}_labels"] = part.targets.numpy().astype(np.uint8)
    return arrays


def _build_omniglot(raw: Path, timeout: float) -> dict[str, Images]:
    """Background = training, evaluation = test; 105x105 black on white -> 28x28 white on black, by area."""
    source = torchvision_datasets().Omniglot
    arrays = {}
    for split, part in (("train", "images_background"), ("test", "images_evaluation")):
        folder = raw / source.folder
        archive = _fetch(f"{source.download_url_prefix}/{part}.zip", source.zips_md5[part], folder, timeout)
        shutil.unpack_archive(archive, folder)
        # torchvision's own reader takes the order of the file system, which differs between machines
        files = sorted((folder / part).rglob("*.png"))
        small = [Image.open(file).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for file in files]
        arrays[f"{split}_images"] = 255 - np.stack([np.asarray(image) for image in small])
        _, labels = np.unique([str(file.parent) for file in files], return_inverse=True)
        arrays[f"{split}_labels"] = labels.astype(np.uint16)
    return arrays


# --- derived, offline, simulated, and anybody's own -----------------------------------------------------------


def bernoulli_draw(part: ImageSet, seed: int) -> ImageSet:
    """Pixels drawn once as Bernoulli(grey), 0 or 255: never a threshold. Pixels of 0 or 1 stay what they are."""
    rng = np.random.default_rng([seed, len(part)])
    ink = rng.random(part.images.shape, dtype=np.float32) < part.pixels()[:, 0].numpy()
    return replace(part, images=ink.astype(np.uint8) * np.uint8(255))


def _binary(name: str, *, fixed: bool = False) -> Callable[[Path, int, float], tuple[ImageSet, ImageSet]]:
    """Data set ``name`` with binary pixels: the test set drawn once, the training set too if ``fixed``."""

    def load(data_dir: Path, seed: int, timeout: float) -> tuple[ImageSet, ImageSet]:
        train, test = DATASETS[name](data_dir, seed, timeout)
        return bernoulli_draw(train, 0) if fixed else train, bernoulli_draw(test, 0)

    return load


def _digits(data_dir: Path, seed: int, timeout: float) -> tuple[ImageSet, ImageSet]:
    """The 1,797 handwritten digits inside scikit-learn, 8x8 brought to 28x28 like an upload; a fifth for tests."""
    # the file alone: importing scikit-learn to read it takes a second
    table = np.loadtxt(str(distribution("scikit-learn").locate_file(DIGITS)), delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    whole = ImageSet(np.stack([to_model_input(image, "digit") for image in pixels]), table[:, -1].astype(np.uint8))
    order = np.random.default_rng(0).permutation(len(whole))  # not by ``seed``: everybody has the same test set
    held = len(whole) // 5
    return whole.take(np.sort(order[held:])), whole.take(np.sort(order[:held]))


def _folder(path: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """Every image below PATH through the preprocessing of uploads; a fifth, by ``seed``, is the test set."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"'{path}' is not a folder; give the path of a folder of images, as in folder:~/digits")
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in suffixes)
    if len(files) < 3:
        raise InputError(f"'{path}' holds {len(files)} images ({', '.join(FORMATS)}); put at least 3 there")
    whole = ImageSet(np.stack([to_model_input(read_image(f, str(f)), str(f)) for f in files]))
    order = np.random.default_rng(seed).permutation(len(files))
    held = max(1, len(files) // 5)
    return whole.take(np.sort(order[held:])), whole.take(np.sort(order[:held]))


def _simulated(checkpoint: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """z from the prior and x from a checkpoint's decoder, the true z kept."""
    model = load_checkpoint(checkpoint).model
    generator = torch.Generator().manual_seed(seed)
    simulation = model.generative.simulate(sum(SIMULATED), generator=generator)
    whole = ImageSet(simulation.images[:, 0].numpy(), latents=simulation.latents.numpy())
    return whole.take(np.arange(SIMULATED[0])), whole.take(np.arange(SIMULATED[0], sum(SIMULATED)))


DATASETS: dict[str, Callable[[Path, int, float], tuple[ImageSet, ImageSet]]] = {
    "mnist": _archived("mnist", _build_mnist),
    "omniglot": _archived("omniglot", _build_omniglot),
    "binary-mnist": _binary("mnist"),
    "binary-mnist-fixed": _binary("mnist", fixed=True),
    "digits": _digits,
    "binary-digits": _binary("digits"),
}
BINARY = "binary-"  # how the names of data sets with pixels of 0 and 1 begin
DYNAMIC = ("binary-mnist", "binary-digits")  # grey training images, their pixels drawn anew at each use
_BY_ARGUMENT: dict[str, Callable[[str, int], tuple[ImageSet, ImageSet]]] = {
    "folder": _folder,
    "simulated": _simulated,
}
