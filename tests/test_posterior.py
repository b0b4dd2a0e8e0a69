"""The exact posterior against closed forms, brute force, and its own laws on real images."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import nn
from torch.distributions import Independent, StudentT

from gpvae_core.data import Dataset
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood
from tests import reference
from tests.decoders import FOLDED, STD, Features, Linear


@pytest.fixture
def linear_image(generator) -> torch.Tensor:
    return torch.rand(1, 1, 8, 8, generator=generator).double()


@pytest.fixture
def linear_posterior(linear_image):
    return PosteriorEngine(GenerativeModel(Linear(), GaussianLikelihood(STD).double())).posterior(linear_image)


def test_linear_decoder_matches_the_closed_form(linear_posterior, linear_image):
    mean, covariance, evidence = Linear().closed_form(linear_image.numpy(), STD)
    assert abs(linear_posterior.log_evidence - evidence) < 1e-6
    assert linear_posterior.log_evidence_error >= abs(linear_posterior.log_evidence - evidence)
    np.testing.assert_allclose(linear_posterior.mean, mean, atol=1e-7)
    np.testing.assert_allclose(linear_posterior.covariance, covariance, rtol=1e-5, atol=1e-8)
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert abs(linear_posterior.entropy - entropy) < 1e-5
    assert abs(linear_posterior.negentropy) < 1e-5
    assert len(linear_posterior.modes) == 1
    np.testing.assert_allclose(linear_posterior.modes[0].location, mean, atol=1e-4)


def test_linear_decoder_divergences_match_the_closed_form(linear_posterior, linear_image):
    mean, covariance, _ = Linear().closed_form(linear_image.numpy(), STD)
    exact = torch.distributions.MultivariateNormal(torch.as_tensor(mean), torch.as_tensor(covariance))
    q_mean, q_std = torch.as_tensor(mean) + 0.1, torch.tensor([0.2, 0.4]).double()
    q = torch.distributions.MultivariateNormal(q_mean, torch.diag(q_std**2))
    estimate = linear_posterior.kl_from(DiagonalGaussian(q_mean, q_std))
    wanted = float(torch.distributions.kl_divergence(q, exact))
    assert abs(estimate.value - wanted) <= min(1e-5, estimate.error)
    reverse = linear_posterior.kl_to(q)
    wanted = float(torch.distributions.kl_divergence(exact, q))
    assert abs(reverse.value - wanted) <= min(1e-5, reverse.error)


@pytest.mark.parametrize("width", [0.02, 0.3, 1.0])
@pytest.mark.parametrize("freedom", [3.0, 5.0, 12.0, 100.0])
def test_a_density_with_heavy_tails_is_within_its_error(linear_posterior, linear_image, freedom, width):
    """Student's t in both coordinates: log p(x, z) is a square of z, so that q's moments and entropy say all."""
    mean, covariance, evidence = Linear().closed_form(linear_image.numpy(), STD)
    centre = torch.as_tensor(mean) + 0.1
    q = Independent(StudentT(torch.full((2,), freedom).double(), centre, width), 1)
    spread = width**2 * freedom / (freedom - 2) * np.eye(2) + np.full((2, 2), 0.1**2)
    log_p = -0.5 * (np.linalg.slogdet(2 * np.pi * covariance)[1] + np.trace(np.linalg.solve(covariance, spread)))
    wanted = evidence + log_p + float(q.entropy())
    found = linear_posterior.elbo(q)
    assert abs(found.value - wanted) <= found.error
    if freedom == 100:
        assert found.error < 0.01


def test_a_density_that_ends_leaves_an_infinite_kl_and_cannot_be_integrated(linear_posterior):
    """A square of even density: a lattice does not settle over a jump, and none is given out for its ELBO."""

    class Square:
        def log_prob(self, z):
            return torch.where((z.abs() <= 0.2).all(-1), -2 * np.log(0.4), -np.inf)

    with pytest.raises(InputError, match="no lattice over it settles; it must be a normalised density without jumps"):
        linear_posterior.elbo(Square())
    assert linear_posterior.kl_to(Square()).value == np.inf


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_density_that_is_no_number_somewhere_is_refused(linear_posterior, wrong):
    class Broken:
        def log_prob(self, z):
            return torch.where(z[:, 0] > 0, wrong, -0.5 * (z**2).sum(-1) - np.log(2 * np.pi))

    for use in (linear_posterior.elbo, linear_posterior.kl_to):
        with pytest.raises(InputError, match=f"log_prob of this q is {wrong} at z = "):
            use(Broken())


@pytest.mark.parametrize("mass", [0.5, 0.8, 0.95, 0.99])
def test_highest_density_regions_hold_their_mass(linear_posterior, linear_image, mass):
    """For a Gaussian the region's edge lies at the chi-squared quantile of the Mahalanobis distance."""
    _, covariance, _ = Linear().closed_form(linear_image.numpy(), STD)
    top = -0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    (level,) = linear_posterior.hdr_levels((mass,))
    assert abs(chi2.cdf(2 * (top - level), 2) - mass) < 1e-3


def test_density_is_exact_by_decodes_and_by_interpolation(linear_posterior, linear_image):
    mean, covariance, _ = Linear().closed_form(linear_image.numpy(), STD)
    std = np.sqrt(np.diag(covariance))
    first, second = (np.linspace(m - 2 * s, m + 2 * s, 9) for m, s in zip(mean, std, strict=True))
    z = np.stack(np.meshgrid(first, second, indexing="ij"), -1)
    exact = torch.distributions.MultivariateNormal(torch.as_tensor(mean), torch.as_tensor(covariance))
    wanted = exact.log_prob(torch.as_tensor(z)).numpy()
    np.testing.assert_allclose(linear_posterior.log_prob(z.reshape(-1, 2)).reshape(9, 9), wanted, atol=1e-6)
    np.testing.assert_allclose(linear_posterior.log_density(first, second), wanted, atol=1e-6)


def test_float32_and_small_noise_are_covered_by_the_error_estimate(linear_image):
    """s_x = 1e-3: the posterior is 1e-4 wide and float32 decodes err by nats; the engine has to notice."""
    for std in (STD, 1e-2, 1e-3):
        decoder = Linear().float()
        x = linear_image.float()
        posterior = PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(std))).posterior(x)
        true_std = float(GaussianLikelihood(std).double().std)
        _, _, evidence = decoder.closed_form(x.double().numpy(), true_std)
        error = abs(posterior.log_evidence - evidence)
        assert error <= posterior.log_evidence_error
        assert error < 1e-3


@pytest.mark.parametrize("modes", FOLDED)
def test_separated_modes_are_all_found_and_weighed(modes):
    features, target = FOLDED[modes]
    decoder, likelihood = Features(features), GaussianLikelihood(0.05).double()
    x = torch.tensor(target).double().reshape(1, 1, 1, 2)
    model = GenerativeModel(decoder, likelihood)
    posterior, log_joint = PosteriorEngine(model).posterior(x), reference.log_joint_for(model, x)
    wanted = reference.log_integral(log_joint, [reference.square(np.zeros(2), 2.5)], 0.0075)
    assert abs(posterior.log_evidence - wanted) <= min(1e-4, posterior.log_evidence_error)
    assert len(posterior.modes) == modes
    assert max(m.log_joint for m in posterior.modes) - min(m.log_joint for m in posterior.modes) < 12


def test_each_hill_has_the_share_of_the_draws_that_climb_it():
    """Against steepest ascent by autograd, in short steps, from draws of the same posterior."""
    decoder, likelihood = Features(lambda a, b: [a**2, b + 0.5 * a]), GaussianLikelihood(0.45).double()
    x = torch.tensor([1.0, 1.0]).double().reshape(1, 1, 1, 2)
    model = GenerativeModel(decoder, likelihood).requires_grad_(False)
    posterior = PosteriorEngine(model).posterior(x)
    assert len(posterior.modes) == 2
    z = torch.as_tensor(posterior.sample(2000, generator=np.random.default_rng(0)))
    for _ in range(300):
        z.requires_grad_()
        (slope,) = torch.autograd.grad(model.log_joint(x, z[:, None]).sum(), z)
        z = (z + 0.02 * slope).detach()
    steps = torch.stack([(z - torch.as_tensor(mode.location)).norm(dim=1) for mode in posterior.modes])
    assert float(steps.amin(0).max()) < 0.05  # all have arrived
    drawn = float((steps.argmin(0) == 0).double().mean())
    assert 0.55 < drawn < 0.9  # hills of unequal size
    np.testing.assert_allclose(posterior.hill_shares, [drawn, 1 - drawn], atol=3 * 0.5 / 2000**0.5)
    assert posterior.hill_shares.sum() == pytest.approx(1)


# a ridge along a circle, a banana, a narrow peak on a broad hill: Laplace's window around a mode holds little of these
SHAPES = {  # the last number: the width about 0 that the reference resolves from the start
    "ring": (lambda a, b: [a**2 + b**2 + 0.2 * a], [2.0], 0.05, 1.0),
    "banana": (lambda a, b: [b - 0.5 * a**2, 0.1 * a], [0.3, 0.0], 0.08, 1.0),
    "funnel": (lambda a, b: [torch.exp(a) * b, 0.05 * a], [0.0, 0.0], 0.1, 1.0),
    "narrow peak on a hill": (lambda a, b: [0.3 * torch.exp(-(a**2 + b**2) / 0.0008)], [0.3], 0.08, 0.02),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_far_from_gaussian_are_covered(shape):
    features, target, std, scale = SHAPES[shape]
    decoder, likelihood = Features(features), GaussianLikelihood(std).double()
    x = torch.tensor(target).double().reshape(1, 1, 1, -1)
    model = GenerativeModel(decoder, likelihood)
    posterior, log_joint = PosteriorEngine(model).posterior(x), reference.log_joint_for(model, x)
    box = [reference.square(np.zeros(2), np.arcsinh(6.5 / scale))]
    wanted, change = reference.log_evidence(reference.stretched(log_joint, scale), box, 0.1, tolerance=1e-5)
    assert change < 1e-4
    assert abs(posterior.log_evidence - wanted) <= min(1e-3, posterior.log_evidence_error)


def test_mass_outside_the_base_grid_is_found(linear_image):
    """The image asks for a latent 20 prior standard deviations out."""
    decoder = Linear(scale=0.2)
    x = decoder(torch.tensor([[20.0, -15.0]]).double()).detach()
    posterior = PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(STD).double())).posterior(x)
    mean, _, evidence = decoder.closed_form(x.numpy(), STD)
    assert np.abs(mean).max() > 10
    assert abs(posterior.log_evidence - evidence) < 1e-4
    np.testing.assert_allclose(posterior.mean, mean, atol=1e-5)


@pytest.mark.parametrize(("centre", "seen"), [((3.0, -9.0), True), ((3.0, -20.0), False)])
def test_a_hill_that_no_slope_of_the_box_leads_to_is_found(centre, seen):
    """Black but for one bump: within the coarse grid it is seen, beyond from where the encoder looks."""

    def features(a, b):
        first, second = a - centre[0], b - centre[1]
        bump = 2 * torch.exp(-(first**2 + second**2) / 0.3)
        return [bump, bump * (1 + first), bump * (1 + second)]

    model = GenerativeModel(Features(features).double(), GaussianLikelihood(STD).double())
    x = torch.tensor([1.9, 2.0, 1.8]).double().reshape(1, 1, 1, 3)
    engine, near = PosteriorEngine(model), torch.tensor([[[centre[0] - 0.2, centre[1] + 0.1]]])
    log_joint = reference.log_joint_for(model, x)
    wanted, change = reference.log_evidence(log_joint, [reference.square(np.array(centre), 0.5)], 0.01)
    found = engine.posteriors(x, near=near)[0]
    assert change < 1e-4
    assert abs(found.log_evidence - wanted) <= min(1e-3, found.log_evidence_error)
    np.testing.assert_allclose(engine.posterior(x, near=near[0]).mean, found.mean)
    alone = engine.posterior(x).log_evidence
    assert abs(alone - wanted) < 1e-3 if seen else alone < wanted - 100
    with pytest.raises(InputError, match=r"shape \(1, 2\); give places of shape \(1, k, 2\)"):
        engine.posteriors(x, near=near[0])
    with pytest.raises(InputError, match="image 0 holds a place that is not finite"):
        engine.posteriors(x, near=near * torch.inf)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_small_networks_match_brute_force(activation, likelihood, generator):
    """Broad posteriors, kinks of ReLU included."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Linear(2, 16), activation(), nn.Linear(16, 36), nn.Sigmoid(), nn.Unflatten(1, (1, 6, 6))
        )
    with torch.no_grad():
        network[0].weight.mul_(3)
        network[2].weight.mul_(2)
    network = network.double()
    pixels = GaussianLikelihood(0.3).double() if likelihood == "gaussian" else BernoulliLikelihood()
    model = GenerativeModel(network, pixels)
    x = model.likelihood.sample(network(torch.tensor([[0.6, -0.9]]).double()), generator=generator).detach()
    log_joint = reference.log_joint_for(model, x)
    wanted = reference.log_integral(log_joint, [reference.square(np.zeros(2), 7.0)], 0.02)
    posterior = PosteriorEngine(model).posterior(x)
    assert abs(posterior.log_evidence - wanted) <= min(1e-3, posterior.log_evidence_error)


# --- laws on real images ------------------------------------------------------------------------------------


def gap_terms(checkpoint, engine, x: torch.Tensor) -> tuple[float, list[float]]:
    """log p(x), and ELBO + KL of base and marginalised q, each term from a source of its own.

    ELBO: trapezoid in float64 on a disc about q. KL: the engine's. log p(x): independent brute force.
    """
    log_joint = reference.log_joint_for(checkpoint.model.generative, x)
    low, high = reference.box_around_peak(log_joint, nodes=48)
    evidence, change = reference.log_evidence(log_joint, [(low, high)], float((high - low).max()) / 24)
    assert change < 1e-4
    posterior, sums = engine.posterior(x), []
    for q in (stage[0] for stage in checkpoint.model.infer(x).stages.values()):
        mean, std = q.mean.double().numpy(), q.std.double().numpy()
        elbo, _ = reference.elbo(log_joint, mean, std, fewest=17)
        kl = posterior.kl_from(DiagonalGaussian(torch.as_tensor(mean), torch.as_tensor(std)))
        sums.append(elbo + kl.value)
    return evidence, sums


def gap_identity(evidence: float, sums: list[float], disturbance: float = 0.0) -> float:
    """The larger |ELBO + KL - log p(x)|; ``disturbance`` of log p(x) shows that the law can fail."""
    return max(abs(value - (evidence + disturbance)) for value in sums)


@pytest.fixture(scope="module")
def digits_terms(digits: Dataset, digits_2d, digits_engine):
    return gap_terms(digits_2d, digits_engine, digits.test.pixels(slice(0, 1)))


def test_elbo_plus_kl_is_the_log_evidence_on_digits(digits_terms):
    assert gap_identity(*digits_terms) < 1e-3


def test_elbo_plus_kl_is_the_log_evidence_on_mnist(mnist: Dataset, mnist_2d, mnist_engine):
    assert gap_identity(*gap_terms(mnist_2d, mnist_engine, mnist.test.pixels(slice(0, 1)))) < 1e-3


def test_a_disturbed_log_evidence_breaks_the_identity(digits_terms):
    assert gap_identity(*digits_terms, disturbance=0.01) > 5e-3


def test_two_threads_may_ask_at_once(digits: Dataset, digits_engine):
    """Forward-mode differentiation has one state for the whole process: the engine has to guard it."""
    images = [digits.test.pixels(slice(i, i + 1)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = [p.log_evidence for p in pool.map(digits_engine.posterior, images)]
    alone = [digits_engine.posterior(x).log_evidence for x in images]
    np.testing.assert_allclose(together, alone, atol=1e-4)


# --- bad input ----------------------------------------------------------------------------------------------


def test_non_finite_pixels_are_refused(digits_engine):
    x = torch.zeros(1, 1, 28, 28)
    x[0, 0, 3, 4] = torch.nan
    with pytest.raises(InputError, match="pixels that are not finite numbers"):
        digits_engine.posterior(x)


def test_a_decoder_of_nan_is_refused():
    decoder = Linear()
    with torch.no_grad():
        decoder.matrix[3, 1] = torch.nan
    with pytest.raises(InputError, match="non-finite pixel means"):
        PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(STD).double()))


def test_other_latent_dimensions_are_refused():
    with pytest.raises(InputError, match="needs two latent dimensions, but this model has 3"):
        PosteriorEngine(GenerativeModel(nn.Linear(3, 4), GaussianLikelihood(STD), latent_dim=3))


def test_constant_and_noise_images_have_an_answer_with_a_small_error(digits_engine, generator):
    for x in (torch.zeros(1, 28, 28), torch.ones(1, 28, 28), torch.rand(1, 28, 28, generator=generator)):
        posterior = digits_engine.posterior(x)
        assert np.isfinite(posterior.log_evidence)
        assert posterior.log_evidence_error < 1e-2
