"""The page in a real Chromium: it loads, images can be chosen and uploaded, and the numbers change."""

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import expect, sync_playwright

from tests.browser import find_chromium

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app without MNIST and without a way to fetch it."""
    port = free_port()
    environment = {**os.environ, "GPVAE_DATA_DIR": str(tmp_path_factory.mktemp("data"))}
    environment |= {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}  # refuses at once
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app/main.py",
        f"--server.port={port}",
        "--server.headless=true",
    ]
    with (tmp_path_factory.mktemp("log") / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def wait_until_healthy(url: str, process: subprocess.Popen, seconds: float = 60) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if opener.open(url, timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the app did not become healthy (exit status {process.poll()})")


@pytest.fixture(scope="module")
def browser():
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs a Chromium: `make browser` installs one, or put chromium on the PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(params=[(1440, 900), (390, 844)], ids=["desktop", "phone"])
def page(request, browser, server):
    context = browser.new_context(viewport=dict(zip(("width", "height"), request.param, strict=True)))
    page = context.new_page()
    page.set_default_timeout(90_000)
    page.goto(server)
    settle(page)
    yield page
    context.close()


def settle(page) -> None:
    """Wait until the script has run and the table is there; never for a length of time."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.get_by_role("table").wait_for()


def evidence(page) -> float:
    row = page.get_by_role("row").filter(has_text="exact log p(x)")
    return float(row.get_by_role("cell").nth(1).inner_text())


def photo_of_a_digit() -> bytes:
    """A one in blue ink on grey paper, as a camera would see it."""
    image = Image.new("RGB", (640, 480), (205, 203, 198))
    ImageDraw.Draw(image).line([(300, 90), (330, 70), (320, 400)], fill=(25, 30, 90), width=34, joint="curve")
    buffer = BytesIO()
    image.filter(ImageFilter.GaussianBlur(2)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def choose(page, name: str) -> None:
    page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name, exact=True)).first.click()


def test_the_page_shows_data_checkpoint_planes_and_numbers(page):
    expect(page.get_by_text(re.compile("test images of digits"))).to_be_visible()
    expect(page.get_by_text("Why the digits, not MNIST?")).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(3)
    for row in ("ELBO of the base encoder", "KL(base", "ELBO of the marginalised encoder", "KL(marginalised"):
        assert page.get_by_role("row").filter(has_text=row).count() == 1
    assert page.get_by_test_id("stException").count() == 0
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]


def test_choosing_another_image_changes_the_numbers(page):
    before = evidence(page)
    choose(page, "By number")
    number = page.get_by_label("Number of the test image")
    number.fill("7")
    number.press("Enter")
    page.get_by_text("Test image 7").wait_for()
    settle(page)
    assert evidence(page) != before


def test_uploading_a_photo_changes_the_numbers_and_junk_gets_a_sentence(page):
    before = evidence(page)
    choose(page, "Upload")
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "one.jpg", "mimeType": "image/jpeg", "buffer": photo_of_a_digit()})
    page.get_by_text("what the model sees").wait_for()
    settle(page)
    assert evidence(page) != before
    chooser.set_input_files({"name": "text.png", "mimeType": "image/png", "buffer": b"not a picture"})
    page.get_by_text("'text.png' is not an image that can be read").wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_a_click_on_the_strip_chooses_that_image(page):
    before = evidence(page)
    strip = page.locator(".js-plotly-plot").first
    box = strip.bounding_box()
    strip.scroll_into_view_if_needed()
    label = strip.locator(".xtick text").last
    middle = label.bounding_box()
    box = strip.bounding_box()
    page.mouse.click(middle["x"] + middle["width"] / 2, box["y"] + box["height"] * 0.4)
    page.get_by_text("Test image " + label.text_content().strip().lstrip("#")).wait_for()
    settle(page)
    assert evidence(page) != before
