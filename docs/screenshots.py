"""Renew the screenshots of this folder, digits only: python -m docs.screenshots [--out DIR] [NAME=ADDRESS ...]."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import sync_playwright

from tests.browser import SIZES, find_chromium
from tests.server import serving

SHOTS = {
    "explore": "?c=digits-2d-wide&from=number&i=35&data=digits&me=0.2,-1.2,0.35,0.25",
    "simulate": "?c=digits-2d-wide&from=simulate&seed=7&data=digits",
    "figures": "figures?c=digits-2d",
    "lesson": "?c=digits-2d-wide&from=number&i=35&data=digits&step=3",
    "map": "map?c=digits-2d-wide",
    "train": "train",
}


def main() -> None:
    """Each address in Chromium at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--scheme", default="light")
    parser.add_argument("--whole", action="store_true", help="the whole page, not one screen of it")
    parser.add_argument("shots", nargs="*", help="NAME=ADDRESS of others")
    arguments = parser.parse_args()
    shots = dict(shot.split("=", 1) for shot in arguments.shots) or SHOTS
    with sync_playwright() as playwright, TemporaryDirectory() as folder, serving(Path(folder)) as server:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for name, address in shots.items():
                page = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme=arguments.scheme,
                    has_touch=size == "phone",
                )
                page.goto(f"{server.url}/{address}")
                page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=90_000)
                if name == "train":
                    page.get_by_role("button", name="Train", exact=True).click()
                    page.get_by_text("Finished").wait_for(timeout=180_000)
                page.wait_for_timeout(2500)  # for the pictures' last layout
                if arguments.whole:
                    inner = "document.querySelector('[data-testid=stMain]').scrollHeight"
                    page.set_viewport_size({"width": width, "height": int(page.evaluate(inner)) + 80})
                    page.wait_for_timeout(1000)
                page.screenshot(path=arguments.out / f"{name}-{size}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
