"""The checkpoints that the project ships: beside the code in a clone, digits-2d alone in an installation."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpvae_core.errors import InputError
from gpvae_core.extras import extras
from gpvae_core.files import read_bytes, read_json, write_atomically
from gpvae_core.paths import (
    CONFIG,
    ENCODERS,
    HEADS,
    MANIFEST,
    PRETRAINED,
    REFERENCES,
    SHIPPED,
    TABLE,
    WEIGHTS,
    at_home,
    user_cache,
)

FILES = (WEIGHTS, CONFIG, HEADS, TABLE, REFERENCES)


def manifest() -> dict[str, Any]:
    """Name -> digests and test numbers of every shipped checkpoint."""
    found = read_json(MANIFEST) if MANIFEST.exists() else {}
    if not all(isinstance(entry, dict) for entry in found.values()):
        raise InputError(f"{MANIFEST} is damaged: an entry describes no checkpoint; take it from a fresh clone")
    return found


def shipped_here() -> dict[str, Path]:
    """Name -> folder of those that are at hand without a network."""
    places = {name: PRETRAINED / name for name in manifest()}
    return {name: place for name, place in places.items() if (place / WEIGHTS).is_file()}


def is_shipped(folder: Path) -> bool:
    """Whether it is one of those that come with the code, which the manifest describes."""
    return folder.parent.resolve() == PRETRAINED.resolve()


def check_intact(folder: Path) -> None:
    """Raise InputError, naming the file, where one of a shipped checkpoint's is not what the manifest says.

    Another folder has no entry there, and nothing to check: its files carry their own checksums.
    """
    if is_shipped(folder):
        files = manifest().get(folder.name, {}).get("files", {})
        _check(folder, {file: digest for file, digest in files.items() if (folder / file).is_file()})


def _check(folder: Path, files: dict[str, str]) -> None:
    for file, digest in files.items():
        if _digest(folder / file) != digest:
            raise InputError(
                f"{folder / file} is damaged or changed: it is not the file that {folder.name} was shipped with; take "
                "it from a fresh clone"
            )


def fetched(name: str) -> Path:
    """The folder of a shipped checkpoint that is not beside the code, each file checked against the manifest.

    It is taken from GPVAE_PRETRAINED: the folder pretrained/ of a clone, or the address of a server that offers it.
    What a server sends is kept in the user's cache. Raises InputError where that is not set or a file is another.
    """
    source = os.environ.get(SHIPPED, "")
    if not source:
        raise InputError(
            f"{name} does not come with this installation; set {SHIPPED} to the folder pretrained/ of a clone, or to "
            "the address of a server that offers it"
        )
    files: dict[str, str] = manifest()[name]["files"]
    if "://" not in source:
        folder = at_home(source, f"{SHIPPED}=") / name
    else:
        folder = user_cache() / "pretrained" / name
        for file, digest in files.items():
            if not (folder / file).is_file() or _digest(folder / file) != digest:
                write_atomically(folder / file, _download(f"{source.rstrip('/')}/{name}/{file}"))
    _check(folder, files)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of what a checkpoint's folder holds, its card apart."""
    encoders = sorted(path.relative_to(folder).as_posix() for path in (folder / ENCODERS).glob("*"))
    return {file: _digest(folder / file) for file in (*FILES, *encoders) if (folder / file).is_file()}


def _digest(path: Path) -> str:
    return sha256(read_bytes(path)).hexdigest()


def _download(url: str) -> bytes:
    with extras():
        import requests
    try:
        answer = requests.get(url, timeout=30)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise InputError(f"{url} could not be fetched ({error}); check {SHIPPED} and the network") from None
    content: bytes = answer.content
    return content
