"""Stochastic variational inference, without the noise: each image's own best diagonal Gaussian."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian, Posterior
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import at_least
from gpvae_core.inference.refining import Refiner, rule

HALVINGS = 8
CURVED = 1.0  # log p(x, z) curves at least like the prior at its modes; where it does not, step as if it did


class SVIEncoder(Refiner):
    """The diagonal Gaussian that natural-gradient steps with a line search reach from the encoder's q.

    With g = E_q[grad log p(x, z)] and C = -E_q[diag Hessian], the mean moves by g / C and the precision to C, both
    shortened until the ELBO rises (Khan & Rue 2023, eq. 12 with a diagonal precision). The expectations are by a fixed
    rule, so that the same image always ends in the same place.
    """

    @dataclass(frozen=True)
    class Options:
        """``steps``: at most; an image whose ELBO no step raises stays where it is."""

        steps: int = 40

        def __post_init__(self) -> None:
            at_least(1, steps=self.steps)

    labels: ClassVar[dict[str, str]] = {"start": "encoder's q(z|x)", "q": "each image's own best q(z|x)"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.steps = options.steps

    def refine(self, x: Tensor, model: GenerativeModel, start: DiagonalGaussian) -> list[Posterior]:
        nodes, weights = rule(start.dim, start.mean)
        mean, std = start.mean.clone(), start.std.clone()
        left = torch.arange(len(x), device=x.device)  # the images that still climb
        path: list[Posterior] = []
        for _ in range(self.steps):
            bound, slope, curvature = _stein(model, x[left], mean[left], std[left], nodes, weights)
            rises = torch.zeros(len(left), dtype=torch.bool, device=x.device)
            for halving in range(HALVINGS):
                rest, length = torch.nonzero(~rises)[:, 0], 0.5**halving
                rows = left[rest]
                m = mean[rows] + length * slope[rest] / curvature[rest]
                s = ((1 - length) / std[rows] ** 2 + length * curvature[rest]) ** -0.5
                better = _bound(model, x[rows], m, s, nodes, weights) > bound[rest]
                mean[rows[better]], std[rows[better]] = m[better], s[better]
                rises[rest[better]] = True
                if bool(rises.all()):
                    break
            left = left[rises]
            if not len(left):
                break
            path.append(DiagonalGaussian(mean.clone(), std.clone()))
        return path or [start]


def _bound(model: GenerativeModel, x: Tensor, mean: Tensor, std: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """The ELBO but for a constant, (B,)."""
    values = model.log_joint(x, mean + std * nodes[:, None])
    return weights @ values + torch.log(std).sum(-1)


def _stein(
    model: GenerativeModel, x: Tensor, mean: Tensor, std: Tensor, nodes: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The ELBO but for a constant, (B,), and under q the mean slope of log p(x, z) and its curvature, (B, d) each."""
    with torch.enable_grad():
        z = (mean + std * nodes[:, None]).requires_grad_()
        values = model.log_joint(x, z)
        (slopes,) = torch.autograd.grad(values.sum(), z)
    slope = torch.einsum("s,sbj->bj", weights, slopes)
    curvature = -torch.einsum("s,sj,sbj->bj", weights, nodes, slopes) / std
    bound = weights @ values.detach() + torch.log(std).sum(-1)
    return bound, slope, curvature.abs().clamp(min=CURVED)
