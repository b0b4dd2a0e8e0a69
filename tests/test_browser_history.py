"""From page to page, Back and Forward, in a real Chromium: the state follows, whatever way one takes."""

import re

import pytest
from playwright.sync_api import expect

from tests.pages import evidence, idle, look, settle, until, until_changed, until_shown

FIGURES, EXPLORE = "Figures 1 and 2", "Explore"
CHOSEN = "?c=digits-2d&i=5&data=digits&sort=kl_base&big=1"


def go(page, name: str) -> None:
    page.get_by_role("link", name=name).click()
    wanted = "/figures" if name == FIGURES else "/?"
    until(page, f"the address of {name}", lambda: wanted in page.url and "c=" in page.url)
    arrive(page)


def arrive(page) -> None:
    if "/figures" in page.url:
        idle(page, FIGURES)
        expect(page.locator(".legend")).to_have_count(2)
    else:
        settle(page, EXPLORE)


def query(page) -> dict[str, str]:
    return dict(re.findall(r"[?&]([^=]+)=([^&]*)", page.url))


def says(page) -> tuple[str, str, bool]:
    """What the controls show: checkpoint, order, projector."""
    chosen = page.get_by_role("combobox", name=re.compile("Checkpoint"))
    gallery = page.get_by_role("button", name=re.compile("^By "))
    order = gallery.or_(page.get_by_role("combobox", name=re.compile("Sorted by")))
    checkpoint, order = (box.evaluate("e => e.value || e.innerText") for box in (chosen, order))
    return (
        checkpoint,
        re.sub(r"^By |(, in nats|, as percentile)?\s*expand_more$", "", order),
        page.get_by_role("switch", name="Projector")
        .or_(page.get_by_role("checkbox", name="Projector"))
        .first.is_checked(),
    )


def state(page) -> tuple[dict[str, str], tuple[str, str, bool], str]:
    """Address, controls and log p(x), all of one moment."""
    return look(page, lambda: (query(page), says(page), evidence(page)))


def no_complaint(page) -> None:
    assert page.get_by_text("made with other weights").count() == 0
    assert page.get_by_text("The link says").count() == 0


@pytest.mark.parametrize("start", ["fresh", "after a gallery click", "after a reload"])
def test_the_state_goes_along_from_page_to_page(visit, start):
    page = visit("" if start == "fresh" else CHOSEN)
    settle(page)
    if start == "after a gallery click":
        before = evidence(page)
        page.locator(".gallery button").nth(4).click()
        until_changed(page, before)
    if start == "after a reload":
        page.reload()
        settle(page)
    address, controls, shown = state(page)
    go(page, FIGURES)
    no_complaint(page)
    usual = (controls[0], "U(x)", controls[2])  # where nothing was chosen each page has its own order
    assert state(page)[1] == (usual if start == "fresh" else controls)
    kept = ("c", "w", "sort", "big")
    assert [query(page).get(key) for key in kept] == [address.get(key) for key in kept]
    go(page, EXPLORE)
    no_complaint(page)
    assert state(page) == (address, controls, shown)


def test_what_is_set_on_the_figures_page_holds_on_explore(visit):
    page = visit("?n=1", path="figures")
    arrive(page)
    page.get_by_role("combobox", name=re.compile("Sorted by")).click()
    page.get_by_role("option", name="q's width", exact=True).click()
    until(page, "the order in the address", lambda: "sort=log_width" in page.url)
    go(page, EXPLORE)
    assert query(page)["sort"] == "log_width" and says(page)[1] == "q's width"


def test_a_panel_of_a_figure_opens_in_explore_and_back_returns_to_it(visit):
    page = visit("?c=digits-2d&n=1", path="figures")
    arrive(page)
    page.get_by_text("The whole box").click()
    until(page, "the window in the address", lambda: "box=1" in page.url)
    page.reload()
    arrive(page)
    button = page.get_by_role("button", name=re.compile(r"Open image \d+ in Explore")).nth(2)
    index = re.search(r"\d+", button.inner_text()).group()
    button.click()
    until(page, "the address of Explore", lambda: query(page).get("i") == index and "/figures" not in page.url)
    settle(page, EXPLORE)
    assert "box" not in query(page)
    page.go_back()
    until(page, "the figures again", lambda: "/figures" in page.url and "box=1" in page.url)
    arrive(page)


def test_back_and_forward_go_from_image_to_image_and_from_page_to_page(visit):
    page = visit()
    settle(page)
    places = [(query(page), evidence(page))]
    for place in (4, 8):
        before = evidence(page)
        page.locator(".gallery button").nth(place).click()
        places.append((until_changed(page, before), query(page))[::-1])
    go(page, FIGURES)
    for expected in [*places[::-1]]:
        page.go_back()
        until(page, "the address before", lambda e=expected: query(page) == e[0])
        until(page, "its image", lambda e=expected: evidence(page) == e[1])
        idle(page)
        assert query(page) == expected[0], "the address bounced back"
    for expected in places[1:]:
        page.go_forward()
        until(page, "the address after", lambda e=expected: query(page) == e[0])
        until(page, "its image", lambda e=expected: evidence(page) == e[1])
    page.go_forward()
    until(page, "the figures again", lambda: "/figures" in page.url)
    arrive(page)


def test_a_sliders_way_is_one_entry_and_each_choice_one(visit):
    page = visit()
    settle(page)
    entries = page.evaluate("history.length")
    first = evidence(page)
    slider = page.get_by_role("slider", name="Position in this order")  # it may come after that of the walk
    for _ in range(5):
        before = evidence(page)
        slider.press("ArrowRight")
        until_changed(page, before, "the slider's next image")
    assert page.evaluate("history.length") == entries + 1
    last = evidence(page)
    page.get_by_text("By number", exact=True).click()
    until(page, "the way in the address", lambda: "from=number" in page.url)
    idle(page)
    assert page.evaluate("history.length") == entries + 2
    page.go_back()
    until(page, "the gallery again", lambda: "from=number" not in page.url)
    until_shown(page, last, "the gallery's image")
    page.go_back()
    until(page, "the image before the slider's way", lambda: evidence(page) == first)


def test_a_drawing_by_the_keyboard_comes_back_and_is_not_lost_on_other_ways(visit):
    page = visit("?c=digits-2d&from=draw")
    idle(page)
    page.get_by_role("application", name="Draw a digit").focus()
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 14 + [" "]:
        page.keyboard.press(key)
    settle(page)
    drawn, ink = evidence(page), query(page)["ink"]
    page.get_by_text("By number", exact=True).click()
    numbered = until_changed(page, drawn)
    page.go_back()
    until(page, "the drawing again", lambda: query(page).get("ink") == ink)
    until_shown(page, drawn, "the drawing's number")
    page.go_forward()
    until(page, "the number again", lambda: "from=number" in page.url)
    until_shown(page, numbered, "the number's image")
    page.get_by_text("Draw", exact=True).click()
    until(page, "the drawing kept", lambda: query(page).get("ink") == ink)
