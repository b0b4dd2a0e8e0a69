"""Why the engine decodes: what two shortcuts to log p(x, z) would cost in accuracy.

    python -m benchmarks.shortcuts NAME ... [--data-dir DIR] [--images 20]

"Interpolated": log p(x, z) of degree 6 between the nodes of the base grid, against float64 decodes at places drawn from
the posterior. "Rank": how many principal directions hold the grid's decoded images, each to a hundredth of s_x over all
its pixels. Writes benchmarks/results/shortcuts.json, a model at a time.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import command, hardware, store_part, test_images, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.exact import PosteriorEngine, interpolation
from gpvae_core.exact.joint import Decoded
from gpvae_core.generative import GaussianLikelihood
from gpvae_core.paths import grid_cache

PLACES = 200  # of each image


def interpolated(engine: PosteriorEngine, images: torch.Tensor) -> dict[str, float]:
    """How far the interpolant is off, in nats, over places drawn from each image's posterior."""
    rng, grid, off = np.random.default_rng(0), engine.grid, []
    fields = grid.log_joint(engine.model, images)
    exact = Decoded(engine.double_model, images)
    for k, field in enumerate(fields):
        shares = np.exp(field - field.max()).ravel()
        node = np.unravel_index(rng.choice(shares.size, PLACES, p=shares / shares.sum()), field.shape)
        t = np.stack(node, 1) + rng.uniform(-0.5, 0.5, (PLACES, 2))
        truth = exact(np.full(PLACES, k), grid.axis[0] + t * grid.spacing)
        off.append(np.abs(interpolation.at(field, t) - truth))
    p50, p95 = np.quantile(off, (0.5, 0.95))
    return {"p50": float(p50), "p95": float(p95), "worst": float(np.max(off))}


def rank(engine: PosteriorEngine) -> int | None:
    """Directions that bring the root mean square of what they miss below s_x / 100; None without an s_x."""
    likelihood = engine.model.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        return None
    means = likelihood.mean_of(engine.grid.eta).double()
    missed = torch.linalg.eigvalsh(means.T @ means).clamp(min=0).cumsum(0).flip(0) / len(means)
    return int((missed.sqrt() > 0.01 * float(likelihood.std)).sum())


def measured(checkpoint: Checkpoint, images: torch.Tensor) -> dict[str, Any]:
    """Both, of one model."""
    engine = checkpoint.engine(cache=grid_cache())
    return {
        "interpolated": interpolated(engine, images),
        "rank": rank(engine),
        "pixels": engine.grid.eta.shape[1],
        "images": len(images),
    }


def main() -> None:
    """Measure the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=20)
    given = parser.parse_args()
    about = {"command": command("shortcuts", given.data_dir), "hardware": hardware()}
    for name in given.names:
        checkpoint = load_checkpoint(name)
        found = measured(checkpoint, test_images(checkpoint, given.data_dir, given.images))
        store_part("shortcuts.json", name, found | about)
        print(name, found, flush=True)


if __name__ == "__main__":
    told(main)
