"""Every file of a checkpoint with bits flipped and its end cut off: it is named, or what is read is what was saved."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.diagnostics.gap_table import read_rows, save_gaps, settings_file
from gpvae_core.diagnostics.references import load_references
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.encoders import store_encoder, store_list
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.paths import PRETRAINED, REFERENCES
from gpvae_core.shipped import manifest
from gpvae_core.tensors import read_tensors, tensor_digest


def everything(folder: Path) -> str:
    """A digest of all that a checkpoint's folder says."""
    checkpoint = load_checkpoint(folder)
    found = [checkpoint.digest, repr(checkpoint.config), json.dumps(checkpoint.training, sort_keys=True)]
    for name, offer in checkpoint.encoders.items():
        found.append(f"{name} {offer.label} {sorted(offer.measured.items())}")
        if offer.weights is not None:
            found.append(tensor_digest(checkpoint.with_method(name).model.state_dict()))
    columns = stored_columns(checkpoint, "digits", 359)
    found += [name + sha256(values.tobytes()).hexdigest() for name, values in columns.items()]
    if (folder / REFERENCES).exists():
        load_references(checkpoint)
        found.append(tensor_digest(read_tensors(folder / REFERENCES)))
    return sha256("\n".join(found).encode()).hexdigest()


def outcomes(path: Path, read: Callable[[], str], flips: int, cuts: int, seed: int = 0) -> Counter[str]:
    """How often damage to the file at ``path`` is "named", "harmless", "silent", blamed on "another" or a traceback."""
    whole, truth, random = path.read_bytes(), read(), np.random.default_rng(seed)
    damaged = [whole[: int(size)] for size in random.integers(len(whole), size=cuts)]
    for at in random.integers(len(whole), size=flips):
        broken = bytearray(whole)
        broken[at] ^= 1 << int(random.integers(8))
        damaged.append(bytes(broken))
    counted: Counter[str] = Counter()
    for content in damaged:
        path.write_bytes(content)
        try:
            counted["harmless" if read() == truth else "silent"] += 1
        except InputError as error:
            counted["named" if path.name in str(error) else f"another: {error}"] += 1
        except Exception as error:
            counted[f"{type(error).__name__}: {error}"] += 1
    path.write_bytes(whole)
    return counted


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    place = tmp_path_factory.mktemp("shipped")
    shutil.copytree(PRETRAINED / "digits-2d", place / "digits-2d")
    (place / "manifest.json").write_bytes((PRETRAINED / "manifest.json").read_bytes())
    return place / "digits-2d"


@pytest.fixture
def at_home(shipped, monkeypatch):
    """The copy counts as what is shipped."""
    monkeypatch.setattr("gpvae_core.shipped.PRETRAINED", shipped.parent)
    monkeypatch.setattr("gpvae_core.shipped.MANIFEST", shipped.parent / "manifest.json")
    return shipped


FILES = sorted(manifest()["digits-2d"]["files"])


@pytest.mark.parametrize(("name", "flips", "cuts"), [*((name, 8, 4) for name in FILES), ("../manifest.json", 200, 50)])
def test_of_a_shipped_checkpoint(name, flips, cuts, at_home):
    found = outcomes(at_home / name, lambda: everything(at_home), flips, cuts)
    assert found.keys() <= {"named", "harmless"}, found


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A training of one's own, with two encoders on its decoder and a table of gaps."""
    folder = tmp_path_factory.mktemp("own") / "run"
    small = ("--hidden", 8, "--latent-dim", 2, "--epochs", 1)
    invoked("train", "--dataset", "digits", "--method", "vae", *small, "--out", folder)
    checkpoint = load_checkpoint(folder)
    encoder = checkpoint.model.encoder
    store_encoder(folder, "again", encoder.state_dict(), checkpoint.decoder_digest)
    store_list(folder, {"again": {"method": "vae", "note": "the same"}, "search": {"method": "gn"}})
    for table in TABLES:
        save_gaps(folder / table, SETTINGS, [{"index": k, "kl_q": 0.1 + k} for k in range(3)])
    return folder


WRONG = [None, True, -1, 0, 10**7, 1.5, float("nan"), 10**400, "x", [], {}, [0, 0, 0], [[1]], {"a": 1}]


@pytest.mark.parametrize("part", ["model", "training"])
def test_a_description_that_was_changed_by_hand_is_named_before_memory_is_taken(part, own, tmp_path):
    """No checksum says so there. Whatever is opened has the very weights of the file."""
    record, said = read_json(own / "config.json"), []
    shutil.copy(own / "model.safetensors", tmp_path)
    digest, changed = load_checkpoint(own).digest, {f"{part}.{name}": 0 for name in record[part]}
    whole = [{**record, part: value} for value in WRONG if value != {}]
    single = [
        (name, {**record, part: {**record[part], name: value}})
        for name in [*record[part], "split", "recipe", "other"]
        for value in WRONG
    ]
    for name, content in [("all", content) for content in whole] + single:
        (tmp_path / "config.json").write_text(json.dumps(content))
        try:
            opened = load_checkpoint(tmp_path)
        except InputError as error:
            said.append(str(error))
            changed[f"{part}.{name}"] = changed.get(f"{part}.{name}", 0) + 1
            continue
        assert opened.digest == digest
        assert isinstance(opened.dataset, str) and isinstance(opened.seed, int) and isinstance(opened.split, int)
    assert all("config.json" in words or "another architecture" in words for words in said), said
    checked = {"model": set(record["model"]), "training": {"dataset", "seed", "split", "recipe"}}[part]
    assert all(changed[f"{part}.{name}"] > len(WRONG) / 2 for name in checked), changed


@pytest.mark.parametrize("name", ["../other", "a\0b", "", ".hidden", "x" * 300])
def test_an_encoders_name_leads_nowhere_else(name, own, tmp_path):
    shutil.copytree(own, tmp_path / "run")
    (tmp_path / "run" / "encoders" / "encoders.json").write_text(json.dumps({name: {"method": "vae"}}))
    with pytest.raises(InputError, match="describes no encoder"):
        list(load_checkpoint(tmp_path / "run").encoders)


@pytest.mark.parametrize(
    "entry",
    [
        {"method": "vae", "weights": "elsewhere"},
        {"method": "vae", "options": {"trunks": "three"}},
        {"method": "vae", "note": 3},
        {"method": ["vae"]},
        {"method": "gn", "measured": []},
        [],
        None,
    ],
)
def test_an_encoder_described_by_the_wrong_types_is_named(entry, own, tmp_path):
    shutil.copytree(own, tmp_path / "run")
    (tmp_path / "run" / "encoders" / "encoders.json").write_text(json.dumps({"again": entry}))
    with pytest.raises(InputError, match=r"encoders\.json has an entry 'again' that describes no encoder"):
        list(load_checkpoint(tmp_path / "run").encoders)


TABLES = ["gaps.csv", "gaps.parquet"]
SETTINGS = {"digest": "0123456789abcdef", "dataset": "digits", "split": "validation", "tolerance": 1e-3}


def invoked(*words) -> None:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("name", "flips", "cuts"),
    [
        ("config.json", 200, 50),
        ("encoders/encoders.json", 200, 50),
        ("model.safetensors", 40, 10),  # of the format itself: tests/test_files.py
        ("encoders/again.safetensors", 40, 10),
    ],
)
def test_of_a_training_of_ones_own(name, flips, cuts, own):
    found = outcomes(own / name, lambda: everything(own), flips, cuts)
    assert found.keys() <= {"named", "harmless"}, found


@pytest.mark.parametrize("name", [*TABLES, *(f"{table}.json" for table in TABLES)])
def test_of_a_table_of_gaps(name, own):
    table = own / name.removesuffix(".json")

    def read() -> str:
        settings = read_json(settings_file(table))
        return repr([read_rows(table, settings), *(settings.get(key) for key in SETTINGS)])

    found = outcomes(own / name, read, 200, 50)
    assert found.keys() <= {"named", "harmless"}, found
