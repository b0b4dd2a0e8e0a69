"""What comes from outside, fuzzed with the code's coverage as guide: nothing but a result or one sentence comes back.

    pip install 'atheris>=3' && python -m benchmarks.fuzz [--runs 20000] [--only TARGET ...]

Each target runs in a process of its own, from a few valid inputs on. An exception that is no InputError, a call of more
than a second, or an allocation of more than 200 MB at once ends it; the input that did it is kept and named. Writes
benchmarks/results/fuzz.json.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import command, hardware, store_part, told
from gpvae_core.errors import InputError

TARGETS = ("pictures", "links", "playlists", "drawings", "messages", "json", "weights", "archives")


def measured(name: str, runs: int) -> dict[str, Any]:
    """How it went with one target."""
    started = time.perf_counter()
    with TemporaryDirectory() as folder:
        ask = [sys.executable, "-m", "benchmarks.fuzz_targets", name, str(runs), folder]
        done = subprocess.run(ask, capture_output=True, text=True)
        broke = {path.name: path.read_bytes().hex() for path in Path(folder).glob("*-*") if path.is_file()}
    covered = [int(found) for found in re.findall(r"cov: (\d+)", done.stderr)]
    executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode and not broke:
        raise InputError(f"the fuzzer of {name} ended with status {done.returncode}: {done.stderr[-800:]}")
    return {
        "inputs": int(executed[1]) if executed else 0,
        "covered_at_first": covered[0] if covered else 0,
        "covered": covered[-1] if covered else 0,
        "seconds": time.perf_counter() - started,
        "broke": broke,
        "why": done.stderr[-1500:] if broke else "",
    }


def main() -> None:
    """Fuzz what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET")
    given = parser.parse_args()
    for name in given.only:
        found = measured(name, given.runs) | {"command": command("fuzz", None), "hardware": hardware()}
        store_part("fuzz.json", name, found)
        print(name, {key: found[key] for key in ("inputs", "covered", "seconds", "broke")}, found["why"], flush=True)


if __name__ == "__main__":
    told(main)
