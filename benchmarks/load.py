"""A class on one server: how long a change of image takes beside others, beside a hostile session, after drop-outs.

    python -m benchmarks.load [--data-dir DIR] [--checkpoint mnist-2d] [--seconds 60] [--several]
                                [--soak MINUTES]

Real sessions on the machine of the server, each a change every five seconds: to any test image, or, as a class does, to
one of the same hundred, whose views are kept on disk once computed, or to one of five hundred that app.ahead has
computed before. The hostile one asks for another image
fifty times a second. Drop-outs: three hundred connections that ask for an image and close. Threads and memory are the
server's. --several: two workers behind one address, as by make serve. --soak: sixty users for so many minutes instead,
after two to warm up, and how much memory grows meanwhile. Writes benchmarks/results/load.json.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import numpy as np

from benchmarks.app import Session, connected, many_users
from benchmarks.common import command, hardware, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from tests.server import Server, serving, several, started_by

COMMON = 100  # images that a class looks at
PREPARED = 500  # images whose views are computed before it comes, by app.ahead
HOSTILE_EVERY = 0.02  # seconds
DROPPED, AT_ONCE = 300, 50
FAREWELL = 2.0  # seconds after the last drop-out in which its thread has to be gone


def state_of(server: Server) -> dict[str, float]:
    """Threads and resident memory (MiB) of the server and all its processes."""
    total = {"threads": 0, "memory_mib": 0}
    for pid in (server.process.pid, *started_by(server.process.pid)):
        status = Path(f"/proc/{pid}/status").read_text()
        threads, memory = (int(re.search(rf"{key}:\s+(\d+)", status)[1]) for key in ("Threads", "VmRSS"))
        total = {"threads": total["threads"] + threads, "memory_mib": total["memory_mib"] + round(memory / 1024)}
    return total


async def hostile(url: str, query: str, images: int, until: asyncio.Event) -> int:
    """Ask for another image fifty times a second; how often it was asked."""
    rng, asked = np.random.default_rng(9), 0
    async with connected(url) as socket:
        session = Session(socket, query)
        await session.run()

        async def read() -> None:
            async for _ in socket:
                pass

        reading = asyncio.create_task(read())
        while not until.is_set():
            await socket.send(session.request(int(rng.integers(images))))
            asked += 1
            await asyncio.sleep(HOSTILE_EVERY)
        reading.cancel()
    return asked


async def beside_a_hostile_one(url: str, query: str, images: int, users: int, seconds: float) -> dict[str, Any]:
    over = asyncio.Event()
    attack = asyncio.create_task(hostile(url, query, images, over))
    result = await many_users(url, query, images, users, seconds)
    over.set()
    return result | {"hostile_requests": await attack}


async def dropped(server: Server, query: str, images: int) -> dict[str, Any]:
    """Connections closed in the middle of their request, then one user's wait."""
    before = state_of(server)

    async def drop(number: int) -> None:
        async with connected(server.url) as socket:
            session = Session(socket, query.replace("i=0", f"i={number % images}"))
            await socket.send(session.request())

    for first in range(0, DROPPED, AT_ONCE):
        await asyncio.gather(*(drop(number) for number in range(first, first + AT_ONCE)))
    await asyncio.sleep(FAREWELL)
    after = state_of(server)
    start = time.perf_counter()
    async with connected(server.url) as socket:
        await Session(socket, query).run()
    return {"connections": DROPPED, "before": before, "after": after, "next_wait_s": time.perf_counter() - start}


def soaked(server: Server, query: str, minutes: float) -> dict[str, Any]:
    """Sixty users for long: how long they wait, and the memory before and after."""
    asyncio.run(many_users(server.url, query, COMMON, 60, 120.0))
    before = state_of(server)
    return asyncio.run(many_users(server.url, query, COMMON, 60, 60 * minutes)) | {
        "before": before,
        "after": state_of(server),
    }


def prepared(checkpoint: str, cache: Path, environment: dict[str, str]) -> None:
    """Let the views of the first test images be computed, into the server's cache."""
    ahead = [sys.executable, "-m", "app.ahead", checkpoint, "--images", str(PREPARED)]
    subprocess.run(ahead, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--checkpoint", default="mnist-2d")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--several", action="store_true", help="Two workers behind one address.")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="Sixty users for so long, and nothing else.")
    arguments = parser.parse_args()
    dataset = load_checkpoint(arguments.checkpoint).training["dataset"]
    images = len(load_dataset(dataset, arguments.data_dir).test)
    query = urlencode({"c": arguments.checkpoint, "from": "number", "i": 0, "data": dataset})
    environment = {"GPVAE_DATA_DIR": str(arguments.data_dir)} if arguments.data_dir else None
    key = arguments.checkpoint + ", two workers" * arguments.several + ", soaked" * bool(arguments.soak)
    result: dict[str, Any] = {"command": command("load", arguments.data_dir), "hardware": hardware()}
    started = several if arguments.several else serving
    with TemporaryDirectory() as folder, started(Path(folder), environment=environment) as server:
        one = (server.url, query, images)

        def measured(name: str, found: dict[str, Any]) -> None:
            result[name] = found
            store_part("load.json", key, result)
            print(name, json.dumps(found), flush=True)

        if arguments.soak:
            measured("soaked", soaked(server, query, arguments.soak))
            measured("tracebacks_in_log", {"count": (Path(folder) / "app.log").read_text().count("Traceback")})
            return
        measured("warm", asyncio.run(many_users(*one, 4, 20.0)))
        measured("at_first", state_of(server))
        for users in (30, 60):
            measured(f"{users}_users", asyncio.run(many_users(*one, users, arguments.seconds)) | state_of(server))
        for users in (30, 60):
            found = asyncio.run(many_users(server.url, query, COMMON, users, arguments.seconds))
            measured(f"{users}_users_same_images", found | state_of(server))
        prepared(arguments.checkpoint, Path(folder), environment or {})
        for users in (30, 60):
            found = asyncio.run(many_users(server.url, query, PREPARED, users, arguments.seconds))
            measured(f"{users}_users_prepared_images", found | state_of(server))
        measured("30_users_and_a_hostile_one", asyncio.run(beside_a_hostile_one(*one, 30, arguments.seconds)))
        measured("dropped", asyncio.run(dropped(server, query, images)))
        measured("tracebacks_in_log", {"count": (Path(folder) / "app.log").read_text().count("Traceback")})


if __name__ == "__main__":
    told(main)
