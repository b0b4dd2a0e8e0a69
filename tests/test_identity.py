"""Two runs of one architecture: a file of the one in the folder of the other is named, and nothing is written over."""

import json
import shutil

import pytest

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.identity import STATE, run_of
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.tensors import read_tensors, write_tensors
from gpvae_core.training.fit import TrainingConfig, saved_epoch
from gpvae_core.training.runs import run

SMALL = ModelConfig(method="gpvae-unit", hidden=8, channels=(4, 4, 4))


@pytest.fixture
def runs(tmp_path, tiny_dataset):
    """Two epochs of seeds 0 and 1 in the folders a and b."""
    for name, seed in (("a", 0), ("b", 1)):
        list(run(tmp_path / name, tiny_dataset, SMALL, TrainingConfig("tiny", seed=seed, epochs=2)))
    return tmp_path


@pytest.fixture
def resumed(runs, tiny_dataset):
    """What is said when the run in a goes on; the files there stay as they were."""

    def resume(seed=0) -> str:
        before = {path.name: path.read_bytes() for path in (runs / "a").iterdir()}
        with pytest.raises(InputError) as caught:
            list(run(runs / "a", tiny_dataset, SMALL, TrainingConfig("tiny", seed=seed, epochs=2), resume=True))
        assert {path.name: path.read_bytes() for path in (runs / "a").iterdir()} == before
        return str(caught.value)

    return resume


@pytest.mark.parametrize("name", [WEIGHTS, STATE])
def test_a_file_of_another_run_is_named_and_not_gone_on_with(name, runs, resumed):
    shutil.copy(runs / "b" / name, runs / "a" / name)
    assert f"{runs / 'a' / name} is of another run than the config.json beside it" in resumed()


def test_weights_of_another_run_are_not_opened(runs):
    shutil.copy(runs / "b" / WEIGHTS, runs / "a" / WEIGHTS)
    with pytest.raises(InputError, match=r"a/model\.safetensors is of another run than the config\.json beside it"):
        load_checkpoint(runs / "a")


def test_a_description_of_another_run_is_named_where_weights_and_state_agree_against_it(runs, resumed):
    shutil.copy(runs / "b" / CONFIG, runs / "a" / CONFIG)
    with pytest.raises(InputError, match=r"a/config\.json is not what model\.safetensors beside it was saved with"):
        load_checkpoint(runs / "a")
    assert "a/config.json is not what model.safetensors" in resumed(seed=1)


@pytest.mark.parametrize(("key", "value"), [("activation", "relu"), ("method", "gpvae-shared"), ("std", 0.5)])
def test_weights_are_not_opened_as_another_network(key, value, runs):
    """Its digest was the same, and the tables of the old one were served."""
    record = read_json(runs / "a" / CONFIG)
    record["model"][key] = value
    (runs / "a" / CONFIG).write_text(json.dumps(record))
    (runs / "a" / STATE).unlink()
    with pytest.raises(InputError, match=r"a/config\.json is not what model\.safetensors beside it was saved with"):
        load_checkpoint(runs / "a")


def test_a_state_alone_goes_on_as_its_own_run_only(runs, tiny_dataset, resumed):
    for name in (CONFIG, WEIGHTS):
        (runs / "a" / name).unlink()
    assert "is not of the run that is asked for" in resumed(seed=7)
    training = TrainingConfig("tiny", epochs=2)
    counters = read_tensors(runs / "a" / STATE)["counters"].tolist()
    if counters[1] == 2:  # the best epoch is in the state itself
        assert list(run(runs / "a", tiny_dataset, SMALL, training, resume=True)) == []
        assert load_checkpoint(runs / "a").training["best_epoch"] == 2
    else:
        assert "has lost the model.safetensors of its best epoch, 1" in resumed()
    assert saved_epoch(runs / "a") == 2


def test_a_run_is_known_wherever_it_lies_and_whatever_came_of_it():
    model = {"hidden": 8, "train_std": True}
    settings = {"dataset": "folder:/home/me/pictures", "seed": 0, "epochs": 2, "decoder": "runs/vae"}
    moved = {**settings, "dataset": "folder:/mnt/pictures", "decoder": "vae", "best_epoch": 2, "dreams": 0.0}
    assert run_of(model, settings) == run_of({**model, "hidden": 8.0}, moved)
    for change in ({"seed": 1}, {"epochs": 3}, {"dataset": "folder:/home/me/drawings"}):
        assert run_of(model, settings) != run_of(model, {**settings, **change})


def test_files_that_name_no_run_are_taken_as_they_are(tmp_path):
    save_checkpoint(tmp_path, build(SMALL, seed=0), SMALL, {"dataset": "digits"})
    digest = load_checkpoint(tmp_path).digest
    write_tensors(tmp_path / WEIGHTS, read_tensors(tmp_path / WEIGHTS))
    assert load_checkpoint(tmp_path).digest == digest
