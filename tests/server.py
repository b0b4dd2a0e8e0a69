"""The app as a process of its own, for browser tests and benchmarks."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from gpvae_core.files import read_json
from gpvae_core.paths import grid_cache

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running app: its address and its process."""

    url: str
    process: subprocess.Popen


RUNNING: dict[str, int] = {}  # the process of an address, host and port
SHARED: list[Server] = []  # started here, and perhaps ended by another program


def work_of(address: str) -> float:
    """CPU seconds that the server of a page has used so far; 0 where it is gone, or the page has none."""
    process = RUNNING.get(urlsplit(address).netloc)
    if process is None:
        return 0.0
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0 if Path("/proc").exists() else time.monotonic()  # no /proc: any time is progress
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_grids(cache_home: Path) -> None:
    """Let the cache in ``cache_home`` have the base grids of this program's own cache."""
    grid_cache().mkdir(parents=True, exist_ok=True)
    (cache_home / "gpvae").mkdir()
    (cache_home / "gpvae" / "grids").symlink_to(grid_cache())


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start(
    folder: Path,
    environment: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
    cwd: Path = ROOT,
    *,
    warm: bool = False,
) -> Server:
    """The app, healthy; its log and its caches in ``folder``; no way to the network unless ``environment`` says so.

    ``arguments`` are the app's own, after ``--``; it is started in the folder ``cwd``. ``warm``: base grids that
    another program has decoded are shared.
    """
    if warm:
        share_grids(folder)
    port = free_port()
    unreachable = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}  # refuses at once
    own = {"GPVAE_DATA_DIR": str(folder), "XDG_CACHE_HOME": str(folder)} | unreachable
    options = [f"--server.port={port}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py"), *options, "--", *arguments]
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **own, **(environment or {})}, stdout=log, stderr=log
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
    except BaseException:
        process.kill()
        raise
    return Server(f"http://127.0.0.1:{port}", process)


@contextmanager
def serving(folder: Path, *arguments: Any, **options: Any) -> Iterator[Server]:
    """The app as ``start`` gives it, ended afterwards."""
    server = start(folder, *arguments, **options)
    with watched(server.url, server.process.pid):
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(20)


@contextmanager
def shared(folder: Path) -> Iterator[str]:
    """The address of one warm app for all programs that name this folder: the first starts it, the last ends it."""
    state = folder / "server.json"
    with FileLock(folder / "server.lock"):
        known = read_json(state) if state.exists() else None
        if known is None:
            server = start(Path(mkdtemp(dir=folder)), warm=True)
            SHARED.append(server)
            known = {"url": server.url, "process": server.process.pid, "users": 0}
        state.write_text(json.dumps(known | {"users": known["users"] + 1}))
    try:
        with watched(known["url"], known["process"]):
            yield known["url"]
    finally:
        with FileLock(folder / "server.lock"):
            left = read_json(state)["users"] - 1
            state.write_text(json.dumps(known | {"users": left}))
            if left == 0:
                state.unlink()
                os.kill(known["process"], signal.SIGTERM)


@contextmanager
def watched(url: str, process: int) -> Iterator[None]:
    """``work_of`` knows the process behind this address meanwhile."""
    address = urlsplit(url).netloc
    RUNNING[address] = process
    try:
        yield
    finally:
        del RUNNING[address]


def wait_until_healthy(url: str, process: subprocess.Popen, seconds: float = 600) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if opener.open(url, timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the app did not become healthy (exit status {process.poll()})")
