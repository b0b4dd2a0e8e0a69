"""The planes in a real Chromium: hover, keys, fingers, toggles, with and without the server."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from app.compute import compute_view, decode
from app.payload import mass_contours
from gpvae_core.diagnostics.judgement import judge
from tests.pages import finger, look, pixels, place_of, settle, until


def hover_decodes_and_restores_on_leave(page, digits_2d) -> None:
    """And a line can be taken away; tests/test_serve.py asks for it when the server is gone."""
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


def test_everything_is_in_the_window_and_a_loupe_enlarges_what_is_a_dot_there(visit, digits, digits_2d, digits_engine):
    page = visit("?c=digits-2d&from=number&i=5&data=digits")
    settle(page)
    zoom, lens = page.locator(".panel-zoom"), page.locator(".lens")
    frame, ring = (zoom.locator(part).first.bounding_box() for part in (".frame", "path.line.base[data-mass='0.95']"))
    for at, side in (("x", "width"), ("y", "height")):  # the encoder stands many widths of the posterior away
        assert frame[at] <= ring[at] and ring[at] + ring[side] <= frame[at] + frame[side]
    page.get_by_role("button", name="Whole plane", exact=True).click()
    width = "part => part.getBoundingClientRect().width"
    bar, ring = (lens.locator(part).evaluate(width) for part in (".lens-bar", "path.exact[data-mass='0.95']"))
    length = float(lens.locator(".lens-scale").text_content())
    view = compute_view(digits_2d, digits_engine, digits.test.pixels(slice(5, 6))[0, 0].numpy())
    assert ring / bar * length == pytest.approx(np.ptp(np.concatenate(mass_contours(view)[0.95])[:, 0]), rel=0.01)
    page.locator("label[data-toggle=loupe] input").uncheck()
    assert lens.count() == 0


def test_arrow_keys_and_fingers_move_the_point(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits", "phone")
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
    box = place_of(stage)
    touch = finger(page)
    touch("touchStart", (box["x"] + 150, box["y"] + 150))
    expect(readout).to_contain_text("z = (")
    touch("touchEnd")


DASHES = """svg => ['exact', 'base', 'marginal', 'best'].map((layer) => {
  const style = getComputedStyle(svg.querySelector(`path.line.${layer}`));
  return [style.strokeDasharray, style.stroke];
})"""


def methods_differ_in_line_style_not_in_colour_alone(page) -> None:
    styles = look(page, lambda: page.locator(".panel-zoom svg").evaluate(DASHES))
    dashes = [dash for dash, _ in styles]
    assert len({dashes[1], dashes[2], dashes[3]}) == 3
    shapes = page.locator(".panel-box svg").evaluate(
        """svg => ['base', 'marginal', 'best'].map(
          (layer) => svg.querySelector(`.marker.${layer}`).getAttribute('d').replace(/[-\\d. ]/g, ''))"""
    )
    assert len(set(shapes)) == 3


def test_toggles_zoom_and_walk_need_no_server(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits")
    settle(page)
    methods_differ_in_line_style_not_in_colour_alone(page)
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
    frame = page.locator(".panel-box path.window")
    whole, shown = page.get_by_role("button", name="Whole plane", exact=True), frame.get_attribute("d")
    whole.click()
    assert frame.get_attribute("d") != shown  # the frame on the small plane shows what the large one shows
    page.get_by_role("button", name="Fit all").click()
    assert frame.get_attribute("d") == shown
    page.get_by_role("button", name="Step").click()
    heights = []
    for _ in range(3):
        heights.append(float(re.search(r"ELBO (-?[\d.]+)", page.locator(".walk-text").inner_text()).group(1)))
        page.get_by_role("button", name="Step").click()
    assert heights == sorted(heights) and zoom.locator("path.line.walk:not(.lens *)").count() == 3
    page.get_by_role("slider", name="Place on the walk").fill("0.5")
    expect(page.locator(".walk-text")).to_contain_text("between steps 0 and 1 of")
    elbo = float(re.search(r"about (-?[\d.]+)", page.locator(".walk-text").inner_text())[1])
    top = float(re.search(r"= (-?[\d.]+)", page.locator(".gap-top").inner_text())[1])
    assert float(page.locator(".gap-column.walk b").inner_text().strip("≈ ")) == pytest.approx(top - elbo, rel=0.01)
    expect(page.locator(".at-cursor figcaption")).to_have_text("decoded on the walk")
    page.get_by_role("button", name="Clear the walk").click()
    assert zoom.locator("path.line.walk:not(.lens *)").count() == 0 and zoom.locator("path.line.trail").count() == 0
    expect(page.locator(".at-cursor figcaption")).to_have_text("at the posterior's peak")


def test_a_walk_that_stops_short_says_so_when_it_ends(visit, digits, digits_2d, digits_engine):
    """Of the digits, the first whose walk ends in a lower optimum; nothing below the walk is moved by it."""
    images = digits.test.pixels(slice(0, 40))
    judged = judge(digits_engine, images, digits_2d.model.infer(images))
    fits = [one.best["diagonal"] for one in judged]
    index, fit = next((k, f) for k, f in enumerate(fits) if f.short > 1 and len(f.path) > 2)
    page = visit(f"?c=digits-2d&from=number&i={index}&data=digits")
    settle(page)
    assert page.get_by_role("button", name="to the best").count() == 0
    expect(page.get_by_role("button", name="Walk uphill from the encoder")).to_be_visible()
    words, step = page.locator(".walk-text"), page.get_by_role("button", name="Step")

    def below() -> float:  # not where it is on screen: a click may scroll
        top, bottom = (page.locator(part).bounding_box()["y"] for part in (".toggles", ".readout"))
        return bottom - top

    before = look(page, below)
    for _ in fit.path[:-1]:
        step.click()
        expect(words).not_to_contain_text("optimum")
    step.click()
    last = len(fit.path) - 1
    expect(words).to_contain_text(f"step {last} of {last}. The walk from the encoder stopped in a local optimum")
    expect(words).to_contain_text(f"{fit.short:.3g} nats below the best Gaussian, which was found from another start")
    assert below() == before
    expect(page.locator(".walk-end")).to_contain_text("stopped in a local optimum")


def test_the_steps_of_another_method_are_walked(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits&q=svi")
    settle(page)
    page.get_by_label("Which walk").select_option(label="along SVI, image by image")
    expect(page.get_by_role("button", name="Follow SVI, image by image")).to_be_visible()
    words, heights = page.locator(".walk-text"), []
    for _ in range(3):
        page.get_by_role("button", name="Step").click()
        heights.append(float(re.search(r"ELBO (-?[\d.]+)", words.inner_text()).group(1)))
    assert heights == sorted(heights) and page.locator(".panel-zoom path.line.walk:not(.lens *)").count() == 3


def whole_boxes_move_together(page) -> None:
    boxes = page.locator(".panel-box")
    expect(boxes).to_have_count(2)
    before = boxes.nth(1).locator(".axes text").all_inner_texts()
    boxes.nth(0).get_by_role("button", name="zoom in").click()
    after = boxes.nth(1).locator(".axes text").all_inner_texts()
    assert after != before and after == boxes.nth(0).locator(".axes text").all_inner_texts()


def test_planes_of_one_decoder_are_zoomed_together_and_those_of_two_are_not(visit):
    for beside, together in (("image:7", True), ("checkpoint:digits-2d-wide", False)):
        page = visit(f"?c=digits-2d&from=number&i=5&data=digits&vs={beside}")
        settle(page)
        until(page, "both planes", lambda page=page: page.locator(".panel-zoom .stage").count() == 2)
        ticks = [page.locator(".panel-zoom").nth(k).locator("svg text") for k in (0, 1)]
        before = [look(page, one.all_inner_texts) for one in ticks]
        page.locator(".panel-zoom").nth(0).get_by_role("button", name="zoom in").click()
        until(page, "the zoom", lambda one=ticks[0], old=before[0]: one.all_inner_texts() != old)
        assert (look(page, ticks[1].all_inner_texts) != before[1]) == together, beside
        if together:
            whole_boxes_move_together(page)


def test_the_second_image_is_taken_from_the_gallery_and_both_are_exported(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits&vs=image:7")
    settle(page)
    page.get_by_role("button", name="Compared with image 7").click()
    other = page.locator(".gallery button[aria-pressed='false']").first
    asked = re.search(r"test image (\d+)", look(page, lambda: other.get_attribute("title"))).group(1)
    other.click()
    page.get_by_role("heading", name=f"Test image {asked} under digits-2d").wait_for()
    until(page, "the address", lambda: f"vs=image%3A{asked}" in page.url)
    page.keyboard.press("Escape")
    settle(page)
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download comparison-digits-2d")).click()
    assert download.value.suggested_filename == f"comparison-digits-2d-test-image-5-test-image-{asked}.png"
