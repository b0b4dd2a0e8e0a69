"""Weights that are numbers and yet give none: each command says so in one sentence, or answers what it can."""

import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.errors import InputError
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.tensors import read_tensors, write_tensors

HEAD, NOISE = "encoder.base_encoder.head.bias", "generative.likelihood.log_std"
WIDTHS = "encoder.weights_mean.log_diagonal"


@pytest.fixture
def changed(tmp_path, digits_2d):
    """digits-2d in a folder of its own, one of its numbers another."""

    def change(name, value, at=0):
        shutil.copy(digits_2d.folder / CONFIG, tmp_path)
        tensors = read_tensors(digits_2d.folder / WEIGHTS)
        tensors[name].view(-1)[at] = value
        write_tensors(tmp_path / WEIGHTS, tensors)
        return tmp_path

    return change


def said(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.mark.parametrize("name", [HEAD, "generative.decoder.5.weight", NOISE])
def test_only_the_logarithm_of_a_width_may_be_minus_infinity(name, changed):
    with pytest.raises(InputError, match=rf"{name} holds values that are no finite numbers"):
        load_checkpoint(changed(name, -torch.inf))
    load_checkpoint(changed(WIDTHS, -torch.inf))


@pytest.mark.parametrize("value", [1e30, -200.0])
def test_a_pixel_noise_without_end_or_width_is_not_opened(value, changed):
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: its pixel noise s_x is .*restore the file"):
        load_checkpoint(changed(NOISE, value))


@pytest.mark.parametrize(("at", "value"), [(0, 1e38), (2, 1e38)])
def test_numbers_that_are_not_finite_are_no_result(at, value, changed, tmp_path):
    """Nulls and tables of nan came with an exit status of 0."""
    folder = changed(HEAD, value, at)
    common = ["--checkpoint", folder, "--limit", "3"]
    out = tmp_path / "r.csv"
    for words in (["evaluate", *common, "--samples", "5"], ["rank", *common, "--by", "residual", "--out", out]):
        result = said(*words)
        assert isinstance(result.exception, InputError) and result.stdout == ""
        assert f"{folder.name} has no finite " in str(result.exception)
    assert not out.exists()


@pytest.mark.parametrize(("at", "value"), [(0, 1e38), (2, 1e38), (2, -200.0)])
def test_the_posterior_is_answered_whatever_the_encoder_says(at, value, changed):
    both = [said("posterior", "--checkpoint", one, "--index", "0") for one in (changed(HEAD, value, at), "digits-2d")]
    report, sound = (json.loads(one.stdout) for one in both)
    assert abs(report["log_evidence"] - sound["log_evidence"]) <= 2 * sound["log_evidence_error"]
    if value > 0:
        assert "arithmetic ends (means of " in report["without_elbo"][0]


def test_a_place_beyond_all_arithmetic_is_named(digits, digits_engine):
    x = digits.test.pixels(slice(0, 1))
    with pytest.raises(InputError, match=r"near of image 0 holds a place .* further than 1e\+06 from 0"):
        digits_engine.posteriors(x, near=torch.full((1, 1, 2), 1e38))
    assert np.isfinite(digits_engine.posteriors(x, near=torch.full((1, 1, 2), 1e6))[0].log_evidence)
