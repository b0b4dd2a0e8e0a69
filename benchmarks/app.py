"""The app measured: server time and payload of a change of image, one user and thirty; pages in a browser.

    python -m benchmarks.app [--data-dir DIR] [--checkpoint NAME] [--users 30] [--seconds 60]

Each user is a real session: a websocket that sends what the browser sends when another image number is typed, and
counts every byte that comes back until the script has finished. In Chromium: from opening the address to the last
element of the page, on a server that has just been started and on one that is warm; and the work of one hover, decode
and both redraws included. Results with command and hardware go into
benchmarks/results/app.json.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import numpy as np
import websockets
from numpy.typing import ArrayLike
from playwright.sync_api import Page, sync_playwright
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.common import command, hardware, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from tests.browser import find_chromium
from tests.server import serving

EVERY = 5.0  # seconds between a user's changes
SINGLE_CHANGES = 60
COLD = 3  # changes of the one user that are left out: the first meet cold caches


class Session:
    """One browser's conversation with the server."""

    def __init__(self, socket: websockets.ClientConnection, query: str) -> None:
        self.socket = socket
        self.query = query
        self.number_input = ""
        self.exceptions = 0
        self.kept: set[str] = set()  # messages that need not be sent again, as a browser keeps them

    def request(self, index: int | None = None) -> bytes:
        """The message that asks for a run of the script, at test image ``index`` if given."""
        message = BackMsg()
        message.rerun_script.query_string = self.query
        message.rerun_script.cached_message_hashes.extend(self.kept)
        if index is not None:
            state = message.rerun_script.widget_states.widgets.add()
            state.id = self.number_input
            state.double_value = index
        return message.SerializeToString()

    async def run(self, index: int | None = None) -> tuple[float, int]:
        """Run the script, at test image ``index`` if given: seconds until it has finished, and bytes received."""
        start, received = time.perf_counter(), 0
        await self.socket.send(self.request(index))
        async for data in self.socket:
            received += len(data)
            answer = ForwardMsg.FromString(data)
            self._notice(answer)
            if answer.WhichOneof("type") == "script_finished":
                return time.perf_counter() - start, received
        raise RuntimeError("the server closed the connection")

    def _notice(self, answer: ForwardMsg) -> None:
        if answer.metadata.cacheable and answer.hash:
            self.kept.add(answer.hash)
        element = answer.delta.new_element
        kind = element.WhichOneof("type")
        if kind == "number_input" and element.number_input.label == "Number of the test image":
            self.number_input = element.number_input.id
        if kind == "exception" or (kind == "alert" and element.alert.format in (Alert.ERROR, Alert.WARNING)):
            self.exceptions += 1


def connected(url: str) -> websockets.connect:
    """A connection to the app at ``url``, as a browser makes it."""
    address = url.replace("http", "ws", 1) + "/_stcore/stream"
    return websockets.connect(address, subprotocols=["streamlit"], max_size=None, proxy=None)


async def one_user(url: str, query: str, images: int) -> dict[str, object]:
    rng = np.random.default_rng(0)
    async with connected(url) as socket:
        session = Session(socket, query)
        first = await session.run()
        changes = [await session.run(int(i)) for i in rng.choice(images, SINGLE_CHANGES + COLD, replace=False)][COLD:]
    seconds, payload = (np.array(column) for column in zip(*changes, strict=True))
    return {
        "first_s": first[0],
        "first_bytes": first[1],
        "changes": len(changes),
        "ms": quantiles(1e3 * seconds),
        "payload_bytes": quantiles(payload),
        "errors": session.exceptions,
    }


async def many_users(url: str, query: str, images: int, users: int, seconds: float) -> dict[str, object]:
    async def user(number: int) -> tuple[list[float], int]:
        rng = np.random.default_rng([1, number])
        times: list[float] = []
        async with connected(url) as socket:
            session = Session(socket, query)
            await session.run()
            await asyncio.sleep(rng.random() * EVERY)
            deadline = time.perf_counter() + seconds
            while (begun := time.perf_counter()) < deadline:
                times.append((await session.run(int(rng.integers(images))))[0])
                await asyncio.sleep(max(0.0, EVERY - (time.perf_counter() - begun)))
        return times, session.exceptions

    results = await asyncio.gather(*(user(number) for number in range(users)))
    times = np.array([t for own, _ in results for t in own])
    return {"users": users, "changes": len(times), "ms": quantiles(1e3 * times), "errors": sum(e for _, e in results)}


def in_browser(query: str, environment: dict[str, str] | None, starts: int = 4) -> dict[str, object]:
    """Seconds until the first picture, and until the page is complete; the first start only fills caches on disk."""
    fresh: list[tuple[float, float]] = []
    with (
        sync_playwright() as playwright,
        TemporaryDirectory() as folder,
        playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"]) as browser,
    ):
        for _ in range(starts):
            with serving(Path(folder), environment) as server:
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                fresh.append(until_complete(page, partial(page.goto, f"{server.url}/?{query}")))
                warm = [until_complete(page, page.reload)[1] for _ in range(5)]
                plane = page.locator(".plane-root")
                hover, walk = plane.evaluate(HOVER), np.diff(plane.evaluate(WALK))
                page.locator(".own-begin").click()
                page.locator(".stage .grip").first.wait_for()
                drag = np.diff(plane.evaluate(DRAG))
                page.close()
    return {
        "first_start_s": round(fresh[0][1], 2),
        "picture_s": quantiles([picture for picture, _ in fresh[1:]], 2),
        "complete_s": quantiles([complete for _, complete in fresh[1:]], 2),
        "reload_s": quantiles(warm, 2),
        "hover_ms": quantiles(hover, 2),
        "walk_frame_ms": quantiles(walk, 1),
        "drag_frame_ms": quantiles(drag, 1),
    }


HOVER = """root => Array.from({length: 300}, (_, k) => {
  const start = performance.now();
  root.plane.point([0.001 * k - 0.1, 0.2]);
  return performance.now() - start;
})"""

# the time of each frame, in ms, of a walk that plays, from its first step to its last
WALK = """root => new Promise((done) => {
  const { walk } = root.plane, times = [];
  walk.start();
  const tick = (now) => {
    times.push(now);
    if (walk.timer) requestAnimationFrame(tick);
    else done(times);
  };
  requestAnimationFrame(tick);
})"""
# the same while one's own Gaussian is moved, its numbers included
DRAG = """root => new Promise((done) => {
  const { own } = root.plane, times = [];
  const tick = (now) => {
    times.push(now);
    if (times.length > 120) return done(times);
    own.change({ mean: own.q.mean.map((m) => m + 0.002), std: own.q.std });
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})"""


def until_complete(page: Page, open_it: Callable[[], object]) -> tuple[float, float]:
    """Seconds until a posterior is drawn, be it the one of the last time, and until the page is complete."""
    start = time.perf_counter()
    open_it()
    page.locator(".plane-root .line.exact").first.wait_for(timeout=60_000)
    picture = time.perf_counter() - start
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.get_by_text("Every number, with its numerical error").wait_for(timeout=60_000)
    return picture, time.perf_counter() - start


def quantiles(values: ArrayLike, digits: int = 1) -> dict[str, float]:
    return {
        name: round(float(np.quantile(values, q)), digits) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--checkpoint", default="digits-2d")
    parser.add_argument("--images", type=int, help="choose among the first images only")
    parser.add_argument("--users", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    dataset = load_checkpoint(arguments.checkpoint).training["dataset"]
    images = arguments.images or len(load_dataset(dataset, arguments.data_dir).test)
    query = urlencode({"c": arguments.checkpoint, "from": "number", "i": 0, "data": dataset})
    environment = {"GPVAE_DATA_DIR": str(arguments.data_dir)} if arguments.data_dir else None
    with TemporaryDirectory() as folder, serving(Path(folder), environment) as server:
        result = {
            "command": command("app", arguments.data_dir),
            "hardware": hardware(),
            "one_user": asyncio.run(one_user(server.url, query, images)),
            "many_users": asyncio.run(many_users(server.url, query, images, arguments.users, arguments.seconds)),
        }
        log = (Path(folder) / "app.log").read_text()
        result["tracebacks_in_log"] = log.count("Traceback")
    result["browser"] = in_browser(query, environment)
    store_part("app.json", arguments.checkpoint, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    told(main)
