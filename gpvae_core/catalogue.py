"""Which checkpoints there are, by name: the shipped ones, then those in folders of one's own."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpvae_core.paths import WEIGHTS
from gpvae_core.shipped import shipped_here


def catalogue(folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Name -> folder of every checkpoint: shipped, then below each of ``folders``, searched now.

    One's own are named by their path below the folder. A name that is taken gets the folder's own before it.
    A link that leads out of its folder is left out.
    """
    found = shipped_here()
    for folder in folders:
        root = folder.resolve()
        for place in sorted(_holding_weights(root)):
            name = place.relative_to(root).as_posix() if place != root else root.name
            found.setdefault(name if name not in found else f"{root.name}/{name}", place)
    return found


def _holding_weights(root: Path) -> Iterator[Path]:
    for place, _, files in os.walk(root):  # does not follow links to folders
        if WEIGHTS in files and (Path(place) / WEIGHTS).resolve().is_relative_to(root):
            yield Path(place)
