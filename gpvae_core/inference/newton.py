"""Gauss-Newton steps on the image: VLAE's damped ones, and ours with a line search and several starts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.laplace import Laplace, laplace
from gpvae_core.inference.refining import Refiner
from gpvae_core.inference.transforms import NUMBERS, random_draws, warped

HALVINGS = 6


class NewtonEncoder(Refiner):
    """q(z|x) = N(z*, H^-1), z* reached from the encoder's mean by Gauss-Newton steps on log p(x, z), H taken there.

    Every step looks at the decoder's value and Jacobian. Without ``search`` this is VLAE (Park, Kim & Kim 2019): steps
    of length 1/2, 1/4, 1/6, ... of the full one. With it, each image's step is halved until log p(x, z) rises.
    """

    @dataclass(frozen=True)
    class Options:
        """``steps`` of a climb, and from where.

        ``looks``: the encoder's means of so many transformed copies of x, x itself among them, cost one decode each.
        The ``starts`` highest of them climb. After each step the better half goes on, by log p(x, z) and the width
        there: of several hills the one that holds most.
        """

        steps: int = 5
        starts: int = 8
        looks: int = 64
        search: bool = True

        def __post_init__(self) -> None:
            for name in ("steps", "starts", "looks"):
                if getattr(self, name) < 1:
                    raise InputError(f"{name} must be at least 1, but it is {getattr(self, name)}")
            if self.starts > self.looks:
                raise InputError(f"starts are chosen among the looks: there are {self.looks}, fewer than {self.starts}")

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "Laplace's q(z|x) after Gauss-Newton steps"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.options = options

    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian, seen: Tensor) -> Posterior:
        z = self._highest(x, model, torch.stack([start.mean, *self._looks(seen)]), self.options.starts)
        for t in range(self.options.steps):
            near = laplace(model, _repeated(x, len(z)), z.flatten(0, 1))
            z = climbed(model, _repeated(x, len(z)), near, t, search=self.options.search).reshape(z.shape)
            width = -0.5 * near.log_det().to(z).reshape(z.shape[:2])
            z = self._highest(x, model, z, -(-len(z) // 2), width)
        z = self._highest(x, model, z, 1)
        return laplace(model, x, z[0]).gaussian()

    def _looks(self, seen: Tensor) -> list[Tensor]:
        """The encoder's means of transformed copies, (B, d) each: the same transformations for every image."""
        draws = random_draws(self.options.looks - 1, generator=torch.Generator().manual_seed(0))
        return [self.first(warped(seen, draw.expand(len(seen), NUMBERS))).mean for draw in draws]

    @staticmethod
    def _highest(x: Tensor, model: GenerativeModel, z: Tensor, count: int, width: Tensor | float = 0.0) -> Tensor:
        """Of places z (K, B, d) the ``count`` of largest log p(x, z) + width for each image, (count, B, d)."""
        if len(z) <= count:
            return z
        height = torch.nan_to_num(model.log_joint(x, z) + width, -torch.inf)
        rows = height.topk(count, 0).indices
        return z.gather(0, rows[..., None].expand(*rows.shape, z.shape[-1]))


def climbed(model: GenerativeModel, x: Tensor, near: Laplace, t: int, *, search: bool) -> Tensor:
    """Where step number ``t`` from 0 on leads from ``near``, (B, d); see ``NewtonEncoder``."""
    step = near.step().to(near.place)
    return _searched(model, x, near.place, step) if search else near.place + step / (2 * (t + 1))


def _repeated(x: Tensor, count: int) -> Tensor:
    return x.repeat(count, *[1] * (x.dim() - 1))


def _searched(model: GenerativeModel, x: Tensor, z: Tensor, step: Tensor) -> Tensor:
    """z + step, or as much of it, halved and halved again, as raises log p(x, z); z itself where nothing does."""
    before = model.log_joint(x, z)
    z, left = z.clone(), torch.arange(len(z), device=z.device)
    for halving in range(HALVINGS):
        trial = z[left] + step[left] / 2**halving
        rises = model.log_joint(x[left], trial) > before[left]
        z[left[rises]] = trial[rises]
        left = left[~rises]
        if not len(left):
            break
    return z
