"""The Laplace gap against closed forms; the learned scores: what they learn, where they are kept, what they refuse."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import spearmanr
from torch.distributions import MultivariateNormal, kl_divergence

from gpvae_core.checkpoints import heads_origin, load_checkpoint, save_checkpoint
from gpvae_core.cli import cli
from gpvae_core.data import ImageSet, bernoulli_draw
from gpvae_core.diagnostics.gap_heads import GapHead, _fit, fit_heads
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.laplace import laplace
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood
from gpvae_core.models import build
from gpvae_core.paths import HEADS, MANIFEST, PRETRAINED, WEIGHTS
from gpvae_core.tables import write_table
from tests.decoders import STD, Linear


def test_for_a_linear_decoder_the_laplace_gap_is_the_exact_kl(generator):
    x = torch.rand(4, 1, 8, 8, generator=generator).double()
    q = DiagonalGaussian(
        0.3 * torch.randn(4, 2, generator=generator).double(), 0.1 + torch.rand(4, 2, generator=generator).double()
    )
    decoder = Linear()
    near = laplace(GenerativeModel(decoder, GaussianLikelihood(STD).double()), x, q.mean)
    for k, gap in enumerate(near.gap(q.scale_tril)):
        mean, covariance, _ = decoder.closed_form(x[k].numpy(), STD)
        exact = MultivariateNormal(torch.tensor(mean), torch.tensor(covariance))
        own = MultivariateNormal(q.mean[k], torch.diag(q.std[k] ** 2))
        torch.testing.assert_close(gap, kl_divergence(own, exact), rtol=1e-6, atol=1e-8)


def test_the_gap_of_a_gaussian_that_is_no_product_is_its_own(generator):
    x, decoder = torch.rand(4, 1, 8, 8, generator=generator).double(), Linear()
    factor = torch.randn(4, 2, 2, generator=generator).double().tril()
    factor.diagonal(dim1=-2, dim2=-1).abs_().add_(0.1)
    mean = 0.3 * torch.randn(4, 2, generator=generator).double()
    near = laplace(GenerativeModel(decoder, GaussianLikelihood(STD).double()), x, mean)
    for k, gap in enumerate(near.gap(factor)):
        there, covariance, _ = decoder.closed_form(x[k].numpy(), STD)
        exact = MultivariateNormal(torch.tensor(there), torch.tensor(covariance))
        own = MultivariateNormal(mean[k], scale_tril=factor[k])
        torch.testing.assert_close(gap, kl_divergence(own, exact), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("likelihood", [GaussianLikelihood(0.3).double(), BernoulliLikelihood()])
def test_slope_and_precision_are_the_derivatives_of_the_log_joint(likelihood, generator):
    """The slope by autograd; the precision where x = g(z), where Gauss-Newton and the expected Hessian agree."""
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 30), torch.nn.Tanh(), torch.nn.Linear(30, 16), torch.nn.Sigmoid())
    model = GenerativeModel(decoder.double(), likelihood)
    z = torch.randn(3, 2, generator=generator).double()
    x = torch.bernoulli(model.decode(z), generator=generator).detach()
    near = laplace(model, x, z)
    for k in range(3):
        point = z[k : k + 1].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.log_joint(x[k : k + 1], point).sum(), point)
        torch.testing.assert_close(near.slope[k], slope[0])
        jacobian = torch.autograd.functional.jacobian(lambda p: model.decode(p)[0], z[k : k + 1])[:, 0]
        g = model.decode(z[k : k + 1])[0].detach()
        weight = 1 / (g * (1 - g)) if isinstance(likelihood, BernoulliLikelihood) else 1 / 0.3**2 * torch.ones_like(g)
        wanted = jacobian.T @ torch.diag(weight) @ jacobian + torch.eye(2)
        torch.testing.assert_close(near.precision[k], wanted.double(), rtol=1e-5, atol=1e-6)


def test_a_head_learns_a_smooth_function_in_logarithms(generator):
    features = 3 + 2 * torch.randn(1500, 5, generator=generator)
    log_gap = torch.sin(features[:, 0]) + 0.3 * features[:, 1]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        head = GapHead(5)
        _fit(head, features[:1000], log_gap[:1000])
    head.eval()
    with torch.no_grad():
        error = torch.log(head(features[1000:])) - log_gap[1000:]
    assert float(error.abs().mean()) < 0.25 * float(log_gap.std())


def test_fitting_twice_gives_the_same_last_digit_and_leaves_the_global_stream(digits, digits_2d):
    x = digits.validation.pixels(slice(0, 40))
    kl = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, two = (fit_heads(digits_2d.model, x, digits_2d.model.infer(x), kl, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(InputError, match="a KL that is not positive"):
        fit_heads(digits_2d.model, x, digits_2d.model.infer(x), kl - 0.2, seed=3)


@pytest.mark.parametrize("name", read_json(MANIFEST))
def test_a_shipped_checkpoint_that_is_saved_again_opens_as_it_was(name, tmp_path):
    opened = load_checkpoint(name)
    save_checkpoint(tmp_path, opened.model, opened.config, opened.training)
    again = load_checkpoint(tmp_path)
    assert again.digest == opened.digest == sha256((PRETRAINED / name / WEIGHTS).read_bytes()).hexdigest()
    assert (again.config, again.training) == (opened.config, opened.training)
    before, after = (c.model.state_dict() for c in (opened, again))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert (again.model.gap_heads is None) == (not (PRETRAINED / name / HEADS).exists())
    images = ImageSet(np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8))
    if opened.config.likelihood == "bernoulli":
        images = bernoulli_draw(images, 0)
    one, other = (score_images(c.model, images) for c in (opened, again))
    assert list(one) == list(other) and ("predicted_gap" in one) == (PRETRAINED / name / HEADS).exists()
    for score in one:
        np.testing.assert_array_equal(one[score], other[score])


def test_learned_scores_are_no_part_of_the_model(mnist_2d):
    model, bare = mnist_2d.model, build(mnist_2d.config, seed=0)
    assert model.gap_heads is not None and list(model.state_dict()) == list(bare.state_dict())
    assert len(list(model.modules())) == len(list(bare.modules()))
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in bare.named_parameters()]


def test_scores_are_not_kept_with_weights_that_they_were_not_fitted_to(tmp_path):
    opened = load_checkpoint("mnist-2d")
    save_checkpoint(tmp_path, opened.model, opened.config, opened.training)
    with torch.no_grad():
        next(opened.model.generative.parameters()).mul_(1.01)
    save_checkpoint(tmp_path, opened.model, opened.config, opened.training)  # over the scores of the weights before
    again = load_checkpoint(tmp_path)
    assert again.model.gap_heads is None and again.digest != opened.digest
    with pytest.raises(InputError, match="no learned scores: they belong to the encoder"):
        score_images(again.model, ImageSet(np.zeros((1, 28, 28), np.uint8)), ["corrected_gap"])


def test_saving_over_a_checkpoint_keeps_scores_of_the_same_weights(tmp_path):
    opened = load_checkpoint("mnist-2d")
    save_checkpoint(tmp_path, opened.model, opened.config, opened.training)
    bare = build(opened.config, seed=0)
    bare.load_state_dict(opened.model.state_dict())
    save_checkpoint(tmp_path, bare, opened.config, opened.training)
    assert load_checkpoint(tmp_path).model.gap_heads is not None


def test_calibrate_keeps_scores_that_open_with_the_weights_they_belong_to(tmp_path, digits, digits_2d):
    folder, table = tmp_path / "own", tmp_path / "gaps.parquet"
    shutil.copytree(digits_2d.folder, folder)
    kl = score_images(digits_2d.model, digits.validation, ["laplace_gap"])["laplace_gap"] * 2
    write_table(table, [{"kl_marginal": float(value)} for value in kl])
    settings = {"digest": digits_2d.digest, "dataset": "digits", "split": "test", "tolerance": 0.01}
    (tmp_path / "gaps.parquet.json").write_text(json.dumps(settings))
    command = ["calibrate", "--checkpoint", str(folder), "--gaps", str(table)]
    with pytest.raises(InputError, match="split = test, not validation"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    with pytest.raises(InputError, match="no learned scores: they belong to the encoder"):
        score_images(digits_2d.model, digits.test, ["predicted_gap"])
    (tmp_path / "gaps.parquet.json").write_text(json.dumps(settings | {"split": "validation"}))
    assert "144 validation images" in CliRunner().invoke(cli, command, catch_exceptions=False).output
    assert heads_origin(folder) == {"digest": digits_2d.digest, "images": "144", "tolerance": "0.01"}
    scores = score_images(load_checkpoint(folder).model, digits.test)
    assert spearmanr(scores["corrected_gap"], scores["laplace_gap"])[0] > 0.95
    assert np.median(scores["corrected_gap"] / scores["laplace_gap"]) == pytest.approx(2, rel=0.2)
    assert (scores["predicted_gap"] > 0).all()
    good = [{"kl_marginal": float(value)} for value in kl]
    for rows, said in (
        ([{"kl_other": 1.0}] * 144, r"no number in column 'kl_marginal' of row 1 \(None\)"),
        ([*good[:-1], {"kl_marginal": float("nan")}], r"no number in column 'kl_marginal' of row 144 \(nan\)"),
        (good * 2, "has 288 rows, but there are 144 validation images"),
    ):
        write_table(table, rows)
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(cli, command, catch_exceptions=False)
    weights = folder / "model.safetensors"
    weights.write_bytes((digits_2d.folder.parent / "omniglot-2d" / weights.name).read_bytes())
    with pytest.raises(InputError, match="was fitted to other weights"):
        load_checkpoint(folder)
