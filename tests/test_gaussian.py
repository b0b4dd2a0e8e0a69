"""Closed forms for Gaussians against torch.distributions and moments."""

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from gpvae_core.diagnostics.regions import mass_above
from gpvae_core.distributions import DiagonalGaussian, FullGaussian, standard_normal_log_prob
from gpvae_core.distributions.gaussian import kl_cholesky_to_prior
from gpvae_core.exact.expectations import hermite


def q() -> DiagonalGaussian:
    return DiagonalGaussian(torch.tensor([[0.3, -1.2]]).double(), torch.tensor([[0.5, 2.0]]).double())


def test_diagonal_closed_forms_match_torch_distributions():
    normal = Normal(q().mean, q().std)
    z = torch.tensor([[[0.1, 0.7]], [[2.0, -3.0]]]).double()
    torch.testing.assert_close(q().log_prob(z), normal.log_prob(z).sum(-1))
    torch.testing.assert_close(q().entropy(), normal.entropy().sum(-1))
    prior = Normal(torch.zeros(2).double(), torch.ones(2).double())
    torch.testing.assert_close(q().kl_to_prior(), kl_divergence(normal, prior).sum(-1))
    torch.testing.assert_close(standard_normal_log_prob(z), prior.log_prob(z).sum(-1))


def test_full_covariance_kl_matches_torch_distributions(generator):
    mean = torch.randn(3, 5, generator=generator).double()
    log_diagonal = torch.randn(3, 5, generator=generator).double()
    tril = torch.tril(torch.randn(3, 5, 5, generator=generator).double(), -1) + torch.diag_embed(log_diagonal.exp())
    prior = MultivariateNormal(torch.zeros(5).double(), torch.eye(5).double())
    wanted = kl_divergence(MultivariateNormal(mean, scale_tril=tril), prior)
    torch.testing.assert_close(kl_cholesky_to_prior(mean, log_diagonal, (tril**2).sum((-2, -1))), wanted)


def test_gauss_hermite_integrates_polynomials_exactly():
    nodes, weights = hermite(6)
    z = np.array([0.3, -1.2]) + nodes * np.array([0.5, 2.0])
    assert weights @ z[:, 0] ** 4 == pytest.approx(0.3**4 + 6 * 0.3**2 * 0.5**2 + 3 * 0.5**4, rel=1e-12)
    assert weights @ (z[:, 0] ** 2 * z[:, 1] ** 2) == pytest.approx((0.09 + 0.25) * (1.44 + 4), rel=1e-12)


def test_full_gaussian_matches_torch(generator):
    mean, tril = torch.randn(3, 2, generator=generator), torch.tril(torch.rand(3, 2, 2, generator=generator) + 0.2)
    q, wanted = FullGaussian(mean, tril), torch.distributions.MultivariateNormal(mean, scale_tril=tril)
    z = torch.randn(3, 2, generator=generator)
    torch.testing.assert_close(q.log_prob(z), wanted.log_prob(z))
    torch.testing.assert_close(q.entropy(), wanted.entropy())


def test_draws_have_the_moments_and_leave_the_global_stream_alone(generator):
    before = torch.get_rng_state()
    z = q().rsample(200_000, generator=generator)
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(z.mean(0), q().mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.std(0), q().std, atol=0.02, rtol=0)


def test_the_mass_above_a_place_is_a_gaussians_chi_square():
    """At r standard deviations a Gaussian of two dimensions holds 1 - exp(-r^2 / 2)."""
    radii = torch.tensor([0.1, 1.0, 2.0, 4.0], dtype=torch.float64)
    mean, std = torch.tensor([[0.5, -1.0]]).double().expand(4, 2), torch.tensor([[0.1, 3.0]]).double().expand(4, 2)
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    z = mean + std * radii[:, None] * direction
    found = mass_above(DiagonalGaussian(mean, std), z, draws=20_000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, 1 - torch.exp(-0.5 * radii**2), atol=0.015, rtol=0)
