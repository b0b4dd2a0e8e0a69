"""Gauss-Newton steps on the image: VLAE's damped ones, and ours with a line search and several starts."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.draws import PriorDraws
from gpvae_core.generative.laplace import Laplace, laplace
from gpvae_core.inference.base import at_least
from gpvae_core.inference.refining import Refiner

HALVINGS = 6


class NewtonEncoder(Refiner):
    """q(z|x) = N(z*, H^-1), z* reached by Gauss-Newton steps on log p(x, z) from the encoder's mean or a prior draw.

    Every step looks at the decoder's value and Jacobian. With ``search`` a step is halved until log p(x, z) rises, and
    H is that of the last look, from where one more step was taken. Without it this is VLAE (Park, Kim & Kim 2019):
    steps of length 1/2, 1/4, 1/6, ... of the full one, and a last look, for H alone.
    """

    @dataclass(frozen=True)
    class Options:
        """``steps`` of a climb, and from where.

        Places to start from: the encoder's mean and, except in training, the best of so many ``draws`` of the prior,
        see ``PriorDraws``. The ``starts`` highest of them climb. After each look the better half goes on, by Laplace's
        log p(x) there: of several hills the one that holds most.
        """

        steps: int = 4
        starts: int = 4
        draws: int = 4096
        search: bool = True

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps, starts=self.starts)
            at_least(0, draws=self.draws)
            if self.starts > 1 + self.draws:
                raise InputError(
                    f"there are {1 + self.draws} places to start from, the encoder's and {self.draws} draws; choose at "
                    f"most so many starts, not {self.starts}"
                )

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "Laplace's q(z|x) after Gauss-Newton steps"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.options = options
        self._kept: tuple[Any, PriorDraws] | None = None

    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        places, starts = start.mean[None], self.options.starts
        if self.options.draws:
            places = _highest(model, x, torch.cat([places, self._draws(model, x).tops(x, starts)]), starts)
        return self.climb(x, model, places)

    def refine_in_training(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        """From the encoder's mean alone: all draws would have to be decoded anew for every batch."""
        return self.climb(x, model, start.mean[None])

    def climb(self, x: Tensor, model: GenerativeModel, z: Tensor) -> list[Posterior]:
        """Laplace's Gaussians for images x (B, C, H, W) on the climb from each of the places z (K, B, d).

        At each look the one that holds most, then the one after the last step, of that look's width.
        """
        steps, search, path = self.options.steps, self.options.search, list[Posterior]()
        for t in range(steps):
            near = laplace(model, _repeated(x, len(z)), z.flatten(0, 1))
            near = _heaviest(near, len(x), -(-len(z) // 2) if t + 1 < steps else 1)
            best = near.take(torch.arange(len(x), device=x.device))
            path.append(best.gaussian(best.place))
            every = _repeated(x, len(near.place) // len(x))
            z = climbed(model, every, near, t, search=search).reshape(-1, *z.shape[1:])
        if not search:
            near = laplace(model, x, z[0])
        return [*path, near.gaussian(z[0])]

    def _draws(self, model: GenerativeModel, like: Tensor) -> PriorDraws:
        """The prior's draws under this decoder, made anew only where it is another one or its weights have changed."""
        weights = [(p.data_ptr(), p._version) for p in model.parameters()]
        key = (weakref.ref(model), weights, like.dtype, like.device)
        kept = self._kept
        if kept is None or kept[0] != key:
            self._kept = kept = key, PriorDraws.of(model, self.options.draws, like)
        return kept[1]


def _highest(model: GenerativeModel, x: Tensor, z: Tensor, count: int) -> Tensor:
    """Those ``count`` of the places z (K, B, d) where log p(x, z) of each image is highest, (count, B, d)."""
    if len(z) <= count:
        return z
    rows = torch.nan_to_num(model.log_joint(x, z), -torch.inf).topk(count, 0).indices
    return z.gather(0, rows[..., None].expand(*rows.shape, z.shape[-1]))


def _heaviest(near: Laplace, images: int, count: int) -> Laplace:
    """Of several places for each image, one after the other, the ``count`` where Laplace's log p(x) is largest."""
    evidence = torch.nan_to_num(near.log_evidence(), -torch.inf).reshape(-1, images)
    rows = evidence.topk(count, 0).indices * images + torch.arange(images, device=evidence.device)
    return near.take(rows.flatten())


def climbed(model: GenerativeModel, x: Tensor, near: Laplace, t: int, *, search: bool) -> Tensor:
    """Where step number ``t`` from 0 on leads from ``near``, (B, d); see ``NewtonEncoder``."""
    step = near.step().to(near.place)
    return _searched(model, x, near, step) if search else near.place + step / (2 * (t + 1))


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.repeat(count, *[1] * (x.dim() - 1))


def _searched(model: GenerativeModel, x: Tensor, near: Laplace, step: Tensor) -> Tensor:
    """The place + step, or as much of it, halved and halved again, as raises log p(x, z); itself where nothing does."""
    z, left = near.place.clone(), torch.arange(len(x), device=x.device)
    for halving in range(HALVINGS):
        trial = z[left] + step[left] / 2**halving
        rises = model.log_joint(x[left], trial) > near.height[left]
        z[left[rises]] = trial[rises]
        left = left[~rises]
        if not len(left):
            break
    return z
