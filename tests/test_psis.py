"""Pareto-smoothed importance sampling, against distributions whose tails are known."""

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats
from scipy.stats import genpareto

from gpvae_core.diagnostics.psis import pareto_fit, smoothed
from gpvae_core.distributions import standard_normal_log_prob


@pytest.mark.parametrize("shape", [-0.3, 0.2, 0.7, 1.5])
def test_the_fit_finds_shape_and_scale_of_scipys_draws(shape):
    """At 2,000 draws the prior's pull to 1/2 is a hundredth."""
    found = [
        pareto_fit(torch.as_tensor(np.sort(genpareto(shape, scale=3.0).rvs(2000, random_state=seed))))
        for seed in range(8)
    ]
    k, sigma = np.mean(found, 0)
    assert k == pytest.approx(shape, abs=0.05) and sigma == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("width", [0.2, 1.0, 2.0, 6.0])
def test_weights_and_k_are_those_of_arviz(width, generator):
    ratios = width * torch.randn(1000, 2, generator=generator, dtype=torch.float64)
    found = smoothed(ratios)
    for j in range(2):
        log_weights, k = array_stats.psislw(-ratios[:, j].numpy())  # of log likelihoods: minus the log ratios
        assert float(found.k[j]) == pytest.approx(float(k), abs=1e-9)
        np.testing.assert_allclose(found.log_weights[:, j].numpy(), log_weights, atol=1e-9)


@pytest.mark.parametrize("variance", [0.3, 0.5, 0.8])
def test_k_of_a_gaussian_that_is_too_narrow_is_known(variance, generator):
    """Weights of N(0, 1) against draws of N(0, v) have tails of index 1 - v, up to a logarithm."""
    z = variance**0.5 * torch.randn(200_000, 8, 1, generator=generator, dtype=torch.float64)
    log_q = -0.5 * (z[..., 0] ** 2 / variance + np.log(2 * np.pi * variance))
    k = smoothed(standard_normal_log_prob(z) - log_q).k
    assert float(k.mean()) == pytest.approx(1 - variance, abs=0.12)


def test_equal_weights_are_all_effective_and_one_large_one_is_alone():
    flat = smoothed(torch.full((1000, 1), -3.0))
    assert float(flat.ess[0]) == pytest.approx(1000) and float(flat.log_weights.exp().sum()) == pytest.approx(1)
    alone = torch.zeros(1000, 1)
    alone[17] = 1000.0
    assert float(smoothed(alone).ess[0]) < 60  # the tail's three dozen at most


def test_smoothing_keeps_the_order_and_the_body(generator):
    ratios = 2 * torch.randn(1000, 3, generator=generator, dtype=torch.float64)
    found = smoothed(ratios)
    for j in range(3):
        order = torch.argsort(ratios[:, j])
        weights = found.log_weights[order, j]
        assert bool((weights.diff() >= -1e-12).all())
        body = slice(0, 1000 - 95)
        shift = weights[body] - ratios[order[body], j]
        torch.testing.assert_close(shift, shift[:1].expand_as(shift))
