"""The pages in a real Chromium, mouse at 1440x900 and finger at 390x844, with no network beyond the server."""

import csv
import io
import json
import re
from io import BytesIO

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import expect, sync_playwright

from app.compute import decode
from app.theme import MASSES
from gpvae_core.report import posterior_report
from tests.browser import SIZES, find_chromium
from tests.server import serving

PATIENCE = 60_000  # ms: other tests share the cores
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("app")) as running:
        yield running.url


@pytest.fixture(scope="module")
def browser():
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs a Chromium: `make browser` installs one, or put chromium on the PATH")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def visit(browser, server):
    """Open an address of the app in a fresh browser; every request must stay on the server, no error may be thrown."""
    contexts, strayed, errors = [], [], []

    def open_page(query="", size="desktop", *, path="", base=server, **options):
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=size == "phone", accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        own = (base, "data:", "blob:", "ws://127")
        page.on("request", lambda request: request.url.startswith(own) or strayed.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{base}/{path}{query}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert strayed == [] and errors == []


def idle(page) -> None:
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def settle(page) -> None:
    """Wait until the script has run and the numbers are there; never for a length of time."""
    idle(page)
    page.locator(".evidence").first.wait_for()
    page.locator(".plane-root .line.exact").first.wait_for(state="attached")


def evidence(page) -> str:
    return page.locator(".evidence b").first.inner_text()


def until_changed(page, before: str) -> str:
    expect(page.locator(".evidence b").first).not_to_have_text(before)
    settle(page)
    return evidence(page)


def choose(page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).or_(
        page.get_by_role("button", name=name, exact=True)
    ).first.click()


def pixels(page, selector: str) -> np.ndarray:
    """The red channel of a canvas."""
    values = page.locator(selector).first.evaluate(
        "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).filter((_, k) => k % 4 === 0)"
    )
    return np.array(values)


def finger(page):
    """Press, move and lift a finger: places is a list of (x, y), or none."""
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return touch


def draw_stroke(page, size: str, places) -> None:
    sheet = page.locator(".sheet canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    path = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    if size == "phone":
        touch = finger(page)
        touch("touchStart", path[0])
        for place in path[1:]:
            touch("touchMove", place)
        touch("touchEnd")
        return
    page.mouse.move(*path[0])
    page.mouse.down()
    for place in path[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


# --- ways of giving an image -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_drawn_digit_gets_a_posterior_and_its_link_gives_the_same_elsewhere(visit, size):
    page = visit("?from=draw", size)
    page.get_by_text("Draw a digit on the sheet").wait_for()
    draw_stroke(page, size, [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)])
    settle(page)
    one = evidence(page)
    draw_stroke(page, size, [(0.35, 0.55), (0.65, 0.55)])
    two = until_changed(page, one)
    expect(page.get_by_text("what the model saw")).to_be_visible()
    expect(page).to_have_url(re.compile("ink="))
    assert len(page.url) < 1_000
    other = visit("?" + page.url.partition("?")[2], size)
    settle(other)
    assert evidence(other) == two
    np.testing.assert_array_equal(pixels(other, ".sheet canvas"), pixels(page, ".sheet canvas"))
    np.testing.assert_array_equal(pixels(other, ".pictures canvas"), pixels(page, ".pictures canvas"))
    page.get_by_role("button", name="Undo").click()
    until_changed(page, two)
    assert evidence(page) == one


def test_a_digit_can_be_drawn_with_the_keyboard(visit):
    page = visit("?from=draw")
    sheet = page.get_by_role("application", name="Draw a digit")
    sheet.focus()
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 14 + [" "]:
        page.keyboard.press(key)
    settle(page)
    expect(page).to_have_url(re.compile("ink="))


def photo_of_a_digit() -> bytes:
    """A one in blue ink on grey paper, as a camera would see it."""
    image = Image.new("RGB", (640, 480), (205, 203, 198))
    ImageDraw.Draw(image).line([(300, 90), (330, 70), (320, 400)], fill=(25, 30, 90), width=34, joint="curve")
    buffer = BytesIO()
    image.filter(ImageFilter.GaussianBlur(2)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_uploading_a_photo_shows_it_and_junk_gets_a_sentence(visit, size):
    page = visit("?from=upload", size)
    idle(page)
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "one.jpg", "mimeType": "image/jpeg", "buffer": photo_of_a_digit()})
    page.get_by_text("what the model saw").wait_for()
    settle(page)
    shown = evidence(page)
    chooser.set_input_files({"name": "text.png", "mimeType": "image/png", "buffer": b"not a picture"})
    page.get_by_text("'text.png' is not an image that can be read").wait_for()
    settle(page)
    assert evidence(page) == shown
    other = visit("?" + page.url.partition("?")[2], size)
    settle(other)
    assert evidence(other) == shown


@pytest.mark.parametrize("size", SIZES)
def test_the_gallery_is_chosen_from_by_click_and_by_key(visit, size):
    page = visit(size=size)
    settle(page)
    before = evidence(page)
    thumbnails = page.locator(".gallery button")
    thumbnails.nth(4).click()
    clicked = until_changed(page, before)
    expect(page.locator(".gallery button[aria-pressed=true]")).to_have_count(1)
    thumbnails.last.focus()
    page.keyboard.press("Enter")
    until_changed(page, clicked)
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1]


def test_a_simulated_images_true_z_lies_where_the_page_says(visit):
    """For each seed the star is inside a drawn contour exactly where the stated mass says so."""
    page = visit("?from=simulate&seed=1")
    settle(page)
    inside = []
    for _ in range(10):
        stated = float(page.get_by_text("region that holds").locator("strong").inner_text().rstrip("%")) / 100
        held = page.locator(".panel-zoom svg").evaluate(
            """svg => {
              const star = svg.querySelector('.marker.truth').getBBox();
              const at = new DOMPoint(star.x + star.width / 2, star.y + star.height / 2);
              return [0.5, 0.8, 0.95].map((mass) => Array.from(svg.querySelectorAll(`.line.exact[data-mass='${mass}']`))
                .filter((path) => path.isPointInFill(at)).length % 2 === 1);
            }"""
        )
        for mass, holds in zip(MASSES, held, strict=True):
            if abs(stated - mass) > 0.04:  # nearer than this the star's own extent decides
                assert holds == (stated < mass)
                inside.append(holds)
        before = evidence(page)
        page.get_by_role("button", name="Another draw").click()
        until_changed(page, before)
    assert any(inside) and not all(inside)


def test_a_click_on_the_plane_makes_an_image_from_there(visit):
    page = visit("?from=simulate&seed=1")
    settle(page)
    before = evidence(page)
    stage = page.locator(".panel-box .stage")
    box = stage.bounding_box()
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    until_changed(page, before)
    expect(page).to_have_url(re.compile("z="))
    expect(page.get_by_text("chosen by you")).to_be_visible()


def test_the_dial_changes_the_image_and_the_link(visit):
    page = visit("?from=number&i=5&data=digits")
    settle(page)
    before = evidence(page)
    page.get_by_text("Out-of-distribution dial").click()
    slider = page.get_by_role("slider", name="Rotate")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    turned = until_changed(page, before)
    expect(page).to_have_url(re.compile("rotate=20"))
    settle(page)
    turned = evidence(page)
    other = visit("?" + page.url.partition("?")[2])
    settle(other)
    assert evidence(other) == turned


# --- the plane -------------------------------------------------------------------------------------------------


def test_hover_decodes_with_the_server_gone_and_restores_on_leave(visit, tmp_path, digits_2d):
    with serving(tmp_path) as own:
        page = visit("?from=number&i=5&data=digits", base=own.url)
        settle(page)
        page.wait_for_function("window.gpvaeAtlases && Object.keys(window.gpvaeAtlases).length === 1")
        own.process.kill()
        own.process.wait(20)
    at_rest = pixels(page, ".at-cursor canvas")
    for panel in ("zoom", "box"):
        box = page.locator(f".panel-{panel} .stage svg .frame").bounding_box()
        page.mouse.move(box["x"] + 0.35 * box["width"], box["y"] + 0.3 * box["height"])
        expect(page.locator(".at-cursor figcaption")).to_have_text("decoded at the cursor")
        words = page.locator(".readout").inner_text()
        z = np.array([[float(v) for v in re.search(r"z = \(([-\d.]+), ([-\d.]+)\)", words).groups()]])
        seen = pixels(page, ".at-cursor canvas") / 255
        error = np.abs(seen - decode(digits_2d, z)[0].ravel())
        assert error.mean() < (0.01 if panel == "zoom" else 0.06)
        assert not np.array_equal(seen * 255, at_rest)
        page.mouse.move(2, 2)
        np.testing.assert_array_equal(pixels(page, ".at-cursor canvas"), at_rest)
    page.locator("label[data-toggle=base] input").uncheck()
    assert page.locator(".panel-zoom path.line.base").count() == 0


def test_arrow_keys_and_fingers_move_the_point(visit):
    page = visit("?from=number&i=5&data=digits", "phone")
    settle(page)
    stage = page.locator(".panel-zoom .stage")
    stage.scroll_into_view_if_needed()
    stage.focus()
    readout = page.locator(".readout")
    page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("z = (")
    first = readout.inner_text()
    page.keyboard.press("ArrowUp")
    expect(readout).not_to_have_text(first)
    page.keyboard.press("Escape")
    expect(readout).not_to_contain_text("z = (")
    box = stage.bounding_box()
    touch = finger(page)
    touch("touchStart", (box["x"] + 150, box["y"] + 150))
    expect(readout).to_contain_text("z = (")
    touch("touchEnd")


def test_toggles_zoom_and_walk_need_no_server(visit):
    page = visit("?from=number&i=5&data=digits", reduced_motion="reduce")
    settle(page)
    zoom = page.locator(".panel-zoom")
    for layer in ("exact", "logs", "base", "marginal", "best"):
        lines = zoom.locator(f"path.line.{layer}")
        assert lines.count() > 0
        page.locator(f"label[data-toggle={layer}] input").uncheck()
        assert lines.count() == 0
        page.locator(f"label[data-toggle={layer}] input").check()
    ticks = zoom.locator(".axes text").all_inner_texts()
    page.get_by_role("button", name="Zoomed to the mass: zoom in").click()
    assert zoom.locator(".axes text").all_inner_texts() != ticks
    page.get_by_role("button", name="Zoomed to the mass: whole window again").click()
    assert zoom.locator(".axes text").all_inner_texts() == ticks
    page.get_by_role("button", name="Step").click()
    heights = []
    for _ in range(3):
        heights.append(float(re.search(r"ELBO (-?[\d.]+)", page.locator(".walk-text").inner_text()).group(1)))
        page.get_by_role("button", name="Step").click()
    assert heights == sorted(heights) and zoom.locator("path.line.walk").count() == 3


def test_methods_differ_in_line_style_not_in_colour_alone(visit):
    page = visit("?from=number&i=5&data=digits")
    settle(page)
    styles = page.locator(".panel-zoom svg").evaluate(
        """svg => ['exact', 'base', 'marginal', 'best'].map((layer) => {
          const style = getComputedStyle(svg.querySelector(`path.line.${layer}`));
          return [style.strokeDasharray, style.stroke];
        })"""
    )
    dashes = [dash for dash, _ in styles]
    assert len({dashes[1], dashes[2], dashes[3]}) == 3
    shapes = page.locator(".panel-box svg").evaluate(
        """svg => ['base', 'marginal', 'best'].map(
          (layer) => svg.querySelector(`.marker.${layer}`).getAttribute('d').replace(/[-\\d. ]/g, ''))"""
    )
    assert len(set(shapes)) == 3


def test_side_by_side_planes_move_together(visit):
    page = visit("?from=number&i=5&data=digits&vs=image:7")
    settle(page)
    boxes = page.locator(".panel-box")
    expect(boxes).to_have_count(2)
    before = boxes.nth(1).locator(".axes text").all_inner_texts()
    boxes.nth(0).get_by_role("button", name="zoom in").click()
    after = boxes.nth(1).locator(".axes text").all_inner_texts()
    assert after != before and after == boxes.nth(0).locator(".axes text").all_inner_texts()


# --- what leaves the page -----------------------------------------------------------------------------------------


def download(page, name: str, suffix: str):
    page.get_by_role("button", name="Export").first.click()
    page.get_by_role("combobox", name=re.compile("Format")).first.click()
    page.get_by_role("option", name=name).click()
    button = page.get_by_role("button", name=re.compile(rf"^Download .*\.{suffix}$"))
    button.wait_for()
    idle(page)
    with page.expect_download() as waiting:
        button.click()
    return waiting.value


@pytest.fixture
def shipped_report(digits, digits_2d, digits_engine):
    return posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(5, 6)))


def test_an_export_opens_by_itself_and_holds_the_same_numbers(visit, browser, tmp_path, shipped_report):
    page = visit("?from=number&i=5&data=digits")
    settle(page)
    shown = evidence(page)
    download(page, "Page that works by itself", "html").save_as(tmp_path / "p.html")
    page.keyboard.press("Escape")
    context = browser.new_context(offline=True)
    alone = context.new_page()
    alone.goto(f"file://{tmp_path / 'p.html'}")
    settle_alone(alone)
    assert evidence(alone) == shown
    at_rest = pixels(alone, ".at-cursor canvas")
    frame = alone.locator(".panel-box .stage svg .frame").bounding_box()
    alone.mouse.move(frame["x"] + 60, frame["y"] + 60)
    expect(alone.locator(".at-cursor figcaption")).to_have_text("decoded at the cursor")
    assert not np.array_equal(pixels(alone, ".at-cursor canvas"), at_rest)
    context.close()
    assert float(shown) == pytest.approx(shipped_report["log_evidence"], abs=6e-4)


def settle_alone(page) -> None:
    page.locator(".plane-root .line.exact").first.wait_for(state="attached")
    page.wait_for_function("window.gpvaeAtlases && Object.keys(window.gpvaeAtlases).length === 1")


def test_the_figures_page_shows_both_and_exports_their_numbers(visit, tmp_path):
    page = visit("?n=2", path="figures")
    expect(page.locator(".figure img")).to_have_count(2)
    idle(page)
    words = page.locator(".figure img").first.get_attribute("alt")
    saved = download(page, "Numbers (CSV)", "csv")
    saved.save_as(tmp_path / "f.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text())))
    assert len(rows) == 2
    for row in rows:
        assert f"image {row['index']}," in words and f"{float(row['kl_base']):.2f} nats" in words


# --- everybody -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["", "figures"])
def test_axe_finds_nothing_serious(visit, path, scheme):
    page = visit("?from=simulate&seed=2" if not path else "?n=1", path=path, color_scheme=scheme)
    idle(page)
    page.locator(".figure img, .plane-root .line").first.wait_for(state="attached")
    found = Axe().run(page).response["violations"]
    serious = {v["id"]: [n["html"][:160] for n in v["nodes"]] for v in found if v["impact"] in ("serious", "critical")}
    assert serious == {}, json.dumps(serious, indent=1)


def test_projector_mode_has_large_type_and_thick_lines(visit):
    sizes = []
    for query in ("?from=number&i=5&data=digits", "?from=number&i=5&data=digits&big=1"):
        page = visit(query)
        settle(page)
        sizes.append(
            page.locator(".plane-root").evaluate(
                """root => {
                  const line = getComputedStyle(root.querySelector('path.line.base'));
                  return [getComputedStyle(root).fontSize, line.strokeWidth].map(parseFloat);
                }"""
            )
        )
    assert sizes[1][0] >= 1.3 * sizes[0][0] and sizes[1][1] >= 1.5 * sizes[0][1]


def test_the_page_says_what_it_shows_and_why(visit):
    page = visit(size="phone")
    settle(page)
    expect(page.get_by_text(re.compile("test images of digits"))).to_be_visible()
    expect(page.get_by_text("Why the digits, not MNIST?")).to_be_visible()
    expect(page.locator(".badge")).to_contain_text("Exact")
    assert page.get_by_test_id("stException").count() == 0
