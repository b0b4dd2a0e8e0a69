"""What a training writes down of every epoch: a line of JSON in its folder and, if asked for, TensorBoard's events."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpvae_core.errors import InputError
from gpvae_core.files import finite, read_bytes, write_atomically

CURVES, EVENTS = "curves.jsonl", "tensorboard"
GROUPS = ("parts", "validation", "health")  # of several numbers each
KEYS = ("epoch", *GROUPS, "images_per_second", "seconds")
Line = dict[str, Any]


class Curves:
    """The lines of a run up to ``epoch``, the one that it goes on from: what was written after it is made again."""

    def __init__(self, folder: Path, epoch: int, *, tensorboard: bool = False) -> None:
        writer = _writer() if tensorboard else None
        self.path = folder / CURVES
        self.lines = _lines(self.path, epoch) if epoch else []
        if self.lines or self.path.exists():
            self._write()
        self.show = _shown_in(folder / EVENTS, writer) if writer else None
        if self.show:
            for line in self.lines:
                self.show(line)

    def add(self, progress: Line) -> None:
        """Put one epoch's line down. A number that is not finite is null, which JSON can say."""
        self.lines.append({key: finite(progress[key]) for key in KEYS})
        self._write()
        if self.show:
            self.show(self.lines[-1])

    def _write(self) -> None:
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())


def _lines(path: Path, epoch: int) -> list[Line]:
    """The lines up to ``epoch``; none where another program has spoilt them: they are no part of the run's state."""
    try:
        lines = [dict(json.loads(line)) for line in read_bytes(path).splitlines()] if path.exists() else []
        return [line for line in lines if int(line["epoch"]) <= epoch]
    except (KeyError, TypeError, ValueError):
        return []


def _writer() -> Callable[..., Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("tensorboard is not installed, and --tensorboard needs it; pip install tensorboard") from None
    return SummaryWriter


def _shown_in(folder: Path, writer: Callable[..., Any]) -> Callable[[Line], None]:
    """What puts a line into fresh event files: those of an interrupted run may hold epochs that are made again."""
    shutil.rmtree(folder, ignore_errors=True)
    events = writer(log_dir=str(folder))

    def show(line: Line) -> None:
        for group in GROUPS:
            for name, value in line[group].items():
                if value is not None:
                    events.add_scalar(f"{group}/{name}", value, line["epoch"])
        events.add_scalar("images_per_second", line["images_per_second"], line["epoch"])
        events.flush()

    return show
