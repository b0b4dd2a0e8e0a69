"""The trainings of a server: RUNNING at a time, each a program of its own; the others wait in a line; none outlives
the page that asked for it, nor the server.
"""

import atexit
import json
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import BytesIO
from itertools import takewhile
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from threading import RLock, Thread
from typing import Any

from filelock import FileLock

from app.trainer import LOG, PICTURES, PLAN, RUN, Plan
from gpvae_core.data.images import SUFFIXES
from gpvae_core.errors import InputError
from gpvae_core.files import write_atomically
from gpvae_core.paths import WEIGHTS

UNREADABLE = (zipfile.BadZipFile, zlib.error, LZMAError)
DEEPEST = 6  # folders of an archive, one in another
PREFIX, OWNED, YOUNG = "gpvae-trainings-", "owned.lock", 60.0  # YOUNG: seconds in which a server takes its lock
ROOT = Path(__file__).resolve().parent.parent
RUNNING, WAITING = 2, 20
EVERY, GONE = 0.5, 120.0  # seconds between two rounds; without its page, until a training is ended
MOST_FILES, MOST_BYTES, MOST_OF_ONE = 5_000, 100_000_000, 10_000_000  # of an archive, unpacked
FULL = "{} trainings wait already; try again in some minutes"


class Training:
    """One training: what it does, in ``folder``, and how far it is."""

    def __init__(self, plan: Plan, folder: Path, alive: Callable[[], bool]) -> None:
        self.plan = plan
        self.folder = folder
        self.alive = alive
        self.seen = time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = True  # False: stopped by the user
        self.ended: int | None = None  # the exit status of the last program

    @property
    def state(self) -> str:
        """'running', 'waiting', 'stopped', 'finished' or 'failed'."""
        if self.process is not None:
            return "running"
        if not self.wanted:
            return "stopped"
        if self.ended is None:
            return "waiting"
        return "failed" if self.ended or self.why() else "finished"

    def records(self) -> list[dict[str, Any]]:
        """What the log says so far; an epoch that was done twice, before and after a stop, counts once."""
        try:
            lines = (self.folder / LOG).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found: dict[str, dict[str, Any]] = {}
        for line in lines:
            if line.endswith("\n"):  # else half written
                record = json.loads(line)
                key = next(iter(record))
                found[f"{key} {record[key]}" if key in ("epoch", "look") else key] = record
        return list(found.values())

    def why(self) -> str | None:
        """Why it failed, if it said so."""
        return next((str(record["failed"]) for record in self.records() if "failed" in record), None)

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the best model so far."""
        folder = self.folder / RUN
        return folder if (folder / WEIGHTS).exists() else None


class Trainings:
    """All trainings of this server, in the order in which they were asked for."""

    def __init__(self) -> None:
        self.line: list[Training] = []
        self.lock = RLock()
        self.root = Path(mkdtemp(prefix=PREFIX))
        self.owned = FileLock(self.root / OWNED)
        self.owned.acquire()
        sweep(self.root.parent)
        atexit.register(self.end)
        Thread(target=self._keep, name="trainings", daemon=True).start()

    def ask(self, plan: Plan, archive: bytes | None, alive: Callable[[], bool]) -> Training:
        """Put a training into the line; ``archive`` holds its images, if the plan does not name them.

        ``alive()``: whether its page is still open. Raises InputError where the line is full, or for a bad archive.
        """
        with self.lock:
            waiting = sum(one.state == "waiting" for one in self.line)
            if waiting >= WAITING:
                raise InputError(FULL.format(waiting))
            folder = Path(mkdtemp(dir=self.root))
        try:
            if archive is not None:
                unpack(archive, folder / PICTURES)
                plan = Plan(**{**asdict(plan), "dataset": f"folder:{folder / PICTURES}"})
            write_atomically(folder / PLAN, json.dumps(asdict(plan)).encode())
        except BaseException:
            shutil.rmtree(folder)
            raise
        training = Training(plan, folder, alive)
        with self.lock:
            self.line.append(training)
        self._start_next()
        return training

    def stop(self, training: Training) -> None:
        """End its program; what was learned is kept, and ``resume`` goes on from the last epoch."""
        with self.lock:
            training.wanted = False
            self._end_program(training)

    def resume(self, training: Training) -> None:
        """Back into the line, at its end."""
        with self.lock:
            training.wanted, training.ended = True, None
            self.line.remove(training)
            self.line.append(training)
        self._start_next()

    def drop(self, training: Training) -> None:
        """End it and forget everything of it."""
        with self.lock:
            self._end_program(training)
            if training in self.line:
                self.line.remove(training)
            shutil.rmtree(training.folder, ignore_errors=True)

    def keeps(self, training: Training) -> bool:
        """Whether it is here still."""
        with self.lock:
            return training in self.line

    def place(self, training: Training) -> int:
        """How many wait before it."""
        with self.lock:
            before = self.line[: self.line.index(training)]
            return sum(one.state == "waiting" for one in before)

    def end(self) -> None:
        """End all of them, when the server ends."""
        with self.lock:
            for training in list(self.line):
                self.drop(training)
            self.owned.release()
            shutil.rmtree(self.root, ignore_errors=True)

    def _end_program(self, training: Training) -> None:
        if training.process is not None:
            training.process.kill()  # what it writes is complete at any time
            training.process.communicate()
            training.process = None

    def _start_next(self) -> None:
        with self.lock:
            free = RUNNING - sum(one.state == "running" for one in self.line)
            for training in [one for one in self.line if one.state == "waiting"][: max(free, 0)]:
                command = [sys.executable, "-m", "app.trainer", str(training.folder)]
                training.process = subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )

    def _keep(self) -> None:
        while True:
            time.sleep(EVERY)
            with self.lock:
                for training in list(self.line):
                    self._look_after(training)
            self._start_next()

    def _look_after(self, training: Training) -> None:
        if training.process is not None and training.process.poll() is not None:
            training.ended = training.process.returncode
            self._end_program(training)
        if training.alive():
            training.seen = time.monotonic()
        elif time.monotonic() - training.seen > GONE:
            self.drop(training)


def sweep(folder: Path) -> None:
    """Delete what servers that were killed have left there: the lock of a server that lives is held."""
    for old in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):  # held, another user's, or just gone
            if time.time() - old.stat().st_mtime > YOUNG:
                with FileLock(old / OWNED, timeout=0):
                    shutil.rmtree(old)


def unpack(archive: bytes, folder: Path) -> None:
    """The images of a zip archive, under names of our own; the folders in which each lies stay, as parts and classes.

    Folders around all of them are left out, and what a Mac adds to an archive.

    Raises InputError for what is no archive, holds no image, or would take more than MOST_BYTES.
    """
    try:
        with zipfile.ZipFile(BytesIO(archive)) as opened:
            files = [one for one in opened.infolist() if _is_image(one.filename)]
            _check_size(files)
            places = [_folders_of(one.filename) for one in files]
            around = _shared(places) if len({*places}) > 1 else 0
            for k, (one, place) in enumerate(zip(files, places, strict=True)):
                target = folder.joinpath(*place[around:], f"{k}{PurePosixPath(one.filename).suffix.lower()}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(one) as source:  # never more than it said
                    target.write_bytes(source.read(one.file_size))
    except InputError:
        raise
    except (*UNREADABLE, NotImplementedError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"the archive cannot be unpacked ({error}); give a zip file of images") from None


def _check_size(files: list[zipfile.ZipInfo]) -> None:
    total = sum(one.file_size for one in files)
    if not files:
        raise InputError(f"the archive holds no images ({', '.join(SUFFIXES)}); give a zip file of images")
    if len(files) > MOST_FILES or total > MOST_BYTES or max(one.file_size for one in files) > MOST_OF_ONE:
        raise InputError(
            f"the archive holds {len(files):,} images of {total / 1e6:,.0f} MB; give at most {MOST_FILES:,} of "
            f"{MOST_BYTES / 1e6:.0f} MB, none over {MOST_OF_ONE / 1e6:.0f} MB"
        )


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and path.parts[0] != "__MACOSX" and not path.name.startswith("._")


def _shared(places: Sequence[tuple[str, ...]]) -> int:
    """How many folders all places begin with."""
    return sum(1 for _ in takewhile(lambda level: len({*level}) == 1, zip(*places, strict=False)))


def _folders_of(name: str) -> tuple[str, ...]:
    """The names of the folders in which a file lies, without what could lead out of ours."""
    folders = PurePosixPath(name.replace("\\", "/")).parts[:-1][-DEEPEST:]
    plain = ("".join(c for c in one if c.isalnum() or c in "-_ ")[:40].strip() for one in folders)
    return tuple(one for one in plain if one)
