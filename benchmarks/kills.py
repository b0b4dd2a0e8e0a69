"""Trainings that are killed at random moments and resumed, held bit for bit against one that was left alone.

    python -m benchmarks.kills [--kills 50] [--epochs 10] [--seed 0]

One run on the digits makes the end that is wanted. Others with the same settings are killed by SIGKILL, which no
program can hear, each time after a random while of up to LONGEST epochs, and resumed until they end; so on until there
were that many kills. Weights, config, and the curves but for their times have to be those of the first run. A process
is forked for each attempt: what it would import anew has been before, and is no part of a training. Writes
benchmarks/results/kills.json.
"""

import argparse
import json
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import command, hardware, store_part, told
from gpvae_core.data import Dataset, load_dataset
from gpvae_core.errors import InputError
from gpvae_core.identity import STATE
from gpvae_core.models import ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.training.curves import CURVES
from gpvae_core.training.fit import TrainingConfig, adam
from gpvae_core.training.runs import run

MODEL = ModelConfig(method="vae", hidden=16, channels=(4, 4, 4))
LONGEST = 4  # epochs until a kill
TIMES = ("images_per_second", "seconds")


def attempt(folder: Path, data: Dataset, epochs: int, seconds: float | None = None) -> bool:
    """Begin or resume the run in ``folder``, and kill it after so many seconds; whether it ended by itself."""
    training = TrainingConfig(data.name, epochs=epochs, patience=epochs)
    resume = (folder / STATE).exists()
    process = get_context("fork").Process(
        target=lambda: list(run(folder, data, MODEL, training, resume=resume)), daemon=True
    )
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        raise InputError(f"the training in {folder} ended with status {process.exitcode}; what it said stands above")
    return process.exitcode == 0


def end_of(folder: Path) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """Weights, config, and the curves without their times."""
    lines = [json.loads(line) for line in (folder / CURVES).read_text().splitlines()]
    curves = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    return (folder / WEIGHTS).read_bytes(), (folder / CONFIG).read_bytes(), curves


def killed(folder: Path, data: Dataset, epochs: int, pauses: Sequence[float]) -> int:
    """Kill the run in ``folder`` after each of ``pauses``, until it ends; how often it was killed."""
    for kills, seconds in enumerate(pauses):
        if attempt(folder, data, epochs, seconds):
            return kills
    attempt(folder, data, epochs)
    return len(pauses)


def warm() -> None:
    """Have imported what a first training imports on its way."""
    adam(build(MODEL, seed=0), TrainingConfig("digits"), captured=False)


def compared(home: Path, data: Dataset, kills: int, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Runs killed so often in all: how many there were, and how many ended as the one that was left alone."""
    started = time.perf_counter()
    attempt(home / "whole", data, epochs)
    epoch, wanted = (time.perf_counter() - started) / epochs, end_of(home / "whole")
    done, same = [0], 0
    while sum(done) < kills:
        folder = home / str(len(done))
        done.append(killed(folder, data, epochs, rng.uniform(0, LONGEST * epoch, kills - sum(done)).tolist()))
        same += end_of(folder) == wanted
    return {"kills": sum(done), "runs": len(done) - 1, "same_to_the_last_bit": same, "epoch_seconds": epoch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    given = parser.parse_args()
    with TemporaryDirectory() as home:
        warm()
        rng = np.random.default_rng(given.seed)
        found = compared(Path(home), load_dataset("digits"), given.kills, given.epochs, rng)
    about = {"command": command("kills", None), "hardware": hardware()}
    store_part("kills.json", "vae on digits", found | about)
    print(found)


if __name__ == "__main__":
    told(main)
