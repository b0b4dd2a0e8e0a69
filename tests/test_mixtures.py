"""Mixtures of Gaussians over the plane whose parts differ in width: the ELBO against a radial integral."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from gpvae_core.distributions import DiagonalGaussian, Mixture
from gpvae_core.errors import InputError


def mixture(shares, *parts):
    return Mixture(torch.log(torch.tensor(shares, dtype=torch.float64)), parts)


def expected_log(share, narrow, std):
    """E log q of (1 - share) N(0, S) + share N(0, narrow^2 S), S = Diag(std)^2: in polar coordinates, by the radius."""

    def density(r):
        wide, thin = np.exp(-0.5 * r**2), np.exp(-0.5 * (r / narrow) ** 2) / narrow**2
        return ((1 - share) * wide + share * thin) / (2 * np.pi)

    def integrand(r):
        return 2 * np.pi * r * density(r) * np.log(density(r))

    ends = [0.0, *(narrow * k for k in (0.5, 1, 2, 4, 6, 8, 10)), 1.0, 2.0, 4.0, 7.0, 12.0]
    ends = sorted(end for end in ends if end <= 12)
    value = sum(quad(integrand, a, b, epsabs=1e-12)[0] for a, b in pairwise(ends))
    return value - np.log(std).sum()


@pytest.mark.parametrize("narrow", [0.3, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("share", [0.5, 0.03])
def test_a_narrow_part_is_not_missed_between_the_nodes_of_a_wide_one(share, narrow, digits, digits_engine):
    posterior = digits_engine.posterior(digits.test.pixels(slice(0, 1)))
    std = np.sqrt(np.diag(posterior.covariance))
    parts = [DiagonalGaussian(posterior.mean, width * std) for width in (1.0, narrow)]
    alone = [posterior.elbo(part) for part in parts]
    heights = [one.value - float(part.entropy()) for one, part in zip(alone, parts, strict=True)]  # E log p(x, z)
    right = (1 - share) * heights[0] + share * heights[1] - expected_log(share, narrow, std)
    found = posterior.elbo(mixture([1 - share, share], *parts))
    assert abs(found.value - right) <= found.error + sum(one.error for one in alone)
    assert found.error < 1e-3


@pytest.mark.parametrize("shares", [[0.5, 0.6], [0.3, 0.3, 0.4]])
def test_shares_that_are_none_are_one_sentence(shares, digits, digits_engine):
    posterior = digits_engine.posterior(digits.test.pixels(slice(0, 1)))
    part = DiagonalGaussian(posterior.mean, np.ones(2))
    with pytest.raises(InputError, match=r"2 components has \d weights that sum to [\d.]+; give one log weight"):
        posterior.elbo(mixture(shares, part, part))
