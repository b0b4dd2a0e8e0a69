"""MNIST as the field passes it round: Keras's .npz and the four IDX files, and what is said of malformed ones."""

import gzip
import re

import numpy as np
import pytest
import requests

from gpvae_core.data import load_dataset
from gpvae_core.errors import InputError

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (30, 10))
TRAIN_LABELS, TEST_LABELS = (RNG.integers(0, 10, n, dtype=np.uint8) for n in (30, 10))
KERAS = {"x_train": TRAIN, "y_train": TRAIN_LABELS, "x_test": TEST, "y_test": TEST_LABELS}
IDX = {
    "train-images-idx3-ubyte": TRAIN,
    "train-labels-idx1-ubyte": TRAIN_LABELS,
    "t10k-images-idx3-ubyte": TEST,
    "t10k-labels-idx1-ubyte": TEST_LABELS,
}


def idx(array: np.ndarray) -> bytes:
    return np.array([0x0800 + array.ndim, *array.shape], dtype=">i4").tobytes() + array.tobytes()


def write_idx(folder, *, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in IDX.items():
        data = idx(array)
        (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(data) if packed else data)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(requests, "get", lambda *_, **__: pytest.fail("nothing needs to be downloaded"))


def check(data):
    """All images, each with its own label, on the side it was on."""
    np.testing.assert_array_equal(data.test.images, TEST)
    np.testing.assert_array_equal(data.test.labels, TEST_LABELS)
    pairs = {i.tobytes(): int(n) for i, n in zip(TRAIN, TRAIN_LABELS, strict=True)}
    found = [p for part in (data.train, data.validation) for p in zip(part.images, part.labels, strict=True)]
    assert {i.tobytes(): int(n) for i, n in found} == pairs
    assert (len(data.train), len(data.validation)) == (27, 3)


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_npz_of_keras_is_mnist(tmp_path, kind, save):
    save(tmp_path / "mnist.npz", **{k: v.astype(kind) if k[0] == "y" else v for k, v in KERAS.items()})
    data = load_dataset("mnist", tmp_path)
    check(data)
    assert data.train.labels.dtype == np.uint8
    assert set(np.unique(load_dataset("binary-mnist", tmp_path).test.images)) <= {0, 255}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", [".", "MNIST/raw"])
def test_the_four_idx_files_are_mnist(tmp_path, below, packed):
    write_idx(tmp_path / below, packed=packed)
    check(load_dataset("mnist", tmp_path))
    assert not (tmp_path / "mnist.npz").exists()  # another's folder is left as it is


def test_idx_files_with_a_dot_in_their_names_are_mnist_too(tmp_path):
    for name, array in IDX.items():
        (tmp_path / name.replace("-idx", ".idx")).write_bytes(idx(array))
    check(load_dataset("mnist", tmp_path))


MALFORMED_NPZ = {
    "other keys": (
        {"images": TRAIN, "labels": TRAIN_LABELS},
        r"holds images \(30, 28, 28\) uint8, labels \(30,\) uint8",
    ),
    "a key short": ({k: v for k, v in KERAS.items() if k != "y_test"}, r"x_test \(10, 28, 28\) uint8; give it"),
    "floats": (KERAS | {"x_test": TEST / 255}, r"x_test \(10, 28, 28\) float64, y_test \(10,\) uint8; images must be"),
    "flat": (KERAS | {"x_train": TRAIN.reshape(30, -1)}, r"x_train \(30, 784\) uint8, y_train \(30,\) uint8"),
    "counts": (KERAS | {"y_train": TEST_LABELS}, r"x_train \(30, 28, 28\) uint8, y_train \(10,\) uint8"),
    "labels": (KERAS | {"y_test": TEST_LABELS / 2}, r"y_test \(10,\) float64"),
    "negative": (KERAS | {"y_test": TEST_LABELS.astype(int) - 11}, r"y_test \(10,\) int64"),
    "no images": (KERAS | {"x_test": TEST[:0], "y_test": TEST_LABELS[:0]}, r"x_test \(0, 28, 28\) uint8"),
    "nothing": ({}, "holds no arrays"),
    "pickles": ({"x_train": np.array([{}, 1], dtype=object)}, "is not a whole data set"),
}


@pytest.mark.parametrize("name", MALFORMED_NPZ)
def test_a_malformed_npz_is_one_sentence_with_what_was_found_and_the_cure(tmp_path, name):
    arrays, found = MALFORMED_NPZ[name]
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(InputError, match=found) as caught:
        load_dataset("mnist", tmp_path)
    sentence = str(caught.value)
    assert "mnist.npz" in sentence and "delete it" in sentence and "\n" not in sentence


def whole() -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.savez_compressed(buffer, **KERAS)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    return data[:2000] + bytes(255 - b for b in data[2000:2100]) + data[2100:]


def lone() -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, TRAIN)
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"x", whole()[:5000], flipped(whole()), lone()], ids=range(5))
def test_a_damaged_npz_is_one_sentence(tmp_path, data):
    (tmp_path / "mnist.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"mnist\.npz is not a whole data set \(.*\); delete it"):
        load_dataset("mnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("t10k-labels-idx1-ubyte.gz", None, "holds some of MNIST's files but not t10k-labels; put all four there"),
        ("t10k-images-idx3-ubyte.gz", b"no gzip", "t10k-images-idx3-ubyte.gz cannot be unpacked"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(TEST))[:-100], "cannot be unpacked"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(TEST)[:-1]), "has 7839 values for the shape (10, 28, 28)"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(b""), "begins with nothing"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x0d\3" + bytes(12)), "begins with 00000d03"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\xff"), "begins with 000008ff"),
        ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(TEST_LABELS)), "t10k-images (10,) uint8, t10k-labels (10,)"),
        (
            "train-labels-idx1-ubyte.gz",
            gzip.compress(idx(TEST_LABELS)),
            "train-images (30, 28, 28) uint8, train-labels",
        ),
        ("train-images-idx3-ubyte.gz", gzip.compress(idx(TRAIN[:, 1:])), "train-images (30, 27, 28) uint8"),
    ],
    ids=lambda value: None if isinstance(value, str) else "file",  # a packed file holds the time
)
def test_a_malformed_idx_file_is_one_sentence_with_what_was_found(tmp_path, name, data, found):
    write_idx(tmp_path)
    (tmp_path / name).unlink() if data is None else (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=re.escape(found)) as caught:
        load_dataset("mnist", tmp_path)
    assert "\n" not in str(caught.value)
