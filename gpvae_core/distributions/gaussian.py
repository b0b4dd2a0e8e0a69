"""Gaussians in closed form: the diagonal family every amortised encoder returns, and KLs to the prior."""

from dataclasses import dataclass
from math import log, pi

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

    @property
    def scale_tril(self) -> Tensor:
        """Diag(std), the Cholesky factor of the covariance, (..., d, d)."""
        return torch.diag_embed(self.std)

    def __getitem__(self, rows: int | slice | Tensor) -> "DiagonalGaussian":
        return DiagonalGaussian(self.mean[rows], self.std[rows])


@dataclass(frozen=True)
class FullGaussian:
    """q(z) = N(z; mean, L L') for each row; ``mean`` (..., d), ``scale_tril`` = L (..., d, d), lower triangular."""

    mean: Tensor
    scale_tril: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats."""
        step = torch.linalg.solve_triangular(self.scale_tril, (z - self.mean)[..., None], upper=False)[..., 0]
        quadratic: Tensor = (step**2 + LOG_2PI).sum(-1)
        return -0.5 * quadratic - self._log_det()

    def entropy(self) -> Tensor:
        """-E log q, in nats."""
        return self._log_det() + 0.5 * self.mean.shape[-1] * (1 + LOG_2PI)

    def _log_det(self) -> Tensor:
        return torch.log(self.scale_tril.diagonal(dim1=-2, dim2=-1)).sum(-1)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, summed over the last dimension."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


def kl_cholesky_to_prior(mean: Tensor, log_diagonal: Tensor, scale_tril: Tensor) -> Tensor:
    """KL(N(mean, L L') || N(0, I)) in nats; mean and log_diagonal = log diag(L) (..., p), L (..., p, p)."""
    p = mean.shape[-1]
    trace = (scale_tril**2).sum((-2, -1))
    return 0.5 * (trace + (mean**2).sum(-1) - p) - log_diagonal.sum(-1)
