"""Does a score tell which images are hard? Every score against every exact quantity, in and out of distribution.

    python -m benchmarks.difficulty CHECKPOINT [--data-dir DIR] [--images 500]

For each condition - test images as they are, turned, covered, noisy, and OMNIGLOT - images spread evenly over the test
set, their exact gaps, and for each score Spearman's rho with each gap, its bootstrap interval (95 %, 500 resamples,
seed 0), and the partial rank correlation given log det v: what a score knows beyond q's width. Results go into
benchmarks/results/difficulty-NAME.json.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import command, evenly, hardware, store_result, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import ImageSet, dataset_of, load_dataset
from gpvae_core.data.corruptions import Corruption
from gpvae_core.diagnostics.judgement import judge
from gpvae_core.diagnostics.scores import natural_gradient_residual, score_images
from gpvae_core.diagnostics.statistics import partial_spearman, spearman, spearman_interval
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.best_gaussian import FAMILIES

CONDITIONS = {
    "test": Corruption(),
    "rotated by 40 degrees": Corruption(rotate=40),
    "covered by 10 pixels": Corruption(occlude=10),
    "noise of 0.3": Corruption(noise=0.3),
}
TARGETS = {
    "kl": "kl_marginal",
    "amortization_gap": "amortization_gap",
    "approximation_gap": "approximation_gap",
    "negentropy": "negentropy",
    "modes": "modes",
}
CALIBRATED = ("laplace_gap", "predicted_gap", "corrected_gap")
BATCH = 50


def conditions(checkpoint: Checkpoint, data_dir: Path | None, count: int) -> dict[str, ImageSet]:
    """The images of each condition, pixels in [0,1]."""
    test = dataset_of(checkpoint, None, data_dir).test
    rows = evenly(len(test), count)
    pixels = test.take(rows).pixels()[:, 0].numpy()
    sets = {
        name: ImageSet(np.stack([change(image) for image in pixels])) if change else ImageSet(pixels)
        for name, change in CONDITIONS.items()
    }
    if checkpoint.training["dataset"] == "mnist":
        other = load_dataset("omniglot", data_dir).test
        sets["OMNIGLOT"] = other.take(evenly(len(other), count))
    return sets


def residuals(checkpoint: Checkpoint, images: ImageSet) -> dict[str, np.ndarray]:
    """The natural-gradient residual from 1, 16 and 128 random points (seed 0)."""
    values: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(images), BATCH):
        x = images.pixels(slice(start, start + BATCH))
        q = checkpoint.model.infer(x).q
        for points in (1, 16, 128):
            noise = torch.randn(points, 2, generator=torch.Generator().manual_seed(0))
            value = natural_gradient_residual(checkpoint.model, x, q, noise, torch.full((points,), 1 / points))
            values.setdefault(f"residual, {points} draws", []).append(value.numpy())
    return {name: np.concatenate(parts) for name, parts in values.items()}


def compare(scores: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Each score against each target; calibrated ones also by their mean absolute error in log10 KL."""
    table: dict[str, object] = {}
    for name, score in scores.items():
        row: dict[str, object] = {
            target: {
                "rho": round(spearman(score, values), 3),
                "interval": [round(v, 3) for v in spearman_interval(score, values, generator=np.random.default_rng(0))],
                "partial": None if (p := partial_spearman(score, values, scores["log_width"])) is None else round(p, 3),
            }
            for target, values in targets.items()
        }
        if name in CALIBRATED:
            error = np.log10(score) - np.log10(targets["kl"])
            row["log10_kl"] = {"mae": round(float(np.abs(error).mean()), 3), "bias": round(float(error.mean()), 3)}
        table[name] = row
    return table


def measure(checkpoint: Checkpoint, engine: PosteriorEngine, images: ImageSet) -> dict[str, object]:
    """One condition: the table, and the targets' own medians."""
    rows = []
    for start in range(0, len(images), BATCH):
        x = images.pixels(slice(start, start + BATCH))
        rows += [one.row() for one in judge(engine, x, checkpoint.model.infer(x), families=list(FAMILIES))]
    targets = {name: np.array([row[key] for row in rows], dtype=float) for name, key in TARGETS.items()}
    scores = score_images(checkpoint.model, images) | residuals(checkpoint, images)
    return {
        "images": len(images),
        "medians": {name: round(float(np.median(values)), 4) for name, values in targets.items()},
        "worst_log_evidence_error": max(row["log_evidence_error"] for row in rows),
        "scores": compare(scores, targets),
    }


def main() -> None:
    """Measure every condition and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    engine = checkpoint.engine()
    sets = conditions(checkpoint, arguments.data_dir, arguments.images)
    table = {name: measure(checkpoint, engine, images) for name, images in tqdm(sets.items())}
    header = {"command": command("difficulty", arguments.data_dir), "hardware": hardware()}
    store_result(f"difficulty-{checkpoint.name}.json", header | {"digest": checkpoint.digest, "conditions": table})


if __name__ == "__main__":
    told(main)
