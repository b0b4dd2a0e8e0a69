"""MNIST as the field passes it round: Keras's .npz and the four IDX files, and what is said of malformed ones."""

import gzip
import os
import re
import struct
import tracemalloc
from io import BytesIO
from time import process_time
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZipFile

import numpy as np
import pytest
import requests

from gpvae_core.data import load_dataset
from gpvae_core.data.archives import read_archive, read_idx
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
    buffer = BytesIO()
    np.savez_compressed(buffer, **KERAS)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    return data[:2000] + bytes(255 - b for b in data[2000:2100]) + data[2100:]


def lone() -> bytes:
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


# --- what would take much memory ------------------------------------------------------------------------------------


def promising(shape, descr="|u1"):
    """The beginning of an array of ``shape``, which need not be there."""
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def member(array) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(path, members, kind=ZIP_DEFLATED):
    with ZipFile(path, "w", kind) as archive:
        for key, data in members.items():
            archive.writestr(f"{key}.npy", data)


def sparingly(read, path):
    """What it gives; it takes neither a second nor 50 MB."""
    tracemalloc.start()
    before = process_time()
    try:
        return read(path)
    finally:
        took, (_, peak) = process_time() - before, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert took < 1 and peak < 50e6


OWN = {"train_images": member(TRAIN), "test_images": member(TEST)}


def bomb() -> bytes:
    return promising((200_000, 28, 28)) + bytes(200_000 * 784)


def made(data):
    """Hundreds of megabytes are made in the test that needs them, not in every program that has read this file."""
    return data() if callable(data) else data


MEAN = {
    "nested": (b"\x93NUMPY\1\0" + struct.pack("<H", 9000) + b"(" * 9000, "train_images.npy does not begin as an array"),
    "endless": (lambda: b"\x93NUMPY\2\0" + struct.pack("<I", 10**8) + b" " * 10**8, "does not begin as an array"),
    "too many": (promising((10**12, 28, 28)), "does not hold the numbers that its header promises"),
    "below none": (promising((-1, -28, 28)) + bytes(784), "does not hold the numbers that its header promises"),
    "no height": (member(np.zeros((4, 0, 28), np.uint8)), "holds train_images (4, 0, 28) uint8; images must be"),
    "long type": (promising((0,), [("a" * 50, "u1")]), "holds train_images (0,) [('" + "a" * 36 + "…; images must be"),
    "bomb": (bomb, "promises arrays of 156,807,840 bytes, more than the "),
}


@pytest.mark.parametrize("name", MEAN)
def test_an_array_that_promises_what_it_does_not_hold_is_refused_before_memory_is_taken(tmp_path, name):
    data, said = MEAN[name]
    zipped(tmp_path / "a.npz", OWN | {"train_images": made(data)})
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        sparingly(read_archive, tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def test_what_is_not_needed_is_not_unpacked(tmp_path):
    zipped(tmp_path / "a.npz", OWN | {"other": bomb()})
    found = sparingly(read_archive, tmp_path / "a.npz")
    assert found.keys() == OWN.keys()
    np.testing.assert_array_equal(found["train_images"], TRAIN)


def test_a_packing_that_numpy_does_not_use_is_refused(tmp_path):
    zipped(tmp_path / "a.npz", OWN, ZIP_LZMA)
    with pytest.raises(InputError, match=r"train_images\.npy is not packed as numpy packs"):
        read_archive(tmp_path / "a.npz")


@pytest.mark.parametrize("end", [b"", b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 60000, 60000, 899_999_000, 1000, 0)])
def test_a_large_file_of_nothing_is_not_read(tmp_path, end):
    with (tmp_path / "a.npz").open("wb") as file:
        file.seek(900_000_000)
        file.write(end or b"x")
    with pytest.raises(InputError, match="is not a whole data set"):
        sparingly(read_archive, tmp_path / "a.npz")


def test_arrays_of_any_order_are_read_as_numpy_reads_them(tmp_path):
    arrays = KERAS | {"x_train": np.asfortranarray(TRAIN), "y_train": TRAIN_LABELS.astype(">i8")}
    np.savez(tmp_path / "a.npz", **arrays)
    found = read_archive(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["train_images"], TRAIN)
    np.testing.assert_array_equal(found["train_labels"], TRAIN_LABELS)


def sizes(*shape):
    return struct.pack(f">I{len(shape)}i", 0x0800 + len(shape), *shape)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("train-images-idx3-ubyte", sizes(-1, 28, 28), "promises arrays of 3,367,254,359,280 bytes, more than the"),
        ("train-images-idx3-ubyte", 900_000_000, "begins with 00000000 and has 0 values"),
        (
            "train-images-idx3-ubyte.gz",
            lambda: sizes(200_000, 28, 28) + bytes(200_000 * 784),
            "promises arrays of 156,800,000",
        ),
        (
            "train-images-idx3-ubyte.gz",
            lambda: sizes(4, 28, 28) + bytes(10**8),
            "has more than 3136 values for the shape",
        ),
    ],
    ids=["negative", "sparse", "bomb", "longer"],
)
def test_an_idx_file_that_promises_what_it_does_not_hold_is_refused_before_memory_is_taken(tmp_path, name, data, said):
    write_idx(tmp_path, packed=False)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    if not isinstance(data, int):
        (tmp_path / name).write_bytes(gzip.compress(made(data)) if name[-1] == "z" else data)
    else:
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, data)
    with pytest.raises(InputError, match=re.escape(said)):
        sparingly(read_idx, tmp_path)
