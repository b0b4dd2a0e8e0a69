"""Files written whole or not at all, by any number of processes at once. Imports nothing heavy."""

import json
import math
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

from gpvae_core.errors import InputError

PART = ".gpvae-{}.part"  # a file that is still being written
CHECKSUM = "sha256"  # the key, in a file's own description, of the digest of everything else in it
ABANDONED = 86_400.0  # seconds after which its writer must have been killed


def other_than_a_file(path: Path) -> str | None:
    """What stands at ``path``, a link followed, where that is "a folder" or "no ordinary file": a device or a pipe.

    None for a file, for what is not there, and for what may not be looked at: opening it gives the system's reason.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "no ordinary file"


def check_ordinary(path: Path, name: str | None = None) -> None:
    """Raise InputError, calling ``path`` by ``name``, where something other than a file stands there.

    Reading it may never end, and a file written there would take its place.
    """
    if kind := other_than_a_file(path):
        raise InputError(f"{name or path} is {kind}; give the path of a file")


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all: what stood there before survives any failure.

    For results that were asked for; see ``write_if_possible`` for caches. Of a link, the file that it leads to is
    written. Raises InputError with the system's reason, or where a folder, a device or a pipe stands there.
    """
    try:
        _write(path, data)
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}); what was saved before is intact: free some space or choose "
            "another folder, then run again (training goes on with --resume)"
        ) from None


def write_if_possible(path: Path, data: bytes) -> bool:
    """``write_atomically`` for a cache: whether it was kept. A disk that is full or read only is no error."""
    try:
        _write(path, data)
    except (OSError, InputError):
        return False
    return True


def thin_out(folder: Path, pattern: str, most: int) -> None:
    """Of a cache's files keep the ``most`` that were written last, as far as they can be removed."""
    with suppress(OSError):
        for old in sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)[:-most]:
            old.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """Write beside ``path`` under a name that no other writer has, flush to disk, then rename."""
    check_ordinary(path)
    path = Path(os.path.realpath(path))  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    part = path.with_name(PART.format(token_hex(8)))
    try:
        with part.open("xb") as file:  # not tempfile: its files are for their owner alone
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def _sweep(folder: Path) -> None:
    """Remove what writers that were killed left in ``folder`` a day ago or earlier."""
    with suppress(OSError):
        for part in folder.glob(PART.format("*")):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > ABANDONED:
                    part.unlink()


def read_bytes(path: Path) -> bytes:
    """A whole file. Raises InputError naming it, also where a folder, a device or a pipe stands there."""
    check_ordinary(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); check the path and its permissions") from None


def finite(value: Any) -> Any:
    """JSON has no infinity: null stands for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_bytes(record: Mapping[str, Any]) -> bytes:
    """A JSON object with a checksum of everything else in it, for ``read_json``."""
    return (json.dumps({**record, CHECKSUM: _checksum(record)}, indent=2) + "\n").encode()


def _checksum(record: Mapping[str, Any]) -> str:
    return sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, its checksum apart. Raises InputError naming the file where it is not what was saved.

    Whoever changes such a file on purpose deletes the line with the checksum.
    """
    content = read_bytes(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); restore the file") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; restore the file")
    promised = value.pop(CHECKSUM, None)
    if promised is not None and promised != _checksum(value):
        raise InputError(
            f"{path} is damaged or changed: its checksum is not that of its content; restore the file, or delete its "
            f'line "{CHECKSUM}" where the change is meant'
        )
    return value
