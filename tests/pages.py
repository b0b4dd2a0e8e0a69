"""What the browser tests do on every page: wait, read, touch."""

import numpy as np
from playwright.sync_api import expect

PATIENCE = 60_000  # ms: other tests share the cores
expect.set_options(timeout=PATIENCE)


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
