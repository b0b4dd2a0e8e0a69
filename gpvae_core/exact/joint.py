"""log p(x, z) of many images at many points at once, and the tasks that ask for it."""

from collections.abc import Callable, Generator, Sequence
from math import log, pi
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel, Likelihood
from gpvae_core.tensors import full_precision

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Quadratic = tuple[Array, Array, Array]  # values (n,), gradients (n, 2), precisions (n, 2, 2) of log p(x, z)
T = TypeVar("T")
Task = Generator[Array, Array, T]  # yields points (n, 2), is sent log p(x, z) there (n,), returns a T

QUADRATURE = 0.75  # of a tolerance: what quadrature may take of it; the decoder's arithmetic has the rest
FARTHEST = 1e6  # latent units: the prior is e^(-5e11) there, and what a decoder says of it is not its fault


def no_pause() -> None:
    """Of work that gives way to none."""


def chunk_size(device: torch.device) -> int:
    """Decodes at once: a processor's caches hold so many activations; a GPU needs many to be busy."""
    return 128 if device.type == "cpu" else 8192


class LogJoint(Protocol):
    """log p(x_i, z) for a batch of images, in nats."""

    def __call__(self, owner: Index, z: Array) -> Array:
        """Values (n,) for points z (n, 2), the k-th under image number owner[k]."""
        ...


class Decoded:
    """log p(x_i, z) by real decodes: exact but for the decoder's own arithmetic, accumulated in float64.

    ``images`` (B, C, H, W), on the model's device and in its dtype. ``pause`` is called before each batch of decodes.
    """

    def __init__(self, model: GenerativeModel, images: Tensor, pause: Callable[[], None] = no_pause) -> None:
        self.model = model
        self.images = images.to(next(model.parameters(), images))
        self.pause = pause

    @staticmethod
    def stacked(parts: Sequence["Decoded"]) -> "Decoded":
        """The images of all parts, which share a model."""
        first, images = parts[0], [part.images for part in parts]
        return first if len(parts) == 1 else Decoded(first.model, torch.cat(images), first.pause)

    def take(self, rows: Sequence[int] | Index) -> "Decoded":
        """The same for some of the images."""
        return Decoded(self.model, self.images[torch.as_tensor(np.asarray(rows, np.intp))], self.pause)

    @torch.no_grad()
    @full_precision()
    def __call__(self, owner: Index, z: Array) -> Array:
        """-inf so far out that the decoder's arithmetic ends. Raises InputError where it is NaN elsewhere."""
        if not len(z):
            return np.empty(0)
        size = chunk_size(self.images.device)
        values = [self._chunk(*pair) for pair in zip(_chunks(owner, size), _chunks(z, size), strict=True)]
        total = np.concatenate(values) - 0.5 * (z**2).sum(1) - log(2 * pi)
        lost = np.isnan(total)
        beyond = lost & ~(np.abs(z).max(1) <= FARTHEST)
        total[beyond] = -np.inf
        if (lost & ~beyond).any():
            raise InputError(
                "the decoder gives pixel means that are not numbers; restore the checkpoint or train again"
            )
        result: Array = total
        return result

    def _chunk(self, owner: Index, z: Array) -> Array:
        self.pause()
        pixels = self.model.likelihood.log_prob(self._images_of(owner), self.model.decode(self._points(z))).flatten(1)
        total = pixels.sum(-1).cpu().double() if pixels.device.type == "mps" else pixels.sum(-1, dtype=torch.float64)
        values: Array = total.cpu().numpy()
        return values

    @torch.no_grad()
    @full_precision()
    def quadratic(self, owner: Index, z: Array) -> Quadratic:
        """log p(x, z) (n,), its gradient (n, 2) and its Gauss-Newton precision J'Diag(precision)J + I, (n, 2, 2).

        J by central differences of the decoder, five decodes a point. At these sizes that is several times faster than
        two forward-mode products, and works for any decoder. It is good to 1e-4: a thousandth of a mode's width.
        """
        self.pause()
        step = 1e-3 if self.images.dtype == torch.float32 else 1e-5
        stencil = step * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        chunks = _chunks(z[:, None] + stencil, chunk_size(self.images.device) // 5)
        decoded = [self.model.decode(self._points(chunk.reshape(-1, 2))) for chunk in chunks]
        means = torch.cat(decoded).unflatten(0, (len(z), 5)).flatten(2)
        jacobian = torch.stack([means[:, 1] - means[:, 2], means[:, 3] - means[:, 4]], 1) / (2 * step)  # (n, 2, P)
        return combined(self.model.likelihood, self._images_of(owner).flatten(1), z, means[:, 0], jacobian)

    def _points(self, z: Array) -> Tensor:
        return torch.as_tensor(z).to(self.images)

    def _images_of(self, owner: Index) -> Tensor:
        return self.images if len(self.images) == 1 else self.images[torch.as_tensor(owner).to(self.images.device)]


def combined(likelihood: Likelihood, x: Tensor, z: Array, mean: Tensor, jacobian: Tensor) -> Quadratic:
    """log p(x, z), its gradient and Gauss-Newton precision from images and means (n, P) and Jacobians (n, 2, P)."""
    score, weight = likelihood.score(x, mean), likelihood.precision(mean)
    gradient = _numpy(torch.einsum("nip,np->ni", jacobian, score)) - z
    precision = _numpy(torch.einsum("nip,np,njp->nij", jacobian, weight, jacobian)) + np.eye(2)
    pixels = _numpy(likelihood.log_prob(x, mean))
    return pixels.sum(1) - 0.5 * (z**2).sum(1) - log(2 * pi), gradient, precision


def _chunks(rows: Any, size: int) -> list[Any]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _numpy(t: Tensor) -> Array:
    values: Array = t.cpu().double().numpy()
    return values


def run(tasks: Sequence[Task[T]], log_joint: LogJoint, owner: Sequence[int] | None = None) -> list[T]:
    """Drive tasks side by side, task k asking about image owner[k] (default k); each round is one batch of points."""
    owners = range(len(tasks)) if owner is None else owner
    results: dict[int, T] = {}
    pending: dict[int, Array] = {}

    def advance(k: int, values: Any) -> None:
        try:
            pending[k] = tasks[k].send(values)
        except StopIteration as stop:
            results[k] = stop.value

    for k in range(len(tasks)):
        advance(k, None)
    while pending:
        asked, points = list(pending), list(pending.values())
        pending.clear()
        counts = [len(z) for z in points]
        answer = log_joint(np.repeat([owners[k] for k in asked], counts), np.concatenate(points))
        for k, values in zip(asked, np.split(answer, np.cumsum(counts)[:-1]), strict=True):
            advance(k, values)
    return [results[k] for k in range(len(tasks))]


def tallied(task: Task[T], tally: list[int]) -> Task[T]:
    """The same task; ``tally`` gets the number of points of each question."""
    values: Any = None
    while True:
        try:
            points = task.send(values)
        except StopIteration as stop:
            result: T = stop.value
            return result
        tally.append(len(points))
        values = yield points
