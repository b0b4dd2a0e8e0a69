"""Data sets as uint8 images with labels and splits: DATASETS is the only list of their names."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import requests
import torch
from numpy.typing import NDArray

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data.archives import GREY, Arrays, Shape, read_archive, read_idx
from gpvae_core.data.downloads import reason
from gpvae_core.data.folders import read_folder, resolved
from gpvae_core.data.images import DIGITS as AS_DIGITS
from gpvae_core.data.images import to_model_input
from gpvae_core.data.originals import (
    COLOUR,
    build_celeba,
    build_cifar10,
    build_mnist,
    build_omniglot,
    build_svhn,
    read_celeba,
    read_cifar10,
    read_svhn,
)
from gpvae_core.data.recipes import RECIPES, Recipe, recipe_of
from gpvae_core.errors import InputError
from gpvae_core.fields import Seed, check
from gpvae_core.files import write_if_possible
from gpvae_core.paths import WEIGHTS, at_home, data_folder

HELD_OUT = 0.1  # of the training set, for validation
DIGITS = "sklearn/datasets/data/digits.csv.gz"
SIMULATED = (8_000, 2_000)  # training, test
Images = NDArray[Any]


@dataclass(frozen=True)
class ImageSet:
    """Images (N, H, W), or (N, H, W, 3) in colour, uint8 0..255 or float32 pixels; labels (N,) or None.

    ``latents`` (N, d) or None: the true ones of images that a decoder made.
    """

    images: Images
    labels: Images | None = None
    latents: Images | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Images) -> "ImageSet":
        pick = [None if a is None else a[rows] for a in (self.labels, self.latents)]
        return ImageSet(self.images[rows], *pick)

    def pixels(self, rows: Any = slice(None)) -> torch.Tensor:
        """Model input: float32 (n, C, H, W), pixels in [0,1] (simulated ones may lie outside)."""
        return as_pixels(torch.from_numpy(self.images[rows]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of each image."""
        height, width, *colours = self.images.shape[1:]
        return (colours[0] if colours else 1, height, width)


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test images. ``dynamic``: each use of a training image draws its pixels anew.

    ``name`` finds it again from any working directory, with the ``seed`` that split it and the name of the ``recipe``
    that made a folder's images. ``notes``: what a user should know of it, a sentence each.
    """

    name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    dynamic: bool = False
    notes: tuple[str, ...] = ()
    seed: int | None = None
    recipe: str | None = None

    def split(self, name: str) -> ImageSet:
        """'train', 'validation' or 'test', as they are evaluated: pixels that training draws anew are drawn once."""
        images: ImageSet = getattr(self, name)
        return bernoulli_draw(images, 0) if self.dynamic and name == "train" else images


@dataclass(frozen=True)
class Parts:
    """What a data set is made from. Without ``validation``, a tenth of the training images is held out for it."""

    train: ImageSet
    test: ImageSet
    validation: ImageSet | None = None
    notes: tuple[str, ...] = ()


def as_pixels(images: torch.Tensor) -> torch.Tensor:
    """(n, H, W) or (n, H, W, 3), uint8 or float -> (n, C, H, W) float32 pixels."""
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)


def _as_images(pixels: torch.Tensor) -> Images:
    """The way back: (n, C, H, W) as an ``ImageSet`` holds them."""
    return (pixels[:, 0] if pixels.shape[1] == 1 else pixels.permute(0, 2, 3, 1)).numpy()


def load_dataset(
    spec: str, data_dir: Path | None = None, *, seed: int = 0, timeout: float = 30.0, recipe: Recipe | None = None
) -> Dataset:
    """A data set by name: one of DATASETS, or 'folder:PATH', 'archive:PATH' of an .npz, or 'simulated:CHECKPOINT'.

    ``data_dir`` is where data sets are kept: by default GPVAE_DATA_DIR, or the user's cache folder. ``recipe`` makes
    the images of a folder; by default MNIST's.

    ``seed`` chooses the tenth of the training set that is held out for validation, and every random draw.
    ``timeout`` in seconds, for each network connection. Raises InputError with the cure.
    """
    name, _, argument = spec.partition(":")
    check("seed", seed, Seed)
    data_dir, recipe = at_home(data_dir) if data_dir else data_folder(), recipe or recipe_of(spec)
    if spec in DATASETS:
        parts = DATASETS[spec](data_dir, seed, timeout)
    elif name in _BY_ARGUMENT and argument:
        parts = _BY_ARGUMENT[name](argument, seed, recipe)
    else:
        names = ", ".join([*DATASETS, "folder:PATH", "archive:PATH", "simulated:CHECKPOINT"])
        raise InputError(f"data set '{spec}' is unknown; choose one of {names}")
    train, validation = _hold_out(parts.train, seed) if parts.validation is None else (parts.train, parts.validation)
    dynamic = spec in DYNAMIC
    if dynamic:  # evaluated on a fixed draw
        validation = bernoulli_draw(validation, seed)
    return Dataset(lasting_name(spec), train, validation, parts.test, dynamic, parts.notes, seed, recipe.name)


def check_shape(model_shape: tuple[int, int, int], images: ImageSet) -> None:
    """Raise InputError where the images are not what the model takes."""
    if images.shape != model_shape:
        raise InputError(
            f"the images measure {images.shape} but the checkpoint takes {model_shape}; choose another data set"
        )


def dataset_of(checkpoint: Checkpoint, name: str | None = None, folder: Path | None = None) -> Dataset:
    """The data set ``name``, or the one that ``checkpoint`` was trained on, prepared and split as its own images were.

    ``folder``: where data sets are kept. Raises InputError where there is none, or its images do not fit the model.
    """
    recipe = recipe_for(checkpoint)
    data = load_dataset(name or checkpoint.dataset, folder, seed=checkpoint.split, recipe=recipe)
    check_shape(checkpoint.config.image_shape, data.test)
    return data


def recipe_for(checkpoint: Checkpoint) -> Recipe:
    """How the images were made that ``checkpoint`` was trained on: an encoder's were made as those of its decoder.

    Raises InputError where it names a recipe that there is not.
    """
    named = checkpoint.recipe or recipe_of(checkpoint.dataset).name
    if named not in RECIPES:
        raise InputError(
            f"{checkpoint.folder} names the recipe '{named}'; restore its config, it is one of {', '.join(RECIPES)}"
        )
    return RECIPES[named]


def lasting_name(spec: str) -> str:
    """``spec`` with an absolute path where it names one: what finds the data set again from any working directory.

    Raises InputError where it names a folder of images that does not exist.
    """
    name, _, argument = spec.partition(":")
    if name == "folder" and argument:
        return f"folder:{resolved(argument)}"
    if name == "archive" and argument:
        return f"archive:{_found(argument)}"
    if name == "simulated" and (at_home(argument) / WEIGHTS).is_file():
        return f"simulated:{at_home(argument).resolve()}"
    return spec


def _hold_out(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """The images that are left for training, and a tenth for validation."""
    order = np.random.default_rng(seed).permutation(len(images))
    held = max(1, round(HELD_OUT * len(order)))
    return images.take(np.sort(order[held:])), images.take(np.sort(order[:held]))


# --- built once from a download -------------------------------------------------------------------------------


def _archived(
    name: str,
    build: Callable[[Path, float], Arrays],
    otherwise: Callable[[Path], Arrays | None] = lambda _: None,
    shape: Shape | None = GREY,
    slow: bool = False,
) -> Callable[[Path, int, float], Parts]:
    """A data set kept as <data-dir>/<name>.npz, or found there by ``otherwise``; else downloaded, built and kept.

    ``shape`` of an image, where it has labels. ``slow``: what ``otherwise`` finds takes minutes to read, so it is kept.
    """

    def load(data_dir: Path, seed: int, timeout: float) -> Parts:
        path = data_dir / f"{name}.npz"
        try:
            if path.exists():
                return _parts(read_archive(path, shape))
            found = otherwise(data_dir)
        except OSError:
            found = None  # a folder that may not be looked at
        if found is not None and not slow:
            return _parts(found)
        arrays, again = (_downloaded(name, path, build, timeout), "downloaded") if found is None else (found, "read")
        buffer = BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        kept = write_if_possible(path, buffer.getvalue())
        return _parts(arrays, () if kept else (f"{name} could not be kept in {data_dir}: it is {again} each time",))

    return load


def _parts(arrays: Arrays, notes: tuple[str, ...] = ()) -> Parts:
    sets = {
        split: ImageSet(arrays[f"{split}_images"], arrays.get(f"{split}_labels"))
        for split in ("train", "test", "validation")
        if f"{split}_images" in arrays
    }
    return Parts(sets["train"], sets["test"], sets.get("validation"), notes)


def _downloaded(name: str, path: Path, build: Callable[[Path, float], Arrays], timeout: float) -> Arrays:
    """Raises InputError with the reason."""
    try:
        with TemporaryDirectory() as raw:
            return build(Path(raw), timeout)
    except (requests.RequestException, OSError, ValueError) as error:
        raise InputError(
            f"data set '{name}' is not at {path} and could not be downloaded ({reason(error)}); connect to the "
            f"network, or copy {name}.npz there from another machine, or use the data set digits, which needs neither"
        ) from None


# --- derived, offline, simulated, and anybody's own -----------------------------------------------------------


def bernoulli_draw(part: ImageSet, seed: int) -> ImageSet:
    """Pixels drawn once as Bernoulli(grey), 0 or 255: never a threshold. Pixels of 0 or 1 stay what they are."""
    rng = np.random.default_rng([seed, len(part)])
    ink = rng.random(part.images.shape, dtype=np.float32) < part.pixels()[:, 0].numpy()
    return replace(part, images=ink.astype(np.uint8) * np.uint8(255))


def _binary(name: str, *, fixed: bool = False) -> Callable[[Path, int, float], Parts]:
    """Data set ``name`` with binary pixels: the test set drawn once, the training set too if ``fixed``."""

    def load(data_dir: Path, seed: int, timeout: float) -> Parts:
        grey = DATASETS[name](data_dir, seed, timeout)
        train = bernoulli_draw(grey.train, 0) if fixed else grey.train
        return replace(grey, train=train, test=bernoulli_draw(grey.test, 0))

    return load


def _digits(data_dir: Path, seed: int, timeout: float) -> Parts:
    """The 1,797 handwritten digits inside scikit-learn, 8x8 brought to 28x28 like an upload; a fifth for tests."""
    # the file alone: importing scikit-learn to read it takes a second
    table = np.loadtxt(str(distribution("scikit-learn").locate_file(DIGITS)), delimiter=",")
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([to_model_input(image, "digit", placement=AS_DIGITS) for image in pixels])
    whole = ImageSet(images, table[:, -1].astype(np.uint8))
    order = np.random.default_rng(0).permutation(len(whole))  # not by ``seed``: everybody has the same test set
    held = len(whole) // 5
    return Parts(whole.take(np.sort(order[held:])), whole.take(np.sort(order[:held])))


def _folder(path: str, seed: int, recipe: Recipe) -> Parts:
    """Every image below PATH as ``recipe`` makes it, split as ``read_folder`` says."""
    found = read_folder(resolved(path), seed, recipe)
    whole = ImageSet(found.images, found.labels)
    train, test, validation = (whole.take(np.flatnonzero(found.parts == p)) for p in ("train", "test", "validation"))
    return Parts(train, test, validation, found.notes)


def _archive(path: str, seed: int, recipe: Recipe) -> Parts:
    """Any images that somebody has put into an .npz, grey or in colour."""
    return _parts(read_archive(_found(path)))


def _found(path: str) -> Path:
    """An absolute path. Raises InputError where it cannot be one."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a circle of links, a null byte
        raise InputError(f"'{path}' cannot be a file ({error}); give its path, as in archive:~/images.npz") from None


def _simulated(checkpoint: str, seed: int, recipe: Recipe) -> Parts:
    """z from the prior and x from a checkpoint's decoder, the true z kept."""
    model = load_checkpoint(checkpoint).model
    generator = torch.Generator().manual_seed(seed)
    simulation = model.generative.simulate(sum(SIMULATED), generator=generator)
    whole = ImageSet(_as_images(simulation.images), latents=simulation.latents.numpy())
    return Parts(whole.take(np.arange(SIMULATED[0])), whole.take(np.arange(SIMULATED[0], sum(SIMULATED))))


DATASETS: dict[str, Callable[[Path, int, float], Parts]] = {
    "mnist": _archived("mnist", build_mnist, read_idx),
    "omniglot": _archived("omniglot", build_omniglot),
    "cifar10": _archived("cifar10", build_cifar10, read_cifar10, COLOUR),
    "svhn": _archived("svhn", build_svhn, read_svhn, COLOUR),
    "celeba": _archived("celeba", build_celeba, read_celeba, None, slow=True),
    "binary-mnist": _binary("mnist"),
    "binary-mnist-fixed": _binary("mnist", fixed=True),
    "digits": _digits,
    "binary-digits": _binary("digits"),
}
DYNAMIC = ("binary-mnist", "binary-digits")  # grey training images, their pixels drawn anew at each use
_BY_ARGUMENT: dict[str, Callable[[str, int, Recipe], Parts]] = {
    "archive": _archive,
    "folder": _folder,
    "simulated": _simulated,
}
