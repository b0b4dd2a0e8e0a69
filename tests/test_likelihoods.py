"""Both likelihoods: densities against torch.distributions, derivatives against autograd."""

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from gpvae_core.errors import InputError
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood

CASES = {"gaussian": GaussianLikelihood(0.3).double(), "bernoulli": BernoulliLikelihood()}


@pytest.fixture(params=CASES)
def case(request, generator):
    likelihood = CASES[request.param]
    mean = torch.rand(4, 9, generator=generator).double() * 0.9 + 0.05
    return likelihood, likelihood.sample(mean, generator=generator), mean


def test_density_matches_torch_distributions(case):
    likelihood, x, mean = case
    wanted = Normal(mean, 0.3) if isinstance(likelihood, GaussianLikelihood) else Bernoulli(mean)
    torch.testing.assert_close(likelihood.log_prob(x, mean), wanted.log_prob(x), atol=1e-7, rtol=1e-6)


def test_exponential_family_form_is_the_density(case):
    likelihood, x, mean = case
    eta, normaliser = likelihood.natural(mean)
    torch.testing.assert_close(x * eta - normaliser + likelihood.log_base(x), likelihood.log_prob(x, mean))


def test_score_and_precision_match_autograd(case):
    likelihood, x, mean = case
    mean.requires_grad_()
    (score,) = torch.autograd.grad(likelihood.log_prob(x, mean).sum(), mean)
    torch.testing.assert_close(likelihood.score(x, mean), score)
    draws = torch.stack([likelihood.score(likelihood.sample(mean.detach()), mean.detach()) for _ in range(20_000)])
    torch.testing.assert_close(draws.var(0), likelihood.precision(mean.detach()), rtol=0.1, atol=0)


def test_bernoulli_refuses_grey_pixels_with_the_cure():
    with pytest.raises(InputError, match=r"pixels of 0 or 1, but 1 lie between .*0\.5.*binarise"):
        BernoulliLikelihood().check(torch.tensor([0.0, 0.5, 1.0]))


def test_gaussian_noise_must_be_positive():
    with pytest.raises(InputError, match=r"s_x must be positive, but it is 0"):
        GaussianLikelihood(0.0)
