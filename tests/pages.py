"""What the browser tests do on every page: wait, read, touch."""

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from playwright.sync_api import expect

from tests.server import work_of

PATIENCE = 300_000  # ms, for a single look at the page: long, since a busy machine is not a failure
STALL = 60.0  # seconds in which the server has done nothing: then nothing will come
LOOKS = 200  # and the page was looked at so often: a browser that gets no time is not a stalled one
IDLE_SHARE = 0.01  # of a core: what a server uses that waits
MOST_WORK = 600.0  # seconds of the server's CPU for one step: more is a loop
expect.set_options(timeout=PATIENCE)
Seen = TypeVar("Seen")


def until(page, step: str, done) -> None:
    """Wait for ``done()`` as long as the server works at it; what was waited for is in the failure."""
    begun = last = work_of(page.url)
    since, looks = time.monotonic(), 0
    while not done():
        page.wait_for_timeout(50)
        work, waited, looks = work_of(page.url), time.monotonic() - since, looks + 1
        if work - last > IDLE_SHARE * STALL:
            last, since, looks = work, time.monotonic(), 0
        stalled = waited > STALL and looks > LOOKS
        assert not stalled and work - begun < MOST_WORK, (
            f"waiting for {step}: the server worked {work - begun:.1f} s for it, the last {waited:.0f} s not at all; "
            f"the page says: {page.locator('body').inner_text()[:500]!r}"
        )


def idle(page, step: str = "the script") -> None:
    stopped = page.locator("[data-testid=stApp][data-test-script-state=notRunning]")
    until(page, f"{step} to end", lambda: stopped.count() > 0)


# whether the page is at rest, and how often its script has begun or ended since this was first asked
REST = """() => {
  const app = document.querySelector('[data-testid=stApp]');
  if (window.runsSeen === undefined) {
    window.runsSeen = 0;
    new MutationObserver(() => { window.runsSeen += 1; })
      .observe(app, { attributes: true, attributeFilter: ['data-test-script-state'] });
  }
  const ends = (a) => a.playState === 'running' && a.effect.getComputedTiming().endTime !== Infinity;
  const moving = document.getAnimations().some(ends); // a fade, or an expander that opens; a spinner turns for ever
  const stale = document.querySelector('[data-stale=true]') !== null;
  return [app.dataset.testScriptState === 'notRunning' && !stale && !moving, window.runsSeen];
}"""


def look(page, see: Callable[[], Seen], step: str = "the page") -> Seen:
    """What ``see()`` gives of the page at rest; what it gave, or said, of a page that moved meanwhile is forgotten.

    While the script runs, Streamlit dims what it has not drawn yet, and a component may let it run again at any time.
    """
    for _ in range(LOOKS):
        until(page, f"{step} to be at rest", lambda: page.evaluate(REST)[0])
        before, seen, complaint = page.evaluate(REST), None, None
        try:
            seen = see()
        except AssertionError as error:
            complaint = error
        if before[0] and page.evaluate(REST) == before:
            if complaint:
                raise complaint
            return seen
    raise AssertionError(f"{step} did not come to rest in {LOOKS} looks")


def bring_controls(page) -> None:
    """In a narrow window they are in a sheet."""
    button = page.get_by_role("button", name="Image and controls")
    if button.is_visible():
        button.click()
        page.get_by_role("button", name="Close", exact=True).wait_for()


def settle(page, step: str = "the page") -> None:
    """Wait until the script has run and the numbers are there; never for a length of time."""
    idle(page, step)
    told = page.locator(".evidence, :root:has(.st-key-lesson) .gap-top:not(:empty)")  # a step may hide the tables
    until(page, f"log p(x) of {step}", lambda: told.count() > 0)
    until(page, f"the contours of {step}", lambda: page.locator(".plane-root .line.exact").count() > 0)
    idle(page, step)


def evidence(page) -> str:
    """log p(x) as the page says it now; empty where it says none."""
    return next(iter(page.locator(".evidence b").all_inner_texts()), "")


def until_shown(page, number: str, step: str) -> None:
    """Wait until the page says this log p(x), and go on saying it: the address changes before the script begins."""
    until(page, step, lambda: evidence(page) == number)
    settle(page, step)
    assert evidence(page) == number, f"{step} did not stay"


def until_changed(page, before: str, step: str = "the new image") -> str:
    until(page, f"another log p(x) of {step}", lambda: evidence(page) not in ("", before))
    settle(page, step)
    return evidence(page)


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


def place_of(part) -> dict[str, float]:
    """Where an element stands in the window, scrolled into view, once nothing on the page moves it any more.

    A finger put where it stood a moment ago touches something else.
    """
    part.scroll_into_view_if_needed()
    boxes = [None]

    def stands_still() -> bool:
        boxes.append(look(part.page, part.bounding_box))
        moving = part.page.evaluate("document.documentElement.dataset.moving")  # app/components/dock.js scrolls
        return moving is None and boxes[-1] is not None and boxes[-1] == boxes[-2]

    until(part.page, "the element to stand still", stands_still)
    return boxes[-1]


def lasso(page, plot, *corners: tuple[float, float]) -> None:
    """Take the lasso and draw a loop through ``corners`` of a chart, in shares of its width and height."""
    page.locator("[data-title='Lasso Select']").click()
    box = place_of(plot)
    first, *others = [(box["x"] + box["width"] * a, box["y"] + box["height"] * b) for a, b in (*corners, corners[0])]
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


PLACE_OF_DOT = """(chart, image) => {
  const { xaxis, yaxis } = chart._fullLayout;
  const box = chart.querySelector('.nsewdrag').getBoundingClientRect();
  for (const { type, customdata, x, y } of chart._fullData) {
    const k = type === 'scattergl' ? Array.from(customdata).indexOf(image) : -1;
    if (k >= 0) return [box.x + xaxis.d2p(x[k]), box.y + yaxis.d2p(y[k])];
  }
}"""


def dot(page, image: int) -> list[float]:
    """Where the dot of a test image stands in the window."""
    chart = page.locator(".js-plotly-plot").first
    place_of(chart)
    return chart.evaluate(PLACE_OF_DOT, image)
