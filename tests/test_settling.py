"""The settled Gaussian process against the objective it maximises, written out for a linear decoder."""

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.cli import cli
from gpvae_core.commands.options import check_out
from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from gpvae_core.inference import GPEncoder
from gpvae_core.inference.gaussian import GaussianEncoder
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.training.settling import curvature_ratio, settle
from tests.decoders import STD, Linear

FEATURES, IMAGES = 6, 1000


def trunk() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, FEATURES), nn.Tanh())


@pytest.fixture
def images(generator) -> ImageSet:
    return ImageSet(torch.rand(IMAGES, 8, 8, generator=generator, dtype=torch.float64).numpy())


@pytest.fixture(params=[{}, {"shared": True}, {"shared": True, "unit": True}], ids=["three networks", "shared", "unit"])
def model(request) -> VariationalAutoencoder:
    """A linear decoder, under which every term of (14) has a closed form, the best c, and mu that is not 0."""
    generative = GenerativeModel(Linear(), GaussianLikelihood(STD).double())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = GPEncoder(trunk, FEATURES, 2, GPEncoder.Options(**request.param)).double()
        nn.init.normal_(encoder.weights_mean.relative_mean)
    head = encoder.base_encoder.head
    with torch.no_grad():
        head.weight[2:] = 0
        head.bias[2:] = -0.5 * torch.log(curvature(generative))
    return VariationalAutoencoder(generative, encoder)


def curvature(generative: GenerativeModel) -> torch.Tensor:
    """Of -log p(x, z) along each latent dimension, (2,): the same for every x and z."""
    return 1 + (generative.decoder.matrix**2).sum(0) / STD**2


def objective(model: VariationalAutoencoder, x: torch.Tensor) -> torch.Tensor:
    """(14), nats per image: E log p(x|z) of a linear decoder is that at q's mean less half the variance's cost."""
    correction = model.encoder.correction(x)
    q = correction.marginal()
    fit = model.generative.log_likelihood(x, q.mean) - 0.5 * (q.std**2 * (curvature(model.generative) - 1)).sum(-1)
    return (fit - correction.expected_kl()).mean() - model.encoder.kl_weights() / len(x)


def slopes(model: VariationalAutoencoder, x: torch.Tensor, weights: nn.Module) -> float:
    """The largest derivative of (14) by what makes up a covariance, the means D relative_mean held."""
    parameters = [weights.log_diagonal, weights.off_diagonal, weights.relative_mean]
    diagonal, below, mean = torch.autograd.grad(objective(model, x), parameters)
    held = diagonal - weights.relative_mean.detach() * mean
    return float(torch.cat([held, below.flatten(1)], 1).abs().max())


def test_no_other_covariances_have_a_larger_objective(model, images):
    x, encoder = images.pixels(), model.encoder
    means = [weights.mean.detach().clone() for weights in (encoder.weights_mean, encoder.weights_std)]
    before, slope = objective(model, x), slopes(model, x, encoder.weights_std)
    settle(model, images)
    assert objective(model, x) > before
    for weights, mean in zip((encoder.weights_mean, encoder.weights_std), means, strict=True):
        torch.testing.assert_close(weights.mean, mean)
    assert slopes(model, x, encoder.weights_mean) < 1e-9
    assert slopes(model, x, encoder.weights_std) < 0.02 * slope  # of second order in V(h) / a^2
    with torch.no_grad():
        encoder.weights_mean.log_diagonal += 0.1
    assert slopes(model, x, encoder.weights_mean) > 1e-4


def test_what_n_images_leave_open_is_at_most_p_of_n(model, images):
    settle(model, images)
    left = (curvature(model.generative) * model.encoder.correction(images.pixels()).var_f).mean(0)
    assert bool((left > 0).all()) and bool((left < FEATURES / IMAGES).all())


def test_a_plain_vae_has_nothing_to_settle(model, images):
    plain = VariationalAutoencoder(model.generative, GaussianEncoder(trunk, FEATURES, 2))
    with pytest.raises(InputError, match="this method has no Gaussian process"):
        settle(plain, images)


def test_a_plain_vae_gets_a_gaussian_process_and_keeps_everything_else(tmp_path):
    config, first, out = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4)), tmp_path / "vae", tmp_path / "settled"
    save_checkpoint(first, build(config, seed=0), config, {"dataset": "digits", "seed": 0})
    arguments = ["settle", "--checkpoint", str(first), "--out", str(out), "--device", "cpu"]
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0
    before, after = load_checkpoint(first), load_checkpoint(out)
    assert after.config.method == "gpvae-unit"
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    psi, _, base = after.model.encoder.features(x)
    base_before = before.model.encoder.infer(x, None).q
    torch.testing.assert_close(psi.norm(dim=1), torch.ones(5))
    assert torch.equal(base.mean, base_before.mean) and torch.equal(base.std, base_before.std)
    assert torch.equal(after.model.encoder.infer(x, None).q.mean, base.mean)  # the GP's mean is 0
    for name, weight in before.model.generative.state_dict().items():
        assert torch.equal(weight, after.model.generative.state_dict()[name])


def test_the_command_writes_a_checkpoint_that_says_what_it_came_from(tmp_path):
    config, first, out = ModelConfig(hidden=8, channels=(4, 4, 4)), tmp_path / "first", tmp_path / "settled"
    save_checkpoint(first, build(config, seed=0), config, {"dataset": "digits", "seed": 0})
    arguments = ["settle", "--checkpoint", str(first), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "of q's variance, ELBO" in result.output
    assert json.loads((out / "config.json").read_text())["training"]["settled_from"] == str(first)
    before, after = (load_checkpoint(folder).model.encoder for folder in (first, out))
    assert not torch.equal(before.weights_mean.scale_tril, after.weights_mean.scale_tril)
    for name, weight in before.base_encoder.state_dict().items():
        assert torch.equal(weight, after.base_encoder.state_dict()[name])
    with pytest.raises(InputError, match="already holds a checkpoint or a training; choose"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_the_curvature_ratio_is_one_at_the_best_widths_and_their_square_elsewhere(model, images, scale):
    """The decoder is linear: its curvature is known, and q's widths are the best ones times ``scale``."""
    with torch.no_grad():
        model.encoder.base_encoder.head.bias[2:] += torch.log(torch.tensor(scale))
    plain = VariationalAutoencoder(model.generative, model.encoder.base_encoder)
    assert curvature_ratio(plain, images.take(slice(0, 50))) == pytest.approx(scale**2, rel=1e-6)


def test_a_place_that_cannot_be_written_is_named_before_the_pass(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("gpvae_core.commands.settle.load_checkpoint", lambda *_, **__: pytest.fail("it is opened"))
    words = ["settle", "--checkpoint", "digits-2d", "--out", str(tmp_path / "file" / "x")]
    with pytest.raises(InputError, match=r"nothing can be written into .*x .*it is no folder\); choose another --out"):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="no permission"):
        check_out(tmp_path / "new")
