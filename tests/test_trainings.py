"""Trainings of the app: what the program writes, and that the line is fair, bounded and leaves nobody behind."""

import json
import os
import subprocess
import sys
import time
from io import BytesIO
from zipfile import ZIP_DEFLATED, ZIP_LZMA, ZipFile

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from app import charts, trainings
from app.trainer import FOLLOWED, LOG, NODES, PLAN, RUN, Plan, main, training
from app.trainings import GONE, MOST_FILES, Training, Trainings, unpack
from app.views.train import outcome
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine

SHORT = Plan("digits", "vae", 1, 0, 1.0)
ROOT = trainings.ROOT


def picture(value: int = 200) -> bytes:
    image = Image.new("L", (28, 28), 0)
    image.paste(value, (9, 5, 18, 24))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return packed.getvalue()


# --- the program ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two epochs at s_x = 1, where posteriors are broad: the folder and its records."""
    folder = tmp_path_factory.mktemp("training")
    return folder, list(training(Plan("digits", "vae", 2, 0, 1.0), folder))


def test_a_training_says_what_it_does_and_the_objective_rises(trained):
    _, records = trained
    assert records[0] == {"images": 1294, "notes": []}
    epochs = [record for record in records if "epoch" in record]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert epochs[1]["objective"] > epochs[0]["objective"]
    looks = [record for record in records if "look" in record]
    assert [record["look"] for record in looks] == [0, 1, 2]
    assert max(looks[0]["gaps"]) < 0.05  # before the training: the decoder hardly hangs on z, both are the prior
    assert json.loads(json.dumps(records)) == records


def test_the_gaps_of_a_look_are_the_engines_own(trained):
    """Against an engine on grids twice as fine, at a tolerance 50 times smaller."""
    folder, records = trained
    checkpoint, data = load_checkpoint(folder / RUN), load_dataset("digits")
    x = data.test.pixels(slice(0, FOLLOWED))
    q, engine = checkpoint.infer(x).q, PosteriorEngine(checkpoint.model.generative, nodes=2 * NODES)
    exact = [posterior.kl_from(q[k]) for k, posterior in enumerate(engine.posteriors(x))]
    for value, error, wanted in zip(records[-1]["gaps"], records[-1]["errors"], exact, strict=True):
        assert abs(value - wanted.value) <= error + wanted.error
        assert error < 0.1
    inner, outer = records[-1]["exact"][0], records[-1]["exact"][-1]
    assert np.ptp(np.array(inner), 0).max() < np.ptp(np.array(outer), 0).max()  # 50 % within 95 %


def test_the_charts_hold_what_the_log_says(trained):
    _, records = trained
    epochs = [record for record in records if "epoch" in record]
    looks = [record for record in records if "look" in record]
    curves = charts.learning_curves(epochs, looks)
    assert list(curves.data[1].y) == [record["validation"] for record in epochs]
    assert np.allclose(curves.data[-1].y, [np.mean(record["gaps"]) for record in looks])
    assert len(charts.learning_curves(epochs[:1], []).data) == 2
    moving = charts.evolution(looks)
    assert [frame.name for frame in moving.frames] == ["0", "1", "2"]
    for frame in moving.frames:  # each in a window that holds it
        low, high = frame.layout.xaxis.range
        assert all(low <= x <= high for trace in frame.data for x in trace.x if x is not None)


def test_a_program_whose_server_is_gone_ends(tmp_path):
    (tmp_path / PLAN).write_text(json.dumps({**SHORT.__dict__, "epochs": 1000}))
    with subprocess.Popen([sys.executable, "-m", "app.trainer", str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE) as one:
        one.stdin.close()
        assert one.wait(120) == 1


def test_too_few_images_and_a_data_set_that_is_not_there_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("app.trainer.Thread", lambda **_: type("Never", (), {"start": lambda self: None})())
    for name, dataset, said in (
        ("few", f"folder:{tmp_path / 'few' / 'pictures'}", "there are 1 images to train on"),
        ("empty", f"folder:{tmp_path / 'empty' / 'pictures'}", "'the archive' holds 0 images that can be read"),
        ("none", "nonsense", "data set 'nonsense' is unknown"),
    ):
        folder = tmp_path / name
        made = {f"{k}.png": b"no picture" if name == "empty" else picture(100 + k) for k in range(3)}
        unpack(archive(made), folder / "pictures")
        (folder / PLAN).write_text(json.dumps({**SHORT.__dict__, "dataset": dataset}))
        main(folder)
        failed = json.loads((folder / LOG).read_text().splitlines()[-1])["failed"]
        assert said in failed and "Traceback" not in failed


# --- the line -------------------------------------------------------------------------------------------------


@pytest.fixture
def line(monkeypatch):
    """Trainings whose program sleeps until it is ended, or ends at once where its plan has one epoch."""
    code = "import sys, json; p = json.load(open(sys.argv[1] + '/plan.json')); p['epochs'] > 1 and sys.stdin.read()"
    popen = subprocess.Popen
    monkeypatch.setattr(
        trainings.subprocess, "Popen", lambda command, **kw: popen([sys.executable, "-c", code, command[-1]], **kw)
    )
    monkeypatch.setattr(trainings, "EVERY", 0.02)
    made = Trainings()
    yield made
    made.end()


LONG = Plan("digits", "vae", 50, 0, None)


def until(done) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_run_and_the_others_wait_in_order(line):
    many = [line.ask(LONG, None, lambda: True) for _ in range(5)]
    assert [one.state for one in many] == ["running", "running", "waiting", "waiting", "waiting"]
    assert [line.place(one) for one in many[2:]] == [0, 1, 2]
    line.stop(many[0])
    until(lambda: many[2].state == "running")
    assert [one.state for one in many] == ["stopped", "running", "running", "waiting", "waiting"]
    line.resume(many[0])
    assert many[0].state == "waiting" and line.place(many[0]) == 2
    line.drop(many[3])
    assert line.place(many[4]) == 0 and not many[3].folder.exists()


def test_one_that_ends_makes_room_and_is_finished_or_failed(line):
    done = line.ask(SHORT, None, lambda: True)
    until(lambda: done.state == "finished")
    broken = line.ask(SHORT, None, lambda: True)
    (broken.folder / LOG).write_text('{"failed": "no memory"}\n{"epoch": 1, "obj')  # half a line is none
    until(lambda: broken.state == "failed")
    assert broken.why() == "no memory" and broken.records() == [{"failed": "no memory"}]


def test_an_epoch_done_twice_counts_once(tmp_path):
    one = Training(LONG, tmp_path, lambda: True)
    assert one.records() == [] and one.checkpoint is None
    lines = [{"images": 3, "notes": []}, {"epoch": 1, "objective": 1.0}, {"images": 3, "notes": []}]
    lines += [{"epoch": 1, "objective": 2.0}, {"look": 1}, {"epoch": 2, "objective": 3.0}]
    (tmp_path / LOG).write_text("".join(json.dumps(record) + "\n" for record in lines))
    assert [record.get("objective") for record in one.records()] == [None, 2.0, None, 3.0]


def test_a_closed_page_ends_its_training_after_a_while_and_leaves_nothing(line, monkeypatch):
    gone = line.ask(LONG, None, lambda: False)
    here = line.ask(LONG, None, lambda: True)
    process = gone.process
    time.sleep(0.2)
    assert gone.state == "running"  # a phone that sleeps comes back
    monkeypatch.setattr(trainings, "GONE", GONE / 1e4)
    until(lambda: gone not in line.line and not gone.folder.exists())
    assert process.poll() is not None and here.state == "running"
    assert line.keeps(here) and not line.keeps(gone)  # who comes back finds the page as at first


def test_the_end_of_the_server_ends_all_of_them(line):
    many = [line.ask(LONG, None, lambda: True) for _ in range(3)]
    processes = [one.process for one in many[:2]]
    line.end()
    assert all(process.poll() is not None for process in processes) and not line.root.exists()


def test_what_a_killed_server_left_is_swept_and_a_living_ones_stays(line, tmp_path):
    for name in ("dead", "young", "living"):
        (tmp_path / f"{trainings.PREFIX}{name}" / "one").mkdir(parents=True)
    (tmp_path / "others").mkdir()
    living = FileLock(tmp_path / f"{trainings.PREFIX}living" / trainings.OWNED)
    with living:
        for name in ("dead", "living"):
            os.utime(tmp_path / f"{trainings.PREFIX}{name}", (0, 0))
        trainings.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gpvae-trainings-living", "gpvae-trainings-young", "others"]


def test_a_full_line_is_a_sentence(line, monkeypatch):
    monkeypatch.setattr(trainings, "WAITING", 1)
    for _ in range(3):
        line.ask(LONG, None, lambda: True)
    with pytest.raises(InputError, match="1 trainings wait already"):
        line.ask(LONG, None, lambda: True)


# --- archives -------------------------------------------------------------------------------------------------


def test_an_archive_keeps_its_classes_and_never_leaves_its_folder(tmp_path):
    names = ["one/a.png", "two/b.PNG", "../../out.png", "/etc/x.png", "deep/er/..\\c.png", "notes.txt", "d.png"]
    unpack(archive(dict.fromkeys(names, picture())), tmp_path / "in" / "here")
    found = sorted(p.relative_to(tmp_path / "in/here").as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == sorted(["one/0.png", "two/1.png", "2.png", "etc/3.png", "deep/er/4.png", "5.png"])
    assert list((tmp_path / "in/here/one/0.png").read_bytes()) == list(picture())


def test_an_archives_own_test_images_stay_what_they_are(tmp_path):
    """They were trained on: only the last folder of each name was kept. What a Mac adds is no image."""
    names = ["all/train/3/a.png", "all/test/3/b.png", "all/train/4/c.png", "__MACOSX/all/train/3/._a.png"]
    unpack(archive(dict.fromkeys(names, picture())), tmp_path)
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["test/3/1.png", "train/3/0.png", "train/4/2.png"]


@pytest.mark.parametrize("method", [ZIP_DEFLATED, ZIP_LZMA])
def test_an_archive_damaged_within_is_a_sentence(method, tmp_path):
    whole = BytesIO()
    with ZipFile(whole, "w", method) as made:
        made.writestr("a.png", picture() * 20)
    start, refused = len("a.png") + 30, []  # a local header's own bytes come first
    for at in range(start, start + 40):
        broken = bytearray(whole.getvalue())
        broken[at] ^= 0xFF
        try:
            unpack(bytes(broken), tmp_path)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 20 and all("the archive cannot be unpacked" in said for said in refused)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: b"no archive", "cannot be unpacked"),
        (lambda: archive({"a.png": picture()})[:-30], "cannot be unpacked"),
        (lambda: archive({"a.txt": b"words"}), "holds no images"),
        (lambda: archive({"a.png": bytes(20_000_000)}), "none over 10 MB"),
        (lambda: archive({f"{k}.png": bytes(9_000_000) for k in range(12)}), "12 images of 108 MB"),
        (lambda: archive({f"{k}.png": b"" for k in range(MOST_FILES + 1)}), "5,001 images"),
    ],
    ids=["junk", "cut off", "no image", "a large one", "a bomb", "many"],
)
def test_a_bad_archive_is_a_sentence_and_leaves_nothing(line, data, said):
    with pytest.raises(InputError, match=said):
        line.ask(LONG, data(), lambda: True)
    assert [p.name for p in line.root.iterdir()] == [trainings.OWNED]


def test_the_end_says_how_the_gap_began_how_large_it_was_and_how_it_ended():
    looks = [{"look": 0, "gaps": [0.0, 0.02]}, {"look": 3, "gaps": [90.0, 110.0]}, {"look": 9, "gaps": [4.0, 6.0]}]
    said = outcome(looks)
    assert "the gap was 0.01 nats" in said and "after epoch 3, with 100 nats, and ended at 5." in said
