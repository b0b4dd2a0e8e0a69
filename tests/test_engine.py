"""The engine beyond one image's evidence: batches, previews, samples, any q, best Gaussians, calibration."""

from copy import copy
from functools import cache
from math import log, log1p

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import binom, kstest
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from benchmarks.common import RESULTS
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.best_gaussian import best_gaussians
from gpvae_core.exact.covering import resolved
from gpvae_core.exact.divergences import elbos
from gpvae_core.exact.expectations import hermite
from gpvae_core.exact.grid import BaseGrid
from gpvae_core.exact.joint import Decoded
from gpvae_core.exact.lattice import Lattice
from gpvae_core.exact.left_out import left_out
from gpvae_core.exact.modes import Mode, Starts
from gpvae_core.files import read_json
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from gpvae_core.paths import grid_cache
from tests import reference
from tests.decoders import FOLDED, STD, Features, Linear


@pytest.fixture
def image(generator) -> torch.Tensor:
    return torch.rand(1, 1, 8, 8, generator=generator).double()


@pytest.fixture
def posterior(image):
    """A correlated Gaussian: the linear decoder's."""
    decoder = Linear()
    with torch.no_grad():
        decoder.matrix[:, 1] += 0.8 * decoder.matrix[:, 0]
    return PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(STD).double())).posterior(image)


@pytest.fixture
def truth(image):
    decoder = Linear()
    with torch.no_grad():
        decoder.matrix[:, 1] += 0.8 * decoder.matrix[:, 0]
    mean, covariance, _ = decoder.closed_form(image.numpy(), STD)
    return MultivariateNormal(torch.as_tensor(mean), torch.as_tensor(covariance))


@cache
def two_modes(target=(1.0, 0.2), std: float = 0.3):
    """x = (z_1^2, z_2): its engine, and its log joint without the engine."""
    decoder, likelihood = Features(FOLDED[2][0]), GaussianLikelihood(std).double()
    x = torch.tensor(target).double().reshape(1, 1, 1, 2)
    model = GenerativeModel(decoder, likelihood)
    return PosteriorEngine(model).posterior(x), reference.log_joint_for(model, x)


# --- batches and previews -------------------------------------------------------------------------------------


def test_a_batch_gives_what_its_images_give_alone(digits, digits_engine):
    images = digits.test.pixels(slice(0, 12))
    together = digits_engine.posteriors(images)
    for k, result in enumerate(together):
        alone = digits_engine.posterior(images[k])
        assert abs(result.log_evidence - alone.log_evidence) < result.log_evidence_error + alone.log_evidence_error
        np.testing.assert_allclose(result.mean, alone.mean, atol=1e-4)


def test_others_may_have_their_turn_in_a_pause_and_change_nothing(digits, digits_engine):
    images, between = digits.test.pixels(slice(0, 2)), []

    def others():
        if not between:
            between.append(None)
            between[:] = [engine.posterior(images[1])]

    engine = copy(digits_engine)
    engine.pause = others
    for k, found in enumerate([engine.posterior(images[0]), *between]):
        alone = digits_engine.posterior(images[k])
        assert (found.log_evidence, found.evaluations) == (alone.log_evidence, alone.evaluations)
        q = DiagonalGaussian(torch.tensor(alone.mean), torch.tensor(alone.covariance).diagonal().sqrt())
        assert elbos([found], [q]) == elbos([alone], [q])


def test_what_a_pause_raises_ends_it(digits, digits_engine):
    def ends():
        raise TimeoutError

    engine = copy(digits_engine)
    engine.pause = ends
    with pytest.raises(TimeoutError):
        engine.posterior(digits.test.pixels(slice(0, 1)))


def test_images_that_need_float64_share_a_batch_with_those_that_do_not(digits, digits_2d):
    """Noise is 2,000 nats away from anything the decoder makes: float32 loses more there."""
    engine = digits_2d.engine(tolerance=2e-4, cache=grid_cache())
    images = torch.cat([digits.test.pixels(slice(0, 3)), torch.ones(1, 1, 28, 28)])
    results = engine.posteriors(images)
    assert any(result.yardstick is None for result in results)
    assert any(result.yardstick is not None for result in results)
    for k, result in enumerate(results):
        alone = engine.posterior(images[k])
        assert abs(result.log_evidence - alone.log_evidence) < result.log_evidence_error + alone.log_evidence_error


def test_a_preview_costs_no_decode_and_says_what_it_is(digits, digits_2d, digits_engine, monkeypatch):
    exact = [digits_engine.posterior(x) for x in digits.test.pixels(slice(0, 11))]
    monkeypatch.setattr(GenerativeModel, "decode", lambda *_: pytest.fail("a preview decodes nothing"))
    previews = [digits_engine.preview(x) for x in digits.test.pixels(slice(0, 11))]
    assert all(p.preview for p in previews) and not any(e.preview for e in exact)
    inside = [one.mass_outside(4.5) < 1e-3 for one in exact]  # image 10 has its mass at the edge
    assert [np.isfinite(p.log_evidence_error) for p in previews] == inside
    pairs = [pair for pair, known in zip(zip(previews, exact, strict=True), inside, strict=True) if known]
    assert 6 <= len(pairs) < len(exact)
    assert np.median([abs(preview.log_evidence - one.log_evidence) for preview, one in pairs]) < 0.1
    for preview, one in pairs:
        assert (np.abs(preview.mean - one.mean) < 0.5 * np.sqrt(np.diag(one.covariance))).all()


def test_a_preview_outside_the_box_says_that_it_is_worthless(image):
    decoder = Linear(scale=0.2)
    x = decoder(torch.tensor([[20.0, -15.0]]).double()).detach()
    engine = PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(STD).double()))
    preview = engine.preview(x)
    assert abs(preview.log_evidence - engine.posterior(x).log_evidence) > 1
    assert preview.log_evidence_error == np.inf


# --- samples and regions --------------------------------------------------------------------------------------


def test_samples_follow_the_posterior_and_leave_the_global_stream_alone(posterior, truth):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    z = posterior.sample(4000, generator=np.random.default_rng(0))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    whitened = torch.linalg.solve_triangular(truth.scale_tril, (torch.as_tensor(z) - truth.mean).T, upper=False)
    for axis in whitened:
        assert kstest(axis.numpy(), "norm").pvalue > 0.001
    assert kstest((whitened**2).sum(0).numpy(), "chi2", args=(2,)).pvalue > 0.001


def test_samples_visit_both_modes_at_their_rate():
    posterior, _ = two_modes(std=0.1)
    z = posterior.sample(2000, generator=np.random.default_rng(1))
    assert binom(2000, 0.5).cdf((z[:, 0] > 0).sum()) == pytest.approx(0.5, abs=0.4999)


@pytest.mark.parametrize("mass", [0.5, 0.8, 0.95, 0.99])
def test_regions_of_a_bimodal_posterior_hold_their_mass(mass):
    posterior, log_joint = two_modes()
    z = reference.lattice(reference.square(np.zeros(2), 4.0), (1200, 1200))
    log_density = log_joint(z)
    held = np.exp(log_density - log_density.max())
    level = float(posterior.hdr_levels((mass,))[0]) + posterior.log_evidence
    assert abs(held[log_density > level].sum() / held.sum() - mass) < 1e-3


def test_regions_hold_the_true_latent_of_simulated_images_at_their_rate(digits_2d, digits_engine):
    """100 images drawn from the model itself, floats and unclipped: nothing is estimated but the rate."""
    simulation = digits_2d.model.generative.simulate(100, generator=torch.Generator().manual_seed(0))
    posteriors = digits_engine.posteriors(simulation.images)
    masses = (0.5, 0.8, 0.95)
    inside = np.zeros(3)
    for posterior, z in zip(posteriors, simulation.latents.double().numpy(), strict=True):
        inside += posterior.log_prob(z[None])[0] > posterior.hdr_levels(masses)
    for hits, mass in zip(inside, masses, strict=True):
        assert 0.001 < binom(100, mass).cdf(hits) < 0.999


# --- divergences ----------------------------------------------------------------------------------------------


def test_kl_of_a_mixture_matches_brute_force():
    posterior, log_joint = two_modes()
    means = torch.tensor([[-1.0, 0.2], [0.8, 0.0]]).double()
    parts = MultivariateNormal(means, 0.04 * torch.eye(2).double().expand(2, 2, 2))
    q = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7]).double()), parts)
    z = reference.lattice(reference.square(np.zeros(2), 4.0), (750, 750))
    log_q = q.log_prob(torch.as_tensor(z)).numpy()
    log_p = log_joint(z)
    cell = (8 / 750) ** 2
    log_p = log_p - np.log(np.exp(log_p).sum() * cell)
    for estimate, wanted in (
        (posterior.kl_from(q), (np.exp(log_q) * (log_q - log_p)).sum() * cell),
        (posterior.kl_to(q), (np.exp(log_p) * (log_p - log_q)).sum() * cell),
    ):
        assert abs(estimate.value - wanted) <= min(2e-3, estimate.error)


def test_kl_of_a_q_where_the_posterior_has_no_mass(posterior, truth):
    q_mean, q_std = truth.mean + 30 * truth.covariance_matrix.diagonal().sqrt(), torch.tensor([0.3, 0.1]).double()
    wanted = torch.distributions.kl_divergence(MultivariateNormal(q_mean, torch.diag(q_std**2)), truth)
    estimate = posterior.kl_from(DiagonalGaussian(q_mean, q_std))
    assert estimate.value == pytest.approx(float(wanted), abs=1e-6 * float(wanted))
    assert float(wanted) > 100


def test_an_unnormalised_density_and_a_batch_are_refused(posterior):
    class Doubled:
        def log_prob(self, z):
            return MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double()).log_prob(z) + np.log(2)

    with pytest.raises(InputError, match="could not be integrated"):
        posterior.kl_from(Doubled())
    with pytest.raises(InputError, match=r"mean of shape \(2,\), not \(3, 2\)"):
        posterior.kl_from(DiagonalGaussian(torch.zeros(3, 2), torch.ones(3, 2)))


# --- best Gaussians -------------------------------------------------------------------------------------------


def test_nothing_near_the_best_gaussian_of_a_broad_posterior_is_better(digits):
    """Coarse nodes misjudge a broad q by a tenth of a nat, and a search on them climbs their errors."""
    checkpoint, x = load_checkpoint("digits-2d-wide"), digits.test.pixels(slice(101, 102))
    (exact,) = checkpoint.kept_engine().posteriors(x)
    (fit,) = best_gaussians([exact], [[checkpoint.infer(x).start[0]]], diagonal=False)
    mean, lower = fit.q.mean.numpy(), fit.q.scale_tril.numpy()
    u, w = np.polynomial.hermite_e.hermegauss(40)
    nodes, weights = np.stack(np.meshgrid(u, u), -1).reshape(-1, 2), np.outer(w, w).ravel() / w.sum() ** 2

    def below(free):
        """The ELBO but for a constant, with its sign changed."""
        tril = lower @ np.array([[np.exp(free[2]), 0], [free[4], np.exp(free[3])]])
        z = torch.as_tensor(mean + lower @ free[:2] + nodes @ tril.T, dtype=torch.float32)
        values = checkpoint.model.generative.log_joint(x, z[:, None])[:, 0]
        return -float(weights @ values.double().numpy() + np.log(np.diag(tril)).sum())

    start = np.zeros(5)
    simplex = np.concatenate([start[None], 0.2 * np.eye(5)])
    better = minimize(below, start, method="Nelder-Mead", options={"initial_simplex": simplex, "maxfev": 40})
    assert better.fun > below(start) - 5e-3


def test_best_gaussians_of_a_gaussian_posterior_are_the_closed_forms(posterior, truth):
    """Full: the posterior itself. Diagonal: its mean, variances 1 / diag(precision)."""
    start = DiagonalGaussian(torch.tensor([2.0, -2.0]).double(), torch.tensor([0.5, 0.5]).double())
    (full,) = best_gaussians([posterior], [[start]], diagonal=False)
    (diagonal,) = best_gaussians([posterior], [[start]], diagonal=True)
    torch.testing.assert_close(full.q.scale_tril @ full.q.scale_tril.T, truth.covariance_matrix, rtol=1e-4, atol=1e-9)
    assert abs(posterior.log_evidence - full.elbo.value) < 1e-6
    precision = truth.precision_matrix
    torch.testing.assert_close(diagonal.q.mean, truth.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(diagonal.q.scale_tril.diagonal() ** -2, precision.diagonal(), rtol=1e-4, atol=0)
    gap = 0.5 * float(torch.log(precision.diagonal()).sum() - torch.logdet(precision))
    assert gap > 0.1
    assert posterior.log_evidence - diagonal.elbo.value == pytest.approx(gap, abs=1e-5)


def test_the_path_starts_at_the_encoder_and_always_rises(digits, digits_2d, digits_engine):
    x = digits.test.pixels(slice(0, 6))
    encoding, posteriors = digits_2d.model.infer(x), digits_engine.posteriors(x)
    fits = best_gaussians(posteriors, [[encoding.start[k]] for k in range(6)], diagonal=True)
    for k, (fit, posterior) in enumerate(zip(fits, posteriors, strict=True)):
        np.testing.assert_allclose(fit.path[0].mean, encoding.start.mean[k].numpy(), rtol=1e-6)
        np.testing.assert_allclose(np.sqrt(np.diag(fit.path[0].covariance)), encoding.start.std[k].numpy(), rtol=1e-6)
        assert fit.path[0].elbo == pytest.approx(posterior.elbo(encoding.start[k]).value, abs=1e-2)
        assert (np.diff([step.elbo for step in fit.path]) > 0).all()
        assert fit.path[-1].elbo <= fit.elbo.value + 1e-2
        assert fit.elbo.value <= posterior.log_evidence + fit.elbo.error


@pytest.mark.parametrize("target", [(1.0, 0.2), (0.02, 0.1)])
def test_no_other_search_finds_a_better_diagonal_gaussian(target):
    """Against Nelder-Mead on an independent ELBO from five starts; two modes, or one flat top."""
    posterior, log_joint = two_modes(target)
    (fit,) = best_gaussians([posterior], [[DiagonalGaussian(torch.zeros(2), torch.ones(2))]], diagonal=True)

    def neg_elbo(p):
        return -reference.elbo(log_joint, p[:2], np.exp(p[2:]), most=33)[0]

    starts = np.random.default_rng(0).normal(size=(5, 4)) * [1, 1, 0.5, 0.5] - [0, 0, 1, 1]
    best = max(-minimize(neg_elbo, s, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-7}).fun for s in starts)
    assert fit.elbo.value >= best - 1e-4


# --- how fine a lattice has to be -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.99, 1e-2, 1e-4])
def test_a_lattice_may_pass_over_a_mode_where_that_errs_by_a_tenth_of_the_tolerance(share, generator):
    """Against the sum itself: a Gaussian with ``share`` of the mass, on square lattices at any offset."""
    tolerance, widest = 1e-3, 0.0
    modes = [Mode(np.zeros(2), log(share), np.eye(2)), Mode(np.full(2, 50.0), log1p(-share), np.eye(2))]
    for spacing in np.arange(0.5, 6, 0.1):
        node = spacing * (np.arange(-40, 41) + torch.rand(200, 1, generator=generator).double().numpy())
        sums = (spacing * np.exp(-0.5 * node**2) / np.sqrt(2 * np.pi)).sum(1)  # of one axis
        error = share * np.abs(np.outer(sums, sums) - 1).max()
        if resolved(modes, spacing * np.eye(2), tolerance)[0]:
            widest = spacing
            assert error <= 0.15 * tolerance  # higher harmonics add to the tenth
    assert widest >= 1.2  # and it does let lattices pass


@pytest.fixture(scope="module")
def engine_of(digits_2d):
    """The engine of a pixel noise, each once: its grid takes longer to decode than any test of it."""
    decoder = digits_2d.model.generative.decoder
    return cache(lambda std: PosteriorEngine(GenerativeModel(decoder, GaussianLikelihood(std)), nodes=121))


def test_a_broad_posterior_is_read_off_the_grid(digits, engine_of):
    engine, x = engine_of(1.0), digits.test.pixels(slice(0, 8))
    for result in engine.posteriors(x):
        assert result.evaluations < 0.3 * len(result.points)  # decodes: those beyond the box
    field = engine.grid.log_joint(engine.double_model, x.double())
    exact = reference.log_joint_for(engine.model, x[:1])
    np.testing.assert_allclose(field[0].ravel()[::50], exact(engine.grid.points[::50]), atol=5e-5, rtol=0)


# --- what is read off the grid --------------------------------------------------------------------------------


def test_an_elbo_read_off_the_grid_is_that_of_decodes(digits, engine_of, monkeypatch):
    engine = engine_of(1.0)
    posterior = engine.posterior(digits.test.pixels(slice(3, 4)))
    q = DiagonalGaussian(torch.tensor(posterior.mean + 0.2), torch.tensor([0.21, 0.12]).double())
    log_joint = reference.log_joint_for(engine.model, digits.test.pixels(slice(3, 4)))
    low = q.mean.numpy() - 8 * q.std.numpy()
    axes = [np.linspace(a, a + 16 * s, 81) for a, s in zip(low, q.std.numpy(), strict=True)]
    z = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    log_q = q.log_prob(torch.as_tensor(z)).numpy()
    wanted = np.exp(log_q) @ (log_joint(z) - log_q) * np.prod([axis[1] - axis[0] for axis in axes])
    monkeypatch.setattr(posterior, "log_joint", Decoded(posterior.log_joint.model, torch.full((1, 1, 28, 28), np.nan)))
    found = posterior.elbo(q)
    assert abs(found.value - wanted) <= found.error < 1e-3


def test_a_narrow_q_is_not_read_off_the_grid(digits, engine_of):
    posterior = engine_of(1.0).posterior(digits.test.pixels(slice(3, 4)))
    width = 0.02  # less than half the spacing of the nodes
    q = DiagonalGaussian(torch.tensor(posterior.mean), torch.full((2,), width).double())
    log_joint = reference.log_joint_for(posterior.log_joint.model, digits.test.pixels(slice(3, 4)))
    u, w = np.polynomial.hermite_e.hermegauss(24)
    z = posterior.mean + width * np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(w, w).ravel() / w.sum() ** 2
    wanted = weights @ log_joint(z) + log(2 * np.pi * width**2) + 1
    found = posterior.elbo(q)
    assert abs(found.value - wanted) <= found.error < 1e-3


def test_a_hill_that_a_lattice_steps_over_enters_the_error():
    coords = np.stack(np.meshgrid(*[np.arange(-60, 61)] * 2, indexing="ij"), -1).reshape(-1, 2)
    lattice = Lattice(np.zeros(2), 0.1 * np.eye(2), coords, -0.5 * ((0.1 * coords) ** 2).sum(1))
    grid = BaseGrid(np.linspace(-4.5, 4.5, 91), torch.empty(0), np.empty(0))
    broad, needle = Mode(np.zeros(2), 0.0, np.eye(2)), Mode(np.array([1.03, 0.55]), 2.0, 1e6 * np.eye(2))
    nothing = Starts(np.empty((0, 2)), np.empty((0, 2)), np.empty(0), np.empty(0))
    rest = left_out(grid, np.full((91, 91), -1e3), [lattice], [broad, needle], nothing)
    assert rest.places.tolist() == [[1.03, 0.55]]
    assert rest.evidence_error(log(2 * np.pi)) == pytest.approx(log1p(np.exp(2.0) / 1e6), rel=1e-6)


# --- extremes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [1e-3, 1.0, 3.0])
def test_any_pixel_noise_has_an_exact_answer(digits, engine_of, std):
    """From posteriors of a ten-thousandth of the box to such as fill it, against plain quadrature in float64."""
    engine, x = engine_of(std), digits.test.pixels(slice(3, 4))
    posterior = engine.posterior(x)
    log_joint = reference.log_joint_for(engine.model, x)
    narrow = 8 * float(np.sqrt(np.diag(posterior.covariance)).max())
    box = reference.square(posterior.mean, narrow) if std < 1 else reference.square(np.zeros(2), 5.0)
    wanted = reference.log_integral(log_joint, [box], narrow / 30 if std < 1 else 0.1 * max(1, std / 1.5))
    assert abs(posterior.log_evidence - wanted) <= min(1e-3, posterior.log_evidence_error)


def test_posteriors_outside_the_box_are_found(digits, digits_2d, digits_engine):
    """Test images whose mass lies beyond +-4.5, against `python -m benchmarks.reference` of the same weights."""
    found = read_json(RESULTS / "reference-digits-2d.json")
    assert found["digest"] == digits_2d.digest
    rows = [row for row in found["rows"] if np.abs(row["modes"][0][:2]).max() > 4.6]
    assert len(rows) >= 3
    for row in rows:
        posterior = digits_engine.posterior(digits.test.pixels(slice(row["index"], row["index"] + 1)))
        assert posterior.mass_outside(4.5) > 0.5
        error = abs(posterior.log_evidence - row["log_evidence"])
        assert error <= min(1e-3, posterior.log_evidence_error + row["log_evidence_change"])


def test_a_tolerance_of_zero_is_refused(digits_2d):
    with pytest.raises(InputError, match="'tolerance' is 0"):
        PosteriorEngine(digits_2d.model.generative, tolerance=0.0)


def test_every_preview_has_its_regions(digits, digits_engine):
    """Where the mass lies at the box's edge, what is interpolated must not rise beyond it."""
    for x in digits.test.pixels(slice(0, None, 8)):
        preview = digits_engine.preview(x)
        levels = preview.hdr_levels()
        assert (np.diff(levels) < 0).all()
        assert levels[0] < preview.log_density_at_points.max() + 2


@pytest.mark.parametrize("seed", [32, 50, 55, 57])
def test_an_elbo_that_orders_agree_on_is_within_its_error(seed):
    """Against order 40; on these decoders orders 4 and 6 agree thirty times better than 6 and 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 20), nn.BatchNorm1d(20), nn.Tanh(), nn.Dropout(0.5), nn.Linear(20, 9), nn.Sigmoid()]
    decoder = nn.Sequential(*layers, nn.Unflatten(1, (1, 3, 3)))
    model = GenerativeModel(decoder, GaussianLikelihood(0.2)).eval()
    posterior = PosteriorEngine(model, nodes=91).posterior(torch.full((1, 3, 3), 0.4))
    std = np.sqrt(np.diag(posterior.covariance))
    found = posterior.elbo(DiagonalGaussian(torch.as_tensor(posterior.mean), torch.as_tensor(std)))
    u, w = hermite(40)
    log_p = posterior.log_prob(posterior.mean + u * std) + posterior.log_evidence
    wanted = w @ log_p + np.log(2 * np.pi * np.e) + np.log(std).sum()
    assert abs(found.value - wanted) <= found.error < 1e-3
