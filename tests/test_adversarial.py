"""Decoders made to mislead the engine: flat ridges, many narrow hills, vanishing Jacobians, hills of unequal width."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest, multivariate_normal, norm

from gpvae_core.exact import PosteriorEngine
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from tests import reference
from tests.decoders import (
    STD,
    Features,
    Ridge,
    comb,
    comb_log_evidence,
    needle,
    needle_log_evidence,
    saturated,
)


@pytest.mark.parametrize("ratio", [30, 3e2, 1e6])
@pytest.mark.parametrize("angle", [0.7, 2.0])
def test_one_gaussian_has_one_mode_however_long_it_is(ratio, angle):
    model = GenerativeModel(Ridge(ratio, angle), GaussianLikelihood(0.1).double())
    x = model.decode(torch.tensor([[0.5, -1.2]]).double()).detach()
    posterior = PosteriorEngine(model, nodes=91).posterior(x)
    assert len(posterior.modes) == 1
    wanted = model.decoder.log_evidence(x.numpy(), STD)
    assert abs(posterior.log_evidence - wanted) <= min(1e-5, posterior.log_evidence_error)


@pytest.mark.parametrize("hills", [13, 16])
def test_every_one_of_many_narrow_hills_counts(hills):
    model = GenerativeModel(comb(hills), GaussianLikelihood(0.005).double())
    posterior = PosteriorEngine(model).posterior(torch.zeros(1, 1, 1, 2).double())
    assert len(posterior.modes) == hills
    assert abs(posterior.log_evidence - comb_log_evidence(hills)) < 3e-4  # Laplace errs by some std^2
    assert posterior.log_evidence_error < 1e-3


CENTRE = (1.3123, -0.7311)  # of a hill, far from every node of the grid
FLAT_TOPS = {  # the Jacobian is 0 at the top: offsets in units of the width that pixel noise 0.05 leaves
    "squares": lambda a, b: [0.05 * a**2, 0.05 * b**2],
    "complex square": lambda a, b: [0.05 * (a**2 - b**2), 0.1 * a * b],
    "fourth powers": lambda a, b: [0.05 * a**4, 0.05 * b**4],
    "one square": lambda a, b: [0.05 * a**2, 0.05 * b],
    "turned squares": lambda a, b: [0.05 * (3 * a + b) ** 2, 0.05 * (b - a) ** 2],
}


@pytest.mark.parametrize("width", [1e-2, 1e-3])
@pytest.mark.parametrize("top", FLAT_TOPS)
@pytest.mark.parametrize("plain", [False, True])
def test_a_place_on_a_flat_top_helps_where_gauss_newton_is_blind(top, width, plain):
    def features(a, b):
        values = FLAT_TOPS[top]((a - CENTRE[0]) / width, (b - CENTRE[1]) / width)
        return saturated(values) if plain else values

    model = GenerativeModel(Features(features).double(), GaussianLikelihood(0.05).double())
    x = torch.zeros(1, 1, 1, 2).double()
    box = [reference.square(np.array(CENTRE), 8 * width)]
    wanted, change = reference.log_evidence(reference.log_joint_for(model, x), box, width / 4)
    posterior = PosteriorEngine(model, nodes=91).posterior(x, near=torch.tensor([CENTRE]))
    assert change < 1e-4
    assert abs(posterior.log_evidence - wanted) <= min(1e-3, posterior.log_evidence_error + change)


def counted(monkeypatch) -> list[int]:
    """The sizes of all batches decoded from now on."""
    sizes: list[int] = []
    decode = GenerativeModel.decode

    def counting(self, z):
        sizes.append(len(z))
        return decode(self, z)

    monkeypatch.setattr(GenerativeModel, "decode", counting)
    return sizes


@pytest.mark.parametrize(("width", "std"), [(0.03, 0.3), (0.01, 0.3), (1e-3, 0.3), (3e-3, 0.15)])
def test_a_needle_on_a_broad_hill_is_integrated_within_the_budget(width, std, monkeypatch):
    model = GenerativeModel(needle(width, CENTRE), GaussianLikelihood(std).double())
    engine, sizes = PosteriorEngine(model, nodes=91), counted(monkeypatch)
    posterior = engine.posterior(torch.zeros(1, 1, 1, 2).double(), near=torch.tensor([CENTRE]))
    wanted = needle_log_evidence(width, CENTRE, float(model.likelihood.std))
    assert abs(posterior.log_evidence - wanted) <= min(1e-3, posterior.log_evidence_error)
    assert sum(sizes) < engine.max_evaluations


def test_beyond_the_budget_the_error_says_so(monkeypatch):
    """A thousand needles: the sum over their Laplace masses is a square, as sine and prior part by axes."""
    model = GenerativeModel(
        Features(lambda a, b: saturated([torch.sin(8 * a), torch.sin(8 * b)])).double(),
        GaussianLikelihood(0.005).double(),
    )
    engine, sizes = PosteriorEngine(model, nodes=91, max_evaluations=60_000), counted(monkeypatch)
    posterior = engine.posterior(torch.zeros(1, 1, 1, 2).double())
    centre = np.pi / 8 * np.arange(-100, 101)
    wanted = 2 * np.log((np.exp(-0.5 * centre**2) / np.sqrt(2 * np.pi)).sum() / 8)
    assert sum(sizes) < 150_000
    assert abs(posterior.log_evidence - wanted) > 0.01
    assert posterior.log_evidence_error > abs(posterior.log_evidence - wanted)


# --- errors of what is shown ----------------------------------------------------------------------------------


def long_gaussian(ratio):
    """A posterior about so many times longer than wide; its mean and covariance in closed form."""
    model = GenerativeModel(Ridge(ratio, 0.7), GaussianLikelihood(0.1).double())
    x = model.decode(torch.tensor([[0.5, -1.2]]).double()).detach()
    posterior = PosteriorEngine(model, nodes=91).posterior(x)
    matrix = model.decoder.matrix.detach().numpy()
    covariance = np.linalg.inv(matrix.T @ matrix / STD**2 + np.eye(2))
    mean = covariance @ matrix.T @ x.numpy().ravel() / STD**2
    return posterior, mean, covariance


def test_every_number_of_a_long_gaussian_is_within_its_error():
    """Closed forms: mean, covariance, entropy, negentropy 0, levels by the chi-squared quantile, mass beyond a side."""
    posterior, mean, covariance = long_gaussian(30)
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(posterior.mean - mean) <= np.minimum(posterior.mean_error, 1e-3 * std)).all()
    wrong = np.abs(posterior.covariance - covariance)
    assert (wrong <= np.minimum(posterior.covariance_error, 5e-3 * np.outer(std, std))).all()
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert abs(posterior.entropy - entropy) <= min(1e-3, posterior.entropy_error)
    assert abs(posterior.negentropy) <= min(1e-3, posterior.negentropy_error)
    masses = np.array([0.5, 0.8, 0.95, 0.99])
    levels = -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - 0.5 * chi2.ppf(masses, 2)
    errors = posterior.hdr_level_errors(masses)
    assert (np.abs(posterior.hdr_levels(masses) - levels) <= errors).all()
    assert (errors < 0.1).all()
    outside = 1 - sum(norm.cdf(s * 2, mean[0], std[0]) * s for s in (1, -1))
    beyond = 1 - sum(norm.cdf(s * 2, mean[1], std[1]) * s for s in (1, -1))
    error = posterior.mass_outside_error(2.0)
    assert max(outside, beyond) - error <= posterior.mass_outside(2.0) <= outside + beyond + error


def test_ten_thousand_draws_take_no_decode_and_say_how_far_off_they_are(monkeypatch):
    """Through the distribution function along a skew axis, by the trapezoid rule; the law's bound of two samples."""
    model = GenerativeModel(Features(lambda a, b: [torch.exp(0.5 * a), b]).double(), GaussianLikelihood(0.3).double())
    posterior = PosteriorEngine(model, nodes=91).posterior(torch.tensor([1.0, 0.2]).double().reshape(1, 1, 1, 2))
    assert 0 < posterior.sampling_error < 1e-3
    monkeypatch.setattr(GenerativeModel, "decode", lambda *_: pytest.fail("a draw decodes nothing"))
    z = posterior.sample(10_000, generator=np.random.default_rng(0))
    axis = np.linspace(-8, 8, 20_001)
    held = np.cumsum(np.exp(-0.5 * axis**2 - 0.5 * ((1 - np.exp(0.5 * axis)) / float(model.likelihood.std)) ** 2))
    result = kstest(z[:, 0], lambda a: np.interp(a, axis, held / held[-1]))
    assert result.pvalue > 0.001


def test_a_far_hill_of_a_ten_millionth_of_the_mass_counts_in_the_variances():
    """Two hills of one width; the prior gives the far one e^-16, and its distance makes that most of the variance."""

    def features(a, b):
        z = torch.complex(a, b)
        product = 3.5 * z * (z - complex(4, 4))
        return saturated([product.real, product.imag])

    model = GenerativeModel(Features(features).double(), GaussianLikelihood(0.02).double())
    posterior = PosteriorEngine(model, nodes=91).posterior(torch.zeros(1, 1, 1, 2).double())
    width, share = 0.02 / (3.5 * np.sqrt(32)), np.exp(-16.0)
    assert len(posterior.modes) == 2
    wanted = width**2 + 16 * share
    assert abs(posterior.covariance[0, 0] - wanted) <= 5e-3 * wanted  # Laplace's own error is some std^2
    assert posterior.covariance_error[0, 0] <= 5e-3 * wanted


@pytest.mark.parametrize("half_width", [0.5, 1.3, 2.0])
@pytest.mark.parametrize("ratio", [1, 4, 30])
def test_the_mass_outside_a_box_is_within_a_small_error(ratio, half_width):
    """Against SciPy's normal distribution: an edge that runs through the mass runs between the nodes, too."""
    posterior, mean, covariance = long_gaussian(ratio)
    edge = np.full(2, half_width)
    wanted = 1 - multivariate_normal(mean, covariance).cdf(edge, lower_limit=-edge)
    error = posterior.mass_outside_error(half_width)
    assert abs(posterior.mass_outside(half_width) - wanted) <= error < 0.006
