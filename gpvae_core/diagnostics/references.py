"""Reference posteriors: what a model's exact posteriors are, stored, so that others can compare without an engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.errors import InputError
from gpvae_core.exact import ExactPosterior
from gpvae_core.files import write_atomically
from gpvae_core.paths import REFERENCES
from gpvae_core.tensors import origin_of, read_tensors, tensor_bytes

DROPPED = 1e-6  # of the mass: what the nodes that are not stored hold together
Array = NDArray[np.float64]

# what is stored of an image beside its nodes: the name, each with NAME_error beside it
SCALARS = ("log_evidence", "entropy", "negentropy")
SHAPES = {"mean": (2,), "covariance": (2, 2)}
ARRAYS = tuple(SHAPES)


@dataclass(frozen=True)
class ReferencePosterior:
    """p(z|x) of test image number ``index``: nodes (n, 2) and weights (n,) such that E[f(z)|x] = weights @ f(points).

    ``numbers``: log_evidence, entropy and negentropy in nats, mean and covariance in latent units, NAME_error beside
    each. The nodes that were left out hold 1e-6 of the mass.
    """

    index: int
    points: Array
    log_weights: Array
    numbers: dict[str, Any]

    @property
    def weights(self) -> Array:
        """Summing to 1."""
        held: Array = np.exp(self.log_weights - self.log_weights.max())
        weights: Array = held / held.sum()
        return weights

    @property
    def log_evidence(self) -> float:
        """log p(x) in nats."""
        return float(self.numbers["log_evidence"])

    @property
    def log_evidence_error(self) -> float:
        """The estimate of its numerical error, in nats."""
        return float(self.numbers["log_evidence_error"])

    @property
    def mean(self) -> Array:
        """E[z|x], (2,), as the engine gave it."""
        mean: Array = self.numbers["mean"]
        return mean

    def expectation(self, values: Array) -> Array:
        """E[f(z)|x] of values f at ``points``, (n, ...)."""
        expected: Array = np.tensordot(self.weights, np.asarray(values), 1)
        return expected


@dataclass(frozen=True)
class References(Sequence[ReferencePosterior]):
    """The stored posteriors of a model's test images 0, 1, 2, ...; ``origin`` says what they were computed from."""

    tensors: dict[str, Tensor]
    origin: dict[str, str]

    @cached_property
    def _columns(self) -> dict[str, Array]:
        return {name: tensor.double().numpy() for name, tensor in self.tensors.items() if name not in ("node", "start")}

    def __len__(self) -> int:
        return len(self.tensors["start"]) - 1

    @overload
    def __getitem__(self, key: int) -> ReferencePosterior: ...
    @overload
    def __getitem__(self, key: slice) -> list[ReferencePosterior]: ...
    def __getitem__(self, key: int | slice) -> ReferencePosterior | list[ReferencePosterior]:
        if isinstance(key, slice):
            return [self[k] for k in range(*key.indices(len(self)))]
        index = range(len(self))[key]
        own = slice(*self.tensors["start"][index : index + 2].tolist())
        numbers = {name: self._columns[name][index] for one in (*SCALARS, *ARRAYS) for name in (one, f"{one}_error")}
        points = self.tensors["node"][own].double().numpy()
        return ReferencePosterior(index, points, self._columns["log_weight"][own], numbers)

    def __iter__(self) -> Iterator[ReferencePosterior]:
        return (self[k] for k in range(len(self)))


def save_references(folder: Path, posteriors: Sequence[ExactPosterior], origin: dict[str, str]) -> None:
    """Store the posteriors of test images 0, 1, 2, ... in ``folder``, in float32 nodes and float64 numbers."""
    nodes, logs = [], []
    for exact in posteriors:
        order = np.argsort(-exact.weights, kind="stable")
        kept = np.sort(order[: np.searchsorted(np.cumsum(exact.weights[order]), 1 - DROPPED) + 1])
        nodes.append(exact.points[kept])
        logs.append(np.log(exact.weights[kept] / exact.weights[kept].sum()))
    tensors = {
        "start": torch.tensor(np.cumsum([0, *map(len, nodes)])),
        "node": torch.tensor(np.concatenate(nodes), dtype=torch.float32),
        "log_weight": torch.tensor(np.concatenate(logs), dtype=torch.float32),
    }
    for one in (*SCALARS, *ARRAYS):
        for name in (one, f"{one}_error"):
            tensors[name] = torch.tensor(np.stack([np.asarray(getattr(exact, name)) for exact in posteriors]))
    write_atomically(folder / REFERENCES, tensor_bytes(tensors, origin))


def load_references(checkpoint: Checkpoint) -> References:
    """What is stored beside a checkpoint. Raises InputError where nothing is, it is of another decoder, or damaged."""
    path = checkpoint.folder / REFERENCES
    if not path.exists():
        raise InputError(
            f"{checkpoint.name} has no stored reference posteriors at {path}; compute them with gpvae_core.judge"
        )
    tensors = read_tensors(path)
    origin = origin_of(path)
    if origin.get("decoder_digest") != checkpoint.decoder_digest:
        raise InputError(
            f"{path} holds posteriors of another decoder ({origin.get('decoder_digest', 'unknown')[:8]}) than "
            f"{checkpoint.name}'s ({checkpoint.decoder_digest[:8]}); delete it or restore the weights"
        )
    fault = _fault(tensors)
    if fault:
        raise InputError(f"{path} is damaged: {fault}; restore the file, or delete it")
    return References(tensors, origin)


def _fault(tensors: Mapping[str, Tensor]) -> str | None:
    """What a file of references lacks of what ``save_references`` writes; None where it lacks nothing."""
    start = tensors.get("start", torch.empty(0))
    if start.dtype != torch.int64 or start.ndim != 1 or len(start) < 2:
        return f"'start' holds {tuple(start.shape)} of {start.dtype}, not where each image's nodes start"
    images, nodes = len(start) - 1, int(start[-1])
    if int(start[0]) or not bool((start.diff() > 0).all()):
        return "'start' does not rise from 0"
    shapes: dict[str, tuple[int, ...]] = {"node": (nodes, 2), "log_weight": (nodes,)}
    for one, shape in {**dict.fromkeys(SCALARS, ()), **SHAPES}.items():
        shapes |= {one: (images, *shape), f"{one}_error": (images, *shape)}
    for name, wanted in shapes.items():
        found = tensors.get(name)
        if found is None or tuple(found.shape) != wanted or not found.is_floating_point():
            held = "nothing" if found is None else f"{tuple(found.shape)} of {found.dtype}"
            return f"'{name}' holds {held}, not {wanted} floats"
        if not bool((~found.isnan() if name.endswith("_error") else found.isfinite()).all()):
            return f"'{name}' holds values that are no finite numbers"
    return None
