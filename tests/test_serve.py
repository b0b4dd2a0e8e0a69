"""Several processes behind one address: the real proxy, real workers, a browser that stays with one of them."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.serve import HostName, Plan, caddy, main
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.paths import grid_cache
from tests.pages import PATIENCE, evidence, settle
from tests.server import several, started_by
from tests.test_browser_input import photo_of_a_digit
from tests.test_browser_plane import hover_decodes_and_restores_on_leave

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def waited(step: str, done, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds} s for {step}"
        time.sleep(0.2)


def workers_of(pid: int) -> set[int]:
    return {number for number, line in started_by(pid).items() if "served.py" in line}


def asked(url: str) -> tuple[int, dict[str, str], str]:
    try:
        with OPENER.open(url, timeout=120) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), ""
    except OSError:
        return 0, {}, ""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with several(tmp_path_factory.mktemp("serve"), ["--path", "/lab"]) as found:
        yield found.url, found.process


def test_the_answers_carry_their_headers_and_what_is_closed_is_closed(served):
    url, _ = served
    status, headers, _ = asked(f"{url}/lab/")
    assert status == 200 and headers["X-Content-Type-Options"] == "nosniff" and "Server" not in headers
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    for closed in ("_stcore/metrics", "_stcore/agent/openapi.json"):
        assert asked(f"{url}/lab/{closed}")[0] == 404


def test_the_health_route_computes_a_posterior(served, digits_2d_wide_evidence):
    status, _, body = asked(f"{served[0]}/lab/health")
    said = json.loads(body)
    assert status == 200 and said["ok"]
    value, error = digits_2d_wide_evidence
    assert abs(said["log_evidence"] - value) <= said["log_evidence_error"] + error


@pytest.fixture
def digits_2d_wide_evidence():
    """Of the same image, by the engine of the pages."""
    checkpoint = load_checkpoint("digits-2d-wide")
    posterior = checkpoint.engine(cache=grid_cache()).posterior(checkpoint.simulate(1, seed=0).images)
    return posterior.log_evidence, posterior.log_evidence_error


def test_a_worker_is_started_again_a_visitor_stays_with_one_and_at_the_end_pages_still_decode(
    served, browser, digits_2d
):
    """The last of those that need it: it is over then, and nothing of it is left."""
    url, process = served
    before = workers_of(process.pid)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    waited("another worker", lambda: len(workers_of(process.pid) - before) == 1)
    waited("both to answer", lambda: all(asked(f"{url}/lab/_stcore/health")[0] == 200 for _ in range(4)))
    contexts = [browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce") for _ in range(2)]
    for context in contexts:  # an upload goes to the worker that holds the session, or is refused
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        refused: list[str] = []
        page.on("console", lambda message, refused=refused: refused.append(message.text))
        page.goto(f"{url}/lab/?c=digits-2d&from=upload")
        chooser = page.locator("input[type=file]")
        chooser.wait_for(state="attached")
        chooser.set_input_files({"name": "one.jpg", "mimeType": "image/jpeg", "buffer": photo_of_a_digit()})
        page.get_by_text("what the model saw").wait_for()
        settle(page)
        assert re.fullmatch(r"-?[\d.]+", evidence(page))
        assert not [text for text in refused if "Content Security Policy" in text]
    assert 1 <= len({cookie["value"] for context in contexts for cookie in context.cookies()}) <= 2
    page.wait_for_function("window.gpvaeAtlases && Object.keys(window.gpvaeAtlases).length === 1")
    own = started_by(process.pid)
    assert len(own) == 3
    process.terminate()
    assert process.wait(60) == 0
    assert not any(Path(f"/proc/{number}").exists() for number in own)
    assert asked(f"{url}/lab/")[0] == 0
    hover_decodes_and_restores_on_leave(page, digits_2d)
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("site", "host", "path", "ancestors", "fallback"),
    [
        ("http://:8501", "127.0.0.1", "", "'self'", "least_conn"),
        ("http://:80", "0.0.0.0", "/a/lab", "'self' https://moodle.example.org", "ip_hash"),
        ("lab.example.org", "0.0.0.0", "/lab", "'none'", "least_conn"),
    ],
)
def test_caddy_takes_every_plan(tmp_path, site, host, path, ancestors, fallback):
    file = tmp_path / "Caddyfile"
    file.write_text(Plan(site, host, path, ancestors, [9001, 9002]).caddyfile("secret"))
    said = subprocess.run([caddy(), "adapt", "--config", str(file)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    text = said.stdout
    assert f"frame-ancestors {ancestors}" in text and f'"policy":"{fallback}"' in text and '"policy":"cookie"' in text


@pytest.mark.parametrize("host", ["127.0.0.1", "::", "localhost", "lab-1.example.org"])
def test_names_and_addresses_are_taken(host):
    assert HostName(addresses=True).convert(host, None, None) == host


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--path", "/a b"], "has other signs than letters, digits, - and _"),
        (["--frame-ancestors", "x; y"], "is no list of sources"),
        (["--workers", "0"], "0 is not in the range"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--domain", "a.org {\n}"], "'a.org { }' is no domain; give for example vae.example.org"),
        (["--domain", ""], "'' is no domain"),
        (["--domain", "x" * 64 + ".org"], "is no domain"),
        (["--host", "0.0.0.0 { }"], "'0.0.0.0 { }' is no address or name; give for example 0.0.0.0"),
        (["--host", "fe80::1%{x}"], "is no address or name"),
    ],
)
def test_a_wrong_option_gets_a_sentence(arguments, sentence, monkeypatch):
    monkeypatch.setattr("app.serve.caddy", lambda: pytest.fail("it is about to serve"))
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2 and sentence in result.output
