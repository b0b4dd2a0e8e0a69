"""The paper's Table 1 at a schedule that can be stated: method by method, dimension by dimension, a cell at a time.

    python -m benchmarks.paper_tables [--data-dir DIR] [--dims 10] [--seeds 0] [--only NAME ...] [--images N]

A cell is one training on MNIST from scratch, s_x trained, the best epoch on validation kept. runs/paper holds each;
a cell that was interrupted goes on, and those that are stored are not made again. On the first N test images, in nats:
the ELBO, IWAE-100 with the method's own q as the proposal, which is the paper's measure, and IWAE-100 with the q of two
Gauss-Newton steps from where its network starts: the same decoder, a better proposal. PAPER has the paper's column; its
schedule is far longer. Writes benchmarks/results/paper-tables.json.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, command, hardware, store_part, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, ImageSet, load_dataset
from gpvae_core.files import read_json
from gpvae_core.models import ModelConfig
from gpvae_core.paths import WEIGHTS
from gpvae_core.training.evaluation import evaluate_bounds, iwae_bound
from gpvae_core.training.fit import STATE, TrainingConfig
from gpvae_core.training.runs import run

SAMPLES = 100
RESULT = "paper-tables.json"
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "vae-3": ("vae-3", {}),
    "fullcov": ("fullcov", {}),
    **{f"savae-{n}": ("savae", {"steps": n}) for n in (1, 2, 4, 8)},
    **{f"{name}-{n}": (name, {"flows": n}) for name in ("iaf", "hf") for n in (1, 2, 4, 8)},
    **{f"{name}-{n}": (name, {"components": n}) for name in ("me", "rme") for n in (2, 3, 4, 5)},
    "vlae-4": ("vlae", {}),
    "gpvae": ("gpvae", {}),
}
PAPER = {  # Kim (2022), Table 1, MNIST: IWAE-100 by d
    10: {"vae": 685.1, "savae-1": 688.1, "savae-2": 682.2, "savae-4": 683.5, "savae-8": 684.6}
    | {"iaf-1": 687.3, "iaf-2": 677.7, "iaf-4": 685.0, "iaf-8": 689.7}
    | {"hf-1": 682.5, "hf-2": 677.6, "hf-4": 683.3, "hf-8": 679.6}
    | {"me-2": 685.7, "me-3": 678.5, "me-4": 680.0, "me-5": 682.0}
    | {"rme-2": 697.2, "rme-3": 698.2, "rme-4": 699.0},
}


def trained(folder: Path, data: Dataset, config: ModelConfig, seed: int, epochs: int) -> tuple[Checkpoint, float]:
    """The model of one run, gone on with where it was interrupted, and the seconds that this call took."""
    training, started = TrainingConfig(data.name, seed, epochs), time.perf_counter()
    begun = (folder / STATE).exists() and (folder / WEIGHTS).exists()
    for progress in run(folder, data, config, training, resume=begun):
        print(f"{folder}: epoch {progress.epoch}, validation ELBO {progress.validation['elbo']:.2f}", flush=True)
    return load_checkpoint(folder), time.perf_counter() - started


def mean(name: str, values: np.ndarray) -> dict[str, float]:
    """A mean over images with its standard error."""
    return {name: float(values.mean()), f"{name}_stderr": float(values.std() / len(values) ** 0.5)}


def measure(checkpoint: Checkpoint, images: ImageSet) -> dict[str, float]:
    """The numbers of one cell."""
    own = iwae_bound(checkpoint.model, images, samples=SAMPLES, seed=0).values.numpy()
    better = checkpoint.with_method("gn", {"steps": 2, "starts": 1, "draws": 0}).model
    by_search = iwae_bound(better, images, samples=SAMPLES, seed=0).values.numpy()
    bound = evaluate_bounds(checkpoint.model, images, seed=0)["elbo"].values.numpy()
    return mean("elbo", bound) | mean("iwae", own) | mean("iwae_by_search", by_search)


def main() -> None:
    """Make the cells that are asked for and are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--dims", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=list(CELLS), default=list(CELLS), metavar="NAME")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    data = load_dataset("mnist", arguments.data_dir)
    images = data.test.take(np.arange(min(arguments.images, len(data.test))))
    for dim in arguments.dims:
        for name in arguments.only:
            for seed in arguments.seeds:
                key = f"{name}, d = {dim}, {arguments.epochs} epochs, seed {seed}"
                if (RESULTS / RESULT).exists() and key in read_json(RESULTS / RESULT):
                    continue
                method, options = CELLS[name]
                config = ModelConfig(method=method, latent_dim=dim, options=options)
                folder = Path("runs/paper") / f"{data.name}-{dim}-{name}-{arguments.epochs}-{seed}"
                checkpoint, seconds = trained(folder, data, config, seed, arguments.epochs)
                cell = measure(checkpoint, images) | {"seconds": seconds, "images": len(images)}
                cell |= {"parameters": sum(p.numel() for p in checkpoint.model.parameters())}
                about = {"command": command("paper_tables", arguments.data_dir), "hardware": hardware()}
                store_part(RESULT, key, cell | about)
                print(f"{key}: IWAE-100 {cell['iwae']:.2f}, by search {cell['iwae_by_search']:.2f}", flush=True)


if __name__ == "__main__":
    told(main)
