"""Folders of pictures: bad entries, class folders, colour and sizes, and a split that does not move."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from app.loaders import images_of
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.cli import cli
from gpvae_core.data import dataset_of, load_dataset
from gpvae_core.data.recipes import recipe_of
from gpvae_core.errors import InputError

PARTS = ("train", "validation", "test")


def write(folder: Path, images, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{start + k:04}.png")


def split_of(data) -> dict[bytes, str]:
    return {image.tobytes(): part for part in PARTS for image in data.split(part).images}


def test_what_cannot_be_read_is_left_out_counted_and_named(tmp_path, digits):
    write(tmp_path, digits.train.images[:20])
    (tmp_path / "._0001.png").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    Image.new("L", (40, 30), 255).save(tmp_path / "blank.png")
    (tmp_path / "dead.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.jpg").touch()
    data = load_dataset(f"folder:{tmp_path}")
    assert set(split_of(data)) == {image.tobytes() for image in digits.train.images[:20]}
    (note,) = data.notes
    assert note.startswith("6 of 26 files were left out, the first because '._0001.png' is not an image")


@pytest.mark.parametrize("bad", ["a dead link", "a folder", "no ordinary file"])
def test_the_reason_says_what_the_entry_is(tmp_path, digits, bad):
    write(tmp_path, digits.train.images[:5])
    path = tmp_path / "0000a.png"
    {"a dead link": lambda: path.symlink_to("x"), "a folder": path.mkdir, "no ordinary file": lambda: os.mkfifo(path)}[
        bad
    ]()
    assert (
        f"1 of 6 files were left out, the first because '0000a.png' is {bad}"
        in load_dataset(f"folder:{tmp_path}").notes
    )


def test_no_image_changes_its_part_when_others_are_added(tmp_path, digits):
    """Neither by files that sort before, nor by copies: equal images stand on one side."""
    write(tmp_path, digits.train.images[:60], start=1000)
    before = split_of(load_dataset(f"folder:{tmp_path}"))
    write(tmp_path, digits.train.images[60:110])
    write(tmp_path / "copies", digits.train.images[:15])
    after = split_of(load_dataset(f"folder:{tmp_path}"))
    assert len(before) == 60 and len(after) == 110
    assert {image: after[image] for image in before} == before
    assert set(before.values()) == set(PARTS)
    other = split_of(load_dataset(f"folder:{tmp_path}", seed=1))
    assert other != after and split_of(load_dataset(f"folder:{tmp_path}", seed=1)) == other


def test_a_folder_that_grows_from_three_images_never_tests_on_what_was_trained_on(tmp_path, digits):
    """While a part is empty by the hash its neighbour lends it an image, and a note says so."""
    trained, said = set(), []
    for count in range(3, 60):
        write(tmp_path, digits.train.images[count - 1 : count] if count > 3 else digits.train.images[:3], count * 10)
        data = load_dataset(f"folder:{tmp_path}")
        parts = split_of(data)
        assert set(parts.values()) == set(PARTS) and len(parts) == count
        said.append(any("this split may change" in note for note in data.notes))
        if not said[-1]:
            assert not trained & {image for image, part in parts.items() if part != "train"}
            trained |= {image for image, part in parts.items() if part == "train"}
    assert said[0] and not said[-1]


def test_a_folder_of_two_says_how_many_it_needs(tmp_path, digits):
    write(tmp_path, [digits.train.images[0], digits.train.images[0], digits.train.images[1]])
    (tmp_path / "z.png").touch()
    with pytest.raises(InputError, match=r"holds 3 images .* 2 of them different; 1 of 4 .*at least 3 different ones"):
        load_dataset(f"folder:{tmp_path}")


def labelled(data) -> dict[bytes, int]:
    return {i.tobytes(): int(n) for p in PARTS for i, n in zip(data.split(p).images, data.split(p).labels, strict=True)}


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("3", "7", "0"), (3, 7, 0)),
        (("cat", "ant", "bee"), (2, 0, 1)),
        (("3", "letters", "a"), (3, 11, 10)),
        (("10", "2x", "9"), (10, 11, 9)),
        (("Greek/beta", "Greek/alpha", "Latin/a"), (1, 0, 2)),
        (("mnist/3", "mnist/7", "mnist/0"), (3, 7, 0)),
    ],
)
def test_class_folders_become_labels(tmp_path, digits, names, numbers):
    for k, name in enumerate(names):
        write(tmp_path / name, digits.train.images[10 * k : 10 * k + 10])
    data = load_dataset(f"folder:{tmp_path}")
    expected = {
        digits.train.images[10 * k + i].tobytes(): number for k, number in enumerate(numbers) for i in range(10)
    }
    assert labelled(data) == expected
    assert data.train.labels.dtype == np.uint8


def test_images_in_no_class_folder_are_a_class_and_said_to_be(tmp_path, digits):
    write(tmp_path / "3", digits.train.images[:10])
    write(tmp_path, digits.train.images[10:12])
    data = load_dataset(f"folder:{tmp_path}")
    assert sorted(labelled(data).values()) == [3] * 10 + [10] * 2
    assert "2 images lie in no class folder and have the label 10" in data.notes


def test_one_folder_around_all_images_is_no_class(tmp_path, digits):
    write(tmp_path / "scans", digits.train.images[:10])
    assert load_dataset(f"folder:{tmp_path}").train.labels is None


@pytest.mark.parametrize("own_validation", [False, True])
def test_folders_train_and_test_are_split_as_they_say(tmp_path, digits, own_validation):
    for k, digit in enumerate("58"):
        write(tmp_path / "train" / digit, digits.train.images[20 * k : 20 * k + 20])
        write(tmp_path / "Test" / digit, digits.train.images[50 + 5 * k : 55 + 5 * k])
        if own_validation:
            write(tmp_path / "val" / digit, digits.train.images[70 + 2 * k : 72 + 2 * k])
    write(tmp_path, digits.train.images[99:100])
    write(tmp_path / "Test" / "8", digits.train.images[0:1], start=77)
    data = load_dataset(f"folder:{tmp_path}")
    wanted = {i.tobytes() for i in digits.train.images[[*range(50, 60), 0]]}
    assert {i.tobytes() for i in data.test.images} == wanted
    rest = [*data.train.images, *data.validation.images]
    assert len(rest) == 40 + 4 * own_validation and len(data.validation) >= 1
    if own_validation:
        assert {i.tobytes() for i in data.validation.images} == {i.tobytes() for i in digits.train.images[70:74]}
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == {5, 8}
    assert any("'0000.png' lies in neither train/ nor test/" in note for note in data.notes)
    assert any(note.startswith("1 test images are also among those of training") for note in data.notes)


def test_a_part_without_an_image_is_named(tmp_path, digits):
    write(tmp_path / "train", digits.train.images[:5])
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match="no image for test can be read; put at least one into its folder"):
        load_dataset(f"folder:{tmp_path}")


def test_colour_and_other_sizes_are_not_made_grey_digits_without_a_word(tmp_path, digits):
    write(tmp_path, digits.train.images[:10])
    ink = 255 - digits.train.images[10]
    Image.fromarray(np.stack([ink, ink, np.full_like(ink, 255)], -1)).resize((90, 90)).save(tmp_path / "blue.png")
    Image.fromarray(np.stack([ink] * 3, -1)).resize((56, 56)).save(tmp_path / "grey.jpg", quality=60)
    palette = Image.fromarray(np.stack([ink] * 3, -1)).convert("P")
    palette.save(tmp_path / "palette.gif")
    notes = load_dataset(f"folder:{tmp_path}").notes
    assert "1 of 13 images are in colour and were made grey" in notes
    assert "2 of 13 images are not 28x28 and were cut to their ink and scaled to it" in notes


def test_the_name_of_a_folder_is_its_absolute_path(tmp_path, digits, monkeypatch):
    write(tmp_path / "own", digits.train.images[:30])
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    for path in ("own", "~/own", "./link", "own/../own/"):
        assert load_dataset(f"folder:{path}").name == f"folder:{(tmp_path / 'own').resolve()}"


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a\0b", "circle", "none"])
def test_a_path_that_cannot_be_is_one_sentence(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("circle").symlink_to("circle")
    with pytest.raises(InputError, match=r"(?s)^'.*' (cannot be|is not) a folder.*as in folder:~/digits$"):
        load_dataset(f"folder:{path}")


def test_an_encoder_on_a_decoder_learns_from_that_decoders_training_images(tmp_path, digits):
    """Prepared and split as they were for the decoder, and found so again by every later command."""
    write(tmp_path / "own", digits.train.images[:60].repeat(2, 1).repeat(2, 2))  # not 28x28, so they are prepared
    name = f"folder:{tmp_path / 'own'}"
    common = ["--method", "vae", "--epochs", "1", "--device", "cpu"]

    def trained(out: str, *options: str):
        command = ["train", "--out", str(tmp_path / out), *common, *options]
        CliRunner().invoke(cli, command, catch_exceptions=False)
        return load_checkpoint(tmp_path / out)

    first = trained("decoder", "--dataset", name, "--hidden", "16", "--seed", "5")
    second = trained("encoder", "--decoder", str(tmp_path / "decoder"), "--seed", "6")
    assert split_of(dataset_of(second)) == split_of(dataset_of(first)) == split_of(load_dataset(name, seed=5))
    assert (second.seed, second.split) == (6, 5)
    # digits-2d's images lie half a pixel off MNIST's, as which a folder is prepared otherwise
    third = trained("shipped", "--dataset", name, "--decoder", "digits-2d")
    wanted = load_dataset(name, recipe=recipe_of("digits"))
    assert split_of(dataset_of(third)) == split_of(wanted) != split_of(load_dataset(name))
    assert split_of(dataset_of(third)) == split_of(images_of(third).data)
    with pytest.raises(InputError, match=r"names the recipe 'none'.*mnist, digits, omniglot"):
        dataset_of(replace(third, training={**third.training, "recipe": "none"}))


def test_training_stores_the_absolute_path_and_says_what_was_left_out(tmp_path, digits, monkeypatch):
    write(tmp_path / "own", digits.train.images[:40])
    (tmp_path / "own" / "._0.png").write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", "1", "--out", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(cli, ["train", "--dataset", "folder:own", *options], catch_exceptions=False)
    assert "1 of 41 files were left out, the first because '._0.png'" in result.stderr
    assert "left out" not in result.stdout
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["training"]["dataset"] == f"folder:{(tmp_path / 'own').resolve()}"
    monkeypatch.chdir("/")
    command = ["evaluate", "--checkpoint", str(tmp_path / "run"), "--limit", "1", "--samples", "2"]
    result = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert json.loads(result.stdout)["images"] == 1
    assert "1 of 41 files were left out" in result.stderr
    monkeypatch.chdir(tmp_path)
    again = CliRunner().invoke(
        cli, ["train", "--dataset", "folder:./own", *options, "--resume"], catch_exceptions=False
    )
    assert again.exit_code == 0
