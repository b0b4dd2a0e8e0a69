"""Data sets: splits, binary draws, folders, simulation, and downloads with and without a network."""

import errno
import gzip
import hashlib
import os
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from gpvae_core.data import load_dataset, originals
from gpvae_core.data.torchvision_compat import torchvision_datasets
from gpvae_core.errors import InputError


def test_digits_need_nothing_and_are_split_by_seed(digits):
    assert [len(digits.split(s)) for s in ("train", "validation", "test")] == [1294, 144, 359]
    assert digits.test.pixels().shape == (359, 1, 28, 28)
    assert 0 <= float(digits.test.pixels().min()) <= float(digits.test.pixels().max()) <= 1
    again, other = load_dataset("digits"), load_dataset("digits", seed=1)
    assert np.array_equal(digits.validation.images, again.validation.images)
    assert not np.array_equal(digits.validation.images, other.validation.images)
    assert np.array_equal(digits.test.images, other.test.images)
    assert set(digits.test.labels.tolist()) == set(range(10))


def test_digits_are_those_of_scikit_learn_shrunk_back(digits):
    from sklearn.datasets import load_digits

    raw = load_digits()
    held = np.sort(np.random.default_rng(0).permutation(len(raw.images))[: len(raw.images) // 5])
    np.testing.assert_array_equal(digits.test.labels, raw.target[held])
    ours = digits.test.images.astype(float).sum((1, 2))
    assert np.corrcoef(ours, raw.images[held].sum((1, 2)))[0, 1] > 0.9


def test_mnist_is_whole(mnist):
    assert [len(mnist.split(s)) for s in ("train", "validation", "test")] == [54_000, 6_000, 10_000]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(float(mnist.train.pixels().mean()) - 0.1307) < 1e-3


@pytest.fixture
def grey_mnist(tmp_path):
    """A stand-in mnist.npz of one constant grey."""
    images = np.full((200, 28, 28), 77, dtype=np.uint8)
    labels = np.zeros(200, dtype=np.uint8)
    arrays = {f"{s}_{k}": v for s in ("train", "test") for k, v in (("images", images), ("labels", labels))}
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    return tmp_path


def test_binary_mnist_is_a_draw_and_never_a_threshold(grey_mnist):
    data = load_dataset("binary-mnist", grey_mnist)
    assert data.dynamic
    assert set(np.unique(data.train.images)) == {77}  # drawn anew at each use
    assert set(np.unique(data.split("train").images)) == {0, 255}
    for part in (data.test, data.validation):
        assert set(np.unique(part.images)) == {0, 255}
        assert abs(part.images.mean() / 255 - 77 / 255) < 4 * (0.25 / part.images.size) ** 0.5
    assert np.array_equal(data.test.images, load_dataset("binary-mnist", grey_mnist, seed=3).test.images)
    fixed = load_dataset("binary-mnist-fixed", grey_mnist)
    assert not fixed.dynamic
    assert set(np.unique(fixed.train.images)) == {0, 255}


def test_a_damaged_archive_is_named_with_the_cure(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"PK nonsense")
    with pytest.raises(InputError, match=r"mnist\.npz is not a whole data set .* delete it"):
        load_dataset("mnist", tmp_path)


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match="data set 'mnits' is unknown; choose one of mnist, omniglot"):
        load_dataset("mnits")


def test_a_folder_of_images_is_a_data_set(tmp_path, digits):
    for i in range(10):
        Image.fromarray(digits.train.images[i]).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    data = load_dataset(f"folder:{tmp_path}")
    parts = [{image.tobytes() for image in data.split(s).images} for s in ("train", "validation", "test")]
    assert all(parts) and sum(len(part) for part in parts) == 10
    assert set.union(*parts) == {image.tobytes() for image in digits.train.images[:10]}
    assert data.train.labels is None and data.notes == ()


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds 0 images"):
        load_dataset(f"folder:{tmp_path}")
    with pytest.raises(InputError, match="is not a folder"):
        load_dataset(f"folder:{tmp_path}/none")


def test_simulated_images_keep_their_latents(digits_2d):
    data = load_dataset("simulated:digits-2d")
    assert data.test.latents.shape == (2_000, 2)
    assert data.test.images.dtype == np.float32
    assert data.test.images.min() < 0  # not clipped
    residual = data.test.pixels(slice(0, 200)) - digits_2d.model.generative.decode(
        torch.as_tensor(data.test.latents[:200])
    )
    std = float(digits_2d.model.generative.likelihood.std)
    assert abs(float(residual.std()) / std - 1) < 0.02
    assert np.abs(data.train.latents.std(0) - 1).max() < 0.05


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    def refuse(url, **_):
        raise requests.ConnectionError("refused", request=requests.Request("GET", url).prepare())

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(InputError) as caught:
        load_dataset("mnist", tmp_path)
    for part in ("no connection to", "copy mnist.npz there", "data set digits"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def mirror(served, monkeypatch):
    """Tiny MNIST files, in the list of mirrors with their checksums."""
    folder, address = served
    rng = np.random.default_rng(0)
    files = {}
    for split, n in (("train", 30), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)),
            ("labels-idx1", rng.integers(0, 10, n, dtype=np.uint8)),
        ):
            header = np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            name = f"{split}-{kind}-ubyte.gz"
            data = gzip.compress(header + array.tobytes())
            (folder / name).write_bytes(data)
            files[f"{split.replace('t10k', 'test')}_{kind[:6]}"] = name, hashlib.md5(data).hexdigest()
    monkeypatch.setattr(originals, "MNIST_MIRRORS", [f"{address}/"])
    monkeypatch.setattr(originals, "MNIST_FILES", files)
    return folder


def test_mnist_is_where_torchvision_has_it():
    source = torchvision_datasets().MNIST
    assert source.mirrors == originals.MNIST_MIRRORS and source.resources == [*originals.MNIST_FILES.values()]


def test_mnist_is_downloaded_checked_and_built_once(mirror, tmp_path):
    data = load_dataset("mnist", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 10)
    raw = gzip.decompress((mirror / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.test.images.tobytes() == raw[16:]
    assert data.test.labels.tobytes() == gzip.decompress((mirror / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    for file in mirror.iterdir():
        file.unlink()
    assert np.array_equal(load_dataset("mnist", tmp_path).test.images, data.test.images)


@pytest.mark.parametrize("obstacle", ["a folder below a file", "a full disk", "no permission to look"])
def test_a_download_that_cannot_be_kept_goes_on_in_memory(mirror, tmp_path, monkeypatch, obstacle):
    folder = tmp_path / "cache"
    if obstacle == "a folder below a file":
        folder.write_bytes(b"a file")
        folder = folder / "deeper"
    elif obstacle == "a full disk":
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    else:
        _refuse(monkeypatch, "exists", "mnist.npz", errno.EACCES)
        _refuse(monkeypatch, "mkdir", "cache", errno.EACCES)
    data = load_dataset("mnist", folder)
    raw = gzip.decompress((mirror / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.test.images.tobytes() == raw[16:]
    assert data.notes == (f"mnist could not be kept in {folder}: it is downloaded each time",)


def _refuse(monkeypatch, function, where, code):
    """``function`` of pathlib.Path fails for paths that end in ``where``; the download has a place of its own."""
    original = getattr(Path, function)

    def refused(path, *arguments, **options):
        if path.name == where:
            raise OSError(code, os.strerror(code))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, function, refused)


def test_a_corrupt_download_is_refused(mirror, tmp_path):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"could not be downloaded .*hash"):
        load_dataset("mnist", tmp_path)
    assert not (tmp_path / "mnist.npz").exists()


def test_omniglot_is_downloaded_and_averaged_down(served, tmp_path, monkeypatch):
    """Black ink on white, 105x105 -> white ink on black, 28x28; background = training, evaluation = test."""
    folder, address = served
    source = torchvision_datasets().Omniglot
    checksums = {}
    for part, characters in (("images_background", 4), ("images_evaluation", 3)):
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for i in range(characters):
                page = np.full((105, 105), 255, dtype=np.uint8)
                page[: 15 * (i + 1)] = 0
                buffer = BytesIO()
                Image.fromarray(page).convert("1").save(buffer, "PNG")
                archive.writestr(f"{part}/Greek/character0{i + 1}/000{i}_01.png", buffer.getvalue())
        checksums[part] = hashlib.md5((folder / f"{part}.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(source, "zips_md5", checksums)
    monkeypatch.setattr(source, "download_url_prefix", address)
    data = load_dataset("omniglot", tmp_path)
    assert (len(data.train) + len(data.validation), len(data.test)) == (4, 3)
    for image, label in zip(data.test.images, data.test.labels, strict=True):
        assert image.mean() / 255 == pytest.approx((int(label) + 1) / 7, abs=0.01)
        assert image[0].min() == 255
