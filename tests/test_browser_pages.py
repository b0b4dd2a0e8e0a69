"""What leaves the pages, and what everybody is owed, in a real Chromium with no network beyond the server."""

import csv
import io
import json
import re
from contextlib import suppress

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import TimeoutError as TooLate
from playwright.sync_api import expect

from app.figures.sheet import FIGURE_2_QUANTILES
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.stored import stored_columns
from tests.pages import dot, evidence, idle, lasso, look, pixels, settle, until


def download(page, name: str, suffix: str):
    """Choose a format and take the file: a choice that a rerun of the script has swept away is made again."""
    button = page.get_by_role("button", name=re.compile(rf"^Download .*\.{suffix}$"))
    formats = page.get_by_role("combobox", name=re.compile("Format")).first

    def offered() -> bool:
        idle(page)
        if button.count():
            return True
        if not formats.is_visible():
            page.get_by_role("button", name="Export").first.click()
            formats.wait_for()
        formats.click()
        option = page.get_by_role("option", name=name)
        with suppress(TooLate):  # the list can close at any moment
            option.click(timeout=5_000)
        return False

    until(page, f"the download of a {suffix} file", offered)
    idle(page)
    with page.expect_download() as waiting:
        button.click()
    return waiting.value


@pytest.fixture
def shipped_report(digits, digits_2d, digits_engine):
    return posterior_report(digits_engine, digits_2d.model, digits.test.pixels(slice(5, 6)))


def test_an_export_opens_by_itself_and_holds_the_same_numbers(visit, browser, tmp_path, shipped_report):
    page = visit("?c=digits-2d&from=number&i=5&data=digits")
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
    expect(page.locator(".legend")).to_have_count(2)
    expect(page.locator(".js-plotly-plot .nsewdrag")).to_have_count(2 + len(FIGURE_2_QUANTILES))
    idle(page)
    words = " ".join(image.get_attribute("alt") for image in page.locator(".figure img").all())
    saved = download(page, "Numbers (CSV)", "csv")
    saved.save_as(tmp_path / "f.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "f.csv").read_text())))
    assert len(rows) == 2
    for row in rows:
        assert f"image {row['index']}," in words and f"{float(row['kl_base']):.2f} nats" in words


def nothing_is_serious(page) -> None:
    found = look(page, lambda: Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"])
    grave = [v for v in found if v["impact"] in ("serious", "critical")]
    serious = {v["id"]: [(n["html"][:160], n["failureSummary"]) for n in v["nodes"]] for v in grave}
    assert serious == {}, json.dumps(serious, indent=1)


@pytest.mark.parametrize(
    ("path", "query", "schemes"),
    [
        ("", "?c=digits-2d&from=simulate&seed=2&step=3&me=0.1,0.2,0.3,0.4", "light dark"),
        ("", "", "light"),
        ("", "?c=digits-2d&from=number&i=5&data=digits&vs=image:7", "light"),
        ("", "?c=digits-2d&from=draw", "light"),
        ("", "?c=digits-2d&from=number&i=5&data=digits&guess=1", "dark"),
        ("figures", "?c=digits-2d&n=1", "light dark"),
        ("difficulty", "?c=digits-2d", "dark"),
        ("map", "?c=digits-2d", "light"),
        ("lesson", "", "dark"),
    ],
)
def test_axe_finds_nothing_serious(visit, path, query, schemes):
    page = visit(query, path=path, color_scheme=schemes.split()[0])
    idle(page)
    there = ".figure img, .empty-plane, .plane-root .line, .js-plotly-plot .nsewdrag, .st-key-start-lesson button"
    page.locator(there).first.wait_for(state="attached")
    for scheme in schemes.split():
        page.emulate_media(color_scheme=scheme)
        until(page, f"the {scheme} page", lambda scheme=scheme: is_dark(page) == (scheme == "dark"))
        nothing_is_serious(page)


def is_dark(page) -> bool:
    colour = page.get_by_test_id("stApp").evaluate("app => getComputedStyle(app).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) < 3 * 128


def test_the_page_says_what_it_shows_and_why(visit):
    page = visit(size="phone")
    settle(page)
    expect(page.get_by_text(re.compile("test images of digits"))).to_be_visible()
    expect(page.get_by_text("Why the digits, not MNIST?")).to_be_visible()
    expect(page.locator(".badge")).to_contain_text("Exact")
    assert page.get_by_test_id("stException").count() == 0
    page.get_by_test_id("stExpandSidebarButton").click()
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Is uncertainty difficulty?").click()
    expect(page.get_by_test_id("stSidebarNavLink").first).not_to_be_in_viewport()  # the menu lay over the page
    until(page, "the chart", lambda: page.locator(".legendtitletext").count() > 0)
    buttons, title = (page.locator(part).first.bounding_box() for part in (".modebar", ".legendtitletext"))
    assert title["x"] + title["width"] <= buttons["x"]


def test_a_loop_around_dots_shows_their_images_and_a_click_opens_one(visit, digits_2d):
    page = visit("?c=digits-2d&y=kl_marginal", path="difficulty")
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    until(page, "the chart", lambda: plot.count() > 0)
    idle(page)
    lasso(page, plot, (0.02, 0.02), (0.98, 0.02), (0.98, 0.5), (0.02, 0.5))  # the upper half: the harder ones
    tiles = page.locator(".gallery button")
    until(page, "the chosen images", lambda: tiles.count() > 0)
    values = stored_columns(digits_2d, "digits", 359)["kl_marginal"]
    index = int(re.search(r"test image (\d+)", tiles.first.get_attribute("title") or tiles.first.inner_text())[1])
    assert values[index] == values.max()
    tiles.first.click()
    settle(page, "the image that was opened")
    assert f"i={index}" in page.url and "/difficulty" not in page.url
    page.go_back()
    until(page, "the chart again", lambda: "/difficulty" in page.url and plot.count() > 0)


@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("path", ["difficulty", "map"])
def test_a_click_or_a_tap_on_a_dot_shows_its_image(visit, path, size):
    page = visit("?c=digits-2d", size, path=path)
    until(page, "the chart", lambda: page.locator(".js-plotly-plot .nsewdrag").count() > 0)
    place = dot(page, 64)
    page.touchscreen.tap(*place) if size == "phone" else page.mouse.click(*place)
    tile = page.locator(".gallery button")
    until(page, "the chosen image", lambda: tile.count() == 1)
    assert "test image 64" in (tile.get_attribute("title") or "")


@pytest.mark.long
def test_a_training_is_watched_in_the_language_of_the_page(visit):
    page = visit("?lang=de", path="train")
    idle(page)
    for key in ("Home", "ArrowRight", "ArrowRight"):  # three epochs
        page.get_by_role("slider").first.press(key)
    idle(page)
    page.get_by_role("button", name="Trainieren", exact=True).click()
    under_way = page.get_by_text(re.compile("Epoche [12] von 3"))  # which no run of the whole page has drawn
    until(page, "the training", lambda: under_way.count() > 0)
    page.get_by_role("button", name="Anhalten").click()  # nobody waits for the rest
    page.get_by_role("button", name="Weitermachen").wait_for()


@pytest.mark.long
def test_a_model_is_trained_stopped_resumed_and_opened_and_nobody_else_sees_it(visit):
    """Where posteriors are broad: those of a trained noise take the engine six times as long."""
    page = visit(path="train")
    idle(page)
    page.get_by_role("radio", name="1", exact=True).click()
    idle(page)
    page.get_by_role("slider").first.press("Home")
    page.get_by_role("slider").first.press("ArrowRight")  # two epochs
    idle(page)
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").click()
    until(page, "the training", lambda: "Finished: epoch 2 of 2" in page.locator(".stMain").inner_text())
    page.get_by_text("misses the exact posterior by").wait_for()
    until(page, "both charts", lambda: page.locator(".js-plotly-plot").count() == 2)
    nothing_is_serious(page)
    page.get_by_role("button", name="Open in Explore").click()
    settle(page)
    assert "c=trained" in page.url and "digits" in page.locator(".stMain").inner_text()
    other = visit(f"?{page.url.partition('?')[2]}")
    other.get_by_text("There is no checkpoint 'trained here' here").wait_for()
    settle(other)
