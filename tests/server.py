"""The app as a process of its own, for browser tests and benchmarks."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from app.serve import free_ports
from gpvae_core.paths import grid_cache

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running app: its address and its process."""

    url: str
    process: subprocess.Popen


RUNNING: dict[str, "subprocess.Popen | Behind | Elsewhere"] = {}  # by address, host and port


def work_of(address: str) -> float:
    """CPU seconds that the server of a page has used so far; 0 where it is gone, or the page has none."""
    process = RUNNING.get(urlsplit(address).netloc)
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except (AttributeError, OSError):
        return time.monotonic() if process and process.poll() is None else 0.0  # no /proc: any time is progress
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_grids(cache_home: Path) -> None:
    """Let the cache in ``cache_home`` have the base grids of this program's own cache."""
    grid_cache().mkdir(parents=True, exist_ok=True)
    (cache_home / "gpvae").mkdir()
    (cache_home / "gpvae" / "grids").symlink_to(grid_cache())


@contextmanager
def serving(
    folder: Path,
    environment: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
    cwd: Path = ROOT,
    *,
    warm: bool = False,
) -> Iterator[Server]:
    """The app, healthy; its log and its caches in ``folder``; no way to the network unless ``environment`` says so.

    ``arguments`` are the app's own, after ``--``; it is started in the folder ``cwd``. ``warm``: base grids that
    another program has decoded are shared.
    """
    if warm:
        share_grids(folder)
    (port,) = free_ports(1)
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
            RUNNING[f"127.0.0.1:{port}"] = process
            yield Server(f"http://127.0.0.1:{port}", process)
        finally:
            RUNNING.pop(f"127.0.0.1:{port}", None)
            process.terminate()
            process.wait(120)


@contextmanager
def shared(folder: Path) -> Iterator[Server]:
    """One warm app for every program that calls this with ``folder``: the first starts it, and ends it after the last.

    What a page needs is loaded and computed once for all of them.
    """
    users, note = folder / "users", folder / "address"
    users.mkdir(parents=True, exist_ok=True)
    own = users / str(os.getpid())
    with ExitStack() as stack:
        with FileLock(folder / "lock"):
            own.touch()
            if not note.exists():
                started = stack.enter_context(serving(folder, warm=True))
                note.write_text(json.dumps([started.url, started.process.pid]))
                stack.enter_context(_after_the_last(folder))
        url, pid = json.loads(note.read_text())
        stack.callback(own.unlink)
        yield Server(url, RUNNING.setdefault(urlsplit(url).netloc, Elsewhere(pid)))


@contextmanager
def _after_the_last(folder: Path) -> Iterator[None]:
    """Leaving waits until no other user is left, and takes the address away before another can come."""
    yield
    while True:
        with FileLock(folder / "lock"):
            if all(Elsewhere(int(file.name)).poll() == 0 for file in (folder / "users").iterdir()):
                (folder / "address").unlink()
                return
        time.sleep(0.2)


@dataclass(frozen=True)
class Elsewhere:
    """A process that another program has started."""

    pid: int

    def poll(self) -> int | None:
        """None while it runs, as ``Popen`` says it."""
        try:
            os.kill(self.pid, 0)  # asks, and sends nothing
        except OSError:
            return 0
        return None


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


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Nothing on the tests' output."""

    def log_message(self, *_: object) -> None:
        """Silence."""


@contextmanager
def files_served(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """The address at which a local web server serves ``folder``."""
    server = http.server.ThreadingHTTPServer((host, 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Behind:
    """The server of a page behind the proxy: which of the workers works is not known, so any time is progress."""

    pid = -1

    def poll(self) -> None:
        return None


def started_by(pid: int) -> dict[int, str]:
    """The processes that this one has started: number and command, whole (-ww: else cut to the window's width)."""
    said = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {int(line.split()[0]): line for line in said.splitlines()}


@contextmanager
def several(folder: Path, options: Sequence[str] = (), environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Two workers of the app behind one address, healthy; log and caches in ``folder``. The process holds them all."""
    share_grids(folder)
    (port,) = free_ports(1)
    own = {"GPVAE_DATA_DIR": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-m", "app.serve", "--workers", "2", "--port", str(port), *options]
    path = dict(zip(options[::2], options[1::2], strict=True)).get("--path", "").strip("/")
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **own, **(environment or {})}, stdout=log, stderr=log
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/{path + '/' * bool(path)}_stcore/health", process)
            RUNNING[f"127.0.0.1:{port}"] = Behind()
            yield Server(f"http://127.0.0.1:{port}", process)
        finally:
            RUNNING.pop(f"127.0.0.1:{port}", None)
            process.terminate()
            process.wait(60)
