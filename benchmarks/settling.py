"""What settling a Gaussian process changes: shipped models against the runs they were settled from.

    python -m benchmarks.settling NAME ... [--data-dir DIR]

For both: the objective (14) on 5,000 training images (the same noise for both, seed 0), V(f) over q's variance, and
Spearman's rho of U(x) with the exact columns of the whole test set, alone and given q's width (log det v of the settled
model). The run must be on this machine: the card's commands make it. Results go into benchmarks/results/settling.json.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.claims import mean
from benchmarks.common import command, dataset_of, evenly, hardware, store_part
from benchmarks.difficulty import partial, spearman
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset
from gpvae_core.inference.base import Batch
from gpvae_core.scores import score_images
from gpvae_core.stored import Columns, stored_columns

OBJECTIVE_IMAGES, BATCH = 5000, 250
TARGETS = ("kl_marginal", "negentropy", "reconstruction_error")


@torch.no_grad()
def objectives(checkpoint: Checkpoint, data: Dataset) -> np.ndarray:
    """The objective (14) of each batch of training images, nats per image."""
    model, train, generator = checkpoint.model, data.split("train"), torch.Generator().manual_seed(0)
    x = train.pixels(evenly(len(train), OBJECTIVE_IMAGES))
    batches = [Batch(part, part, len(train)) for part in x.split(BATCH)]
    values = [model.encoder.objective(batch, model.generative, generator=generator).value for batch in batches]
    return torch.stack(values).double().numpy()


@torch.no_grad()
def share(checkpoint: Checkpoint, data: Dataset) -> float:
    """V(f) over q's variance, the mean over test images and dimensions."""
    ratios = []
    for start in range(0, len(data.test), BATCH):
        correction = checkpoint.model.encoder.correction(data.test.pixels(slice(start, start + BATCH)))
        ratios.append(correction.var_f / correction.marginal().std ** 2)
    return float(torch.cat(ratios).double().mean())


def figures(checkpoint: Checkpoint, data: Dataset, exact: Columns) -> dict[str, object]:
    """V(f) / v, and what U says of each exact target."""
    score = score_images(checkpoint.model, data.test, ["uncertainty"])["uncertainty"]
    record: dict[str, object] = {"digest": checkpoint.digest, "var_f_over_q_variance": share(checkpoint, data)}
    for target in TARGETS:
        given = partial(score, exact[target], exact["log_width"])
        record[target] = {"rho": spearman(score, exact[target]), "partial": given}
    return record


def main() -> None:
    """Compare each model with the run it was settled from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    header = {"command": command("settling", arguments.data_dir), "hardware": hardware()}
    for name in arguments.names:
        settled = load_checkpoint(name)
        trained, data = load_checkpoint(settled.training["settled_from"]), dataset_of(settled, arguments.data_dir)
        exact = stored_columns(settled, data.name, len(data.test))
        record = {key: figures(c, data, exact) for key, c in (("trained", trained), ("settled", settled))}
        gain = mean(objectives(settled, data) - objectives(trained, data))
        store_part("settling.json", name, header | {"images": len(data.test), "objective_gain": gain} | record)


if __name__ == "__main__":
    main()
