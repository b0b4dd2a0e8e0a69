"""Files: written whole by many processes at once, caches that cannot be written, leftovers of killed writers."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.errors import InputError
from gpvae_core.exact.grid import BaseGrid, build_grid, open_grid
from gpvae_core.files import ABANDONED, PART, read_bytes, write_atomically, write_if_possible
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import GaussianLikelihood
from gpvae_core.paths import PRETRAINED
from gpvae_core.tensors import read_tensors, write_tensors

WRITERS = """
import sys
from pathlib import Path
from gpvae_core.files import write_atomically
path, own = Path(sys.argv[1]), int(sys.argv[2])
print(flush=True)
input()
for round in range(20):
    write_atomically(path, bytes([own]) * (100_000 + 1_000 * own))
    read = path.read_bytes()
    assert len(set(read)) == 1 and len(read) == 100_000 + 1_000 * read[0], "a torn read"
"""
READERS_OF_GRIDS = """
import sys, torch
from pathlib import Path
from gpvae_core.exact.grid import build_grid, open_grid
from tests.test_files import tiny_model
print(flush=True)
input()
for round in range(20):
    grid = open_grid(tiny_model(), 4.5, 31, Path(sys.argv[1]), f"digest{round}")
    assert torch.equal(grid.eta, build_grid(tiny_model(), 4.5, 31).eta)
"""


def tiny_model() -> GenerativeModel:
    decoder = torch.nn.Linear(2, 40)
    with torch.no_grad():
        decoder.weight.copy_(torch.linspace(-1, 1, 80).reshape(40, 2))
        decoder.bias.zero_()
    return GenerativeModel(decoder, GaussianLikelihood(0.3))


def at_once(code: str, argument: Path, processes: int) -> list[str]:
    """Run ``code`` in so many processes that all begin when the last one is ready; what each said of its failure."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(argument), str(k)],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(processes)
    ]
    for process in running:
        process.stdout.readline()
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in running]
    return [text if process.returncode else "" for process, text in zip(running, said, strict=True)]


def same(one: BaseGrid, other: BaseGrid) -> bool:
    return torch.equal(one.eta, other.eta) and np.array_equal(one.constant, other.constant)


# --- many writers -----------------------------------------------------------------------------------------------


def test_six_processes_write_and_read_one_file_and_none_fails_or_reads_half_of_it(tmp_path):
    assert at_once(WRITERS, tmp_path / "file", 6) == [""] * 6
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_processes_open_grids_in_one_empty_folder_with_damaged_files_in_it(tmp_path):
    for k in range(0, 20, 2):
        (tmp_path / f"digest{k}-4.5-31.safetensors").write_bytes(b"half a file")
    assert at_once(READERS_OF_GRIDS, tmp_path, 2) == [""] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"digest{k}-4.5-31.safetensors" for k in range(20))


def test_a_reader_of_a_damaged_grid_leaves_the_file_to_whoever_mends_it(tmp_path, monkeypatch):
    """The race itself: between the look at a damaged file and the write, another process puts a whole one there."""
    path = tmp_path / "d-4.5-31.safetensors"
    path.write_bytes(b"half a file")
    whole = open_grid(tiny_model(), 4.5, 31, tmp_path / "other", "d")
    seen = []

    def slow_build(*arguments, **options):
        path.write_bytes((tmp_path / "other" / path.name).read_bytes())  # meanwhile
        grid = build_grid(*arguments, **options)
        seen.append(path.exists())
        return grid

    monkeypatch.setattr("gpvae_core.exact.grid.build_grid", slow_build)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: pytest.fail("a shared cache file was deleted"))
        assert same(open_grid(tiny_model(), 4.5, 31, tmp_path, "d"), whole)
    assert seen == [True]


def test_a_grid_of_another_size_in_the_cache_is_made_anew(tmp_path):
    open_grid(tiny_model(), 4.5, 21, tmp_path, "d")
    (tmp_path / "d-4.5-21.safetensors").rename(tmp_path / "d-4.5-31.safetensors")
    assert same(open_grid(tiny_model(), 4.5, 31, tmp_path, "d"), build_grid(tiny_model(), 4.5, 31))


def test_a_file_has_the_permissions_of_an_ordinary_write(tmp_path):
    (tmp_path / "ordinary").write_bytes(b"x")
    write_atomically(tmp_path / "ours", b"x")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "ours")]
    assert modes[0] == modes[1]


def test_what_a_killed_writer_left_is_swept_a_day_later_and_a_running_one_is_left_alone(tmp_path):
    old, running = (tmp_path / PART.format(name) for name in ("old", "running"))
    for part in (old, running):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED - 60,) * 2)
    write_atomically(tmp_path / "file", b"whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([running.name, "file"])


# --- what is no file ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["a folder", "no ordinary file"])
def no_file(tmp_path, request):
    """A path at which something other than a file stands, a link to it, and what it is."""
    path = tmp_path / "there"
    path.mkdir() if request.param == "a folder" else os.mkfifo(path)
    (tmp_path / "link").symlink_to(path)
    return path, request.param


@pytest.mark.parametrize("name", ["there", "link"])
def test_what_is_no_file_is_neither_replaced_nor_read(no_file, name):
    path, kind = no_file
    before = path.stat()
    for use in (lambda at: write_atomically(at, b"x"), read_bytes):
        with pytest.raises(InputError, match=f"{name} is {kind}; give the path of a file"):
            use(path.with_name(name))
    assert not write_if_possible(path.with_name(name), b"x")
    assert path.stat() == before and sorted(p.name for p in path.parent.iterdir()) == ["link", "there"]


def test_a_link_is_followed_and_stays_one(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    write_atomically(tmp_path / "link", b"x")  # a dead one
    write_atomically(tmp_path / "link", b"y")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "file").read_bytes() == b"y"


def test_a_checkpoint_whose_files_are_pipes_is_refused(tmp_path):
    (tmp_path / "model.safetensors").touch()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match=r"config\.json is no ordinary file"):
        load_checkpoint(tmp_path)


# --- places that cannot be written --------------------------------------------------------------------------------


def refuse(code: int):
    def refused(*_, **__):
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EPERM])
@pytest.mark.parametrize("step", ["pathlib.Path.mkdir", "pathlib.Path.open", "os.fsync", "pathlib.Path.replace"])
def test_a_cache_that_cannot_be_written_is_no_error_and_a_result_is_one_sentence(tmp_path, monkeypatch, step, code):
    """Any step may fail, and cleaning up after it too: the handler raises nothing of its own."""
    with monkeypatch.context() as patch:
        patch.setattr(step, refuse(code))
        patch.setattr("pathlib.Path.unlink", refuse(errno.EACCES))
        grid = open_grid(tiny_model(), 4.5, 31, tmp_path / "cache", "d")
        assert not write_if_possible(tmp_path / "cache" / "x", b"x")
        with pytest.raises(InputError, match=rf"cannot write .*result \({os.strerror(code)}\); what was saved before"):
            write_atomically(tmp_path / "result", b"x")
    assert same(grid, build_grid(tiny_model(), 4.5, 31))
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("below", [".", "deeper/still"])
def test_a_cache_below_a_file_is_no_error(tmp_path, below):
    (tmp_path / "file").write_bytes(b"not a folder")
    grid = open_grid(tiny_model(), 4.5, 31, tmp_path / "file" / below, "d")
    assert same(grid, build_grid(tiny_model(), 4.5, 31))
    assert not write_if_possible(tmp_path / "file" / below / "x", b"x")
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(tmp_path / "file" / below / "x", b"x")
    assert (tmp_path / "file").read_bytes() == b"not a folder"


def test_a_cache_that_may_not_be_looked_at_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse(errno.EACCES))
    monkeypatch.setattr("pathlib.Path.stat", refuse(errno.EACCES))
    monkeypatch.setattr("os.open", refuse(errno.EACCES))
    assert same(open_grid(tiny_model(), 4.5, 31, tmp_path, "d"), build_grid(tiny_model(), 4.5, 31))


def test_what_was_saved_survives_an_interrupt_and_nothing_is_left_behind(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", b"before")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"after")
    assert (tmp_path / "file").read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def read_or_none(path):
    """The tensors of a file; None where it is refused, by its name."""
    try:
        return read_tensors(path)
    except InputError as error:
        if str(path) not in str(error):
            raise
        return None


def test_every_flipped_bit_and_cut_of_weights_is_named(tmp_path):
    """Of our own files: whatever is loaded is what was saved, or the file is blamed."""
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.arange(40.0).reshape(8, 5), "b": torch.ones(3, dtype=torch.int64)}
    write_tensors(path, tensors)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(200):
        at = int(random.integers(len(whole)))
        broken = bytearray(whole)
        broken[at] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(broken))
        found = read_or_none(path)
        if found is not None:  # a flip in what says nothing
            assert all(torch.equal(found[name], t) for name, t in tensors.items())
    for length in random.integers(len(whole), size=50):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"weights\.safetensors"):
            read_tensors(path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "test.parquet", "encoders/iaf-4.safetensors"])
def test_a_flipped_bit_in_a_shipped_file_blames_that_file(name, tmp_path, monkeypatch):
    shutil.copytree(PRETRAINED / "digits-2d", tmp_path / "digits-2d")
    monkeypatch.setattr("gpvae_core.shipped.PRETRAINED", tmp_path)
    load_checkpoint(tmp_path / "digits-2d")
    path = tmp_path / "digits-2d" / name
    broken = bytearray(path.read_bytes())
    broken[len(broken) // 2] ^= 1
    path.write_bytes(bytes(broken))
    with pytest.raises(InputError, match=rf"{name} is damaged or changed"):
        load_checkpoint(tmp_path / "digits-2d")
