"""What was answered with a wrong number and is refused by one sentence since: pixels, weights, shares, losses."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.commands.evaluate import evaluate
from gpvae_core.data import ImageSet, load_dataset
from gpvae_core.diagnostics.gap_heads import fit_heads
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.errors import InputError
from gpvae_core.models import ModelConfig, build
from gpvae_core.training.fit import TrainingConfig, fit

SMALL = ModelConfig(method="vae", hidden=8, channels=(4, 4, 4))


@pytest.fixture(scope="module")
def grey(digits):
    return digits.test.take(np.arange(2))


def test_a_trained_encoder_without_its_weights_is_named(tmp_path, digits_2d):
    shutil.copytree(digits_2d.folder, tmp_path / "model")
    (tmp_path / "model" / "encoders" / "iaf-4.safetensors").unlink()
    opened = load_checkpoint(tmp_path / "model")
    with pytest.raises(InputError, match=r"iaf-4\.safetensors"):
        opened.with_method("iaf-4")
    assert opened.with_method("gn").config.method == "gn"  # needs none


def test_an_entry_whose_options_are_none_is_named(tmp_path, digits_2d):
    shutil.copytree(digits_2d.folder, tmp_path / "model")
    path = tmp_path / "model" / "encoders" / "encoders.json"
    path.write_text('{"gn": {"method": "gn", "options": null}}')
    with pytest.raises(InputError):
        list(load_checkpoint(tmp_path / "model").encoders)


def test_grey_pixels_are_refused_where_they_have_no_likelihood(grey, tiny_dataset, tmp_path):
    binary = build(replace(SMALL, likelihood="bernoulli"), seed=0)
    with pytest.raises(InputError, match="needs pixels of 0 or 1"):
        score_images(binary, grey)
    with pytest.raises(InputError, match="needs pixels of 0 or 1"):
        list(fit(binary, SMALL, TrainingConfig("tiny", epochs=1), tiny_dataset, tmp_path))
    asked = ["--checkpoint", "binary-mnist-2d", "--dataset", "digits", "--limit", "2"]
    assert "needs pixels of 0 or 1" in str(CliRunner().invoke(evaluate, asked).exception)


def test_an_elbo_is_of_one_image(grey, digits_2d):
    q = digits_2d.infer(grey.pixels()).q[0]
    with pytest.raises(InputError, match="give one image"):
        digits_2d.elbo(grey.pixels(), q)


def test_bytes_are_no_pixels(digits_engine):
    with pytest.raises(InputError, match=r"uint8.*as floats"):
        digits_engine.posterior(torch.full((1, 28, 28), 200, dtype=torch.uint8))


def test_a_validation_elbo_that_is_no_number_ends_the_training_before_it_is_stored(tiny_dataset, tmp_path):
    pixels = np.array(tiny_dataset.validation.images, dtype=np.float32)
    pixels[0] = np.nan
    damaged = replace(tiny_dataset, validation=ImageSet(pixels))
    with pytest.raises(InputError, match="after epoch 1: the validation ELBO is nan; train anew"):
        list(fit(build(SMALL, seed=0), SMALL, TrainingConfig("tiny", epochs=1), damaged, tmp_path))
    assert not list(tmp_path.iterdir())


def test_scores_are_not_fitted_to_one_image(grey, digits_2d):
    x = grey.pixels()[:1]
    with pytest.raises(InputError, match="cannot be fitted to 1 images"):
        fit_heads(digits_2d.model, x, digits_2d.infer(x), torch.ones(1), seed=0)


def test_nobody_is_told_to_have_an_archive_of_their_own_downloaded(tmp_path):
    np.savez(
        tmp_path / "one.npz", train_images=np.zeros((1, 8, 8), np.uint8), test_images=np.zeros((2, 8, 8), np.uint8)
    )
    (tmp_path / "text.npz").write_text("no archive")
    for name, fault in [("one", "of training images two at least"), ("text", "is not a whole data set")]:
        with pytest.raises(InputError, match=f"{fault}.*save it again with numpy"):
            load_dataset(f"archive:{tmp_path / name}.npz")
