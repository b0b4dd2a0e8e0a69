"""What is true of one method alone; what holds for all stands in test_laws.py."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import Distribution

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.distributions import DiagonalGaussian, FullGaussian
from gpvae_core.distributions.flow import Flow, GatedAutoregressive, Reflection
from gpvae_core.errors import InputError
from gpvae_core.exact.best_gaussian import best_gaussians
from gpvae_core.generative import BernoulliLikelihood, GaussianLikelihood, GenerativeModel
from gpvae_core.generative.laplace import laplace
from gpvae_core.inference import METHODS
from gpvae_core.inference.base import Batch
from gpvae_core.inference.masked import masked_network
from gpvae_core.inference.newton import searched
from gpvae_core.models import ModelConfig, build
from gpvae_core.training.evaluation import evaluate_bounds
from gpvae_core.training.fit import STATE, TrainingConfig, fit, start_from
from gpvae_core.training.growing import steps
from gpvae_core.training.runs import run
from gpvae_core.training.settling import on_top_of
from gpvae_core.training.transforms import NUMBERS, warped
from tests.cases import Case
from tests.decoders import FOLDED, STD, Features, Linear

METHODS_FROM_A_VAE = [
    "vae",
    "vae-3",
    "fullcov",
    "me",
    "rme",
    "hf",
    "iaf",
    "savae",
    "svi",
    "vlae",
    "gn",
    "gpvae",
    "gpvae-unit",
]


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


# --- starting from a trained VAE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS_FROM_A_VAE)
@pytest.mark.parametrize("source", ["vae", "gpvae-unit"])
def test_each_starts_from_a_vae_or_from_the_one_within_another(method, source, tiny_dataset):
    small = ModelConfig(method=source, hidden=8, channels=(4, 4, 4))
    trained = build(small, seed=5)
    model = build(replace(small, method=method), seed=1)
    start_from(model, trained, tiny_dataset.train)
    x = torch.rand(3, 1, 28, 28)
    wanted, first = trained.infer(x).start, model.infer(x).start
    if isinstance(first, DiagonalGaussian | FullGaussian):
        torch.testing.assert_close(first.mean, wanted.mean)
    else:
        torch.testing.assert_close(first.components[0].mean, wanted.mean)


@pytest.mark.parametrize("flows", [1, 2, 3, 4])
def test_reflections_begin_as_the_plain_vae(flows, tiny_dataset, generator):
    small = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    vae, model = build(small, seed=5), build(replace(small, method="hf", options={"flows": flows}), seed=3)
    start_from(model, vae, tiny_dataset.train)
    x = torch.rand(5, 1, 28, 28, generator=generator)
    z = torch.randn(7, 5, 2, generator=generator).double()
    torch.testing.assert_close(model.infer(x).q.log_prob(z), vae.infer(x).q.log_prob(z))


# --- Gauss-Newton ---------------------------------------------------------------------------------------------------


def test_an_undamped_step_on_a_linear_decoder_is_exact(generator):
    decoder = Linear()
    model = GenerativeModel(decoder, GaussianLikelihood(STD).double())
    x = torch.rand(4, 1, 8, 8, generator=generator).double()
    near = laplace(model, x, torch.randn(4, 2, generator=generator).double())
    q = near.gaussian(searched(model, x, near, near.step()))
    for k in range(4):
        mean, covariance, _ = decoder.closed_form(x[k].numpy(), STD)
        np.testing.assert_allclose(q.mean[k].numpy(), mean, atol=1e-9)
        factor = q.scale_tril[k].numpy()
        np.testing.assert_allclose(factor @ factor.T, covariance, rtol=1e-8)


def test_a_search_never_goes_down_and_ends_at_a_summit(generator):
    model = GenerativeModel(Features(FOLDED[4][0]), GaussianLikelihood(STD)).double()
    simulation = model.simulate(20, generator=generator)
    z = 2 * torch.randn(20, 2, generator=generator).double()
    for _ in range(40):
        near = laplace(model, simulation.images, z)
        z = searched(model, simulation.images, near, near.step())
        before, after = (model.log_joint(simulation.images, place) for place in (near.place, z))
        assert bool((after >= before).all())
    assert float(near.pull().median()) < 1e-6


def test_of_several_starts_the_heaviest_hill_is_kept(digits, digits_2d):
    options = [{"starts": k, "draws": n} for k, n in ((1, 0), (4, 1024))]
    one, many = (build(replace(digits_2d.config, method="gn", options=o), seed=0) for o in options)
    x = digits.test.pixels(slice(0, 40))
    held = []
    for model in (one, many):
        start_from(model, digits_2d.model, digits.train)
        q = model.infer(x).q
        with torch.no_grad():
            height = model.generative.double().log_joint(x.double(), q.mean)
        held.append(height + torch.log(q.scale_tril.diagonal(dim1=-2, dim2=-1)).sum(-1))
    assert bool((held[1] >= held[0] - 0.1).all()) and float((held[1] - held[0]).mean()) > 0.1


def test_a_search_without_the_encoder_asks_no_network_and_its_first_look_is_free(digits, digits_2d, monkeypatch):
    options = {"starts": 2, "draws": 512, "steps": 2, "encoder": False}
    model = build(replace(digits_2d.config, method="gn", options=options), seed=0)
    start_from(model, digits_2d.model, digits.train)
    x = digits.test.pixels(slice(0, 8))
    model.infer_as_it_is(x)  # the draws are decoded
    decoded: list[int] = []
    model.generative.decoder[0].register_forward_hook(lambda _, given, out: decoded.append(len(out)))
    monkeypatch.setattr(model.encoder, "trunk_features", None)
    inference = model.infer_as_it_is(x)
    assert sum(decoded) <= 8 * 5  # a look of 1 + d decodes after the first step, one after the second, some halvings
    near = laplace(model.generative, x, inference.start.mean)
    expected = near.gaussian(near.place)
    torch.testing.assert_close(inference.start.scale_tril, expected.scale_tril, rtol=1e-3, atol=1e-6)
    height = model.generative.log_joint(x, torch.stack([inference.start.mean, inference.q.mean]))
    assert bool((height[1] > height[0]).all())


def test_a_transformation_of_nothing_changes_nothing(generator):
    x = torch.rand(5, 1, 28, 28, generator=generator).double()
    torch.testing.assert_close(warped(x, torch.zeros(5, NUMBERS)), x)
    draws = torch.zeros(5, NUMBERS)
    draws[:, 4] = 1 / (14 * 0.15)  # one pixel: 28 of them are two half widths
    torch.testing.assert_close(warped(x, draws)[..., :-1], x[..., 1:])


# --- SVI, SA-VAE ----------------------------------------------------------------------------------------------------


def test_svi_is_the_floor_of_its_family(digits, digits_2d, digits_engine):
    model = build(replace(digits_2d.config, method="svi"), seed=0)
    start_from(model, digits_2d.model, digits.train)
    x = digits.test.pixels(slice(0, 4))
    q = model.infer(x).q
    posteriors = digits_engine.posteriors(x)
    fits = best_gaussians(posteriors, [[digits_2d.infer(x).start[k]] for k in range(4)], diagonal=True)
    for k, (exact, best) in enumerate(zip(posteriors, fits, strict=True)):
        below = best.elbo.value - best.short - exact.elbo(q[k]).value  # short: other starts did better
        assert -1e-2 < below < 1e-2, k


def test_steps_of_savae_raise_the_elbo_where_they_suit_the_curvature(digits, digits_2d, digits_engine):
    """At the paper's rate of 1e-3 plain gradients overshoot: these posteriors are a hundredth of the prior wide."""
    x = digits.test.pixels(slice(0, 8)).double()
    posteriors = digits_engine.posteriors(x.float())
    bounds = {}
    for name, options in {"curved": {"steps": 8}, "paper": {"steps": 8, "rate": 1e-3, "curved": False}}.items():
        model = build(replace(digits_2d.config, method="savae", options=options), seed=0)
        start_from(model, digits_2d.model, digits.train)
        model = model.double()
        with torch.no_grad():
            path = model.encoder.walk(x, model.generative, model.encoder.first(x, model.generative))
        bounds[name] = np.array([[exact.elbo(q[k]).value for q in path] for k, exact in enumerate(posteriors)])
    curved, paper = bounds["curved"], bounds["paper"]
    gap = np.array([exact.log_evidence for exact in posteriors]) - curved[:, 0]
    assert (np.diff(curved.mean(0)) > 0).all()
    assert np.median((curved[:, -1] - curved[:, 0]) / gap) > 0.5
    assert np.median(paper[:, -1] - paper[:, 0]) < 0


def test_steps_of_savae_end_where_the_climb_does_if_all_coordinates_hang_together(generator):
    """All columns of this decoder are nearly one: a step in 30 coordinates at once goes 30 times too far."""
    dim, std = 30, 0.1
    columns = 0.3 * (torch.randn(64, 1, generator=generator) + 0.1 * torch.randn(64, dim, generator=generator)).double()
    decoder = torch.nn.Sequential(torch.nn.Linear(dim, 64, bias=False), torch.nn.Unflatten(1, (1, 8, 8))).double()
    decoder[0].weight = torch.nn.Parameter(columns, requires_grad=False)
    model = GenerativeModel(decoder, GaussianLikelihood(std).double(), dim)
    precision = columns.T @ columns / std**2 + torch.eye(dim).double()
    x = torch.randn(4, 64, generator=generator).double()
    mean = torch.linalg.solve(precision, columns.T @ x.T / std**2).T
    start = DiagonalGaussian(torch.zeros_like(mean), (precision.diagonal() ** -0.5).expand_as(mean))
    encoder = build(ModelConfig(method="savae", latent_dim=dim, options={"steps": 8}), seed=0).encoder
    with torch.no_grad():
        path = encoder.walk(x.reshape(4, 1, 8, 8), model, start)
    far = [torch.einsum("bi,ij,bj->b", q.mean - mean, precision, q.mean - mean) for q in path]
    for before, after in pairwise(far):
        assert (after < before).all()


def test_savae_steps_on_the_image_itself_whatever_its_encoder_is_shown(digits, digits_2d):
    model = digits_2d.with_method("savae").model
    x = digits.test.pixels(slice(0, 20))
    seen = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.encoder.objective(
            Batch(x, seen, 20), model.generative, generator=torch.Generator().manual_seed(1)
        )
        start = model.encoder.first(seen, model.generative)
        q = model.encoder.walk(x, model.generative, start)[-1]
        z, log_q = q.rsample_with_log_prob(generator=torch.Generator().manual_seed(1))
        wanted = (model.generative.log_joint(x, z) - log_q).mean()
    torch.testing.assert_close(found.value, wanted, rtol=1e-3, atol=1.0)


def test_savae_trains_through_many_steps_without_exploding():
    """Sixteen steps under narrow noise: every step multiplies what comes back through it."""
    config = ModelConfig(
        method="savae", image_shape=(1, 8, 8), channels=(4, 8), hidden=12, std=0.1, options={"steps": 16}
    )
    model = build(config, seed=0)
    with torch.no_grad():
        for p in model.generative.decoder.parameters():
            p.mul_(3.5)
    model, x = model.double(), torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    climbed = model.encoder.objective(Batch(x, x, 16), model.generative, generator=torch.Generator().manual_seed(0))
    climbed.value.backward()
    assert float(torch.stack([p.grad.norm() for p in model.encoder.parameters()]).norm()) < 10_000  # was 10,000,000
    with torch.no_grad():
        by_steps = model.encoder.walk(x, model.generative, model.encoder.first(x, model.generative))[-1]
    torch.testing.assert_close(model.encoder.infer(x, model.generative).q.mean.detach(), by_steps.mean)


# --- mixtures -------------------------------------------------------------------------------------------------------


def test_a_mixture_of_one_is_the_vae(tiny_dataset):
    small = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    vae = build(small, seed=5)
    x, z = torch.rand(3, 1, 28, 28), torch.randn(7, 3, 2).double()
    for method, count in (("me", 1), ("rme", 1), ("misvae", 1), ("rme", 3)):
        model = build(replace(small, method=method, options={"components": count}), seed=1)
        start_from(model, vae, tiny_dataset.train)
        torch.testing.assert_close(model.infer(x).q.log_prob(z), vae.infer(x).q.log_prob(z))


@pytest.mark.parametrize("decoder", ["digits-2d", None], ids=["on a decoder", "with its own"])
def test_a_component_more_never_takes_the_validation_elbo_down(decoder, digits, tmp_path):
    """One at a time from a VAE, each run from the one before: at worst its start is kept, which is the same mixture."""
    few = replace(digits, train=digits.train.take(np.arange(200)), validation=digits.validation.take(np.arange(20)))
    small = load_checkpoint(decoder).config if decoder else ModelConfig(hidden=8, channels=(4, 4, 4))
    config = replace(small, method="rme", options={"components": 3})
    training = TrainingConfig(
        dataset="digits", epochs=6, learning_rate=3e-4, decoder=decoder, initial=decoder, encoder_noise=0.1
    )
    epochs = list(run(tmp_path / "run", few, config, training))
    assert len(epochs) == 6
    before = sorted((tmp_path / "run/steps").iterdir())
    assert [folder.name for folder in before] == [f"components-{n}" for n in ([2] if decoder else [1, 2])]
    kept = [load_checkpoint(folder) for folder in (*before, tmp_path / "run")]
    assert [c.config.method for c in kept] == ["vae"] * (not decoder) + ["rme", "rme"]
    kept = [load_checkpoint(decoder).with_method("vae"), *kept] if decoder else kept
    first, second, third = (evaluate_bounds(c.model, few.validation, seed=0)["elbo"].values.mean() for c in kept)
    assert first <= second + 1e-9 and second <= third + 1e-9
    if decoder:
        assert kept[-1].decoder_digest == kept[0].decoder_digest


def test_a_growing_mixture_that_was_cut_off_goes_on_to_the_same_weights(tiny_dataset, tmp_path):
    config = ModelConfig(method="rme", hidden=8, channels=(4, 4, 4), options={"components": 3})
    training = TrainingConfig(dataset="tiny", epochs=6, batch_size=8)
    list(run(tmp_path / "whole", tiny_dataset, config, training))
    for _ in zip(run(tmp_path / "cut", tiny_dataset, config, training), range(2), strict=False):
        pass  # in the run of two components
    assert not (tmp_path / "cut" / STATE).exists()
    for _ in zip(run(tmp_path / "cut", tiny_dataset, config, training, resume=True), range(3), strict=False):
        pass  # in the last
    list(run(tmp_path / "cut", tiny_dataset, config, training, resume=True))
    whole, cut = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_mixture_goes_on_from_as_many_components_as_its_start_has(tiny_dataset, tmp_path):
    config = ModelConfig(method="rme", hidden=8, channels=(4, 4, 4), options={"components": 2})
    list(run(tmp_path / "two", tiny_dataset, config, TrainingConfig(dataset="tiny", epochs=2)))
    four = replace(config, options={"components": 4})
    training = TrainingConfig(dataset="tiny", epochs=5, initial=str(tmp_path / "two"))
    folders = [(step.folder.name, step.training.epochs) for step in steps(tmp_path / "four", four, training)]
    assert folders == [("components-3", 2), ("four", 3)]
    (alone,) = steps(tmp_path / "two", config, training)
    assert alone.folder == tmp_path / "two" and alone.training == training


@pytest.mark.parametrize("method", ["me", "rme"])
def test_draws_part_the_twins_that_a_mixture_goes_on_with(method, digits, tmp_path):
    few = replace(digits, train=digits.train.take(np.arange(100)), validation=digits.validation.take(np.arange(20)))
    config = replace(load_checkpoint("digits-2d").config, method=method, options={"components": 2})
    one = build(replace(config, options={"components": 1}), seed=0)
    model = build(config, seed=1)
    start_from(model, one, few.train)
    x = digits.test.pixels(slice(0, 20))
    weights = model.infer(x).q.log_weights.exp()
    torch.testing.assert_close(weights, torch.full((20, 2), 0.5, dtype=torch.float64))
    list(fit(model, config, TrainingConfig(dataset="digits", epochs=1), few, tmp_path / "run"))
    parts = model.infer(x).q.components
    assert float((parts[0].mean - parts[1].mean).abs().min()) > 0


def test_a_start_that_no_epoch_betters_is_kept_and_resumed(digits, tmp_path):
    few = replace(digits, train=digits.train.take(np.arange(200)), validation=digits.validation.take(np.arange(50)))
    config = replace(load_checkpoint("digits-2d").config, method="vae", options={})
    training = TrainingConfig(
        dataset="digits", epochs=2, decoder="digits-2d", initial="digits-2d", learning_rate=0.02, encoder_noise=0.1
    )
    progress = next(run(tmp_path / "run", few, config, training))
    assert progress.best_epoch == 0 and progress.best_bound > progress.validation["elbo"]
    *_, last = run(tmp_path / "run", few, config, training, resume=True)
    kept = load_checkpoint(tmp_path / "run")
    assert last.epoch == 2 and kept.training["best_epoch"] == 0
    x = digits.test.pixels(slice(0, 3))
    assert torch.equal(kept.infer(x).start.mean, load_checkpoint("digits-2d").infer(x).start.mean)


def test_three_trunks_begin_as_the_one_that_they_start_from(tiny_dataset):
    small = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))
    vae, model = build(small, seed=5), build(replace(small, method="vae-3"), seed=1)
    start_from(model, vae, tiny_dataset.train)
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(model.infer(x).q.mean, vae.infer(x).q.mean)
    torch.testing.assert_close(model.infer(x).q.std, vae.infer(x).q.std)
    model.encoder.infer(x, model.generative).q.mean.sum().backward()
    assert bool(model.encoder.head.weight.grad[0, 8:].any())  # unheard, but heard from the first step on


@pytest.mark.parametrize("method", ["me", "rme"])
def test_no_component_dies_and_weights_sum_to_one(method, digits, digits_2d, tmp_path):
    few = replace(digits, train=digits.train.take(np.arange(400)), validation=digits.validation.take(np.arange(50)))
    config = replace(digits_2d.config, method=method, options={"components": 3})
    model = build(config, seed=0)
    start_from(model, digits_2d.model, few.train)
    training = TrainingConfig(dataset="digits", epochs=2, decoder="digits-2d")
    list(fit(model, config, training, few, tmp_path / "run"))
    weights = model.infer(digits.test.pixels(slice(0, 200))).q.log_weights.exp()
    torch.testing.assert_close(weights.sum(-1), torch.ones(200).double())
    assert float(weights.mean(0).min()) > 0.03


# --- flows ----------------------------------------------------------------------------------------------------------


def test_a_reflection_keeps_volume_and_is_its_own_inverse(generator):
    layer = Reflection(torch.randn(5, 3, generator=generator).double())
    z = torch.randn(4, 5, 3, generator=generator).double()
    there, log_det = layer.forward(z)
    torch.testing.assert_close(layer.inverse(there)[0], z)
    torch.testing.assert_close(there.norm(dim=-1), z.norm(dim=-1))
    assert float(log_det.abs().max()) == 0 and float((there - z).abs().max()) > 0.1


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_masked_network_is_triangular_and_every_output_hears_the_context(dim, generator):
    network = masked_network(dim, 4, 16, 1.5).double()
    inputs = torch.randn(dim + 4, generator=generator).double()
    jacobian = torch.autograd.functional.jacobian(network, inputs)
    for half in jacobian.split(dim):  # shifts, gates
        assert float(torch.triu(half[:, :dim]).abs().max()) == 0
        assert bool((torch.tril(half[:, :dim], -1) != 0).sum() == dim * (dim - 1) / 2)
        assert bool((half[:, dim:] != 0).all())


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_an_autoregressive_flow_comes_back_and_its_log_det_is_the_jacobians(dim, generator):
    context = torch.randn(3, 4, generator=generator).double()
    layers = tuple(GatedAutoregressive(context, masked_network(dim, 4, 16, 1.5).double(), k % 2 == 1) for k in (0, 1))
    start = DiagonalGaussian(*(torch.rand(3, dim, generator=generator).double() + 0.5 for _ in range(2)))
    q = Flow(start, layers)
    u = torch.randn(6, 3, dim, generator=generator).double()
    z, log_det = q.transport(u)
    back = z
    for layer in reversed(layers):
        back = layer.inverse(back)[0]
    torch.testing.assert_close(back, start.transport(u)[0], atol=1e-9, rtol=0)
    for k in range(3):
        jacobian = torch.autograd.functional.jacobian(lambda v, k=k: q[k].transport(v[None])[0][0], u[0, k])
        torch.testing.assert_close(log_det[0, k], torch.linalg.slogdet(jacobian).logabsdet)
    single = q.to(torch.float32)  # the network follows
    assert single.log_prob(z.float()).dtype == torch.float32


def test_zuko_leaves_torchs_checks_of_distributions_as_they_were():
    masked_network(2, 3, 8, 0.0)
    assert Distribution._validate_args is True


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options", "sentence"),
    [
        ("iaf", {"flows": 0}, "flows must be at least 1, but it is 0"),
        ("hf", {"components": 2}, "this method has no option 'components'; it has flows"),
        ("me", {"components": 0}, "components must be at least 1, but it is 0"),
        ("misvae", {"components": -1}, "components must be at least 1, but it is -1"),
        ("vae", {"trunks": 0}, "trunks must be at least 1, but it is 0"),
        ("gpvae", {"trunks": 0}, "trunks must be at least 1, but it is 0"),
        ("gn", {"starts": 0}, "starts must be at least 1, but it is 0"),
        ("gn", {"draws": -1}, "draws must be at least 0, but it is -1"),
        ("gn", {"draws": 0}, "there are 1 places to start from, the encoder's and 0 draws; choose at most"),
        ("savae", {"draws": 3}, "give an even number, not 3"),
        ("savae", {"rate": -1.0}, "rate must be above 0 and at most 100, but it is -1"),
        ("savae", {"rate": 1e30}, "rate must be above 0 and at most 100, but it is 1e"),
        ("savae", {"rate": float("nan")}, "rate must be above 0 and at most 100, but it is nan"),
        ("savae", {"steps": 0}, "steps must be at least 1, but it is 0"),
        ("rme", {"bound": -5.0}, "bound must be above 0 and at most 1e"),
        ("svi", {"steps": 0}, "steps must be at least 1, but it is 0"),
    ],
)
def test_an_option_that_does_not_fit_is_one_sentence(method, options, sentence):
    with pytest.raises(InputError, match=sentence):
        build(ModelConfig(method=method, hidden=8, channels=(4, 4, 4), options=options), seed=0)


def test_ways_to_train_an_encoder_alone_need_a_decoder():
    for name in ("augment", "dreams"):
        with pytest.raises(InputError, match=f"--{name} trains an encoder for a decoder that stays"):
            TrainingConfig(dataset="digits", **{name: 1.0})
        with pytest.raises(InputError, match=f"'{name}' is -1"):
            TrainingConfig(dataset="digits", decoder="digits-2d", **{name: -1.0})


@pytest.mark.parametrize("way", ["augment", "dreams"])
def test_they_train_and_resume_to_the_same_weights(way, tmp_path, digits, digits_2d):
    few = replace(digits, train=digits.train.take(np.arange(200)), validation=digits.validation.take(np.arange(30)))
    training = TrainingConfig(dataset="digits", epochs=2, decoder="digits-2d", **{way: 1.0})
    config = replace(digits_2d.config, method="vae", options={})
    ends = []
    for cut in (False, True):
        for resume in (False, True) if cut else (False,):
            model = build(config, seed=0)
            start_from(model, digits_2d.model, few.train)
            epochs = fit(model, config, training, few, tmp_path / f"{cut}", resume=resume)
            last = next(epochs) if cut and not resume else list(epochs)[-1]
        assert last.epoch == 2
        ends.append(model.encoder.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ends[0].values(), ends[1].values(), strict=True))


@pytest.mark.parametrize("method", ["vae", "savae", "svi", "gn", "gpvae", "rme"])
def test_dreams_teach_every_method(method, tiny_dataset):
    model = build(ModelConfig(method=method, hidden=8, channels=(4, 4, 4)), seed=0)
    with torch.enable_grad():
        q = model.encoder.taught(tiny_dataset.train.pixels(slice(0, 3)), model.generative)
        assert q.log_prob(torch.zeros(3, 2)).sum().requires_grad


def test_transformed_images_stay_within_the_support(generator):
    """An image turned a little is grey at its edges: of binary pixels that is a draw's mean, not an image."""
    x = torch.rand(2, 1, 8, 8, generator=generator)
    assert torch.equal(GaussianLikelihood(0.1).admitted(x), x)
    drawn = torch.stack([BernoulliLikelihood().admitted(x, generator=generator) for _ in range(400)])
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert float((drawn.mean(0) - x).abs().max()) < 0.12  # five standard errors


def test_every_method_says_where_it_is_from():
    assert all(method.source for method in METHODS.values())


@pytest.mark.parametrize("dim", [1, 3])
@pytest.mark.parametrize("method", ["fullcov", "me", "rme", "hf", "iaf", "savae", "svi", "vlae", "gn"])
def test_any_number_of_latent_dimensions(method, dim):
    config = replace(Case(method).config(), latent_dim=dim)
    model = build(config, seed=0)
    q = model.infer(torch.rand(2, 1, 8, 8)).q
    z, log_q = q.rsample_with_log_prob(3, generator=torch.Generator().manual_seed(0))
    assert z.shape == (3, 2, dim)
    torch.testing.assert_close(q.log_prob(z), log_q, atol=1e-8, rtol=0)


def test_an_engine_takes_a_flow_as_any_q(digits_engine, digits):
    exact = digits_engine.posteriors(digits.test.pixels(slice(0, 1)))[0]
    mode = exact.modes[0]
    start = DiagonalGaussian(torch.as_tensor(mode.location), torch.as_tensor(np.sqrt(np.diag(exact.covariance))))
    still = Flow(start, (Reflection(torch.tensor([1.0, 0.0]).double()), Reflection(torch.tensor([1.0, 0.0]).double())))
    plain, flowed = exact.kl_from(start), exact.kl_from(still)
    assert abs(plain.value - flowed.value) <= plain.error + flowed.error


@pytest.mark.parametrize("name", ["gn", "vlae", "svi"])
def test_a_decoder_learns_from_the_encoders_own_bound_as_much_as_from_the_refined_one(name):
    options = {"draws": 0, "starts": 1} if name == "gn" else {}
    model = build(ModelConfig(name, latent_dim=3, channels=(), hidden=8, options=options), seed=1)
    x = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    parts = model.encoder.objective(Batch(x, x, 4), model.generative, generator=torch.Generator().manual_seed(3)).parts
    generator, start = torch.Generator().manual_seed(3), model.encoder.first(x, model.generative)
    q = model.encoder.refine(x, model.generative, start.detach())[-1]
    bounds = []
    for own in (start, q):
        z = own.rsample_with_log_prob(generator=generator)[0][0]
        fit_of = model.generative.log_likelihood(x, z)
        bounds.append((fit_of - own.kl_to_prior()).mean())
    wanted = (bounds[0] + bounds[1]) / 2
    torch.testing.assert_close(torch.stack(list(parts.values())).sum(), wanted, rtol=1e-5, atol=1e-3)
    weights = list(model.generative.parameters())
    found = torch.autograd.grad(torch.stack(list(parts.values())).sum(), weights, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(wanted, weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_process_is_put_on_a_plain_vae_alone(digits, digits_2d):
    """On a search it would silently be without the search."""
    search = digits_2d.with_method("gn")
    with pytest.raises(InputError, match="this model's method is gn; give a vae"):
        on_top_of(search.model, search.config, digits.train)
