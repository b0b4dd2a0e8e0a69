"""What U(x) says with the GP's covariances as trained, at their optimum, and at that of a GP on unit features.

    python -m benchmarks.settling RUN=GAPS.parquet ... [--data-dir DIR]

RUN: a folder with a GPVAE that `train` wrote; GAPS.parquet: what `python -m gpvae_core gaps` says of its whole test
set. Decoder and base encoder are the run's in all three, and so are the exact targets; the two closed forms are those
of `gpvae_core.training.settling`. V(f) over q's variance, the mean over test images; the gain of the objective (14) on
5,000 training images (one noise for both, seed 0; where the means of W and U are kept); Spearman's rho of U with each
target, alone and given q's width, log det v. Results go into benchmarks/results/settling.json.
"""

import argparse
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.claims import mean
from benchmarks.common import command, evenly, hardware, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import Dataset, dataset_of
from gpvae_core.diagnostics.gap_table import read_gaps
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.statistics import partial_spearman, spearman
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.inference.base import Batch
from gpvae_core.models import VariationalAutoencoder, build
from gpvae_core.training.settling import on_top_of, settle

OBJECTIVE_IMAGES, BATCH = 5000, 250
TARGETS = ("kl_marginal", "negentropy", "reconstruction_error")


@torch.no_grad()
def objectives(model: VariationalAutoencoder, data: Dataset) -> np.ndarray:
    """The objective (14) of each batch of training images, nats per image."""
    train, generator = data.split("train"), torch.Generator().manual_seed(0)
    x = train.pixels(evenly(len(train), OBJECTIVE_IMAGES))
    batches = [Batch(part, part, len(train)) for part in x.split(BATCH)]
    values = [model.encoder.objective(batch, model.generative, generator=generator).value for batch in batches]
    return torch.stack(values).double().numpy()


@torch.no_grad()
def share(model: VariationalAutoencoder, data: Dataset) -> float:
    """V(f) over q's variance, the mean over test images and dimensions."""
    ratios = []
    for start in range(0, len(data.test), BATCH):
        correction = model.encoder.correction(data.test.pixels(slice(start, start + BATCH)))
        ratios.append(correction.share_of_f())
    return float(torch.cat(ratios).double().mean())


def figures(model: VariationalAutoencoder, data: Dataset, exact: Columns) -> dict[str, object]:
    """V(f) / v, and what U says of each exact target."""
    score = score_images(model, data.test, ["uncertainty"])["uncertainty"]
    record: dict[str, object] = {"var_f_over_q_variance": share(model, data)}
    for target in TARGETS:
        rho, given = spearman(score, exact[target]), partial_spearman(score, exact[target], exact["log_width"])
        record[target] = {"rho": round(rho, 4), "partial": round(given, 4)}
    return record


def measure(run: Path, table: Path, data_dir: Path | None) -> dict[str, object]:
    """One run three times."""
    checkpoint = load_checkpoint(run)
    trained, data = checkpoint.model, dataset_of(checkpoint, None, data_dir)
    rows = read_gaps(table, checkpoint, dataset=data.name, split="test")
    exact = {key: np.array([row[key] for row in rows], dtype=np.float64) for key in ("kl_marginal", "negentropy")}
    exact |= score_images(trained, data.test, ["log_width", "reconstruction_error"])
    settled = deepcopy(trained)
    settle(settled, data.split("train"))
    plain = build(replace(checkpoint.config, method="vae"), seed=0)
    plain.generative.load_state_dict(trained.generative.state_dict())
    plain.encoder.load_state_dict(trained.encoder.base_encoder.state_dict())
    unit, _ = on_top_of(plain, checkpoint.config, data.split("train"))
    settle(unit, data.split("train"))
    models = {"trained": trained, "settled": settled, "unit": unit}
    return {
        "digest": checkpoint.digest,
        "images": len(rows),
        "objective_gain": mean(objectives(settled, data) - objectives(trained, data)),
        **{name: figures(model, data, exact) for name, model in models.items()},
    }


def main() -> None:
    """Measure each run and keep its record beside the others'."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN=GAPS.parquet")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    header = {"command": command("settling", arguments.data_dir), "hardware": hardware()}
    for argument in arguments.runs:
        run, table = (Path(part) for part in argument.split("="))
        store_part("settling.json", run.name, header | measure(run, table, arguments.data_dir))


if __name__ == "__main__":
    told(main)
