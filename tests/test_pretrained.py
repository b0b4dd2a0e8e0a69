"""Every shipped checkpoint reproduces the numbers in its manifest."""

from hashlib import sha256

import numpy as np
import pytest

from gpvae_core.checkpoints import load_checkpoint, read_json
from gpvae_core.data import load_dataset
from gpvae_core.evaluation import evaluate_elbo
from gpvae_core.paths import MANIFEST, PRETRAINED, WEIGHTS
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.report import posterior_report

ENTRIES = read_json(MANIFEST)


@pytest.fixture(params=ENTRIES)
def shipped(request):
    name = request.param
    checkpoint = load_checkpoint(name)
    folder = request.getfixturevalue("data_dir") if checkpoint.training["dataset"] == "mnist" else None
    data = load_dataset(checkpoint.training["dataset"], folder, seed=checkpoint.training["seed"])
    return ENTRIES[name], checkpoint, data


def test_manifest_and_folders_agree():
    assert {p.parent.name for p in PRETRAINED.glob(f"*/{WEIGHTS}")} == set(ENTRIES)
    for name, entry in ENTRIES.items():
        assert sha256((PRETRAINED / name / WEIGHTS).read_bytes()).hexdigest() == entry["sha256"]
    assert sum(p.stat().st_size for p in PRETRAINED.rglob("*") if p.is_file()) < 25e6


def test_test_numbers_are_reproduced(shipped):
    entry, checkpoint, data = shipped
    assert len(data.test) == entry["test"]["images"]
    values = evaluate_elbo(checkpoint.model, data.test, seed=entry["test"]["noise_seed"])
    for key in ("elbo", "elbo_base"):
        assert float(values[key].double().mean()) == pytest.approx(entry["test"][key], abs=0.02)


def test_exact_numbers_are_reproduced(shipped):
    entry, checkpoint, data = shipped
    engine = PosteriorEngine(checkpoint.model.generative)
    for wanted in entry["exact"]:
        index = wanted["index"]
        report = posterior_report(engine, checkpoint.model, data.test.pixels(slice(index, index + 1)))
        assert report["log_evidence_error"] <= 1e-3
        for key in ("log_evidence", "kl_base", "kl_marginal"):
            assert report[key] == pytest.approx(wanted[key], abs=2e-3)
        assert report["uncertainty"] == pytest.approx(wanted["uncertainty"], rel=1e-3)


def test_mnist_2d_reaches_215_nats_and_its_base_stands_by_itself():
    test = ENTRIES["mnist-2d"]["test"]
    assert test["images"] == 10_000
    assert test["elbo"] >= 215
    assert test["elbo_base"] >= 215


def test_uncertainty_is_alive(shipped):
    """Mean V(f) over the posterior's variance, per latent dimension, at least 1e-3."""
    _, checkpoint, data = shipped
    correction = checkpoint.model.encoder.correction(data.test.pixels(slice(0, 500)))
    share = (correction.var_f / correction.marginal().std ** 2).mean()
    assert share >= 1e-3
    assert np.unique(correction.variance().sum(-1).numpy()).size > 300
