"""The plain VAE's amortised diagonal Gaussian."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpvae_core.gaussian import DiagonalGaussian
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Encoder, Encoding, Objective


class GaussianEncoder(Encoder):
    """q(z|x) = N(b(x), Diag(c(x))^2) with b and log c linear in one trunk's features (Kingma & Welling 2014)."""

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = trunk()
        self.head = nn.Linear(features, 2 * latent_dim)

    def encode(self, x: Tensor) -> Encoding:
        mean, log_std = self.head(self.trunk(x)).chunk(2, dim=-1)
        q = DiagonalGaussian(mean, torch.exp(log_std))
        return Encoding(q, q, None)

    def objective(
        self,
        x: Tensor,
        seen: Tensor,
        model: GenerativeModel,
        train_size: int,
        *,
        generator: torch.Generator | None = None,
    ) -> Objective:
        """The ELBO (2): E_q log p(x|z) by one reparametrised sample, minus KL(q || p(z)) in closed form."""
        q = self(seen)
        z = q.rsample(generator=generator)
        return Objective({"log_likelihood": model.log_likelihood(x, z).mean(), "neg_kl_z": -q.kl_to_prior().mean()})
