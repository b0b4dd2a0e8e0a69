"""Where things stand, in a real Chromium: wide enough, inside the window, apart, and not moved by a hover."""

import itertools
import json

import pytest

from app import components
from app.compute import compute_view
from app.payload import plane_data
from app.views.sources import simulate
from tests.pages import PATIENCE, look, settle, until

WIDTHS = (360, 390, 600, 800, 1024, 1440, 1920)
SOME_WIDTHS = (360, 1180)
SCREENS = ((1280, 720), (1366, 768), (1440, 900), (1920, 1080))
PAGES = {
    "one image": ("?c=digits-2d&from=number&i=5&data=digits", "light"),
    "one image, projector": ("?c=digits-2d&from=number&i=5&data=digits&big=1", "dark"),
    "simulated, projector": ("?c=digits-2d&from=simulate&seed=2&big=1", "light"),
    "two images": ("?c=digits-2d&from=number&i=5&data=digits&vs=image:7", "dark"),
    "two images, projector": ("?c=digits-2d&from=number&i=5&data=digits&vs=image:7&big=1", "light"),
    "empty image": ("?c=digits-2d&from=number&i=5&data=digits&occlude=28", "light"),
}


@pytest.fixture(scope="module")
def opened(chromium, server):
    """Each page once, whatever the width; every table on it is open."""
    pages = {}

    def open_page(name, width):
        if name not in pages:
            query, scheme = PAGES[name]
            page = chromium.context().new_page()
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": 1440, "height": 900})
            page.set_default_timeout(PATIENCE)
            page.goto(f"{server}/{query}")
            settle(page)
            for summary in page.locator("summary", has_text="Every number, with its numerical error").all():
                summary.press("Enter")  # with the keyboard: a press of the mouse may meet what the page still moves
            page.get_by_role("columnheader", name="numerical error").last.wait_for()
            pages[name] = page
        pages[name].set_viewport_size({"width": width, "height": 900})
        redrawn(pages[name])
        return pages[name]

    yield open_page
    for page in pages.values():
        page.close()


REDRAWN = """stages => stages.every(s => {
  const svg = s.querySelector('svg');
  return Math.abs(svg.viewBox.baseVal.width - s.clientWidth) < 1;
})"""


def redrawn(page) -> None:
    """Wait until every plane has taken its new size, twice the same."""
    looks = []

    def twice_the_same() -> bool:
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        looks.append(page.locator(".stage").evaluate_all(f"s => [({REDRAWN})(s), s.map(stage => stage.clientWidth)]"))
        return looks[-1][0] and looks[-2:-1] == looks[-1:]

    until(page, "the planes to be drawn in their new size", twice_the_same)


# --- the page -------------------------------------------------------------------------------------------------


def every_gap_bar_is_wide_enough_to_be_read(page, name, width):
    bars = page.locator(".meter .bar")
    found = bars.evaluate_all(
        "bars => bars.map(b => [b, b.closest('.meter')].map(e => e.getBoundingClientRect().width))"
    )
    assert len(found) == (6 if name.startswith("two") else 3)
    for bar, container in found:
        assert bar >= min(120, container / 2) and bar > 60


# everything of the main block, the components' shadows included, but what is clipped or scrolls in a box of its own
TOO_WIDE = """main => {
  const found = [];
  const scrolls = (e) => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX);
  const visit = (e) => {
    const box = e.getBoundingClientRect();
    const seen = box.width && box.height > 1 && !e.hasAttribute('clip-path');
    if (seen && (box.right > innerWidth + 0.5 || box.left < -0.5)) {
      found.push([e.tagName, String(e.className?.baseVal ?? e.className), box.left, box.right]);
    }
    if (e !== main && scrolls(e) || e.hasAttribute('clip-path')) return;
    for (const child of [...e.children, ...(e.shadowRoot?.children ?? [])]) visit(child);
  };
  visit(main);
  return found;
}"""


def nothing_is_wider_than_the_window(page, name, width):
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".stMain").evaluate("main => main.scrollWidth - main.clientWidth") <= 0
    assert page.get_by_test_id("stMainBlockContainer").evaluate(TOO_WIDE) == []


def the_scores_table_needs_no_scrolling(page, name, width):
    tables = page.locator("table", has_text="percentile")
    over = tables.evaluate_all("ts => ts.map(t => t.scrollWidth - t.closest('[data-testid=stMarkdown]').clientWidth)")
    assert over and max(over) <= 1


def a_hover_leaves_everything_below_where_it_is(page, name, width):
    """In the middle of the mass, far outside it, at the corner of the box, and gone again."""
    page.mouse.move(1, 1)
    for stage in page.locator(".stage").all():
        stage.scroll_into_view_if_needed()
        frame = stage.locator(".frame").bounding_box()
        before = tops(page)
        texts = set()
        for across, down in ((0.5, 0.5), (0.02, 0.02), (0.98, 0.6)):
            page.mouse.move(frame["x"] + across * frame["width"], frame["y"] + down * frame["height"])
            texts.add(" ".join(page.locator(".readout").all_inner_texts()))
            assert tops(page) == pytest.approx(before, abs=1)
        page.mouse.move(1, 1)
        assert len(texts) > 1 and tops(page) == pytest.approx(before, abs=1)


CHECKS = [
    every_gap_bar_is_wide_enough_to_be_read,
    nothing_is_wider_than_the_window,
    the_scores_table_needs_no_scrolling,
    a_hover_leaves_everything_below_where_it_is,
]


@pytest.mark.parametrize(
    ("name", "width"), [(name, width) for name in PAGES for width in (WIDTHS if name == "one image" else SOME_WIDTHS)]
)
def test_layout(opened, name, width):
    """Every check of a page in one window: drawing it anew takes longer than looking at it."""
    page = opened(name, width)
    for check in CHECKS:
        look(page, lambda check=check: check(page, name, width))


def test_the_plane_and_the_button_below_it_are_seen_together(visit):
    """In the windows of a laptop, in the lesson and outside it; there no formula is cut either."""
    page = visit("?c=digits-2d&from=number&i=5&data=digits&step=3")

    def resized(width, height):
        page.set_viewport_size({"width": width, "height": height})
        redrawn(page)

    def beside_one_another():
        bottom = page.locator(".own-begin").bounding_box()
        top = page.locator(".panel-zoom").bounding_box()
        return top["y"] >= 0 and bottom["y"] + bottom["height"] <= page.viewport_size["height"]

    def whole(formula):
        return formula.evaluate("e => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight")

    page.locator(".own-begin").wait_for()
    for width in (390, 800, 1440):
        resized(width, 900)
        until(page, f"the formula at {width}", lambda: whole(page.locator(".st-key-lesson .katex-display")))
    for width, height in SCREENS:
        resized(width, height)
        until(page, f"the lesson's plane and button at {width}", beside_one_another)
    page.get_by_role("button", name="Leave the lesson").click()
    page.locator(".st-key-lesson").wait_for(state="detached")
    for width, height in SCREENS:
        resized(width, height)
        until(page, f"plane and button at {width}", beside_one_another)
    resized(390, 844)
    dock = page.locator(".dock").bounding_box()
    begin = page.locator(".own-begin").bounding_box()
    assert begin["y"] + begin["height"] <= dock["y"]


def test_on_a_projector_too_and_its_switch_keeps_clear_of_the_pages_names(visit):
    page = visit("?c=digits-2d&from=number&i=5&data=digits&big=1&step=3")

    def plane_and_switch():
        page.set_viewport_size({"width": 1920, "height": 1080})
        redrawn(page)
        bottom = page.locator(".own-begin").bounding_box()
        assert bottom["y"] + bottom["height"] <= 1080
        page.set_viewport_size({"width": 1280, "height": 720})
        redrawn(page)
        last = page.get_by_role("link", name="Train a model").bounding_box()
        switch = page.locator(".st-key-top label").bounding_box()
        assert last["x"] + last["width"] <= switch["x"] and abs(switch["y"] - last["y"]) < last["height"]

    page.locator(".own-begin").wait_for()
    look(page, plane_and_switch)
    page.get_by_role("button", name="Leave the lesson").click()
    page.locator(".st-key-lesson").wait_for(state="detached")
    look(page, plane_and_switch)


TYPE_AND_LINE = """root => {
  const line = getComputedStyle(root.querySelector('path.line.base'));
  return [getComputedStyle(root).fontSize, line.strokeWidth].map(parseFloat);
}"""


def test_a_projector_has_the_larger_plane_large_type_and_thick_lines_and_the_walk_beside_it(opened):
    sides, sizes = {}, []
    for name in ("one image", "one image, projector"):
        page = opened(name, 1440)
        sizes.append(look(page, lambda shown=page: shown.locator(".plane-root").evaluate(TYPE_AND_LINE)))
        page.locator(".stMain").evaluate("main => main.scrollTo(0, 0)")
        for width, height in SCREENS[2:]:
            page.set_viewport_size({"width": width, "height": height})
            redrawn(page)
            plane, walk = (page.locator(part).bounding_box() for part in (".panel-zoom", ".walker input"))
            sides.setdefault(width, []).append(plane["width"])
            assert plane["y"] + plane["height"] <= height or "projector" not in name
    assert walk["y"] + walk["height"] <= 1080
    assert all(large > 1.03 * usual for usual, large in sides.values())
    assert sizes[1][0] >= 1.3 * sizes[0][0] and sizes[1][1] >= 1.5 * sizes[0][1]


def test_the_whole_gallery_is_seen_beside_the_plane(visit):
    page = visit("?c=digits-2d-wide")
    tiles = page.locator(".gallery button")
    until(page, "the gallery", lambda: tiles.count() == 12)
    settle(page)
    slider = page.get_by_role("slider", name="Position in this order").bounding_box()
    assert slider["y"] + slider["height"] <= 900 and tiles.last.bounding_box()["y"] < slider["y"]


def tops(page) -> list[float]:
    """Where the meters stand on the page."""
    inside = page.locator(".stMain").evaluate("main => main.scrollTop")
    return [
        box + inside for box in page.locator(".evidence").evaluate_all("es => es.map(e => e.getBoundingClientRect().y)")
    ]


# --- the plane: mounted by itself, with what Python sends it --------------------------------------------------------

PLANE = """<!doctype html><meta charset="utf-8"><style>body {{ margin: 0; font-family: sans-serif; }} {css}</style>
<div id="host"></div><script type="application/json" id="data">{data}</script><script type="module">
{module}
const host = document.getElementById("host");
const all = JSON.parse(document.getElementById("data").textContent);
globalThis.show = (k) => mount({{ data: all[k], parentElement: host, setTriggerValue() {{}} }});
show(0);
</script>"""

CASES = [*((seed, False) for seed in range(8)), *((seed, True) for seed in range(2))]  # whether the truth is moved


@pytest.fixture(scope="module")
def planes(browser, digits_2d, digits_engine):
    """Planes of simulated images: true z drawn from the prior, or moved to the mean of the posterior."""
    views = []
    for seed, _ in CASES:
        pixels, z = simulate(digits_2d, seed, None)
        views.append(compute_view(digits_2d, digits_engine, pixels, z))
    payloads = [
        plane_data(view, digits_2d.digest, "it", projector=seed % 3 == 2)
        for view, (seed, _) in zip(views, CASES, strict=True)
    ]
    for payload, (_, moved) in zip(payloads, CASES, strict=True):
        if moved:
            payload["truth"] = payload["mean"]
    module = components.source("plane.js").replace("export default function mount", "function mount")
    page = browser.new_page()
    data = json.dumps(payloads).replace("<", "\\u003c")
    page.set_content(PLANE.format(css=components.source("plane.css"), data=data, module=module))
    page.locator(".panel-zoom .line.exact").first.wait_for(state="attached")
    yield page
    page.close()


def at_width(page, case: int, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("k => show(k)", case)
    redrawn(page)


BOXES = """es => es.map(e => {
  const b = e.getBoundingClientRect();
  return [b.left, b.top, b.right, b.bottom, e.textContent];
})"""


def boxes(page, selector: str) -> list[list]:
    return page.locator(selector).evaluate_all(BOXES)


def meeting(some: list[list]) -> list[tuple]:
    """Pairs of boxes that share more than half a pixel."""
    return [
        (a[4], b[4])
        for a, b in itertools.combinations(some, 2)
        if min(a[2], b[2]) - max(a[0], b[0]) > 0.5 and min(a[3], b[3]) - max(a[1], b[1]) > 0.5
    ]


@pytest.mark.parametrize("width", [300, 1080])
def test_labels_of_the_axes_keep_clear_of_one_another(planes, width):
    """At rest, moved, zoomed in until the numbers are long, zoomed out; and under the colours."""
    for case in (0, 2):  # 2: projector mode
        at_width(planes, case, width)
        planes.locator("label[data-toggle=heat] input").check()
        for panel in (".panel-zoom", ".panel-box"):
            before = planes.locator(f"{panel} .stage").bounding_box()
            for key in ("+", "+", "ArrowUp", "+", "+", "ArrowRight", "+", "+", "+", "+", "0", "-", "-", "0"):
                found = boxes(planes, f"{panel} .axes text")
                assert len([box for box in found if box[4]]) >= 2 + 2 + 2  # both names, two numbers on each axis
                assert meeting(found) == []
                assert min(box[0] for box in found) >= before["x"] - 0.5  # not over what stands to the left
                planes.locator(f"{panel} .stage").press(key)
                height = planes.locator(f"{panel} .stage").bounding_box()["height"]
                assert height == pytest.approx(before["height"], abs=0.5)  # zooming moves nothing
        assert meeting(boxes(planes, ".colours i")) == [] and len(boxes(planes, ".colours i")) >= 3


@pytest.mark.parametrize("width", [300, 700])
def test_labels_of_the_masses_keep_clear_of_the_star_and_of_one_another(planes, width):
    labelled = 0
    for case in range(len(CASES)):
        at_width(planes, case, width)
        for key in ("0", "+", "+", "-", "-", "-", "-"):
            planes.locator(".panel-zoom .stage").press(key)
            labels = boxes(planes, ".panel-zoom .mass")
            stars = boxes(planes, ".panel-zoom .marker.truth:not(.lens *)")
            loupe = boxes(planes, ".panel-zoom rect.lens-frame")  # which has a star of its own
            assert len(stars) == 1 and meeting(labels + stars + loupe) == []
            labelled += len(labels)
    assert labelled > 2.5 * 7 * len(CASES)  # dropped where there is no place, which is seldom


def test_labels_stand_at_the_edge_that_they_name(planes):
    """Within two label heights of their contour, and inside the frame."""
    at_width(planes, 0, 1080)
    frame = planes.locator(".panel-zoom .frame").bounding_box()
    for left, top, right, bottom, text in boxes(planes, ".panel-zoom .mass:not(.name)"):
        mass = {"50%": "0.5", "80%": "0.8", "95%": "0.95"}[text]
        edge = planes.locator(f".panel-zoom path.line.exact[data-mass='{mass}']").first.bounding_box()
        assert right > edge["x"] - 2 * (bottom - top) and left < edge["x"] + edge["width"] + 2 * (bottom - top)
        assert bottom > edge["y"] - 2 * (bottom - top) and top < edge["y"] + edge["height"] + 2 * (bottom - top)
        assert left >= frame["x"] and right <= frame["x"] + frame["width"]
        assert top >= frame["y"] and bottom <= frame["y"] + frame["height"]
