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
        """``steps`` of each climb; ``starts``: the encoder's means of so many transformed copies of x, x itself first.

        Of several climbs the one is kept whose Laplace approximation says that its hill holds most.
        """

        steps: int = 4
        starts: int = 8
        search: bool = True

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "Laplace's q(z|x) after Gauss-Newton steps"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        for name in ("steps", "starts"):
            if getattr(options, name) < 1:
                raise InputError(f"{name} must be at least 1, but it is {getattr(options, name)}")
        self.options = options

    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian, seen: Tensor) -> Posterior:
        images, copies = len(x), self.options.starts
        draws = random_draws(copies - 1, generator=torch.Generator().manual_seed(0))  # the same for every image
        others = [self.first(warped(seen, draw.expand(images, NUMBERS))).mean for draw in draws]
        z = torch.cat([start.mean, *others])
        near = climbed(model, x.repeat(copies, 1, 1, 1), z, self.options.steps, search=self.options.search)
        height = model.log_joint(x.repeat(copies, 1, 1, 1), near.place) - 0.5 * near.log_det().to(z)
        height = torch.nan_to_num(height, -torch.inf).reshape(copies, images)
        best = height.argmax(0) * images + torch.arange(images, device=x.device)
        return near.gaussian()[best]


def climbed(model: GenerativeModel, x: Tensor, z: Tensor, steps: int, *, search: bool) -> Laplace:
    """Laplace's Gaussian where ``steps`` Gauss-Newton steps end that begin at z (B, d); see ``NewtonEncoder``."""
    near = laplace(model, x, z)
    for t in range(steps):
        step = near.step().to(z)
        z = _searched(model, x, z, step) if search else z + step / (2 * (t + 1))
        near = laplace(model, x, z)
    return near


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
