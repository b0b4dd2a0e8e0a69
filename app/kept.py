"""Views of test images on disk: what one process has computed, any other one reads, also after a restart.

Never an image that somebody brought or drew, and nothing of a checkpoint that somebody trained here.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.compute import Encoders, View
from app.overlays import Overlay, Style
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.errors import InputError
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.files import thin_out, write_if_possible
from gpvae_core.paths import user_cache
from gpvae_core.tensors import read_tensors, tensor_bytes

MOST = 2000  # views, of half a megabyte each
THINNED = 50  # so many are written between two looks at how many there are
WORDS = "words"  # the tensor that holds everything else, as JSON: the checksum covers tensors alone
KINDS: dict[str, type] = {kind.__name__: kind for kind in (View, Overlay, Style, Step)}
PROGRAM = [Path(__file__).parent, Path(__file__).parent.parent / "gpvae_core"]
_written = 0


def view(identity: Sequence[Any], compute: Callable[[], View]) -> View:
    """The view of this identity, read, or else computed and kept; a file that is damaged is made anew."""
    path = _path(identity)
    with suppress(InputError, ValueError, KeyError, TypeError):
        return _read(path)
    found = compute()
    _keep(path, found)
    return found


def identity(
    checkpoint: Checkpoint, pixels: bytes, truth: tuple[float, float] | None, others: Encoders
) -> Sequence[Any]:
    """Of the view of an image under a checkpoint, with other encoders on it."""
    models = [[name, one.digest, asdict(one.config)] for name, one in [("", checkpoint), *others]]
    return [models, sha256(pixels).hexdigest(), truth]


def has(identity: Sequence[Any]) -> bool:
    """Whether there is a file for this identity."""
    return _path(identity).exists()


def folder() -> Path:
    """Where the views are."""
    return user_cache() / "views"


def _path(identity: Sequence[Any]) -> Path:
    """One file for each identity and version of the program: a number must be the one that the program computes."""
    name = sha256(json.dumps([*identity, program()]).encode()).hexdigest()
    return folder() / f"{name[:40]}.safetensors"


@cache
def program() -> str:
    """A digest of everything that a view depends on besides its checkpoint and its image."""
    sources = [path.read_bytes() for place in PROGRAM for path in sorted(place.rglob("*.py"))]
    return sha256(b"".join([*sources, torch.__version__.encode(), np.__version__.encode()])).hexdigest()


def _read(path: Path) -> View:
    tensors = read_tensors(path)
    found = _built(json.loads(tensors[WORDS].numpy().tobytes()), tensors)
    if not isinstance(found, View):
        raise ValueError(f"{path} holds no view")
    return found


def _keep(path: Path, found: View) -> None:
    global _written
    arrays: list[np.ndarray] = []
    words = json.dumps(_taken_apart(found, arrays)).encode()
    named = {str(k): array for k, array in enumerate(arrays)} | {WORDS: np.frombuffer(words, dtype=np.uint8)}
    tensors = {name: torch.tensor(array) for name, array in named.items()}
    if write_if_possible(path, tensor_bytes(tensors, {})):  # with a checksum
        if _written % THINNED == 0:
            thin_out(path.parent, "*.safetensors", MOST)
        _written += 1


def _taken_apart(value: Any, arrays: list[np.ndarray]) -> Any:
    """``value`` as JSON has it, its arrays in ``arrays``: [kind, content]."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return ["array", len(arrays) - 1]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, [_taken_apart(getattr(value, f.name), arrays) for f in fields(value)]]
    if isinstance(value, dict):
        return ["dict", [[key, _taken_apart(one, arrays)] for key, one in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value).__name__, [_taken_apart(one, arrays) for one in value]]
    return ["plain", value]


def _built(words: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What ``_taken_apart`` took apart."""
    kind, content = words
    if kind == "plain":
        return content
    if kind == "array":
        return tensors[str(content)].numpy()
    if kind == "dict":
        return {key: _built(one, tensors) for key, one in content}
    parts = [_built(one, tensors) for one in content]
    return parts if kind == "list" else tuple(parts) if kind == "tuple" else KINDS[kind](*parts)
