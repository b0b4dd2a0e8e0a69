"""Gaussians in closed form: diagonal, of full covariance, and KLs to the prior."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gpvae_core.distributions.base import LOG_2PI, Posterior


@dataclass(frozen=True)
class _Gaussian(Posterior):
    """What every Gaussian has: its mean (*batch, d)."""

    mean: Tensor

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Tensor):  # an array or a list
                object.__setattr__(self, field.name, torch.as_tensor(value, dtype=torch.float64))

    @property
    def batch_shape(self) -> torch.Size:
        return self.mean.shape[:-1]

    @property
    def dim(self) -> int:
        return self.mean.shape[-1]


@dataclass(frozen=True)
class DiagonalGaussian(_Gaussian):
    """q(z) = N(z; mean, Diag(std)^2): independent coordinates.

    Args:
        mean: (*batch, d), in latent units; a tensor, an array or a list.
        std: Standard deviations, not variances, (*batch, d), in latent units, positive.
    """

    std: Tensor

    def _transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean + self.std * u, torch.log(self.std).sum(-1).expand(u.shape[:-1])

    def _log_prob(self, z: Tensor) -> Tensor:
        standardised = (z - self.mean) / self.std
        return -0.5 * (standardised**2 + LOG_2PI).sum(-1) - torch.log(self.std).sum(-1)

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.std

    def entropy(self) -> Tensor:
        return (torch.log(self.std) + 0.5 * (1 + LOG_2PI)).sum(-1)

    def kl_to_prior(self) -> Tensor:
        return 0.5 * (self.std**2 + self.mean**2 - 1 - 2 * torch.log(self.std)).sum(-1)

    @property
    def scale_tril(self) -> Tensor:
        """Diag(std), the Cholesky factor of the covariance, (*batch, d, d)."""
        return torch.diag_embed(self.std)


@dataclass(frozen=True)
class FullGaussian(_Gaussian):
    """q(z) = N(z; mean, L L').

    Args:
        mean: (*batch, d), in latent units; a tensor, an array or a list.
        scale_tril: L, (*batch, d, d): the Cholesky factor of the covariance, lower triangular with a positive diagonal.
    """

    scale_tril: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of each coordinate, (*batch, d)."""
        std: Tensor = torch.linalg.vector_norm(self.scale_tril, dim=-1)
        return std

    def _transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        z = self.mean + torch.einsum("...ij,...j->...i", self.scale_tril, u)
        return z, self._log_det().expand(u.shape[:-1])

    def _log_prob(self, z: Tensor) -> Tensor:
        step = torch.linalg.solve_triangular(self.scale_tril, (z - self.mean)[..., None], upper=False)[..., 0]
        quadratic: Tensor = (step**2 + LOG_2PI).sum(-1)
        return -0.5 * quadratic - self._log_det()

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.std

    def entropy(self) -> Tensor:
        return self._log_det() + 0.5 * self.dim * (1 + LOG_2PI)

    def kl_to_prior(self) -> Tensor:
        trace = (self.scale_tril**2).sum((-2, -1))
        return kl_cholesky_to_prior(self.mean, torch.log(self._diagonal()), trace)

    def _diagonal(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1)

    def _log_det(self) -> Tensor:
        return torch.log(self._diagonal()).sum(-1)


def kl_cholesky_to_prior(mean: Tensor, log_diagonal: Tensor, trace: Tensor) -> Tensor:
    """KL(N(mean, L L') || N(0, I)) in nats; mean, log_diagonal = log diag(L) (..., p); trace = tr L L' (...)."""
    p = mean.shape[-1]
    return 0.5 * (trace + (mean**2).sum(-1) - p) - log_diagonal.sum(-1)
