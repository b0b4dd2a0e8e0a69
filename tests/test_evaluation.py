"""Averages over data sets: exact ELBOs against brute force, intervals of drawn ones, what IWAE leaves open."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.commands import options
from gpvae_core.data import Dataset, ImageSet
from gpvae_core.exact import PosteriorEngine
from gpvae_core.inference.bounds import importance_weighted_bound
from gpvae_core.models import ModelConfig, build
from gpvae_core.training import evaluation
from gpvae_core.training.evaluation import evaluate_bounds, evaluate_iwae, iwae_bound
from gpvae_core.training.fit import TrainingConfig, fit
from tests import reference

SMALL = ModelConfig(hidden=8, channels=(4, 4, 4))
SIDE = 16  # of the images where their size is not the point: they cost a third of 28x28


@pytest.fixture(scope="module")
def near_constant(tmp_path_factory):
    """A checkpoint trained on images that are all nearly equal, and these: its ELBO varies less than one draw of it."""
    rng = np.random.default_rng(0)
    images = ImageSet((100 + rng.integers(0, 3, (60, 28, 28))).astype(np.uint8))
    folder = tmp_path_factory.mktemp("near-constant")
    data = Dataset("near-constant", images, images, images.take(np.arange(4)))
    for _ in fit(build(SMALL, seed=0), SMALL, TrainingConfig("x", epochs=60, batch_size=20), data, folder):
        pass
    return load_checkpoint(folder), data


def brute_force_elbos(model, images):
    """The mean ELBO of both encoders over all images by plain float64 quadrature, and the largest last change."""
    model = model.requires_grad_(False)
    encoding, found = model.infer(images.pixels()), {}
    for name, q in (("elbo", encoding.q), ("elbo_base", encoding.start)):
        each = [
            reference.elbo(
                reference.log_joint_for(model.generative, images.pixels(slice(k, k + 1))),
                q.mean[k].detach().numpy(),
                q.std[k].detach().numpy(),
                fewest=17,
            )
            for k in range(len(images))
        ]
        found[name] = (float(np.mean([value for value, _ in each])), max(change for _, change in each))
    return found


def test_the_elbo_of_near_constant_images_is_exact_and_below_the_evidence(near_constant, monkeypatch):
    checkpoint, data = near_constant
    data = replace(data, test=data.test.take(np.arange(2)))
    monkeypatch.setattr(options, "data_of", lambda *_: data)
    command = ["evaluate", "--checkpoint", str(checkpoint.folder), "--samples", "5"]
    report = json.loads(CliRunner().invoke(cli, command, catch_exceptions=False).stdout)
    posteriors = PosteriorEngine(checkpoint.model.generative, nodes=91).posteriors(data.test.pixels())
    evidence, error = (np.mean([getattr(p, n) for p in posteriors]) for n in ("log_evidence", "log_evidence_error"))
    assert report["elbo_method"] == "exact quadrature"
    for name, (value, change) in brute_force_elbos(checkpoint.model, data.test).items():
        assert report[f"{name}_error"] < 0.01
        assert abs(report[name] - value) <= report[f"{name}_error"] + change
        assert report[name] <= evidence + error + report[f"{name}_error"]


def test_draws_and_quadrature_agree_on_near_constant_images(near_constant):
    """float32's sum over the pixels errs by 7e-4 nats there, and alike for all images: many times the draws' error."""
    checkpoint, data = near_constant
    exact = evaluate_bounds(checkpoint.model, data.test, seed=0)["elbo"]
    drawn = evaluation._drawn(checkpoint.model, data.test.pixels(), 4_000, torch.Generator().manual_seed(0))["elbo"]
    error = float(drawn[1].square().sum().sqrt()) / len(data.test)
    assert error < 1e-4
    assert abs(float(drawn[0].mean() - exact.values.mean())) < 3 * error + exact.error


def test_a_decoder_with_kinks_is_integrated_within_the_error_that_is_stated():
    kinked = ModelConfig(image_shape=(1, SIDE, SIDE), hidden=8, channels=(4, 4, 4), activation="relu", std=0.05)
    model = build(kinked, seed=1)
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8))
    bounds = evaluate_bounds(model, images, seed=0)
    for name, (value, change) in brute_force_elbos(model, images).items():
        assert abs(float(bounds[name].values.mean()) - value) <= bounds[name].error + change
        assert bounds[name].error < evaluation.TOLERANCE


def test_with_three_latents_the_interval_covers_the_long_run_mean(monkeypatch):
    """Sixty seeds: as many standard errors off as a normal variable is; the error over images is another thing."""
    three_d = ModelConfig(image_shape=(1, SIDE, SIDE), hidden=8, channels=(4, 4, 4), latent_dim=3)
    model, rng = build(three_d, seed=0), np.random.default_rng(0)
    images = ImageSet((100 + rng.integers(0, 3, (10, SIDE, SIDE))).astype(np.uint8))
    long_run = evaluate_bounds(model, images, seed=1000)
    monkeypatch.setattr(evaluation, "DRAWS_IN_ALL", 1_000)
    for name in ("elbo", "elbo_base"):
        assert long_run[name].method == "2000 draws per image"
    runs = [evaluate_bounds(model, images, seed=seed) for seed in range(60)]
    for name, truth in long_run.items():
        z = np.array([(float((r[name].values - truth.values).mean())) / r[name].error for r in runs])
        assert (np.abs(z) < 1.96).sum() >= 53  # 57 expected; fewer in half a percent of all trials
        assert 0.75 < np.sqrt((z**2).mean()) < 1.3
        assert truth.error < 0.3 * runs[0][name].error


def test_draws_are_enough_for_few_images_and_bounded_for_many(monkeypatch):
    seen = []

    def drawn(model, x, draws, generator):
        seen.append(draws)
        return {"elbo": torch.zeros(2, len(x))}

    monkeypatch.setattr(evaluation, "_drawn", drawn)
    model = build(ModelConfig(hidden=8, channels=(4, 4, 4), latent_dim=3), seed=0)
    for count, draws in ((1, 20_000), (100, 200), (1_000, 64)):
        evaluate_bounds(model, ImageSet(np.zeros((count, 28, 28), np.uint8)), seed=0)
        assert set(seen) == {draws}
        seen.clear()


def test_a_plain_vae_has_one_elbo():
    model = build(ModelConfig(method="vae", hidden=8, channels=(4, 4, 4)), seed=0)
    bounds = evaluate_bounds(model, ImageSet(np.zeros((2, 28, 28), np.uint8)), seed=0)
    assert list(bounds) == ["elbo"]


def test_iwae_states_what_its_draws_leave_open(digits, digits_2d):
    """The spread of forty seeds, and no more than twice that: the jackknife errs upwards."""
    images = digits.test.take(np.arange(8))
    runs = [iwae_bound(digits_2d.model, images, samples=30, seed=seed) for seed in range(40)]
    spread = np.std([float(r.values.mean()) for r in runs], ddof=1)
    assert 0.8 * spread < np.sqrt(np.mean([r.error**2 for r in runs])) < 2 * spread
    assert iwae_bound(digits_2d.model, images, samples=1, seed=0).error is None


def test_iwae_is_the_bound_of_the_same_draws_as_before(digits, digits_2d):
    images, generator = digits.test.take(np.arange(6)), torch.Generator().manual_seed(4)
    x, model = images.pixels(), digits_2d.model
    with torch.no_grad():
        plain = importance_weighted_bound(model.generative, x, model.encoder.infer(x, None).q, 20, generator=generator)
    torch.testing.assert_close(evaluate_iwae(model, images, samples=20, seed=4), plain.double(), rtol=1e-6, atol=1e-4)


def test_the_jackknife_survives_one_weight_that_is_all_of_the_total():
    log_weights = torch.tensor([[0.0, 0.0], [-500.0, -1.0], [-501.0, -2.0]], dtype=torch.float64)
    errors = evaluation._jackknife(log_weights)
    leave_one_out = [
        [float(torch.logsumexp(log_weights[[i for i in range(3) if i != k], b], 0)) for k in range(3)] for b in (0, 1)
    ]
    for error, values in zip(errors, leave_one_out, strict=True):
        assert float(error) == pytest.approx(np.sqrt(2 / 3 * ((values - np.mean(values)) ** 2).sum()), rel=1e-12)
