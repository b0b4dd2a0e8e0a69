"""Bounds on log p(x) for any q, estimated by sampling: the ELBO and the importance-weighted bound."""

from math import log

import torch
from torch import Tensor

from gpvae_core.distributions import Posterior, standard_normal_log_prob
from gpvae_core.generative import GenerativeModel


def elbo_terms(
    model: GenerativeModel, x: Tensor, q: Posterior, samples: int = 1, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """E_q log p(x|z) and -KL(q || p(z)), eq. (2), in nats, (B,) each.

    Every component of a mixture is sampled, ``samples`` times each, so that gradients reach the weights too. The KL is
    in closed form where there is one, else from the same draws.
    """
    known = q.kl_to_prior()
    fit, neg_kl = x.new_zeros(()), x.new_zeros(())
    for log_weight, part in q.parts():
        z, log_part = part.rsample_with_log_prob(samples, generator=generator)
        weight = 1.0 if log_weight is None else log_weight.exp()
        fit = fit + weight * model.log_likelihood(x, z).mean(0)
        if known is None:
            log_q = log_part if log_weight is None else q.log_prob(z)
            neg_kl = neg_kl + weight * (standard_normal_log_prob(z) - log_q).mean(0)
    return fit, neg_kl if known is None else -known


def elbo(
    model: GenerativeModel, x: Tensor, q: Posterior, samples: int = 1, *, generator: torch.Generator | None = None
) -> Tensor:
    """The sum of ``elbo_terms``: the ELBO (2) in nats, (B,)."""
    fit, neg_kl = elbo_terms(model, x, q, samples, generator=generator)
    return fit + neg_kl


def held_log_likelihood(model: GenerativeModel, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z), (S, B), for z (S, B, d), whose gradient reaches z alone, as if the model were constant."""
    at = z.detach().requires_grad_()
    with torch.enable_grad():
        fit = model.log_likelihood(x, at)
        (slope,) = torch.autograd.grad(fit.sum(), at)
    return fit.detach() + ((z - at.detach()) * slope).sum(-1)  # the same value; its slope in z is the model's


def importance_weighted_bound(
    model: GenerativeModel, x: Tensor, q: Posterior, samples: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """IWAE-K: log 1/K sum_k p(x, z_k) / q(z_k), z_k ~ q, in nats, (B,) (Burda, Grosse & Salakhutdinov 2016, eq. 8).

    Every component of a mixture is drawn from K times, and counts by its weight: gradients reach the weights too.
    """
    ratios = []
    for log_weight, part in q.parts():
        z, log_part = part.rsample_with_log_prob(samples, generator=generator)
        log_q, share = (log_part, 0.0) if log_weight is None else (q.log_prob(z), log_weight)
        ratios.append(model.log_joint(x, z) - log_q + share)
    return torch.logsumexp(torch.cat(ratios), dim=0) - log(samples)
