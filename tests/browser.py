"""Find a Chromium for the browser tests, or install one: run by `make test`, imported by the tests.

In order: one on the PATH; Playwright's own, where it is already there; Debian's package, where apt-get may be used;
Playwright's own, downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    from playwright.sync_api import sync_playwright

    on_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    if on_path:
        return on_path
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install_chromium() -> None:
    """Try Debian's package, then Playwright's download; what fails is said, and the tests then say they skip."""
    apt = shutil.which("apt-get")
    if apt and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([apt, "update", "-qq"], check=False, env=environment, stdout=subprocess.DEVNULL)
        subprocess.run(
            [apt, "install", "-qq", "-y", "chromium"], check=False, env=environment, stdout=subprocess.DEVNULL
        )
    if find_chromium() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"], check=False)


if __name__ == "__main__":
    if find_chromium() is None:
        install_chromium()
    print(f"browser for the tests: {find_chromium() or 'none could be installed; put chromium on the PATH'}")
