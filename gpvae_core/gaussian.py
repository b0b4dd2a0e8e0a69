"""Gaussians in closed form: the diagonal family every amortised encoder returns, and KLs to the prior."""

from dataclasses import dataclass
from math import log, pi

import numpy as np
import torch
from torch import Tensor

LOG_2PI = log(2 * pi)


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z) = N(z; mean, Diag(std)^2) for each row; ``mean`` and ``std`` (..., d), in latent units."""

    mean: Tensor
    std: Tensor

    def rsample(self, samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """Reparametrised draws, shape (samples, ..., d)."""
        shape = (samples, *self.mean.shape)
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.std * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats, summed over the last dimension."""
        standardised = (z - self.mean) / self.std
        return -0.5 * (standardised**2 + LOG_2PI).sum(-1) - torch.log(self.std).sum(-1)

    def entropy(self) -> Tensor:
        """-E log q, in nats."""
        return (torch.log(self.std) + 0.5 * (1 + LOG_2PI)).sum(-1)

    def kl_to_prior(self) -> Tensor:
        """KL(q || N(0, I)) in nats, summed over the last dimension."""
        return 0.5 * (self.std**2 + self.mean**2 - 1 - 2 * torch.log(self.std)).sum(-1)

    def __getitem__(self, rows: int | slice | Tensor) -> "DiagonalGaussian":
        return DiagonalGaussian(self.mean[rows], self.std[rows])


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, summed over the last dimension."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


def kl_cholesky_to_prior(mean: Tensor, log_diagonal: Tensor, scale_tril: Tensor) -> Tensor:
    """KL(N(mean, L L') || N(0, I)) in nats; mean and log_diagonal = log diag(L) (..., p), L (..., p, p)."""
    p = mean.shape[-1]
    trace = (scale_tril**2).sum((-2, -1))
    return 0.5 * (trace + (mean**2).sum(-1) - p) - log_diagonal.sum(-1)


def gauss_hermite(q: DiagonalGaussian, order: int) -> tuple[Tensor, Tensor]:
    """Tensor-product Gauss-Hermite nodes (order^d, d) and weights (order^d, sum 1) for one q, mean (d,)."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    dim = q.mean.shape[-1]
    axes = torch.tensor(np.stack(np.meshgrid(*[x] * dim, indexing="ij"), -1).reshape(-1, dim)).to(q.mean)
    weights = torch.tensor(np.prod(np.meshgrid(*[w / w.sum()] * dim, indexing="ij"), axis=0).ravel()).to(q.mean)
    return q.mean + q.std * axes, weights
