"""The generative model p(z) p(x|z): prior, decoder and likelihood in one object."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpvae_core.distributions import standard_normal_log_prob
from gpvae_core.generative.likelihoods import Likelihood

KINKED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid)


@dataclass(frozen=True)
class Simulation:
    """Images drawn from a model with the truth kept: images (N, C, H, W), unclipped, and latents (N, d)."""

    images: Tensor
    latents: Tensor


class GenerativeModel(nn.Module):
    """p(x, z) = N(z; 0, I) p(x | g(z)), eq. (1) of Kim (2022).

    Args:
        decoder: Any module from z (B, d) to pixel means (B, C, H, W), with at least one parameter.
        likelihood: p(x | mean): ``GaussianLikelihood`` or ``BernoulliLikelihood``.
        latent_dim: d; 2 for exact posteriors.
    """

    def __init__(self, decoder: nn.Module, likelihood: Likelihood, latent_dim: int = 2) -> None:
        super().__init__()
        self.decoder = decoder
        self.likelihood = likelihood
        self.latent_dim = latent_dim

    @property
    def has_kinks(self) -> bool:
        """Whether the decoder is not smooth in z: then no quadrature may trust that it is."""
        return any(isinstance(part, KINKED) for part in self.decoder.modules())

    def decode(self, z: Tensor) -> Tensor:
        """Pixel means g(z) for z (..., d), shape (..., C, H, W)."""
        means: Tensor = self.decoder(z.reshape(-1, self.latent_dim))
        return means.reshape(*z.shape[:-1], *means.shape[1:])

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats: x (B, ...), z (..., B, d) -> (..., B)."""
        return self.likelihood.log_prob(x, self.decode(z)).flatten(z.dim() - 1).sum(-1)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z) in nats: x (B, ...), z (..., B, d) -> (..., B)."""
        return self.log_likelihood(x, z) + standard_normal_log_prob(z)

    @torch.no_grad()
    def simulate(self, count: int, *, generator: torch.Generator | None = None) -> Simulation:
        """z from the prior, x from p(x|z): floats outside [0,1] included (clip for display only)."""
        parameter = next(self.parameters())
        shape = (count, self.latent_dim)
        z = torch.randn(shape, generator=generator, dtype=parameter.dtype, device=parameter.device)
        means = torch.cat([self.decode(chunk) for chunk in z.split(1024)])
        return Simulation(self.likelihood.sample(means, generator=generator), z)
