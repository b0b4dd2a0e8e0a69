"""The plain VAE's amortised diagonal Gaussian."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpvae_core.distributions.gaussian import DiagonalGaussian
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Batch, Encoder, Encoding, Objective


class GaussianEncoder(Encoder):
    """q(z|x) = N(b(x), Diag(c(x))^2) with b and log c linear in a trunk's features (Kingma & Welling 2014).

    ``trunks`` > 1 takes the features of several trunks together: as large an encoder as GPVAE's, the fair control.
    """

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, trunks: int = 1) -> None:
        super().__init__()
        self.trunk = trunk()
        self.others = nn.ModuleList(trunk() for _ in range(trunks - 1))
        self.head = nn.Linear(trunks * features, 2 * latent_dim)

    def trunk_features(self, x: Tensor) -> Tensor:
        return torch.cat([self.trunk(x), *(other(x) for other in self.others)], dim=-1)

    def encode(self, x: Tensor) -> Encoding:
        return self.of(self.trunk_features(x))

    def of(self, features: Tensor) -> Encoding:
        """``encode`` from the trunk's features (B, p)."""
        mean, log_std = self.head(features).chunk(2, dim=-1)
        q = DiagonalGaussian(mean, torch.exp(log_std))
        return Encoding(q, q, None)

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        """The ELBO (2): E_q log p(x|z) by one reparametrised sample, minus KL(q || p(z)) in closed form."""
        q = self(batch.seen)
        z = q.rsample(generator=generator)
        fit = model.log_likelihood(batch.x, z).mean()
        return Objective({"log_likelihood": fit, "neg_kl_z": -q.kl_to_prior().mean()})
