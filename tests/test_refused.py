"""What was answered with a wrong number and is refused by one sentence since: pixels, weights, shares, losses."""

import os
import shutil
from dataclasses import replace
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gpvae_core as gp
from app.figures.__main__ import main as figures
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.commands.evaluate import evaluate
from gpvae_core.data import ImageSet, load_dataset
from gpvae_core.diagnostics.gap_heads import fit_heads
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.distributions import DiagonalGaussian, FullGaussian
from gpvae_core.encoders import store_encoder, store_list
from gpvae_core.errors import InputError
from gpvae_core.models import ModelConfig, build
from gpvae_core.tensors import read_tensors, write_tensors
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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: x[0], r"shape \(1, 28, 28\).*one image x as x\[None\]"),
        (lambda x: x[0, 0], r"shape \(28, 28\).*give \(B, 1, 28, 28\)"),
        (lambda x: x[..., 1:], r"shape \(2, 1, 28, 27\)"),
        (lambda x: x[:0], "no image in the batch"),
        (lambda x: (255 * x).byte(), r"uint8.*as floats"),
        (lambda x: x / 0, "not finite"),
        (lambda x: "seven", "str is no batch of images"),
    ],
)
def test_what_is_no_batch_of_images_is_said(given, said, grey, digits_2d, digits_engine):
    """An encoder was given bytes without a word: its means lay at 420."""
    images = given(grey.pixels())
    for use in (digits_2d.infer, digits_engine.posteriors, lambda x: gp.judge(digits_2d, x)):
        with pytest.raises(InputError, match=said):
            use(images)


def test_arrays_are_images_too(grey, digits_2d, digits_engine):
    x = grey.pixels()
    assert torch.equal(digits_2d.infer(x.numpy()).q.mean, digits_2d.infer(x).q.mean)
    assert digits_engine.posterior(x[0].numpy()).log_evidence == digits_engine.posterior(x[0]).log_evidence


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([0.0, 0.0], [0.0, 1.0], "widths of this q"),
        ([0.0, 0.0], [-1.0, 1.0], "widths of this q"),
        ([0.0, 0.0], [1.0, 1.0, 1.0], r"widths of this q.*a positive one for each"),
        ([0.0, 0.0], [1.0, float("inf")], "std of this q"),
        ([0.0, float("nan")], [1.0, 1.0], "mean of this q"),
    ],
)
def test_a_gaussian_without_a_width_is_no_q(mean, std, said, grey, digits_2d, digits_engine):
    """KL(p || q) was NaN, to an error of 4e-4."""
    exact, x = digits_engine.posterior(grey.pixels()[0]), grey.pixels()[:1]
    for q in (
        DiagonalGaussian(torch.tensor(mean), torch.tensor(std)),
        FullGaussian(torch.tensor(mean), torch.diag(torch.tensor(std))),
    ):
        wanted = said.replace("std", "(std|scale_tril)")
        for use in (exact.kl_from, exact.kl_to, exact.elbo, lambda q: digits_2d.elbo(x, q)):
            with pytest.raises(InputError, match=wanted):
                use(q)
        with pytest.raises(InputError, match=wanted):
            gp.best_gaussian(exact, start=q)


def test_what_is_no_density_is_said(grey, digits_engine):
    with pytest.raises(InputError, match=r"a tuple is no q\(z\)"):
        digits_engine.posterior(grey.pixels()[0]).kl_from((0.0, 1.0))


@pytest.mark.parametrize(
    "use",
    [
        lambda exact: exact.sample(0, generator=np.random.default_rng(0)),
        lambda exact: exact.hdr_levels([2.0]),
        lambda exact: exact.hdr_levels([0.0]),
        lambda exact: exact.hdr_levels([float("nan")]),
        lambda exact: exact.hdr_levels(0.5),
        lambda exact: exact.log_prob(np.zeros(2)),
        lambda exact: exact.log_prob(np.zeros((1, 3))),
        lambda exact: exact.log_prob(np.full((1, 2), np.nan)),
        lambda exact: exact.hdr_mass(np.full(2, np.nan)),
        lambda exact: exact.hdr_mass(np.zeros(3)),
    ],
)
def test_what_no_posterior_can_say_is_refused(use, grey, digits_engine):
    with pytest.raises(InputError, match=r"'count' is 0|'masses' is|give finite points \(n, 2\)"):
        use(digits_engine.posterior(grey.pixels()[0]))


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1e-300, float("inf"), float("nan"), "small"])
def test_a_tolerance_that_means_nothing_is_refused(tolerance, grey, digits_2d):
    x, q = grey.pixels()[:1], digits_2d.infer(grey.pixels()).q[0]
    with pytest.raises(InputError, match="'tolerance' is"):
        gp.judge(digits_2d, x, tolerance=tolerance)
    if tolerance == float("inf"):  # an ELBO takes it: the first attempt, with its error
        assert np.isfinite(digits_2d.elbo(x, q, tolerance).error)
    else:
        with pytest.raises(InputError, match="'tolerance' is"):
            digits_2d.elbo(x, q, tolerance)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda folder: gp.load("digits-2d", device="foo"), "device 'foo' is not usable here"),
        (lambda folder: gp.load("digits-2d", options={"steps": 2}), "the options steps are a method's"),
        (lambda folder: gp.dataset("digits", seed=-1), "'seed' is -1"),
        (lambda folder: gp.dataset("digits", seed=1.5), r"'seed' is 1\.5"),
        (lambda folder: gp.load("digits-2d").simulate(0, seed=0), "'count' is 0"),
        (lambda folder: gp.load("digits-2d").simulate(1, seed=2**70), "'seed' is"),
        (lambda folder: gp.train("digits", folder, seed=-1), "'seed' is -1"),
        (lambda folder: gp.train("digits", folder, epochs=0), "'epochs' is 0"),
        (lambda folder: gp.train("digits", folder, learning_rate=float("nan")), "'learning_rate' is nan"),
        (lambda folder: gp.train("digits", folder, latent_dim=2.5), r"'latent_dim' is 2\.5"),
        (lambda folder: gp.train("digits", folder, device="foo"), "device 'foo' is not usable here"),
        (lambda folder: ModelConfig(image_shape=(1, 7, 28)), "7x28 pixels are too small for 3 convolutions"),
        (lambda folder: ModelConfig(std=float("inf")), "'std' is inf"),
        (lambda folder: ModelConfig(std=1e300), r"'std' is 1e\+300"),
        (lambda folder: ModelConfig(image_shape=(1, 4000, 4000)), r"a layer of 4\.1e\+09 weights"),
    ],
)
def test_the_librarys_own_arguments_are_checked(use, said, tmp_path):
    with pytest.raises(InputError, match=said):
        use(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A training of one's own, as its files are."""
    folder = tmp_path_factory.mktemp("own") / "run"
    options = ["--method", "vae", "--epochs", "1", "--hidden", "8", "--out", str(folder), "--device", "cpu"]
    assert CliRunner().invoke(cli, ["train", *options], catch_exceptions=False).exit_code == 0
    return folder


@pytest.fixture
def copy(own, tmp_path):
    shutil.copytree(own, tmp_path / "run")
    return tmp_path / "run"


def resumed(folder, *options: str):
    common = ["--method", "vae", "--epochs", "1", "--hidden", "8", "--device", "cpu", "--out", str(folder), "--resume"]
    return CliRunner().invoke(cli, ["train", *common, *options], catch_exceptions=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_opened(value, copy):
    """They gave tables full of nan, and an exit status of 0."""
    tensors = read_tensors(copy / "model.safetensors")
    next(iter(tensors.values())).view(-1)[0] = value
    write_tensors(copy / "model.safetensors", tensors)
    with pytest.raises(InputError, match=r"model\.safetensors is damaged: .* holds values that are no finite numbers"):
        load_checkpoint(copy)


def test_weights_of_another_kind_of_number_are_not_cast(copy):
    tensors = {name: t.int() for name, t in read_tensors(copy / "model.safetensors").items()}
    write_tensors(copy / "model.safetensors", tensors)
    with pytest.raises(InputError, match=r"holds torch\.int32, not torch\.float32"):
        load_checkpoint(copy)


def test_a_run_without_its_description_is_not_gone_on_with(copy):
    """Another model was trained over it."""
    (copy / "config.json").unlink()
    before = (copy / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"holds weights without the config\.json that says whose"):
        resumed(copy)
    assert (copy / "model.safetensors").read_bytes() == before


def test_a_description_of_another_type_is_one_sentence_when_resumed(copy):
    (copy / "config.json").write_text('{"model": [], "training": {}}')
    with pytest.raises(InputError, match="'model' is \\[\\]"):
        resumed(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("counters"),
        lambda t: t.update(counters=torch.tensor([1.0])),
        lambda t: t.update(counters=torch.tensor([float("nan")] * 4).double()),
        lambda t: t.update(counters=torch.tensor([-5.0, 1, 0, 0]).double()),
        lambda t: t.update({"adam.0.exp_avg": torch.zeros(1)}),
        lambda t: t.update({"adam.999.exp_avg": torch.zeros(1)}),
        lambda t: t.update({"adam.x.exp_avg": torch.zeros(1)}),
        lambda t: t.update({"adam.0": torch.zeros(1)}),
        lambda t: t.pop("adam.0.exp_avg"),
    ],
)
def test_a_state_of_another_optimiser_is_named(change, copy):
    """A moment of another shape ended the process: the fused step walks memory."""
    tensors = read_tensors(copy / "training-state.safetensors")
    change(tensors)
    write_tensors(copy / "training-state.safetensors", tensors)
    with pytest.raises(InputError, match=r"training-state\.safetensors is not the state of such a run"):
        resumed(copy)


def test_what_a_shipped_model_comes_with_stays_as_it_is(tmp_path):
    with pytest.raises(InputError, match=r"digits-2d is kept as it was shipped; copy .* to a folder of your own"):
        CliRunner().invoke(
            cli, ["calibrate", "--checkpoint", "digits-2d", "--gaps", str(tmp_path / "t.csv")], catch_exceptions=False
        )


def test_an_encoder_under_another_name_is_not_that_one(copy):
    checkpoint = load_checkpoint(copy)
    for name in ("one", "other"):
        store_encoder(copy, name, checkpoint.model.encoder.state_dict(), checkpoint.decoder_digest)
    store_list(copy, {"one": {"method": "vae"}, "other": {"method": "vae"}})
    shutil.copy(copy / "encoders" / "other.safetensors", copy / "encoders" / "one.safetensors")
    with pytest.raises(InputError, match="holds the encoder 'other', not 'one'"):
        load_checkpoint(copy).with_method("one")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gaps", "--checkpoint", "digits-2d", "--out", ""], "it is empty"),
        (["posterior", "--checkpoint", "digits-2d", "--image", "/dev/zero"], "is no ordinary file"),
        (["train", "--dataset", "archive:/dev/zero", "--out", "o"], "is no ordinary file"),
        (["train", "--dataset", "archive:~nouser/x", "--out", "o"], "cannot be a file"),
        (["train", "--method", "iaf", "--flows", "100000", "--out", "o"], "not in the range"),
        (["gaps", "--checkpoint", "digits-2d", "--out", "o.csv", "--jobs", "1000000"], "not in the range"),
        (["train", "--decoder", "", "--out", "o"], "it is empty"),
        (["train", "--init", "", "--out", "o"], "it is empty"),
        (["train", "--device", "hpu", "--out", "o"], "device 'hpu' is not usable here"),
    ],
)
def test_a_command_that_would_never_end_or_break_is_refused(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, words)
    assert result.exit_code != 0 and said in result.output + str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_pipe_is_refused_as_the_place_of_a_result_before_it_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("gpvae_core.commands.evaluate.score_images", lambda *_: pytest.fail("scores are computed"))
    os.mkfifo(tmp_path / "pipe")
    result = CliRunner().invoke(cli, ["rank", "--checkpoint", "digits-2d", "--out", str(tmp_path / "pipe")])
    assert result.exit_code == 2 and "pipe is no ordinary file; give the path of a file" in result.output


def test_figures_are_refused_before_minutes_are_spent(copy, tmp_path, monkeypatch):
    monkeypatch.setattr("app.figures.__main__.gap_table", lambda *_: pytest.fail("posteriors are computed"))
    result = CliRunner().invoke(figures, ["--checkpoint", str(copy), "--out", str(tmp_path / "o")])
    assert result.exit_code == 2 and "there is no score 'uncertainty' for run; choose among" in result.output


@pytest.mark.parametrize("member", ["text", "scalar"])
def test_an_archive_of_what_are_no_images_is_named(member, tmp_path):
    images = np.zeros((4, 8, 8), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=np.uint8(3) if member == "scalar" else images, test_images=images)
    if member == "text":
        with ZipFile(tmp_path / "a.npz", "a") as opened:
            opened.writestr("train_labels", b"no array")
    said = "is not a whole data set .train_labels does not begin as an" if member == "text" else "holds .*must be uint8"
    with pytest.raises(InputError, match=rf"a\.npz {said}"):
        load_dataset(f"archive:{tmp_path / 'a.npz'}")


def test_a_description_nested_without_end_is_named(copy):
    (copy / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"config\.json is not valid JSON"):
        load_checkpoint(copy)


def test_options_that_would_fill_the_memory_are_refused():
    for name in (10**6, 10**40):
        with pytest.raises(InputError, match="option 'trunks' must be at most 64, but it is 10"):
            ModelConfig(method="vae", options={"trunks": name})


def test_there_are_two_families(grey, digits_2d):
    with pytest.raises(InputError, match="no family 'round' of Gaussians; use one of diagonal, full"):
        gp.judge(digits_2d, grey.pixels(), families=("round",))


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
