"""What the commands share: their options, and what these stand for."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import DATASETS, Dataset, ImageSet, dataset_of
from gpvae_core.errors import InputError, short
from gpvae_core.fields import LEAST_TOLERANCE, MOST_TOLERANCE
from gpvae_core.files import check_ordinary
from gpvae_core.inference import METHODS, Method, most_of
from gpvae_core.models import LEAST_STD, MOST_LATENT, MOST_STD, MOST_UNITS
from gpvae_core.paths import DATA_DIR, at_home
from gpvae_core.tensors import usable_device
from gpvae_core.training.fit import MOST_DRAWS, MOST_SCALE, MOST_WEIGHT


class Number(click.FloatRange):
    """A finite number in a range: click's own takes nan and inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


class Name(click.types.StringParamType):
    """A name, or a path that stands for one: an empty one is a shell's variable that was not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(super().convert(value, param, ctx))
        if not name.strip():
            self.fail("it is empty; give a name, or leave the option out.", param, ctx)
        return name


class Cluster(Name):
    """The address of a Ray cluster."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        address = super().convert(value, param, ctx)
        if not CLUSTER.fullmatch(address):
            self.fail(f"'{short(address)}' is no cluster; give local, auto, or ray://HOST:PORT.", param, ctx)
        return address


class Place(click.Path):
    """A path that the system can have: click's own lets its complaints through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("it is empty; give a path, or leave the option out.", param, ctx)
        try:
            place = Path(str(super().convert(str(at_home(value)), param, ctx)))
            place.exists()
            if not self.dir_okay:
                check_ordinary(place)  # before the work that its result is of
        except InputError as error:
            self.fail(f"{error}.", param, ctx)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self.fail(f"'{short(value)}' cannot be a path here ({reason}).", param, ctx)
        return place


CLUSTER = re.compile(r"local|auto|(ray://)?[^\s/]+:\d{1,5}")
NAME = Name()
FolderPath = Place(file_okay=False, path_type=Path)
FilePath = Place(dir_okay=False, path_type=Path)
SEED = click.IntRange(0, 2**31 - 1)
COUNT = click.IntRange(1, 1_000_000)
DIMENSION = click.IntRange(1, MOST_LATENT)
HIDDEN = click.IntRange(1, MOST_UNITS)
MOST_JOBS = 256  # processes, each with torch of its own
MOST_GPUS = 16  # of one run
IMPORTANCE = click.IntRange(0, MOST_DRAWS)
WEIGHT = Number(0, MOST_WEIGHT)
SCALE = Number(0, MOST_SCALE)
POSITIVE = Number(0, min_open=True)
STD = Number(LEAST_STD, MOST_STD)
TOLERANCE = Number(LEAST_TOLERANCE, MOST_TOLERANCE)
DATASET_HELP = f"One of {', '.join(DATASETS)}, or folder:PATH, or archive:PATH of an .npz, or simulated:CHECKPOINT."


def check_out(folder: Path) -> None:
    """Raise InputError, before the work is done, where nothing can be written into ``folder``. It is not made here."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    reason = "it is no folder" if not there.is_dir() else "" if os.access(there, os.W_OK | os.X_OK) else "no permission"
    if reason:
        raise InputError(f"nothing can be written into {folder} ({there}: {reason}); choose another --out")


def data_dir(command: Callable[..., None]) -> Callable[..., None]:
    """Where data sets are kept."""
    help_text = "Where mnist.npz and its like are kept (or GPVAE_DATA_DIR); by default the user's cache folder."
    return click.option("--data-dir", type=FolderPath, envvar=DATA_DIR, help=help_text)(command)


def device(command: Callable[..., None]) -> Callable[..., None]:
    """What to compute on; see ``resolve_device``."""
    return click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ...")(command)


def checkpoint(command: Callable[..., None]) -> Callable[..., None]:
    """The model."""
    return click.option("--checkpoint", type=NAME, required=True, help="A name in pretrained/ or a folder.")(command)


def method(command: Callable[..., None]) -> Callable[..., None]:
    """Another encoder on the checkpoint's decoder; see ``opened``."""
    ready = [name for name, one in METHODS.items() if not one.encoder.trained]
    text = f"Another encoder on the checkpoint's decoder: {', '.join(ready)}, vae, or one that is stored beside it."
    return of_methods(click.option("--method", type=NAME, help=text)(command), ready)


def opened(checkpoint: str, method: str | None, settings: dict[str, Any], device: str = "cpu") -> Checkpoint:
    """The checkpoint, with ``method`` on it if one is named; ``settings``: its options, see ``of_methods``."""
    found = load_checkpoint(checkpoint, device=resolve_device(device))
    if method in METHODS:
        return found.with_method(method, taken(METHODS[method], settings))
    found = found.with_method(method) if method else found
    given = next((name for name, value in settings.items() if value is not None), None)
    if given and method:
        raise InputError(f"--{given} is no option of {method}, which stays as it was trained; leave it out")
    if given:
        raise InputError(f"--{given} is an option of a method; name it with --method")
    return found


def split(command: Callable[..., None]) -> Callable[..., None]:
    """Which images of the data set."""
    choice = click.Choice(["train", "validation", "test"])
    return click.option("--split", type=choice, default="test", help="Part of the data set.")(command)


def tolerance(command: Callable[..., None]) -> Callable[..., None]:
    """The engine's."""
    return click.option("--tolerance", type=TOLERANCE, default=1e-3, help="Of log p(x), in nats.")(command)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Where the parts of the work go; see ``gpvae_core.spread``."""
    gpus = click.option(
        "--gpus-a-run", type=Number(0, MOST_GPUS), default=0.0, help="With --ray: a part of a GPU will do."
    )(command)
    ray = click.option("--ray", type=Cluster(), help="A Ray cluster instead: local, auto, or ray://HOST:PORT.")(gpus)
    return click.option(
        "--jobs", type=click.IntRange(1, MOST_JOBS), default=1, help="Processes on this machine, one thread each."
    )(ray)


def limit(command: Callable[..., None]) -> Callable[..., None]:
    """Of images, for a quick look."""
    return click.option("--limit", type=click.IntRange(1), help="Only the first images.")(command)


def dataset(command: Callable[..., None]) -> Callable[..., None]:
    """Another data set than the one of the training."""
    text = f"By default the one the checkpoint was trained on. {DATASET_HELP}"
    return click.option("--dataset", type=NAME, help=text)(command)


def _options_of(methods: Iterable[str]) -> dict[str, list[str]]:
    """Every option of these methods, with the names of those that have it."""
    found: dict[str, list[str]] = {}
    for name in methods:
        for field in fields(METHODS[name].encoder.Options):
            found.setdefault(field.name, []).append(name)
    return found


def of_methods(command: Callable[..., None], methods: Iterable[str] = METHODS) -> Callable[..., None]:
    """The options of these methods, each once; see ``taken``."""
    for name, having in reversed(_options_of(methods).items()):
        of = type(getattr(METHODS[having[0]].encoder.Options(), name))
        kind = {int: click.IntRange(0, most_of(name)), float: Number()}.get(of, of)
        flag = f"--{name}/--no-{name}" if of is bool else f"--{name}"
        words = f"Of {', '.join(having)}; see docs/method.md. By default as the method's name says."
        command = click.option(flag, type=kind, default=None, help=words)(command)
    return command


def taken(method: Method, settings: dict[str, Any]) -> dict[str, Any]:
    """The options of ``method`` that were given, taken out of ``settings``. Raises InputError for another's."""
    given = {name: settings.pop(name) for name in _options_of(METHODS) if name in settings}
    own = {name: value for name, value in given.items() if value is not None}
    method.configured(own)
    return own


def resolve_device(name: str) -> torch.device:
    """A usable device; auto: an accelerator where there is one. Raises InputError."""
    if name == "auto":
        usable = torch.accelerator.is_available()
        return torch.accelerator.current_accelerator() or torch.device("cpu") if usable else torch.device("cpu")
    return usable_device(name)


def data_of(checkpoint: Checkpoint, dataset: str | None, data_dir: Path | None) -> Dataset:
    """``dataset_of``, saying what a user should know of it."""
    data = dataset_of(checkpoint, dataset, data_dir)
    say(data)
    return data


def say(data: Dataset) -> None:
    """What a user should know of a data set, on the error stream: standard output is for results."""
    for note in data.notes:
        click.echo(f"{data.name}: {note}", err=True)


def limited(images: ImageSet, limit: int | None) -> ImageSet:
    """The first ``limit`` images, or all."""
    return images if limit is None else images.take(np.arange(min(limit, len(images))))
