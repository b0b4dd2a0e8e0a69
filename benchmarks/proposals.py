"""What IWAE-100 says of a decoder beyond two dimensions, with the encoder's q as the proposal and with Gauss-Newton's.

    python -m benchmarks.proposals [--data-dir DIR] [--dims 10] [--seeds 0 1 2] [--images 200] [--train]

Plain VAEs, MNIST, EPOCHS epochs, s_x trained; runs/proposals/vae-D-SEED holds each, and a run that was killed goes on.
Every number is a lower bound of the mean of log p(x) over the first test images, in nats: the ELBO, IWAE-100, and for
the last proposal IWAE-LONG, which stands for log p(x) itself. Nothing is trained but the VAE.
Writes benchmarks/results/proposals.json, a model at a time.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import command, hardware, store_part, told
from benchmarks.paper_tables import SAMPLES, mean, trained
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import Dataset, load_dataset
from gpvae_core.models import ModelConfig
from gpvae_core.training.evaluation import evaluate_bounds, iwae_bound

EPOCHS, LONG = 10, 2000
PROPOSALS: dict[str, dict[str, Any] | None] = {
    "encoder": None,
    "1 step": {"steps": 1, "starts": 1, "draws": 0},
    "2 steps": {"steps": 2, "starts": 1, "draws": 0},
    "4 steps": {"steps": 4, "starts": 1, "draws": 0},
    "4 steps, 4 starts": {"steps": 4, "starts": 4, "draws": 4096},
}


def measure(checkpoint: Checkpoint, data: Dataset, count: int) -> dict[str, Any]:
    """Each proposal's bounds, their standard errors over images, and its advantage over the encoder, image by image."""
    images = data.test.take(np.arange(count))
    found: dict[str, Any] = {}
    for name, options in PROPOSALS.items():
        model = checkpoint.model if options is None else checkpoint.with_method("gn", options).model
        elbo = evaluate_bounds(model, images, seed=0)["elbo"].values.numpy()
        iwae = iwae_bound(model, images, samples=SAMPLES, seed=0).values.numpy()
        if options is None:
            first = iwae
        found[name] = mean("elbo", elbo) | mean("iwae", iwae) | mean("gain", iwae - first)
    long = iwae_bound(model, images, samples=LONG, seed=1).values.numpy()
    return found | {"long": mean("iwae", long) | mean("gain", long - first)}


def main() -> None:
    """Train and measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--dims", type=int, nargs="+", default=[10])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--train", action="store_true", help="Only train.")
    arguments = parser.parse_args()
    data = load_dataset("mnist", arguments.data_dir)
    for dim in arguments.dims:
        for seed in arguments.seeds:
            folder = Path("runs/proposals") / f"vae-{dim}-{seed}"
            checkpoint, _ = trained(folder, data, ModelConfig(method="vae", latent_dim=dim), seed, EPOCHS)
            if arguments.train:
                continue
            about = {"images": arguments.images, "command": command("proposals", arguments.data_dir)}
            measured = measure(checkpoint, data, arguments.images)
            store_part("proposals.json", f"{dim}, seed {seed}", measured | about | {"hardware": hardware()})
            print(f"d = {dim}, seed {seed}: { ({k: round(v['iwae'], 2) for k, v in measured.items()}) }", flush=True)


if __name__ == "__main__":
    told(main)
