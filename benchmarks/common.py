"""What the benchmarks share: where results go, what they ran on, which images they take."""

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from scipy.stats import t

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.errors import InputError
from gpvae_core.files import read_json, write_atomically
from gpvae_core.generative import GenerativeModel
from gpvae_core.spread import Engine

Figures = dict[str, object]
RESULTS = Path(__file__).parent / "results"


def hardware() -> str:
    """Threads, architecture and torch version, as every result states them."""
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``engine``."""
    parser.add_argument("--jobs", type=int, default=1, help="Runs at a time on this machine.")
    parser.add_argument("--ray", metavar="ADDRESS", help="A Ray cluster instead: local, auto, or ray://HOST:PORT.")
    parser.add_argument("--gpus-a-run", type=float, default=0.0, help="With --ray: a part of a GPU will do.")


def engine(given: argparse.Namespace) -> Engine:
    """What the options say."""
    return Engine(given.jobs, given.ray, given.gpus_a_run)


def fell_out(one: object, why: str) -> None:
    """Say which of several runs failed; the others go on."""
    print(f"{one}: {why}", flush=True)


def check_all_made(made: int, asked: int) -> None:
    """Raise InputError where runs fell out: a script that calls must hear of it, too."""
    if made < asked:
        raise InputError(f"{asked - made} of {asked} runs failed, as said above; mend that and give the command again")


def told(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user can mend is a sentence, not a traceback."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what was stored stays, and the same command makes the rest", file=sys.stderr)
        sys.exit(130)


def evenly(total: int, count: int) -> np.ndarray:
    """The numbers of ``count`` images spread evenly over ``total``; all of them where there are no more."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int)


def test_images(checkpoint: Checkpoint, data_dir: Path | None, count: int) -> torch.Tensor:
    """``count`` test images spread evenly over the whole test set, pixels (count, C, H, W)."""
    test = dataset_of(checkpoint, None, data_dir).test
    return test.pixels(evenly(len(test), count))


def command(module: str, data_dir: Path | None) -> str:
    """The command line as a reader can type it: the folder of the data sets is theirs."""
    return shlex.join(["python", "-m", f"benchmarks.{module}", *sys.argv[1:]]).replace(str(data_dir), "DIR")


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table of a head and its rows, columns with figures to the right."""
    figures = [any(letter.isdigit() for row in rows[1:] for letter in row[k]) for k in range(1, len(rows[0]))]
    ruled = [rows[0], [":--", *("--:" if some else ":--" for some in figures)], *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in ruled)


def store_result(name: str, record: object) -> None:
    """Write benchmarks/results/NAME, JSON, whole or not at all."""
    write_atomically(RESULTS / name, (json.dumps(record, indent=2) + "\n").encode())


def results_so_far(name: str) -> dict[str, Any]:
    """What results/NAME holds, by key; nothing yet where it is not there."""
    path = RESULTS / name
    return read_json(path) if path.exists() else {}


def say_stored(keys: Sequence[str]) -> None:
    """Name what a command asks for and does not make, since it is there."""
    if keys:
        print(f"stored already: {'; '.join(keys)}; --again makes them anew", flush=True)


def store_part(name: str, key: str, record: object) -> None:
    """Put ``record`` beside what results/NAME holds already."""
    change_result(name, lambda stored: stored | {key: record})


def change_result(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Store what ``change`` makes of results/NAME, while no other process does so: neither loses what the other has."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with FileLock(RESULTS / f".{name}.lock"):
        store_result(name, change(results_so_far(name)))


def device_name(device: str) -> str:
    """The card's own name; CPU."""
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def student(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of Student's 95 % interval of several values."""
    n = len(values)
    return float(np.mean(values)), float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5)


def counting(model: GenerativeModel) -> list[int]:
    """The sizes of the batches that this model's decoder answers from now on."""
    sizes: list[int] = []
    model.decoder.register_forward_hook(lambda module, z, means: sizes.append(len(z[0])))
    return sizes
