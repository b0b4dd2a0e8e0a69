"""Pareto-smoothed importance sampling (Vehtari, Simpson, Gelman, Yao & Gabry 2024): what judges a q without the truth.

Whoever cannot compute p(z|x) looks at the importance weights p(x, z) / q(z) of draws from q. ``k`` is the shape of the
generalised Pareto distribution that their largest ones follow: above 0.7 q is not to be trusted.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

LIMIT = 0.7  # of k, for 1,000 draws and more
PRIOR_DRAWS, PRIOR_SHAPE = 10, 0.5  # k is drawn to 1/2 as if by so many draws more
PRIOR_SCALE = 3
LEAST = 5  # draws in the tail: a fit to fewer says nothing


@dataclass(frozen=True)
class Smoothed:
    """Of each column: log weights (S, B), normalised and with the tail smoothed, ``k`` (B,), and the effective number
    of draws ``ess`` (B,), 1 / sum of the squared weights."""

    log_weights: Tensor
    k: Tensor
    ess: Tensor


def smoothed(log_ratios: Tensor) -> Smoothed:
    """Of log p(x, z) - log q(z) (S, B), S draws of each of B q's. k is infinite where the tail is too short to tell."""
    columns = [_smoothed(column) for column in log_ratios.double().T]
    weights = torch.stack([column for column, _ in columns], 1)
    weights = weights - torch.logsumexp(weights, 0)
    k = torch.tensor([k for _, k in columns], dtype=torch.float64)
    return Smoothed(weights, k, torch.exp(-torch.logsumexp(2 * weights, 0)))


def _smoothed(log_ratios: Tensor) -> tuple[Tensor, float]:
    """The log weights of one q, the largest replaced by quantiles of the distribution fitted to them, and its k."""
    weights, count = log_ratios - log_ratios.max(), len(log_ratios)
    tail = int(min(0.2 * count, 3 * sqrt(count)))
    order = torch.argsort(weights)
    rows, cutoff = order[-tail:], torch.exp(weights[order[-tail - 1]])
    above = torch.exp(weights[rows]) - cutoff
    if tail < LEAST or not bool(above[0] > 0):
        return weights, torch.inf
    k, sigma = pareto_fit(above)
    levels = (torch.arange(tail, dtype=torch.float64) + 0.5) / tail
    quantiles = sigma * (torch.expm1(-k * torch.log1p(-levels)) / k if k else -torch.log1p(-levels))
    weights = weights.clone()
    weights[rows] = torch.log(cutoff + quantiles).clamp(max=0.0)
    return weights, k


def pareto_fit(x: Tensor) -> tuple[float, float]:
    """Shape k and scale sigma of a generalised Pareto distribution from ascending draws x (n,) > 0.

    F(x) = 1 - (1 + k x / sigma)^(-1/k). The posterior mean of theta = -k / sigma under the prior of Zhang & Stephens
    (2009), by a sum over quantiles of that prior; then k is drawn a little to 1/2.
    """
    n = len(x)
    count = 30 + int(sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    ranks = torch.arange(1, count + 1, dtype=x.dtype) - 0.5
    theta = 1 / x[-1] + (1 - torch.sqrt(count / ranks)) / (PRIOR_SCALE * quartile)
    shape = torch.log1p(-theta[:, None] * x).mean(1)
    log_likelihood = n * (torch.log(-theta / shape) - shape - 1)
    mean = float(torch.softmax(log_likelihood, 0) @ theta)
    k = float(torch.log1p(-mean * x).mean())
    return (n * k + PRIOR_DRAWS * PRIOR_SHAPE) / (n + PRIOR_DRAWS), -k / mean
