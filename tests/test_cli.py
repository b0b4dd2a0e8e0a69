"""The command line: results as JSON and CSV, errors as one sentence and exit code 2."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from gpvae_core.checkpoints import save_checkpoint
from gpvae_core.cli import cli, sentences
from gpvae_core.errors import InputError
from gpvae_core.identity import STATE
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import PRETRAINED


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def three_d(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three-d")
    config = ModelConfig(latent_dim=3, hidden=8, channels=(4, 4, 4))
    save_checkpoint(folder, build(config, seed=0), config, {"dataset": "digits", "seed": 0})
    return folder


def test_called_with_nothing_it_explains_itself():
    result = CliRunner().invoke(cli, [])
    for word in ("train", "evaluate", "posterior", "rank", "First steps", "pretrained/"):
        assert word in result.output


def test_posterior_by_index_and_by_file_agree(tmp_path, digits):
    Image.fromarray(digits.test.images[3]).save(tmp_path / "three.png")
    by_index = json.loads(run("posterior", "--checkpoint", "digits-2d", "--index", 3))
    by_file = json.loads(run("posterior", "--checkpoint", "digits-2d", "--image", tmp_path / "three.png"))
    for key in ("log_evidence", "kl_base", "kl_marginal", "elbo_base", "elbo_marginal", "uncertainty"):
        assert by_index[key] == pytest.approx(by_file[key], abs=1e-6)
    assert by_index["log_evidence_error"] <= 1e-3
    assert by_index["kl_base"] > 0
    assert np.array(by_index["covariance"]).shape == (2, 2)


def test_rank_sorts_by_uncertainty(tmp_path, digits, digits_2d):
    run("rank", "--checkpoint", "digits-2d", "--out", tmp_path / "r.csv")
    with (tmp_path / "r.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = [float(row["uncertainty"]) for row in rows]
    assert values == sorted(values)
    assert sorted(int(row["index"]) for row in rows) == list(range(359))
    hardest = int(rows[-1]["index"])
    expected = digits_2d.model.infer(digits.test.pixels(slice(hardest, hardest + 1))).uncertainty
    assert values[-1] == pytest.approx(float(expected), rel=1e-4)
    assert int(rows[-1]["label"]) == digits.test.labels[hardest]


def test_evaluate_and_rank_work_in_three_dimensions_and_posterior_says_why_not(three_d, tmp_path, monkeypatch):
    monkeypatch.setattr("gpvae_core.training.evaluation.DRAWS_IN_ALL", 4_000)
    report = json.loads(run("evaluate", "--checkpoint", three_d, "--limit", 20, "--samples", 10))
    assert report["images"] == 20
    assert report["iwae_10"] >= report["elbo"] - 3 * (report["elbo_error"] + report["iwae_10_error"])
    assert report["elbo_method"] == "200 draws per image"
    run("rank", "--checkpoint", three_d, "--limit", 20, "--out", tmp_path / "r.csv")
    with pytest.raises(InputError, match="needs two latent dimensions, but this model has 3"):
        run("posterior", "--checkpoint", three_d, "--index", 0)


def test_a_method_that_needs_no_training_goes_on_any_checkpoint(digits_2d, tmp_path, monkeypatch, capsys):
    plain = json.loads(run("posterior", "--checkpoint", "digits-2d", "--index", 0))
    newton = json.loads(run("posterior", "--checkpoint", "digits-2d", "--index", 0, "--method", "gn", "--starts", 1))
    assert newton["method"] == "gn" and plain["method"] == "gpvae-unit"
    assert newton["kl_start"] == pytest.approx(plain["kl_base"], abs=2e-3)
    assert newton["kl_q"] < 0.1 * plain["kl_base"]  # the decoder's slope at the image itself
    run("gaps", "--checkpoint", "digits-2d", "--method", "vlae", "--limit", 2, "--out", tmp_path / "gaps.csv")
    with pytest.raises(InputError, match="was computed with"):
        run("gaps", "--checkpoint", "digits-2d", "--limit", 2, "--out", tmp_path / "gaps.csv", "--resume")
    with pytest.raises(InputError, match="--starts is an option of a method; name it with --method"):
        run("posterior", "--checkpoint", "digits-2d", "--index", 0, "--starts", 3)
    with pytest.raises(InputError, match="--steps is no option of iaf-4, which stays as it was trained; leave it out"):
        run("posterior", "--checkpoint", "digits-2d", "--index", 0, "--method", "iaf-4", "--steps", 3)
    with pytest.raises(InputError, match=r"digits-2d has no encoder 'iaf'; choose one of .*gn.*; train one with"):
        digits_2d.with_method("iaf")
    assert digits_2d.with_method("gn").digest != digits_2d.with_method("gn", {"starts": 2}).digest != digits_2d.digest
    assert digits_2d.with_method("gn").decoder_digest == digits_2d.decoder_digest


def test_a_kept_encoder_is_taken_by_its_name(digits_2d):
    own = json.loads(run("posterior", "--checkpoint", "digits-2d", "--index", 0))
    other = json.loads(run("posterior", "--checkpoint", "digits-2d", "--index", 0, "--method", "iaf-4"))
    assert other["method"] == "iaf"
    assert abs(other["log_evidence"] - own["log_evidence"]) < other["log_evidence_error"] + own["log_evidence_error"]
    assert other["kl_q"] == pytest.approx(digits_2d.encoders["iaf-4"].measured["first"][0], abs=2e-2)
    with pytest.raises(InputError, match=r"no encoder 'iaf-9'; choose one of .*iaf-4"):
        run("posterior", "--checkpoint", "digits-2d", "--index", 0, "--method", "iaf-9")


def test_train_then_resume_and_evaluate(tmp_path, digits, monkeypatch):
    few = replace(digits, train=digits.train.take(np.arange(200)), validation=digits.validation.take(np.arange(20)))
    monkeypatch.setattr("gpvae_core.training.runs.load_dataset", lambda *_, **__: few)
    out = tmp_path / "run"
    options = ("--dataset", "digits", "--epochs", 1, "--out", out, "--device", "cpu")
    output = CliRunner().invoke(cli, ["train", *map(str, options)], catch_exceptions=False)
    assert output.exit_code == 0
    parts = (
        "objective=",
        "log_likelihood=",
        "neg_kl_weights=",
        "live_features=",
        "elbo_base=",
        "images/s",
        "settle --",
    )
    for part in parts:
        assert part in output.output
    report = json.loads(run("evaluate", "--checkpoint", out, "--samples", 5, "--limit", 10))
    assert (report["dataset"], report["elbo_method"]) == ("digits", "exact quadrature")
    with pytest.raises(InputError, match="already holds a run; go on with it by --resume"):
        run("train", *options)
    with pytest.raises(InputError, match="was started with seed = 0, not 1"):
        run("train", *options, "--resume", "--seed", 1)
    with pytest.raises(InputError, match="holds no run to resume"):
        run("train", "--out", tmp_path / "none", "--resume")
    (out / STATE).unlink()
    for asked in ([], ["--resume"]):  # neither may recommend the other
        with pytest.raises(InputError, match=rf"without its {STATE}, .*choose another --out"):
            run("train", *options, *asked)


ERRORS = {
    "data set": (["train", "--dataset", "mnits", "--out", "x"], "data set 'mnits' is unknown; choose one of"),
    "method": (["train", "--method", "gpvea", "--out", "x"], "'gpvea' is not one of 'vae', "),
    "checkpoint": (["rank", "--checkpoint", "nope", "--out", "x"], "there is no checkpoint 'nope': give a folder"),
    "device": (["train", "--device", "warp", "--out", "x"], "device 'warp' is not usable here"),
    "index": (["posterior", "--checkpoint", "digits-2d", "--index", "999"], "the test set of digits ends at 358"),
    "neither": (["posterior", "--checkpoint", "digits-2d"], "give one of --index"),
    "no file": (["posterior", "--checkpoint", "digits-2d", "--image", "no.png"], "cannot read 'no.png'"),
    "negative": (["train", "--epochs", "0", "--out", "x"], "0 is not in the range 1<=x<=1000000"),
    "grey": (["train", "--likelihood", "bernoulli", "--out", "x"], "needs binary pixels"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_value_and_the_cure(name, monkeypatch, capsys):
    arguments, message = ERRORS[name]
    monkeypatch.setattr(sys, "argv", ["gpvae_core", *arguments])
    from gpvae_core.cli import main

    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_module_runs_as_a_program_with_exit_code_2_on_junk(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    command = [sys.executable, "-m", "gpvae_core", "posterior", "--checkpoint", "digits-2d", "--image"]
    result = subprocess.run([*command, str(tmp_path / "text.png")], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is not an image that can be read" in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert result.stdout == ""


RANK = "rank --checkpoint digits-2d --limit 2 --out r.csv"  # prints when its work is done; --help before any import
FULL, CLOSED = "cannot write to standard output (No space left on device)", "standard output is closed"


@pytest.mark.parametrize(
    ("words", "shell", "said", "unbuffered"),
    [
        (RANK, ">/dev/full", FULL, ""),
        ("--help", ">/dev/full", FULL, ""),
        ("--help", ">/dev/full", FULL, "1"),
        ("--help", ">&-", CLOSED, ""),
    ],
)
def test_a_result_that_nobody_can_receive_is_one_sentence(words, shell, said, unbuffered, tmp_path):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONPATH": str(PRETRAINED.parent)}
    command = f'"{sys.executable}" -m gpvae_core {words} {shell}'
    result = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {said}") and result.stderr.count("\n") == 1


def test_a_fault_that_is_not_of_the_output_is_not_blamed_on_it(capsys):
    with pytest.raises(OSError, match="elsewhere"), sentences():
        raise OSError("elsewhere")


def test_a_mean_of_iwae_lies_between_elbo_and_evidence(digits, digits_2d, digits_engine):
    """Burda et al.: ELBO <= IWAE-K <= log p(x), in expectation, with the exact evidence as the ceiling."""
    from gpvae_core.inference.bounds import elbo, importance_weighted_bound

    x = digits.test.pixels(slice(2, 3))
    q, model = digits_2d.model.encoder.infer(x, None).q, digits_2d.model.generative
    generator = torch.Generator().manual_seed(0)
    lower = float(elbo(model, x, q, 4000, generator=generator))
    bounds = [float(importance_weighted_bound(model, x, q, 50, generator=generator)) for _ in range(40)]
    evidence = digits_engine.posterior(x).log_evidence
    error = float(np.std(bounds) / 40**0.5)
    assert lower < np.mean(bounds) < evidence + 3 * error


TRAIN = ["train", "--dataset", "digits", "--epochs", "1", "--out", "o"]
LOOK = ["posterior", "--checkpoint", "digits-2d", "--index", "5"]
LONG = "a" * 300


@pytest.mark.parametrize(
    "command",
    [
        *([*TRAIN, "--seed", bad] for bad in ("-1", "1e20", "9" * 30)),
        *([*TRAIN, "--learning-rate", bad] for bad in ("nan", "inf", "0", "-1")),
        *([*TRAIN, option, bad] for option in ("--base-lr-scale", "--psi-lr-scale", "--s-x") for bad in ("nan", "-1")),
        *([*TRAIN, option, "inf"] for option in ("--encoder-noise", "--base-weight", "--augment", "--dreams")),
        *([*TRAIN, "--latent-dim", bad] for bad in ("0", "1000000")),
        *([*TRAIN, "--batch-size", bad] for bad in ("0", "1" + "0" * 20)),
        *([*TRAIN, "--device", bad] for bad in ("meta", "cuda:99", "nowhere")),
        [*TRAIN, "--method", "iaf", "--flows", "1000000000"],
        [*TRAIN, "--method", "savae", "--rate", "nan"],
        [*TRAIN[:-1], LONG],
        [*TRAIN[:-1], "file/below"],
        ["train", "--dataset", "folder:~nouser", "--out", "o"],
        *([*LOOK, "--tolerance", bad] for bad in ("inf", "nan", "0", "1e-30")),
        ["evaluate", "--checkpoint", "digits-2d", "--samples", "1000000000"],
        ["evaluate", "--checkpoint", "digits-2d", "--seed", "-5"],
        ["evaluate", "--checkpoint", LONG],
        ["gaps", "--checkpoint", "digits-2d", "--out", f"{LONG}.csv"],
        ["gaps", "--checkpoint", "digits-2d", "--out", "x.csv", "--tolerance", "inf"],
    ],
    ids=lambda command: " ".join(part[:12] for part in command[-3:]),
)
def test_no_command_line_ends_in_a_traceback(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(cli, command)
    assert isinstance(result.exception, InputError | SystemExit), result.exception  # both end in one sentence
    assert result.exit_code != 0
    assert not (tmp_path / "o").exists()
