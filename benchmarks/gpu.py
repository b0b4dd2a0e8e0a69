"""What a GPU changes: correctness against the CPU first, then how fast posteriors and training are.

    python -m benchmarks.gpu [--device cuda] [--data-dir DIR] [--out FILE]
    python -m benchmarks.gpu --device cpu --quick     every part once, on the digits that need no download

Each finding is written as soon as it is there, so that an interruption loses nothing.
"""

import argparse
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch

from benchmarks.common import RESULTS, command, evenly, hardware, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import Dataset, ImageSet, dataset_of, load_dataset
from gpvae_core.diagnostics.gap_table import gap_table
from gpvae_core.files import write_atomically
from gpvae_core.models import ModelConfig, build
from gpvae_core.shipped import manifest
from gpvae_core.training.fit import TrainingConfig, adam, fit
from gpvae_core.training.steps import CapturedStep, Step, Weights

Record = dict[str, object]
NUMBERS = ("log_evidence", "kl_base", "kl_marginal", "negentropy", "entropy")
WARM, TIMED, BATCH = 20, 100, 128  # steps, and images in each


def main() -> None:
    """Run every part on one device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device, quick, data_dir = torch.device(arguments.device), arguments.quick, arguments.data_dir
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    out = arguments.out or RESULTS / f"gpu-{'-'.join(name.split()).lower()}.json"
    found: list[Record] = []
    head = {"device": name, "hardware": hardware(), "command": command("gpu", data_dir)}
    for part in (correctness, throughput, processes, training, steps):
        for record in part(device, quick, data_dir):
            found.append({"part": part.__name__, **record})
            print(json.dumps(found[-1]), flush=True)
            write_atomically(out, (json.dumps(head | {"found": found}, indent=2) + "\n").encode())


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _some(images: ImageSet, count: int) -> ImageSet:
    return images.take(evenly(len(images), count))


def correctness(device: torch.device, quick: bool, data_dir: Path | None) -> Iterator[Record]:
    """Every number of a table of gaps, the device's less the CPU's, with the errors that both report."""
    for name in ["digits-2d"] if quick else list(manifest()):
        images = _some(dataset_of(load_checkpoint(name), None, data_dir).test, 4 if quick else 64)
        tables = []
        for place in (torch.device("cpu"), device):
            opened = load_checkpoint(name, device=place)
            engine = opened.engine()
            start = _now(device)
            tables.append([row for batch in gap_table(engine, opened.model, images) for row in batch])
            yield {"model": name, "on": place.type, "images": len(images), "seconds": _now(device) - start}
        worst = {
            key: max(abs(b[key] - a[key]) for a, b in zip(*tables, strict=True) if a[key] is not None)
            for key in NUMBERS
        }
        beyond = sum(
            bool(abs(b[key] - a[key]) > a[f"{key}_error"] + b[f"{key}_error"])
            for a, b in zip(*tables, strict=True)
            for key in NUMBERS
        )
        yield {"model": name, "largest_difference": worst, "beyond_both_errors": beyond}


def throughput(device: torch.device, quick: bool, data_dir: Path | None) -> Iterator[Record]:
    """Rows of a table of gaps in one process, by how many images share decodes."""
    name = "digits-2d" if quick else "mnist-2d"
    opened = load_checkpoint(name, device=device)
    test = dataset_of(opened, None, data_dir).test
    engine = opened.engine(tolerance=0.01)
    for size in (4,) if quick else (64, 256, 1024) if device.type == "cuda" else (64,):
        images = _some(test, size)
        start = _now(device)
        for _ in gap_table(engine, opened.model, images, batch_size=size):
            pass
        seconds = _now(device) - start
        yield {"model": name, "at_once": size, "seconds": seconds, "images_per_second": size / seconds}


def _rows(name: str, device: str, images: ImageSet) -> float:
    torch.set_num_threads(1)
    opened = load_checkpoint(name, device=torch.device(device))
    engine = opened.engine(tolerance=0.01)
    start = time.perf_counter()
    for _ in gap_table(engine, opened.model, images):
        pass
    return time.perf_counter() - start


def processes(device: torch.device, quick: bool, data_dir: Path | None) -> Iterator[Record]:
    """The same by several processes, one CPU core each: on the CPU alone, and sharing the device."""
    name, many = ("digits-2d", 2) if quick else ("mnist-2d", 16)
    test = dataset_of(load_checkpoint(name), None, data_dir).test
    shares = [test.take(rows) for rows in np.array_split(evenly(len(test), 4 if quick else 512), many)]
    for place in dict.fromkeys(["cpu", device.type]):
        with ProcessPoolExecutor(many, get_context("spawn")) as pool:
            took = list(pool.map(_rows, [name] * many, [place] * many, shares))
        count = sum(map(len, shares))
        yield {"model": name, "on": place, "processes": many, "images": count, "images_per_second": count / max(took)}


def _training_set(quick: bool, data_dir: Path | None) -> Dataset:
    if quick:
        return load_dataset("digits")
    data = load_dataset("mnist", data_dir)
    return Dataset("mnist", data.train, _some(data.validation, 500), _some(data.test, 500))


def training(device: torch.device, quick: bool, data_dir: Path | None) -> Iterator[Record]:
    """``fit`` as it is."""
    data = _training_set(quick, data_dir)
    for method in ("vae", "gpvae"):
        config = ModelConfig(method=method)
        model = build(config, seed=0).to(device)
        settings = TrainingConfig(data.name, epochs=1 if quick else 2)
        for progress in fit(model, config, settings, data, Path(mkdtemp())):
            speed = {"images_per_second": progress.images_per_second}
            yield {"method": method, "epoch": progress.epoch, **speed, **progress.validation}


def steps(device: torch.device, quick: bool, data_dir: Path | None) -> Iterator[Record]:
    """A step of training as it is, and captured: the same objectives, how much faster."""
    images = torch.from_numpy(_training_set(quick, data_dir).train.images).to(device)
    kinds = {"eager": Step, "captured": CapturedStep} if device.type == "cuda" else {"eager": Step}
    for method in ("vae", "vae-3", "fullcov", "iaf", "rme", "gpvae"):
        runs = {mode: _stepped(kind, method, images, 2 if quick else TIMED) for mode, kind in kinds.items()}
        first = runs["eager"][0]
        for mode, (values, speed) in runs.items():
            apart = max(abs(a - b) / abs(a) for a, b in zip(first, values, strict=True))
            yield {"method": method, "mode": mode, "images_per_second": speed, "first_steps_apart": apart}


def _stepped(kind: type[Step], method: str, images: torch.Tensor, timed: int) -> tuple[list[float], float]:
    """The objectives of the first steps, and images a second after them."""
    model = build(ModelConfig(method=method), seed=0).to(images.device)
    generator = torch.Generator(images.device).manual_seed(1)
    optimizer = adam(model, TrainingConfig("mnist"), captured=kind is CapturedStep)
    step = kind(model, Weights(), optimizer, images, generator, dynamic=False)
    batches = torch.randperm(len(images), generator=generator, device=images.device).split(BATCH)
    count = min(WARM, timed)
    values = [step(batches[k % len(batches)])["objective"] for k in range(count)]
    start = _now(images.device)
    for k in range(timed):
        step(batches[k % (len(batches) - 1)])
    return values, BATCH * timed / (_now(images.device) - start)


if __name__ == "__main__":
    told(main)
