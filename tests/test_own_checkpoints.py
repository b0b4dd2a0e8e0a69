"""Checkpoints of one's own beside the shipped ones: found anew, named by their path, nothing beyond their folders."""

import os
import shutil
from pathlib import Path

import click
import pytest
import torch

from gpvae_core.catalogue import catalogue
from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.commands import options
from gpvae_core.data.datasets import lasting_name
from gpvae_core.errors import InputError
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import PRETRAINED, WEIGHTS, check_environment, data_folder, own_folders
from gpvae_core.shipped import fetched, manifest
from tests.test_app import opened, shown


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A folder with a run two levels down, one of ten latent dimensions, one of another size, and a link out."""
    folder = tmp_path / "runs"
    shutil.copytree(PRETRAINED / "digits-2d", folder / "sweep" / "seed-0")
    for name, config in (("deep", ModelConfig(latent_dim=10)), ("small", ModelConfig(image_shape=(1, 16, 16)))):
        save_checkpoint(folder / name, build(config, seed=0), config, {"dataset": "digits", "seed": 0})
    outside = tmp_path / "secret"
    shutil.copytree(PRETRAINED / "digits-2d", outside)
    (folder / "linked").symlink_to(outside)
    (folder / "weights-linked").mkdir()
    (folder / "weights-linked" / WEIGHTS).symlink_to(outside / WEIGHTS)
    monkeypatch.setenv("GPVAE_CHECKPOINTS", str(folder))
    return folder


def test_the_catalogue_names_runs_by_their_path_and_follows_no_link_out(runs):
    found = catalogue([runs])
    assert list(found)[: len(manifest())] == list(manifest())
    assert set(found) - set(manifest()) == {"sweep/seed-0", "deep", "small"}
    shutil.copytree(PRETRAINED / "digits-2d", runs / "digits-2d")
    both = catalogue([runs])
    assert both["digits-2d"] == PRETRAINED / "digits-2d" and both["runs/digits-2d"] == runs / "digits-2d"
    assert set(catalogue([runs / "deep"])) - set(manifest()) == {"deep"}


def test_the_library_opens_them_by_the_same_name(runs):
    assert load_checkpoint("sweep/seed-0").digest == load_checkpoint("digits-2d").digest


@pytest.mark.usefixtures("offline")
def test_the_app_shows_them_after_the_shipped_ones(runs, digits_2d):
    page = opened(c="sweep/seed-0", i="5", data="digits", **{"from": "number"})
    assert shown(page) == shown(opened(c="digits-2d", i="5", data="digits", **{"from": "number"}))
    offered = list(page.selectbox(key="explore-checkpoint").options)
    assert offered == [*list(manifest()), "deep", "small", "sweep/seed-0"]
    shutil.copytree(PRETRAINED / "digits-2d", runs / "later")
    page.run()
    assert "later" in page.selectbox(key="explore-checkpoint").options


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "said"),
    [("deep", "has 10 latent dimensions, but a plane shows 2"), ("small", "takes images of (1, 16, 16)")],
)
def test_what_a_plane_cannot_show_is_one_sentence_and_another_can_be_chosen(runs, name, said):
    page = opened(c=name)
    (error,) = page.error
    assert f"'{name}' {said}" in error.value
    page.selectbox(key="explore-checkpoint").set_value("digits-2d").run()
    assert not page.error and not page.exception and shown(page)


@pytest.mark.usefixtures("offline")
def test_the_web_reaches_nothing_outside_the_folders(runs):
    for asked in (
        "../secret",
        str(runs.parent / "secret"),
        "linked",
        "weights-linked",
        "sweep/../../secret",
        os.devnull,
    ):
        page = opened(c=asked)
        assert not page.exception
        assert page.selectbox(key="explore-checkpoint").value == "digits-2d-wide"
        assert any("There is no checkpoint" in warning.value for warning in page.warning), asked


@pytest.mark.usefixtures("offline")
def test_a_run_that_goes_on_is_opened_anew(runs):
    config = ModelConfig(hidden=8, channels=(4, 4, 4))  # its planes are decoded sooner than a large one's
    model, training = build(config, seed=0), {"dataset": "digits", "seed": 0}
    save_checkpoint(runs / "going-on", model, config, training)
    page = opened(c="going-on")
    before = page.query_params["w"]
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1e-3)  # another epoch
    save_checkpoint(runs / "going-on", model, config, training)
    page.run()
    assert not page.exception and page.query_params["w"] != before


@pytest.mark.usefixtures("offline")
def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GPVAE_CHECKPOINTS", str(tmp_path / "gone"))
    page = opened()
    assert any("no folder 'gone'" in warning.value for warning in page.warning)


@pytest.mark.parametrize("name", ["GPVAE_CHECKPOINTS", "GPVAE_DATA_DIR"])
@pytest.mark.usefixtures("offline")
def test_a_home_folder_of_nobody_in_the_environment_is_one_sentence(name, monkeypatch):
    monkeypatch.setenv(name, "~nouser/x")
    said = f"{name}='~nouser/x' begins with the home folder of a user who is unknown here; give the whole path"
    with pytest.raises(InputError, match=said):
        check_environment()
    page = opened()
    assert [error.value for error in page.error] == [said] and not page.exception


def test_shipped_models_below_a_home_folder_of_nobody_are_one_sentence(monkeypatch):
    monkeypatch.setenv("GPVAE_PRETRAINED", "~nouser/x")
    with pytest.raises(InputError, match="GPVAE_PRETRAINED='~nouser/x' begins with the home folder of a user"):
        fetched("mnist-2d")


def test_a_home_folder_is_found_wherever_a_path_is_taken(tmp_path, monkeypatch):
    shutil.copytree(PRETRAINED / "digits-2d", tmp_path / "own" / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GPVAE_CHECKPOINTS", "~/own")
    monkeypatch.setenv("GPVAE_DATA_DIR", "~/own")
    assert own_folders() == [data_folder()] == [tmp_path / "own"]
    assert load_checkpoint("model").folder == load_checkpoint("~/own/model").folder == tmp_path / "own" / "model"
    assert lasting_name("simulated:~/own/model") == f"simulated:{tmp_path / 'own' / 'model'}"
    assert options.FilePath.convert("~/r.csv", None, None) == tmp_path / "r.csv"
    with pytest.raises(click.BadParameter, match="'~nouser/r' begins with the home folder of a user"):
        options.FilePath.convert("~nouser/r", None, None)


def test_an_unknown_name_says_where_it_was_looked_for(runs):
    with pytest.raises(InputError, match="GPVAE_CHECKPOINTS"):
        load_checkpoint("nowhere")
