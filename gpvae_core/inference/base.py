"""The one concept: an encoder, given x, returns a posterior you can sample together with its log-density."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpvae_core.distributions.gaussian import DiagonalGaussian
from gpvae_core.generative import GenerativeModel


@dataclass(frozen=True)
class Objective:
    """A training objective split into named parts, each in nats per image, averaged over the batch.

    ``value`` is the sum of ``parts``, every sign included: it is what training maximises.
    """

    parts: dict[str, Tensor]

    @property
    def value(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum()


@dataclass(frozen=True)
class Batch:
    """Images x (B, C, H, W) out of a data set of ``size`` images.

    ``seen`` is what the encoder is shown of x: x itself, or x with noise as a regulariser.
    """

    x: Tensor
    seen: Tensor
    size: int


@dataclass(frozen=True)
class Encoding:
    """What an encoder says of a batch: its base Gaussian, the method's own, and, where there is a GP, its variance.

    ``gp_variance`` (B, d) is V(f_j(x)|D) + V(h_j(x)|D) in squared latent units.
    """

    base: DiagonalGaussian
    marginal: DiagonalGaussian
    gp_variance: Tensor | None

    @property
    def means(self) -> Tensor:
        """Where the encoder puts mass, (B, 2, d): the means of both Gaussians."""
        return torch.stack([self.base.mean, self.marginal.mean], 1)

    @property
    def uncertainty(self) -> Tensor | None:
        """U(x) = Tr V(f(x)|D) + Tr V(h(x)|D), (B,), in squared latent units; None without a GP."""
        return None if self.gp_variance is None else self.gp_variance.sum(-1)


class Encoder(nn.Module, ABC):
    """Amortised inference: images (B, C, H, W) -> q(z|x)."""

    @abstractmethod
    def encode(self, x: Tensor) -> Encoding:
        """All that the encoder says of x, in one pass."""

    def forward(self, x: Tensor) -> DiagonalGaussian:
        """The q(z|x) that the method stands for, mean and std (B, d)."""
        return self.encode(x).marginal

    def base(self, x: Tensor) -> DiagonalGaussian:
        """The network's own one-pass Gaussian, before any correction: N(b(x), Diag(c(x))^2)."""
        return self.encode(x).base

    @abstractmethod
    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        """The method's training objective on a batch, to be maximised."""

    @abstractmethod
    def trunk_features(self, x: Tensor) -> Tensor:
        """What the base encoder's last layer sees, (B, p)."""

    def uncertainty(self, x: Tensor) -> Tensor | None:
        """U(x) = Tr V(f(x)|D) + Tr V(h(x)|D), (B,), in squared latent units; None without a GP."""
        return self.encode(x).uncertainty

    def health(self, x: Tensor) -> dict[str, float]:
        """Figures by which a dying part shows in training; empty where nothing can die."""
        return {}
