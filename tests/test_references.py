"""Stored reference posteriors: what the engine says, small, and refused beside another decoder."""

import shutil

import numpy as np
import pytest
import torch

from gpvae_core.api import references
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics.judgement import places
from gpvae_core.diagnostics.references import DROPPED, load_references
from gpvae_core.errors import InputError
from gpvae_core.paths import PRETRAINED, REFERENCES
from gpvae_core.shipped import manifest
from gpvae_core.tensors import origin_of, read_tensors, write_tensors


@pytest.fixture(scope="module")
def stored(digits_2d):
    return load_references(digits_2d)


def test_they_are_what_the_engine_says(stored, digits, digits_2d, digits_engine):
    rows = [0, 7, 100]
    x = torch.cat([digits.test.pixels(slice(k, k + 1)) for k in rows])
    for k, exact in zip(rows, digits_engine.posteriors(x, near=places(digits_2d.infer(x))), strict=True):
        one = stored[k]
        assert one.index == k
        assert abs(one.log_evidence - exact.log_evidence) <= one.log_evidence_error + exact.log_evidence_error
        width = np.sqrt(np.diag(exact.covariance))
        assert (np.abs(one.mean - exact.mean) <= one.numbers["mean_error"] + exact.mean_error).all()
        assert one.weights.sum() == pytest.approx(1)
        beyond = DROPPED * np.abs(exact.points - exact.mean).max() + 1e-6 * width.max()
        assert np.abs(one.expectation(one.points) - one.mean).max() <= beyond
        centred = one.points - one.mean
        second = one.expectation(np.einsum("ni,nj->nij", centred, centred))
        np.testing.assert_allclose(second, one.numbers["covariance"], rtol=1e-3, atol=1e-4 * width.max() ** 2)


def test_they_come_as_a_sequence(stored, digits):
    assert len(stored) == len(digits.test)
    assert [one.index for one in stored[3:5]] == [3, 4] and stored[-1].index == len(stored) - 1
    with pytest.raises(IndexError):
        stored[len(stored)]
    assert stored.origin["dataset"] == "digits" and stored.origin["tolerance"] == "0.001"


@pytest.mark.parametrize("name", manifest())
def test_every_number_has_an_error_within_the_tolerance_it_names(name):
    found = references(name)
    assert len(found) == {"digits-2d": 359, "mnist-2d-wide": 250, "digits-2d-wide": 40}.get(name, 1000)
    errors = found.tensors["log_evidence_error"].numpy()
    assert (errors > 0).all() and np.mean(errors <= float(found.origin["tolerance"])) > 0.99
    for one in ("log_evidence", "entropy", "negentropy", "mean", "covariance"):
        assert found.tensors[one].shape == found.tensors[f"{one}_error"].shape


def test_none_or_those_of_another_decoder_are_named(tmp_path):
    shutil.copytree(PRETRAINED / "digits-2d", tmp_path / "own")
    shutil.copyfile(PRETRAINED / "mnist-2d" / REFERENCES, tmp_path / "own" / REFERENCES)
    with pytest.raises(InputError, match="holds posteriors of another decoder"):
        load_references(load_checkpoint(tmp_path / "own"))
    (tmp_path / "own" / REFERENCES).unlink()
    with pytest.raises(InputError, match="own has no stored reference posteriors at"):
        load_references(load_checkpoint(tmp_path / "own"))


DAMAGE = {
    "no start": lambda t: t.pop("start"),
    "no weights": lambda t: t.pop("log_weight"),
    "no error": lambda t: t.pop("mean_error"),
    "reversed": lambda t: t.update(start=t["start"].flip(0).contiguous()),
    "scaled": lambda t: t.update(start=1000 * t["start"]),
    "floats": lambda t: t.update(start=t["start"].double()),
    "empty": lambda t: t.update(start=t["start"][:0]),
    "none": lambda t: t.update(start=t["start"][:1]),
    "short": lambda t: t.update(mean=t["mean"][:-1].contiguous()),
    "whole numbers": lambda t: t.update(entropy=t["entropy"].long()),
    "one column": lambda t: t.update(node=t["node"][:, :1].contiguous()),
    "nan": lambda t: t["log_weight"].fill_(torch.nan),
    "no error that is a number": lambda t: t["log_evidence_error"].fill_(torch.nan),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_set_of_references_is_named_as_it_is_opened(damage, tmp_path):
    shutil.copytree(PRETRAINED / "digits-2d", tmp_path / "own")
    path = tmp_path / "own" / REFERENCES
    tensors, origin = read_tensors(path), origin_of(path)
    DAMAGE[damage](tensors)
    write_tensors(path, tensors, origin)
    with pytest.raises(InputError, match=r"reference\.safetensors is damaged: '\w+' (holds|does not rise)"):
        load_references(load_checkpoint(tmp_path / "own"))
