"""Does a score tell that an image is not of the data set? AUROC of every score, the exact posterior not needed.

    python -m benchmarks.detection CHECKPOINT ... [--data-dir DIR] [--images 1000]

For test images that are turned, covered or noisy, and for OMNIGLOT, the probability that such an image has a larger
score than a test image as it is (half of it where both are equal), with its bootstrap interval (95 %, 500 resamples of
both sets, seed 0). 0.5 is chance. Results, one record a checkpoint, go into benchmarks/results/detection.json.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.common import command, hardware, store_part, told
from benchmarks.difficulty import conditions
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.statistics import auroc, auroc_interval


def rounded(outside: np.ndarray, inside: np.ndarray) -> list[float]:
    """The AUROC's bootstrap interval to three decimals."""
    return [round(v, 3) for v in auroc_interval(outside, inside, generator=np.random.default_rng(0))]


def measure(name: str, data_dir: Path | None, count: int) -> dict[str, object]:
    """Every score's AUROC under every change of the test images."""
    checkpoint = load_checkpoint(name)
    sets = conditions(checkpoint, data_dir, count)
    scores = {key: score_images(checkpoint.model, images) for key, images in tqdm(sets.items(), desc=checkpoint.name)}
    inside = scores.pop("test")
    detected = {
        condition: {
            score: {"auroc": round(auroc(values, inside[score]), 3), "interval": rounded(values, inside[score])}
            for score, values in outside.items()
        }
        for condition, outside in scores.items()
    }
    return {"digest": checkpoint.digest, "images": len(sets["test"]), "conditions": detected}


def main() -> None:
    """Measure each checkpoint and keep its record beside the others'."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    arguments = parser.parse_args()
    header = {"command": command("detection", arguments.data_dir), "hardware": hardware()}
    for name in arguments.checkpoints:
        store_part("detection.json", Path(name).name, header | measure(name, arguments.data_dir, arguments.images))


if __name__ == "__main__":
    told(main)
