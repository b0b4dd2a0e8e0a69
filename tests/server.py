"""The app as a process of its own, for browser tests and benchmarks."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running app: its address and its process."""

    url: str
    process: subprocess.Popen


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def serving(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """The app, healthy; its log and its caches in ``folder``; no way to the network unless ``environment`` says so."""
    port = free_port()
    unreachable = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}  # refuses at once
    own = {"GPVAE_DATA_DIR": str(folder), "XDG_CACHE_HOME": str(folder)} | unreachable
    options = [f"--server.port={port}", "--server.headless=true"]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", *options]
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **own, **(environment or {})}, stdout=log, stderr=log
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/_stcore/health", process)
            yield Server(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait(20)


def wait_until_healthy(url: str, process: subprocess.Popen, seconds: float = 60) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if opener.open(url, timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the app did not become healthy (exit status {process.poll()})")
