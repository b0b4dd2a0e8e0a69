"""Views on disk: the same to the last bit, made anew where damaged, and nothing of what belongs to somebody."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from app import ahead, kept, loaders
from app.ahead import main, prepare
from app.compute import View, compute_view
from app.loaders import PRIVATE, Source
from app.views import sources
from gpvae_core.checkpoints import Checkpoint
from tests.server import share_grids


def same(one, other) -> bool:
    """Whether two values have the same kinds, shapes and bits all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def never() -> View:
    raise AssertionError("it was computed again")


@pytest.fixture(scope="module")
def view(digits, digits_2d, digits_engine):
    others = [(name, digits_2d.with_method(name)) for name in ("iaf-4", "gn")]
    return compute_view(digits_2d, digits_engine, digits.test.pixels(slice(0, 1))[0, 0].numpy(), (0.5, -1.0), others)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_what_was_computed_comes_back_to_the_last_bit(home, view):
    assert view.paths and view.hills and view.truth_mass is not None
    assert kept.view(["one"], lambda: view) is view
    assert same(kept.view(["one"], never), view)
    changed = replace(view, levels=np.nextafter(view.levels, 1))
    assert not same(changed, view)


def test_another_identity_or_another_program_computes(home, view, monkeypatch):
    kept.view(["one"], lambda: view)
    other = replace(view, path_short=7.0)
    assert kept.view(["two"], lambda: other) is other
    monkeypatch.setattr(kept, "program", lambda: "a later version")
    assert kept.view(["one"], lambda: other) is other


def test_a_damaged_file_is_never_believed(home, view):
    kept.view(["one"], lambda: view)
    (file,) = kept.folder().iterdir()
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(0, 400, 9), *rng.integers(0, len(whole), 60)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(bytes(damaged))
        assert same(kept.view(["one"], lambda: view), view)
        assert place < 400 or file.read_bytes() == whole  # the name of the checksum itself may be what is damaged
    for size in rng.integers(0, len(whole), 20):
        file.write_bytes(whole[:size])
        assert same(kept.view(["one"], lambda: view), view)


def test_old_views_make_room(home, view, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 3)
    monkeypatch.setattr(kept, "THINNED", 1)
    for k in range(6):
        kept.view([k], lambda: view)
    assert len(list(kept.folder().iterdir())) == 3
    kept.view([5], never)


def test_an_image_of_somebodys_archive_is_private_under_every_checkpoint(digits):
    assert sources.test_subject(Source(replace(digits, name=PRIVATE)), 3).private
    assert not sources.test_subject(Source(digits), 3).private


def test_a_disk_that_cannot_be_written_changes_nothing(tmp_path, view, monkeypatch):
    (tmp_path / "gpvae").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept.view(["one"], lambda: view) is view


def test_what_is_prepared_is_not_computed_by_the_page(tmp_path, monkeypatch):
    """By its default encoders and by another one; a second time nothing is left to do."""
    share_grids(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert prepare("digits-2d", 1) == 1
    assert prepare("digits-2d", 2, ("gn",)) == 2
    assert prepare("digits-2d", 2) == 1
    monkeypatch.setattr(loaders, "_compute", lambda *_: never())
    for query in ({"i": "1"}, {"i": "1", "q": "gn"}):
        page = AppTest.from_file("../app/main.py", default_timeout=120)
        for key, value in ({"c": "digits-2d", "from": "number", "data": "digits"} | query).items():
            page.query_params[key] = value
        page.run()
        assert not page.exception
        assert any("exact log p(x)" in m.value for m in page.markdown)


def test_what_cannot_be_prepared_is_a_sentence(home):
    for name in ("no-such-model", "digits-2d"):
        said = CliRunner().invoke(main, [name, "--encoder", "no-such-encoder"])
        assert said.exit_code == 1 and said.output.startswith("Error: ") and "no-such" in said.output


def test_views_that_cannot_be_kept_are_not_said_to_be(tmp_path, view, monkeypatch):
    (tmp_path / "gpvae").mkdir()
    (tmp_path / "gpvae" / "views").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(Checkpoint, "engine", lambda *_, **__: None)
    monkeypatch.setattr(ahead, "trusted_view", lambda *_: view)
    said = CliRunner().invoke(main, ["digits-2d", "--images", "2"])
    assert said.exit_code == 1 and "Error: views cannot be kept in" in said.output
