"""Anybody's folder of pictures as a data set: what cannot be read is left out and counted, class folders are labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from posixpath import commonpath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpvae_core.data.images import FORMATS, SIDE, SUFFIXES, Grey, is_coloured, read_image
from gpvae_core.data.recipes import Recipe
from gpvae_core.errors import InputError
from gpvae_core.files import other_than_a_file

PARTS = ("train", "validation", "test")
TEST, VALIDATION = 0.2, 0.1  # of all images; of those that are left for training
TOP = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LEAST = 3  # images: one for each part


@dataclass(frozen=True)
class Picture:
    """One file: its model input (28, 28), its class folder, and the part that its top folder names.

    ``doubtful``: it may not show one figure.
    """

    pixels: Grey
    kind: str
    part: str | None
    coloured: bool
    resized: bool
    doubtful: bool


@dataclass(frozen=True)
class Folder:
    """Images (N, 28, 28), labels (N,) or None, the part of each (N,), and what was done to them, a sentence each."""

    images: Grey
    labels: NDArray[Any] | None
    parts: NDArray[np.str_]
    notes: tuple[str, ...]


def resolved(path: str) -> Path:
    """The folder's absolute path. Raises InputError where there is none."""
    try:
        root = Path(path).expanduser().resolve()
        if root.is_dir():
            return root
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a circle of links, a null byte
        raise InputError(f"'{path}' cannot be a folder ({error}); give its path, as in folder:~/digits") from None
    raise InputError(f"'{path}' is not a folder; give the path of a folder of images, as in folder:~/digits")


def read_folder(root: Path, seed: int, recipe: Recipe) -> Folder:
    """Every image below ``root`` as ``recipe`` makes it.

    Folders train/ and test/ at the top, and val/ where there is one, are these parts. Otherwise the image itself
    chooses: a hash of its pixels and ``seed``, so that equal images share a part, and no image changes its part when
    others are added. Raises InputError where fewer than three different images can be read.
    """
    files = _files(root)
    split = _has_parts(root)
    pictures, refused = [], []
    for file in files:
        try:
            pictures.append(_read(file, root, recipe, split=split))
        except InputError as error:
            refused.append(str(error))
    notes = [*_refusals(refused, len(files)), *_changes(pictures)]
    labels, said = _labels([picture.kind for picture in pictures])
    images = np.stack([picture.pixels for picture in pictures]) if pictures else np.zeros((0, SIDE, SIDE), np.uint8)
    shares = np.array([_share(image, seed) for image in images])
    if len(set(shares)) < LEAST:
        why = f"; {notes[0]}" if refused else ""
        raise InputError(
            f"'{root}' holds {len(images)} images that can be read ({', '.join(FORMATS)}), {len(set(shares))} of them "
            f"different{why}; put at least {LEAST} different ones there"
        )
    parts, moved = _named_parts(pictures, shares) if split else _drawn_parts(shares)
    return Folder(images, labels, parts, tuple(notes + said + moved))


# --- files --------------------------------------------------------------------------------------------------------


def _files(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)


def _has_parts(root: Path) -> bool:
    """Whether folders at the top name training and test images."""
    try:
        named = {TOP.get(folder.name.lower()) for folder in root.iterdir() if folder.is_dir()}
    except OSError as error:
        raise InputError(f"cannot look into '{root}' ({error.strerror}); check its permissions") from None
    return {"train", "test"} <= named


def _read(file: Path, root: Path, recipe: Recipe, *, split: bool) -> Picture:
    """Raises InputError where it cannot be used."""
    name = str(file.relative_to(root))
    _check_file(file, name)
    *folders, _ = file.relative_to(root).parts
    part = TOP.get(folders[0].lower()) if split and folders else None
    if split and part is None:
        raise InputError(f"'{name}' lies in neither train/ nor test/")
    grey = read_image(file, name)
    made = recipe.prepare(grey, name, None)
    kind = "/".join(folders[1:] if split else folders)
    return Picture(made.image, kind, part, is_coloured(file), grey.shape != (SIDE, SIDE), bool(made.doubts))


def _check_file(file: Path, name: str) -> None:
    """Raise InputError where there is no ordinary file."""
    if kind := other_than_a_file(file):
        raise InputError(f"'{name}' is {kind}")
    try:
        file.stat()
    except FileNotFoundError:
        raise InputError(f"'{name}' is a dead link") from None
    except OSError as error:
        raise InputError(f"cannot read '{name}' ({error.strerror})") from None


# --- what is said of them -------------------------------------------------------------------------------------------


def _refusals(refused: list[str], total: int) -> list[str]:
    return [f"{len(refused)} of {total} files were left out, the first because {refused[0]}"] if refused else []


def _changes(pictures: Sequence[Picture]) -> list[str]:
    coloured, resized, doubtful = (
        sum(getattr(p, field) for p in pictures) for field in ("coloured", "resized", "doubtful")
    )
    notes = [f"{coloured} of {len(pictures)} images are in colour and were made grey"] if coloured else []
    if resized:
        size = f"{SIDE}x{SIDE}"
        notes.append(f"{resized} of {len(pictures)} images are not {size} and were cut to their ink and scaled to it")
    if doubtful:
        notes.append(f"{doubtful} of {len(pictures)} images may not show one figure each")
    return notes


def _labels(kinds: list[str]) -> tuple[NDArray[Any] | None, list[str]]:
    """A number for each class folder: its own where its name is one digit, else by the order of the names.

    Numbers start at 10 where digits are there too. Images in no folder are a class of their own. Folders around all
    classes are no part of their names.
    """
    if len(set(kinds)) > 1 and (around := commonpath(kinds)):
        kinds = [kind[len(around) + 1 :] for kind in kinds]
    names = sorted(set(kinds))
    digits = [name for name in names if len(name) == 1 and name in "0123456789"]
    if len(names) < 2 and not digits:
        return None, []
    others = [name for name in names if name not in digits]
    numbers = {name: int(name) for name in digits}
    numbers |= {name: k + (10 if digits else 0) for k, name in enumerate(others)}
    labels = np.array([numbers[kind] for kind in kinds])
    loose = kinds.count("")
    notes = [f"{loose} images lie in no class folder and have the label {numbers['']}"] if loose else []
    return labels.astype(np.min_scalar_type(max(numbers.values()))), notes


# --- parts ----------------------------------------------------------------------------------------------------------


def _share(image: Grey, seed: int) -> float:
    """A number in [0, 1) that the image's pixels and the seed alone decide."""
    digest = sha256(f"{seed}:".encode() + image.tobytes()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _drawn_parts(shares: NDArray[np.float64]) -> tuple[NDArray[np.str_], list[str]]:
    """Test, validation and training images by ascending share.

    A part that would be empty takes its neighbour. What another image later takes from it goes on towards training,
    unless it was training that was empty: so no image that was trained on becomes a test image.
    """
    ordered = np.unique(shares)
    wanted = np.searchsorted(ordered, [TEST, TEST + VALIDATION * (1 - TEST)])
    first = int(np.clip(wanted[0], 1, len(ordered) - 2))
    second = int(np.clip(wanted[1], first + 1, len(ordered) - 1))
    parts = np.array(["test", "validation", "train"])[np.searchsorted(ordered[[first, second]], shares, side="right")]
    return parts, [] if [first, second] == wanted.tolist() else [_too_few(len(ordered))]


def _named_parts(pictures: Sequence[Picture], shares: NDArray[np.float64]) -> tuple[NDArray[np.str_], list[str]]:
    """As the top folders say; without one for validation, some training images by their share."""
    parts = np.array([picture.part for picture in pictures], dtype=f"<U{max(map(len, PARTS))}")
    notes = []
    ordered = np.unique(shares[parts == "train"])
    if "validation" not in parts:
        if len(ordered) < 2:
            raise InputError(f"train/ holds {len(ordered)} different images that can be read; put at least 2 there")
        wanted = int(np.searchsorted(ordered, VALIDATION))
        cut = min(max(1, wanted), len(ordered) - 1)
        parts[(parts == "train") & (shares < ordered[cut])] = "validation"
        notes = [] if cut == wanted else [_too_few(len(ordered))]
    counts = Counter(parts.tolist())
    for part in PARTS:
        if not counts[part]:
            raise InputError(f"no image for {part} can be read; put at least one into its folder")
    twice = np.isin(shares[parts == "test"], shares[parts != "test"]).sum()
    return parts, notes + ([f"{twice} test images are also among those of training or validation"] if twice else [])


def _too_few(count: int) -> str:
    return f"{count} different images are so few that a part had none: this split may change when images are added"
