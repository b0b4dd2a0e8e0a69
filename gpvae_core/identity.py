"""Which run the files of a folder are of: weights and state name it, and ``config.json`` describes it."""

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpvae_core.errors import InputError
from gpvae_core.files import CHECKSUM, read_bytes
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.tensors import origin_of

STATE = "training-state.safetensors"
RUN = "run"  # the key in the origin of weights and state
RESULTS = ("best_epoch",)  # of a run, among its settings


def run_of(model: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """SHA-256 of what a run is asked for: its model's description and its settings, as ``config.json`` has them.

    A setting that is off counts like one that is missing, as in files older than the setting. Of a path counts the last
    name alone: folders move.
    """
    settings = {key: lasting(value) for key, value in training.items() if key not in RESULTS and value}
    described = {key: lasting(value) for key, value in model.items() if value}
    return sha256(json.dumps([described, settings], sort_keys=True).encode()).hexdigest()


def lasting(value: Any) -> Any:
    """As it reads after a round through JSON, where 1 and 1.0 are one number."""
    if isinstance(value, str):
        return re.split(r"[:/\\]", value.rstrip("/\\"))[-1]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_one_run(folder: Path, run: str) -> None:
    """Raise InputError naming the file in ``folder`` that is not of ``run``, as ``config.json`` there describes it.

    Where weights and state agree against it, that is ``config.json``, or where it was changed by hand. A file that
    names no run, as older ones, is taken as it is.
    """
    named = {name: origin_of(folder / name).get(RUN) for name in (WEIGHTS, STATE) if (folder / name).exists()}
    named = {name: other for name, other in named.items() if other is not None}
    others = [name for name, other in named.items() if other != run]
    if not others:
        return
    outvoted = len(others) == 2 and len(set(named.values())) == 1
    if outvoted or not _has_checksum(folder / CONFIG):
        raise InputError(f"{folder / CONFIG} is not what {others[0]} beside it was saved with; restore it")
    raise InputError(
        f"{folder / others[0]} is of another run than the {CONFIG} beside it; restore it, or train anew into another "
        "--out"
    )


def _has_checksum(path: Path) -> bool:
    return CHECKSUM in json.loads(read_bytes(path))
