"""The paper's Tables 1 and 2 at a schedule that can be stated: method by method, dimension by dimension, cell by cell.

    python -m benchmarks.paper_tables [--data-dir DIR] [--data mnist] [--dims 10] [--seeds 0] [--only NAME ...]
                                      [--images N] [--again] [--device cuda] [--jobs 8 | --ray local]

A cell is one training on DATA from scratch, s_x trained, the best epoch on validation kept. runs/paper holds each;
a cell that was interrupted goes on. Those that are stored are named and not made again, unless --again is given: then
they are measured anew, and trained anew where runs/paper lacks them. On the first N test images, in nats:
the ELBO, IWAE-100 with the method's own q as the proposal, which is the paper's measure, and IWAE-100 with the q of two
Gauss-Newton steps from the centre of that q: the same decoder, a better proposal. PAPER has the paper's column; for how
many epochs it trained, the paper does not say. "NAME, settled" sets a Gaussian process on the VAE of cell NAME, in
closed form: ask for it when NAME is there. "NAME, after a vae" trains a plain VAE for the first half of the epochs and
goes on with NAME from there.
Writes benchmarks/results/paper-tables.json.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.common import (
    add_options,
    check_all_made,
    command,
    device_name,
    engine,
    fell_out,
    hardware,
    results_so_far,
    say_stored,
    store_part,
    told,
)
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, ImageSet, lasting_name, load_dataset
from gpvae_core.errors import InputError
from gpvae_core.generative import GenerativeModel
from gpvae_core.identity import STATE
from gpvae_core.inference.base import Encoder, Inference
from gpvae_core.inference.newton import NewtonEncoder
from gpvae_core.models import ModelConfig, VariationalAutoencoder
from gpvae_core.spread import spread
from gpvae_core.tensors import read_tensors
from gpvae_core.training import growing
from gpvae_core.training.evaluation import evaluate_bounds, iwae_bound
from gpvae_core.training.fit import TrainingConfig
from gpvae_core.training.runs import Wanted, config_for, run
from gpvae_core.training.settling import on_top_of, settle

SAMPLES, MNIST = 100, "mnist"
RESULT, RUNS = "paper-tables.json", Path("runs/paper")
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "vae-3": ("vae-3", {}),
    "fullcov": ("fullcov", {}),
    **{f"savae-{n}": ("savae", {"steps": n}) for n in (1, 2, 4, 8)},
    **{f"{name}-{n}": (name, {"flows": n}) for name in ("iaf", "hf") for n in (1, 2, 4, 8)},
    **{f"{name}-{n}": (name, {"components": n}) for name in ("me", "rme") for n in (2, 3, 4, 5)},
    "vlae-4": ("vlae", {}),
    "gn-2": ("gn", {"steps": 2, "starts": 1, "draws": 0}),
    "gpvae": ("gpvae", {}),
}
SETTLED = {f"{name}, settled": name for name in ("vae", "vae-3")}  # another cell's VAE with a process set on it
AFTER = {f"{name}, after a vae": name for name in ("vae", "savae-2", "vlae-4", "gn-2", "gpvae")}
PAPER_DIMS = (10, 20, 50)
PAPER = {  # Kim (2022), Table 1, MNIST: IWAE-100 at each of PAPER_DIMS
    "vae": (685.1, 930.7, 1185.7),
    "savae-1": (688.1, 921.2, 1172.1),
    "savae-2": (682.2, 932.0, 1176.3),
    "savae-4": (683.5, 925.5, 1171.3),
    "savae-8": (684.6, 928.1, 1183.2),
    "iaf-1": (687.3, 934.0, 1180.6),
    "iaf-2": (677.7, 931.4, 1190.1),
    "iaf-4": (685.0, 926.3, 1178.1),
    "iaf-8": (689.7, 934.1, 1150.0),
    "hf-1": (682.5, 917.2, 1204.3),
    "hf-2": (677.6, 923.9, 1191.5),
    "hf-4": (683.3, 927.3, 1197.2),
    "hf-8": (679.6, 928.5, 1184.1),
    "me-2": (685.7, 926.7, 1152.8),
    "me-3": (678.5, 933.1, 1162.8),
    "me-4": (680.0, 914.7, 1205.1),
    "me-5": (682.0, 920.6, 1198.5),
    "rme-2": (697.2, 943.9, 1201.7),
    "rme-3": (698.2, 945.1, 1202.4),
    "rme-4": (699.0, 945.2, 1203.1),
    "rme-5": (699.4, 945.0, 1203.7),
    "gpvae": (696.5, 944.3, 1212.9),
}


@dataclass(frozen=True)
class Cell:
    """One training of the table, measured on the first ``images`` of ``tested``, and where it runs."""

    name: str
    dim: int
    seed: int
    epochs: int
    images: int
    tested: int
    data_dir: Path | None
    device: str
    data: str = MNIST
    runs: Path = RUNS

    @property
    def source(self) -> str:
        """The data set; of one that a path names its last part, and letters that no other path has."""
        stem = Path(self.data).stem
        return f"{stem}-{sha256(self.data.encode()).hexdigest()[:8]}" if "/" in self.data else stem

    @property
    def key(self) -> str:
        on = "" if self.data == MNIST else f"{self.source}: "
        some = f", {self.images} images" if self.images < self.tested else ""
        return f"{on}{self.name}, d = {self.dim}, {self.epochs} epochs, seed {self.seed}{some}"

    def __str__(self) -> str:
        return self.key

    @property
    def trained_as(self) -> str:
        """The entry of CELLS whose training this is."""
        return (SETTLED | AFTER).get(self.name, self.name)

    @property
    def folder(self) -> Path:
        after = "-after-vae" * (self.name in AFTER)
        return self.runs / f"{self.source}-{self.dim}-{self.trained_as}{after}-{self.epochs}-{self.seed}"


def trained(
    folder: Path,
    data: Dataset,
    config: ModelConfig,
    seed: int,
    epochs: int,
    device: str = "cpu",
    initial: Path | None = None,
) -> tuple[Checkpoint, float]:
    """The model of one run, gone on with where it was interrupted, and the seconds that all of it took.

    ``initial``: the checkpoint that it starts from.
    """
    training = TrainingConfig.on(data, seed=seed, epochs=epochs, initial=str(initial) if initial else None)
    begun = (folder / STATE).exists()
    for progress in run(folder, data, config, training, device=device, resume=begun):
        print(f"{folder}: epoch {progress.epoch}, validation ELBO {progress.validation['elbo']:.2f}", flush=True)
    seconds = sum(read_tensors(one / STATE)["counters"].tolist()[-1] for one in (*growing.before(folder), folder))
    return load_checkpoint(folder, device=torch.device(device)), seconds


def _config(data: Dataset, name: str, dim: int) -> ModelConfig:
    """What the entry ``name`` of CELLS trains."""
    return config_for(data, *CELLS[name], Wanted(latent_dim=dim), None)


def made(cell: Cell) -> dict[str, Any]:
    """What the table says of one cell."""
    data = load_dataset(cell.data, cell.data_dir)
    config = _config(data, cell.trained_as, cell.dim)
    if cell.name in AFTER:
        first, half = cell.folder.with_name(cell.folder.name + "-first"), cell.epochs // 2
        _, before = trained(first, data, _config(data, "vae", cell.dim), cell.seed, half, cell.device)
        checkpoint, seconds = trained(cell.folder, data, config, cell.seed, cell.epochs - half, cell.device, first)
        seconds += before
    else:
        checkpoint, seconds = trained(cell.folder, data, config, cell.seed, cell.epochs, cell.device)
    model = checkpoint.model
    if cell.name in SETTLED:
        model, _ = on_top_of(model, config, data.train)
        settle(model, data.train)
    images = data.test.take(np.arange(cell.images))
    started = time.perf_counter()
    found = measure(model, images) | {"seconds": seconds, "images": len(images)}
    found["seconds_measuring"] = time.perf_counter() - started
    found["parameters"] = sum(p.numel() for p in model.parameters())
    return found | {"device": device_name(cell.device)}


def mean(name: str, values: np.ndarray) -> dict[str, float]:
    """A mean over images with its standard error."""
    return {name: float(values.mean()), f"{name}_stderr": float(values.std() / len(values) ** 0.5)}


class Searched(Encoder):
    """Of any method: Laplace's q after two Gauss-Newton steps from the centre of its own q, or of each component."""

    labels: ClassVar[dict[str, str]] = {"start": "the method's q(z|x)", "q": "q(z|x) after two steps on the image"}

    def __init__(self, own: Encoder, latent_dim: int) -> None:
        super().__init__(nn.Identity, 1, latent_dim)
        self.own = own
        self.search = NewtonEncoder(nn.Identity, 1, latent_dim, NewtonEncoder.Options(steps=2, starts=1, draws=0))

    def trunk_features(self, x: Tensor) -> Tensor:
        return self.own.trunk_features(x)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        start = self.own.infer(x, model).q
        middle = x.new_zeros(1, *start.batch_shape, start.dim)
        places = torch.cat([part.transport(middle)[0] for _, part in start.parts()])
        return Inference({"start": start, "q": self.search.climb(x, model, places)[-1]})


def measure(model: VariationalAutoencoder, images: ImageSet) -> dict[str, float]:
    """The numbers of one cell."""
    searched = VariationalAutoencoder(model.generative, Searched(model.encoder, model.generative.latent_dim))
    own = iwae_bound(model, images, samples=SAMPLES, seed=0).values.numpy()
    by_search = iwae_bound(searched.to(model.device), images, samples=SAMPLES, seed=0).values.numpy()
    bound = evaluate_bounds(model, images, seed=0)["elbo"].values.numpy()
    return mean("elbo", bound) | mean("iwae", own) | mean("iwae_by_search", by_search)


def main() -> None:
    """Make the cells that are asked for and are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--data", default=MNIST, help="A data set; archive:PATH is any .npz.")
    parser.add_argument("--dims", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=[*CELLS, *SETTLED, *AFTER], default=list(CELLS), metavar="NAME")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--again", action="store_true", help="Make cells that are stored, too.")
    add_options(parser)
    given = parser.parse_args()
    halved = [name for name in given.only if name in AFTER]
    if halved and given.epochs < 2:
        raise InputError(f"'{halved[0]}' halves its epochs, and --epochs {given.epochs} has no half; give --epochs 2")
    if given.images < 1:
        raise InputError(f"--images {given.images} leaves nothing to measure; give 1 or more")
    data, data_dir = lasting_name(given.data), given.data_dir and given.data_dir.resolve()
    tested = len(load_dataset(data, data_dir).test)
    # paths are absolute: a worker elsewhere has a working directory of its own
    rest = (given.epochs, min(given.images, tested), tested, data_dir, given.device, data, RUNS.resolve())
    cells = [Cell(name, dim, seed, *rest) for dim in given.dims for seed in given.seeds for name in given.only]
    left = cells if given.again else not_stored(cells, results_so_far(RESULT))
    about = {"command": command("paper_tables", given.data_dir), "hardware": hardware()}
    count = 0
    for cell, found in spread(made, left, engine(given), fell_out):
        count += 1
        store_part(RESULT, cell.key, found | about)
        print(f"{cell.key}: IWAE-100 {found['iwae']:.2f}, by search {found['iwae_by_search']:.2f}", flush=True)
    check_all_made(count, len(left))


def not_stored(cells: list[Cell], stored: Mapping[str, dict[str, Any]]) -> list[Cell]:
    """The cells that are to be made, those that are there named; one of fewer images than its key says is not there."""
    there = {cell for cell in cells if stored.get(cell.key, {}).get("images") == cell.images}
    say_stored([cell.key for cell in cells if cell in there])
    return [cell for cell in cells if cell not in there]


if __name__ == "__main__":
    told(main)
