"""Shared fixtures: real data where it is at hand, small models, the shipped checkpoints, the app in a browser."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, ImageSet, load_dataset
from gpvae_core.exact import PosteriorEngine
from gpvae_core.paths import grid_cache
from tests.browser import SIZES, find_chromium
from tests.pages import PATIENCE
from tests.server import files_served, share_grids, shared

FILES = pytest.StashKey[set[str]]()  # names of those whose tests open pages


def pytest_configure(config: pytest.Config) -> None:
    """Workers share the cores: torch would otherwise start a thread for every core in each of them.

    The programs that they start, servers included, get as many threads.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = max(1, torch.get_num_threads() // workers)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # whoever starts the tests in the background of a script has them ignore Ctrl-C, and so all that they start
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Those that take longest come first: at the end they would keep one core busy and the others idle.

    Files that show pages follow each other, so that they can share a browser.
    """
    session.stash[FILES] = {item.path.name for item in items if "chromium" in item.fixturenames}

    def place(item: pytest.Item) -> tuple[bool, bool]:
        """Long ones without a browser, long ones with it, others with it, the rest."""
        long = item.get_closest_marker("long") is not None
        return not long, shows_pages(item) == long

    items.sort(key=place)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many more than cores: a worker whose server or browser computes has nothing to do itself."""
    return 3 * (os.cpu_count() or 2) // 2


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory) -> None:
    """The user's cache folder of this run, one for all workers: a base grid is decoded once, not by each of them."""
    os.environ["XDG_CACHE_HOME"] = str(of_the_run(tmp_path_factory) / "cache")


def of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(autouse=True)
def errors_of_pages_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence that stands on a page for whatever nobody foresaw would hide it from the tests."""

    def again() -> None:
        raise

    monkeypatch.setattr("app.gate.unforeseen", again)


@pytest.fixture(autouse=True)
def as_important_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that steps back behind others does so for good: within a worker, all later tests would wait."""
    monkeypatch.setattr(os, "nice", lambda steps: steps)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with mnist.npz; the test is skipped, saying so, where there is none."""
    folder = Path(os.environ.get("GPVAE_DATA_DIR", "no-data-dir"))
    if not (folder / "mnist.npz").exists():
        pytest.skip("needs MNIST: set GPVAE_DATA_DIR to a folder that holds mnist.npz")
    return folder


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> Dataset:
    return load_dataset("mnist", data_dir)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def digits_2d() -> Checkpoint:
    return load_checkpoint("digits-2d")


@pytest.fixture(scope="session")
def digits_engine(digits_2d: Checkpoint) -> PosteriorEngine:
    return digits_2d.engine(cache=grid_cache())


@pytest.fixture(scope="session")
def mnist_2d() -> Checkpoint:
    return load_checkpoint("mnist-2d")


@pytest.fixture(scope="session")
def mnist_engine(mnist_2d: Checkpoint) -> PosteriorEngine:
    return mnist_2d.engine(cache=grid_cache())


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def tiny_dataset() -> Dataset:
    """Forty random 28x28 images: enough to train on for a second."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    parts = [ImageSet(images[a:b]) for a, b in ((0, 40), (40, 50), (50, 60))]
    return Dataset("tiny", *parts)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No MNIST, no network, no cache of an earlier run; nothing that the app has found stays found."""
    from app.loaders import source  # here: Streamlit has much to say when it is imported first

    monkeypatch.setenv("GPVAE_DATA_DIR", str(tmp_path))
    share_grids(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    source.clear()
    yield
    source.clear()


@pytest.fixture
def served(tmp_path):
    """A folder and the address at which a local web server serves it."""
    folder = tmp_path / "www"
    folder.mkdir()
    with files_served(folder) as address:
        yield folder, address


# --- a browser ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One app for all browser files of all workers."""
    with shared(of_the_run(tmp_path_factory) / "app") as running:
        yield running.url


@dataclass
class Chromium:
    """A running browser, and its contexts with mouse or finger: what they have compiled of the app's script stays."""

    running: Browser
    end: ExitStack
    contexts: dict[bool, BrowserContext] = field(default_factory=dict)

    def context(self, touch: bool = False) -> BrowserContext:
        """Pages of one site share a process, which a page that stays open keeps alive. Nothing fades or turns."""
        if touch not in self.contexts:
            context = self.running.new_context(accept_downloads=True, reduced_motion="reduce", has_touch=touch)
            stays = context.new_page()
            stays.route("http://127.0.0.1/", lambda route: route.fulfill(body="this page stays"))
            stays.goto("http://127.0.0.1/")
            self.contexts[touch] = context
        return self.contexts[touch]


# a page that finds its script compiled costs two thirds of one that has a process of its own
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--process-per-site"]
CHROMIUM = pytest.StashKey[Chromium]()


def shows_pages(item: pytest.Item | None) -> bool:
    """Whether a test of the same file asks for the browser."""
    return item is not None and item.path.name in item.session.stash[FILES]


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """While Playwright's event loop runs, files that need no browser could run none of their own."""
    stash = item.session.stash
    if CHROMIUM in stash and not shows_pages(nextitem):
        stash[CHROMIUM].end.close()
        del stash[CHROMIUM]


@pytest.fixture(scope="module")
def chromium(request) -> Chromium:
    """One for all files that need it and follow each other."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs a Chromium: `make browser` installs one, or put chromium on the PATH")
    stash = request.session.stash
    if CHROMIUM not in stash:
        end = ExitStack()
        playwright = end.enter_context(sync_playwright())
        running = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        end.callback(running.close)
        stash[CHROMIUM] = Chromium(running, end)
    return stash[CHROMIUM]


@pytest.fixture(scope="module")
def browser(chromium) -> Browser:
    return chromium.running


@pytest.fixture
def visit(chromium, server):
    """Open an address of the app in a browser that remembers nothing of it; every request must stay on the server, no
    error may be thrown.

    Nothing fades or turns. ``inside``: the address of the app that the page at ``base`` frames.
    """
    pages, strayed, errors = [], [], []

    def open_page(query="", size="desktop", *, path="", base=server, inside="", color_scheme="light"):
        width, height = SIZES[size]
        page = chromium.context(touch=size == "phone").new_page()
        page.emulate_media(color_scheme=color_scheme)
        page.set_viewport_size({"width": width, "height": height})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        own = (base, inside or base, "data:", "blob:", "ws://127")
        page.on("request", lambda request: request.url.startswith(own) or strayed.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{base}/{path}{query}")
        return page

    yield open_page
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.context.clear_cookies()
        page.close()
    assert strayed == [] and errors == []
