"""Bounds on log p(x) for any encoder: the ELBO and the importance-weighted bound, estimated by sampling."""

from math import log

import torch
from torch import Tensor

from gpvae_core.distributions.gaussian import DiagonalGaussian
from gpvae_core.generative import GenerativeModel


def elbo(
    model: GenerativeModel,
    x: Tensor,
    q: DiagonalGaussian,
    samples: int = 1,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """E_q log p(x|z) - KL(q || p(z)), eq. (2), in nats, (B,): the first term from ``samples`` draws."""
    z = q.rsample(samples, generator=generator)
    return model.log_likelihood(x, z).mean(0) - q.kl_to_prior()


def importance_weighted_bound(
    model: GenerativeModel, x: Tensor, q: DiagonalGaussian, samples: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """IWAE-K: log 1/K sum_k p(x, z_k) / q(z_k), z_k ~ q, in nats, (B,) (Burda, Grosse & Salakhutdinov 2016)."""
    z = q.rsample(samples, generator=generator)
    log_weights = model.log_joint(x, z) - q.log_prob(z)
    return torch.logsumexp(log_weights, dim=0) - log(samples)
