"""Data sets in colour from files of the real formats, and what is trained on them: dense and convolutional networks."""

import hashlib
import json
import re
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from gpvae_core.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from gpvae_core.cli import cli
from gpvae_core.data import load_dataset, originals
from gpvae_core.data.torchvision_compat import torchvision_datasets
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.models import ModelConfig, build
from gpvae_core.training.runs import Wanted, config_for
from tests.reference import box_around_peak, log_evidence, log_joint_for
from tests.test_app import opened

RNG = np.random.default_rng(0)
SIZES = {"train": 20, "test": 5}
PIXELS = {split: RNG.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for split, n in SIZES.items()}
LABELS = {split: RNG.integers(0, 10, n, dtype=np.uint8) for split, n in SIZES.items()}


def cifar10() -> bytes:
    """cifar-10-binary.tar.gz with four images a batch, as its page describes it."""
    rows = {
        split: np.concatenate([LABELS[split][:, None], PIXELS[split].transpose(0, 3, 1, 2).reshape(-1, 3072)], 1)
        for split in SIZES
    }
    files = {f"data_batch_{k + 1}.bin": part for k, part in enumerate(np.split(rows["train"], 5))}
    files |= {"test_batch.bin": rows["test"], "batches.meta.txt": np.frombuffer(b"airplane\n", np.uint8)}
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = content.nbytes
            archive.addfile(member, BytesIO(content.tobytes()))
    return buffer.getvalue()


def svhn(split: str) -> bytes:
    """train_32x32.mat and its like: X (32, 32, 3, N), y (N, 1) with 10 for the digit 0."""
    buffer = BytesIO()
    labels = np.where(LABELS[split] == 0, 10, LABELS[split])[:, None]
    savemat(buffer, {"X": np.moveaxis(PIXELS[split], 0, 3), "y": labels}, do_compression=True)
    return buffer.getvalue()


def check(data) -> None:
    """Every image with its own label, on the side where it was, a tenth of the training set held out."""
    assert data.test.shape == (3, 32, 32)
    assert (len(data.train), len(data.validation)) == (18, 2)
    np.testing.assert_array_equal(data.test.images, PIXELS["test"])
    np.testing.assert_array_equal(data.test.labels, LABELS["test"])
    pairs = {image.tobytes(): label for image, label in zip(PIXELS["train"], LABELS["train"], strict=True)}
    for part in (data.train, data.validation):
        assert all(pairs[x.tobytes()] == y for x, y in zip(part.images, part.labels, strict=True))
    x = data.test.pixels()
    assert x.shape == (5, 3, 32, 32) and x.dtype == torch.float32
    np.testing.assert_array_equal(x[2, 1, 3, 4].numpy(), np.float32(PIXELS["test"][2, 3, 4, 1]) / np.float32(255))


def test_cifar_10_and_svhn_are_read_from_their_authors_files(tmp_path):
    (tmp_path / originals.CIFAR).write_bytes(cifar10())
    for split in SIZES:
        (tmp_path / f"{split}_32x32.mat").write_bytes(svhn(split))
    for name in ("cifar10", "svhn"):
        check(load_dataset(name, tmp_path))


def test_they_are_downloaded_checked_and_kept(served, tmp_path, monkeypatch):
    folder, address = served
    (folder / "cifar.tar.gz").write_bytes(cifar10())
    monkeypatch.setattr(originals, "CIFAR_URL", f"{address}/cifar.tar.gz")
    monkeypatch.setattr(originals, "CIFAR_MD5", hashlib.md5(cifar10()).hexdigest())
    listed = {}
    for split in SIZES:
        name, data = f"{split}_32x32.mat", svhn(split)
        (folder / name).write_bytes(data)
        listed[split] = [f"{address}/{name}", name, hashlib.md5(data).hexdigest()]
    monkeypatch.setattr(torchvision_datasets().SVHN, "split_list", listed)
    kept = tmp_path / "kept"
    for name in ("cifar10", "svhn"):
        check(load_dataset(name, kept))
        check(load_dataset(f"archive:{kept / name}.npz"))
    for file in folder.iterdir():
        file.write_bytes(b"something else")
    for name in ("cifar10", "svhn"):
        check(load_dataset(name, kept))
        with pytest.raises(InputError, match=r"could not be downloaded .*hash"):
            load_dataset(name, tmp_path / "elsewhere")


def test_faces_are_cropped_and_split_at_random(tmp_path):
    """Pixel (x, y) of a face of 178 x 218 is (x, y, number); the crop's corners are those of the middle 108 pixels."""
    folder = tmp_path / "celeba" / "img_align_celeba"
    folder.mkdir(parents=True)
    across, down = np.meshgrid(np.arange(178), np.arange(218))
    for number in range(20):
        face = np.stack([across, down, np.full_like(across, 10 * number)], -1).astype(np.uint8)
        Image.fromarray(face).save(folder / f"{number + 1:06}.jpg", quality=100, subsampling=0)
    data = load_dataset("celeba", tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 2, 2]
    assert data.train.shape == (3, 64, 64) and data.train.labels is None
    numbers = [np.rint(part.images[..., 2].mean((1, 2)) / 10) for part in (data.train, data.validation, data.test)]
    assert sorted(np.concatenate(numbers)) == list(range(20))
    assert not np.array_equal(numbers[0], np.arange(16))
    for file in folder.iterdir():  # two hundred thousand of them are not decoded twice
        file.unlink()
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(load_dataset("celeba", tmp_path).split(part).images, data.split(part).images)
    half = 108 / 64 / 2
    for channel, low in ((0, 35), (1, 55)):
        axis = data.test.images[0, :, :, channel].mean(1 - (channel == 0))
        assert axis[0] == pytest.approx(low + half - 0.5, abs=1.5)
        assert axis[-1] == pytest.approx(low + 108 - half - 0.5, abs=1.5)


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_files_are_named(tmp_path, damage):
    whole = {originals.CIFAR: cifar10(), "test_32x32.mat": svhn("test"), "train_32x32.mat": svhn("train")}
    for name, data in whole.items():
        (tmp_path / name).write_bytes({"cut": data[: len(data) // 2], "empty": b"", "other": b"x" * 2000}[damage])
    for name, file in (("cifar10", originals.CIFAR), ("svhn", "_32x32.mat")):
        with pytest.raises(InputError, match=rf"{file} is no whole .*again"):
            load_dataset(name, tmp_path)


def test_without_faces_the_message_says_where_they_go(tmp_path):
    with pytest.raises(InputError, match=r"celeba.*unpack img_align_celeba.zip into the data folder"):
        load_dataset("celeba", tmp_path)


def test_an_archive_may_lack_labels_and_hold_its_own_validation_set(tmp_path):
    images = {f"{split}_images": PIXELS[split][:3] for split in SIZES}
    np.savez(tmp_path / "own.npz", **images, validation_images=PIXELS["train"][3:9])
    data = load_dataset(f"archive:{tmp_path}/own.npz")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 6, 3]
    assert data.test.labels is None
    np.savez(tmp_path / "own.npz", train_images=PIXELS["train"][..., :2], test_images=PIXELS["test"])
    with pytest.raises(InputError, match=r"train_images \(20, 32, 32, 2\) uint8; images must be uint8"):
        load_dataset(f"archive:{tmp_path}/own.npz")
    with pytest.raises(InputError, match=r"no file .*missing.npz; check the path"):
        load_dataset(f"archive:{tmp_path}/missing.npz")


# --- models -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> str:
    """Smooth images in colour as a data set."""
    path = tmp_path_factory.mktemp("colour") / "smooth.npz"
    hue, x, y = np.random.default_rng(1).random((60, 1, 1, 3)), *np.meshgrid(*2 * [np.linspace(0, 1, 32)])
    waves = 0.5 + 0.4 * np.sin(6 * (hue + x[None, :, :, None] * hue + y[None, :, :, None] * (1 - hue)))
    images = np.rint(255 * waves).astype(np.uint8)
    np.savez(path, train_images=images[:50], test_images=images[50:])
    return f"archive:{path}"


def test_the_networks_of_the_paper(spec, tmp_path):
    faces = tmp_path / "faces.npz"
    np.savez(faces, train_images=np.zeros((3, 64, 64, 3), np.uint8), test_images=np.zeros((1, 64, 64, 3), np.uint8))
    for name, wanted in ((spec, (3, 512)), (f"archive:{faces}", (4, 512)), ("digits", (3, 256))):
        config = config_for(load_dataset(name), "vae", {}, Wanted(), None)
        assert (len(config.channels), config.hidden) == wanted
        model = build(config, seed=0)
        z = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
        assert model.generative.decode(z).shape == (2, *config.image_shape)
    dense = config_for(load_dataset(spec), "gpvae", {}, Wanted(network="dense", hidden=20), None)
    kinds = {type(layer).__name__ for layer in build(dense, seed=0).modules()}
    assert "Linear" in kinds and not {"Conv2d", "ConvTranspose2d"} & kinds


def ran(*arguments: str) -> str:
    """What a command wrote to standard output."""
    done = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def trained(spec: str, out: Path, *options: object) -> Checkpoint:
    """Two epochs by the command line, evaluated."""
    ran("train", "--dataset", spec, "--out", out, "--hidden", 24, "--epochs", 2, "--batch-size", 16, *options)
    assert json.loads(ran("evaluate", "--checkpoint", out, "--samples", 10))["images"] == 10
    checkpoint = load_checkpoint(out)
    assert checkpoint.config.image_shape == (3, 32, 32) and checkpoint.config.hidden == 24
    return checkpoint


def test_convolutions_learn_colour_in_any_number_of_dimensions(spec, tmp_path, monkeypatch):
    monkeypatch.setattr("gpvae_core.training.evaluation.DRAWS_IN_ALL", 640)  # how many are enough: test_evaluation.py
    checkpoint = trained(spec, tmp_path / "run", "--method", "fullcov", "--latent-dim", 5)
    assert checkpoint.infer(load_dataset(spec).test.pixels()).q.dim == 5


def test_the_posterior_of_an_image_in_colour_is_exact(spec, tmp_path):
    """log p(x) against brute force, under the trained encoder and two Gauss-Newton steps on its decoder."""
    checkpoint = trained(spec, tmp_path / "run", "--method", "vae", "--network", "dense")
    x = load_dataset(spec).test.pixels(slice(1, 2))
    log_joint = log_joint_for(checkpoint.model.generative, x)
    value, left = log_evidence(log_joint, [box_around_peak(log_joint, nodes=40)], 0.2)
    engine = PosteriorEngine(checkpoint.model.generative, nodes=61)
    for one in (checkpoint, checkpoint.with_method("gn")):
        said = posterior_report(engine, one.model, x)
        assert said["log_evidence"] == pytest.approx(value, abs=said["log_evidence_error"] + left + 1e-4)
        assert said["log_evidence_error"] < 2e-3
        kls = [number for name, number in said.items() if re.fullmatch("kl_[a-z]+", name)]
        assert len(kls) > 1 and min(kls) > -1e-3


@pytest.mark.usefixtures("offline")
def test_the_app_says_what_it_cannot_show(tmp_path, monkeypatch):
    config = ModelConfig(method="vae", image_shape=(3, 32, 32), hidden=8)
    save_checkpoint(tmp_path / "runs" / "colour", build(config, seed=0), config, {"dataset": "svhn", "seed": 0})
    monkeypatch.setenv("GPVAE_CHECKPOINTS", str(tmp_path / "runs"))
    page = opened(c="colour")
    assert any("takes images of (3, 32, 32), but the app shows (1, 28, 28)" in e.value for e in page.error)
