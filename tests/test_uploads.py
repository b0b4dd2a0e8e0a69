"""Photos on the page: read once, doubts beside the picture, the crop put right by the user, nothing lost."""

import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app.state import unpack_image
from app.views import uploads
from gpvae_core.data.images import DIGITS, prepare, read_image
from tests.photographs import NOT_ONE_DIGIT, ONE_DIGIT, photograph

PAGE = "../app/main.py"


def jpeg(name: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(photograph((ONE_DIGIT | NOT_ONE_DIGIT)[name])).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.fixture
def page(offline) -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=300)
    test.query_params["from"] = "upload"
    return test.run()


def give(page: AppTest, name: str, data: bytes) -> None:
    page.file_uploader[0].set_value((name, data, "image/jpeg")).run()
    assert not page.exception


def shows_numbers(page: AppTest) -> bool:
    return any("exact log p(x)" in m.value for m in page.markdown)


def test_a_good_photo_has_its_posterior_and_no_warning(page):
    give(page, "two.jpg", jpeg("light falling to 65 %"))
    assert shows_numbers(page) and not page.warning and not page.error
    picture = read_image(jpeg("light falling to 65 %"), "two.jpg")
    np.testing.assert_array_equal(unpack_image(page.query_params["x"]), prepare(picture, placement=DIGITS).image)


def test_three_digits_are_doubted_beside_the_picture_and_a_crop_puts_it_right(page):
    data = jpeg("three digits")
    give(page, "three.jpg", data)
    assert page.warning or page.error
    picture = read_image(data, "three.jpg")
    height, width = picture.shape
    page.slider(key="explore-crop-across").set_value((0, width // 3)).run()
    assert not page.exception
    page.slider(key="explore-crop-down").set_value((0, height)).run()
    wanted = prepare(picture, "three.jpg", crop=(0, 0, width // 3, height), placement=DIGITS)
    np.testing.assert_array_equal(unpack_image(page.query_params["x"]), wanted.image)
    assert [w.value for w in page.warning] == list(wanted.doubts)
    next(b for b in page.button if b.label == "Find the digit again").click().run()
    np.testing.assert_array_equal(unpack_image(page.query_params["x"]), prepare(picture, placement=DIGITS).image)


def test_the_name_of_a_file_is_repeated_without_markup_and_not_at_length(page):
    give(page, "IMG_1.jpg", b"no picture")
    assert "'IMG_1.jpg' is not an image" in page.error[0].value
    give(page, "**a**\n# " + "[b](c)" * 800 + ".jpg", b"no picture")
    assert page.error[0].value.startswith("'??a???? ?b?(c)") and len(page.error[0].value) < 200


@pytest.mark.parametrize("name", ["blank", "blank and ruled"])  # the others: tests/test_photos.py
def test_a_blank_sheet_never_has_a_green_badge_without_a_word(page, name):
    give(page, "blank.jpg", jpeg(name))
    assert page.error or page.warning
    if page.error:
        assert not shows_numbers(page)
    give(page, "two.jpg", jpeg("even light"))
    assert shows_numbers(page) and not page.error
    give(page, "blank.jpg", jpeg(name))
    said = [m.value for m in page.markdown if "before this file" in m.value]
    assert page.warning or (page.error and said)


def test_a_photo_is_read_once_however_often_the_page_runs(page, monkeypatch):
    calls = []
    monkeypatch.setattr(uploads, "read_image", lambda data, name: calls.append(name) or read_image(data, name))
    give(page, "two.jpg", jpeg("even light"))
    page.run()
    page.toggle(key="explore-projector").set_value(True).run()
    assert calls == ["two.jpg"] and shows_numbers(page)


def test_a_crop_without_ink_keeps_the_image_before_it(page):
    give(page, "two.jpg", jpeg("even light"))
    before = page.query_params["x"]
    page.slider(key="explore-crop-across").set_value((0, 20)).run()
    assert not page.exception and shows_numbers(page) and page.query_params["x"] == before
    assert page.error and "ink" in page.error[0].value


MEASURE = """
import os, resource, sys
from pathlib import Path
from threading import Thread
from PIL import Image
from app.views.uploads import read_one_at_a_time
Image.init()
data = Path(sys.argv[1]).read_bytes()
if os.fork():  # the peak of a copy is its own: a program inherits its parent's
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
read_one_at_a_time(Path(sys.argv[2]).read_bytes(), "small")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = []
threads = [Thread(target=lambda: found.append(read_one_at_a_time(data, "photo"))) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_ten_photos_at_once_take_the_memory_of_one(tmp_path):
    """In MiB beyond the process: the largest pictures that are taken, of the format that must be decoded whole."""
    for name, size in (("large", (4500, 3000)), ("small", (60, 40))):
        Image.new("RGB", size, "white").save(tmp_path / name, "PNG")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "large", tmp_path / "small"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    read, mib = run.stdout.split()
    assert int(read) == 10
    assert 10 < float(mib) < 200
