"""Every way of giving an image, in a real Chromium, mouse at 1440x900 and finger at 390x844."""

import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import expect

from app.theme import MASSES
from tests.browser import SIZES
from tests.pages import bring_controls, evidence, finger, idle, look, pixels, place_of, settle, until, until_changed


def draw_stroke(page, size: str, places) -> None:
    box = place_of(page.locator(".sheet canvas"))
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


def plane_in_sight(page) -> bool:
    """Whether most of the large plane is seen above the sheet of controls."""
    sheet = page.locator(".stColumn:has(.st-key-controls)").first.bounding_box()
    frame = look(page, page.locator(".panel-zoom .frame").bounding_box)
    return frame["y"] >= 0 and frame["y"] + 0.8 * frame["height"] <= sheet["y"] < frame["y"] + 1.5 * frame["height"]


def foot_of(page, part: str) -> float:
    """Where it ends, in px from the window's top."""
    box = page.locator(part).bounding_box()
    return box["y"] + box["height"]


@pytest.mark.parametrize("size", SIZES)
def test_a_drawn_digit_gets_a_posterior_and_its_link_gives_the_same_elsewhere(visit, size):
    page = visit("?c=digits-2d&from=draw", size)
    page.get_by_text("Draw a digit on the sheet").wait_for()
    page.locator(".empty-plane").wait_for()
    if size == "phone":
        until(
            page,
            "the paper above the foot",
            lambda: foot_of(page, ".sheet canvas") <= page.locator(".dock").bounding_box()["y"],
        )
    paper = place_of(page.locator(".sheet canvas"))
    draw_stroke(page, size, [(0.3, 0.2), (0.7, 0.2), (0.45, 0.85)])
    settle(page)
    if size == "phone":
        until(page, "the plane above the paper", lambda: plane_in_sight(page))
        assert place_of(page.locator(".sheet canvas")) == paper
    expect(page.locator(".empty-plane")).to_have_count(0)
    one = evidence(page)
    draw_stroke(page, size, [(0.35, 0.55), (0.65, 0.55)])
    two = until_changed(page, one)
    expect(page.get_by_text("what the model saw")).to_be_visible()
    expect(page).to_have_url(re.compile("ink="))
    assert len(page.url) < 1_000
    other = visit("?" + page.url.partition("?")[2], size)
    settle(other)
    assert evidence(other) == two
    for canvas in (".sheet canvas", ".pictures canvas"):
        drawn, again = (look(p, lambda p=p, c=canvas: pixels(p, c)) for p in (page, other))
        np.testing.assert_array_equal(again, drawn)
    page.get_by_role("button", name="Undo").click()
    until_changed(page, two)
    assert evidence(page) == one


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
    bring_controls(page)
    before = evidence(page)
    thumbnails = page.locator(".gallery button")
    thumbnails.nth(4).click()
    clicked = until_changed(page, before)
    if size == "phone":
        until(page, "the plane above the gallery", lambda: plane_in_sight(page))
    expect(page.locator(".gallery button[aria-pressed=true]")).to_have_count(1)
    thumbnails.last.focus()
    page.keyboard.press("Enter")
    until_changed(page, clicked)
    width = look(page, lambda: page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]"))
    assert width[0] <= width[1]


HELD = """svg => {
  const star = svg.querySelector('.marker.truth').getBBox();
  const at = new DOMPoint(star.x + star.width / 2, star.y + star.height / 2);
  return [0.5, 0.8, 0.95].map((mass) => Array.from(svg.querySelectorAll(`.line.exact[data-mass='${mass}']`))
    .filter((path) => path.isPointInFill(at)).length % 2 === 1);
}"""


def mass_stated(page) -> float:
    return float(page.get_by_text("region that holds").locator("strong").inner_text().rstrip("%")) / 100


def test_a_simulated_images_true_z_lies_where_the_page_says(visit):
    """For each seed the star is inside a drawn contour exactly where the stated mass says so."""
    page = visit("?c=digits-2d&from=simulate&seed=1")
    settle(page)
    inside = []
    for _ in range(6):
        stated, held = look(page, lambda: (mass_stated(page), page.locator(".panel-zoom svg").evaluate(HELD)))
        for mass, holds in zip(MASSES, held, strict=True):
            if abs(stated - mass) > 0.04:  # nearer than this the star's own extent decides
                assert holds == (stated < mass)
                inside.append(holds)
        before = evidence(page)
        page.get_by_role("button", name="Another draw").click()
        until_changed(page, before)
    assert any(inside) and not all(inside)


def test_a_click_on_the_plane_makes_an_image_from_there(visit):
    page = visit("?c=digits-2d&from=simulate&seed=1")
    settle(page)
    before = evidence(page)
    box = place_of(page.locator(".panel-box .stage"))
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.4 * box["height"])
    until_changed(page, before)
    expect(page).to_have_url(re.compile("z="))
    expect(page.get_by_text("chosen by you")).to_be_visible()


def test_the_dial_changes_the_image_and_the_link(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits")
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
