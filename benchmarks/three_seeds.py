"""GPVAE against the plain VAE of equal budget on MNIST's 10,000 test images, in nats; one row per checkpoint.

    python benchmarks/three_seeds.py --data-dir DIR [--seeds 0 1 2]

Reads runs/vae-S-more and runs/gpvae-S, which the commands in README train; writes benchmarks/results/three_seeds.json.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from gpvae_core.checkpoints import load_checkpoint, write_atomically
from gpvae_core.data import load_dataset
from gpvae_core.evaluation import evaluate_elbo

RESULTS = Path(__file__).parent / "results" / "three_seeds.json"


def row(folder: str, data_dir: Path) -> dict[str, object]:
    """Mean test ELBO of the marginalised and of the base encoder of one checkpoint."""
    checkpoint = load_checkpoint(folder)
    test = load_dataset("mnist", data_dir, seed=checkpoint.training["seed"]).test
    values = evaluate_elbo(checkpoint.model, test, seed=0)
    means = {key: round(float(value.double().mean()), 3) for key, value in values.items()}
    std = round(float(checkpoint.model.generative.likelihood.std), 4)
    return {"run": folder, "method": checkpoint.config.method, "seed": checkpoint.training["seed"], "s_x": std, **means}


def main() -> None:
    """Evaluate every run and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        for folder in (f"runs/vae-{seed}-more", f"runs/gpvae-{seed}"):
            rows.append(row(folder, arguments.data_dir))
            print(json.dumps(rows[-1]), flush=True)
    hardware = f"{torch.get_num_threads()} CPU threads, {platform.machine()}, torch {torch.__version__}"
    report = {"command": "python benchmarks/three_seeds.py", "hardware": hardware, "noise_seed": 0, "rows": rows}
    write_atomically(RESULTS, (json.dumps(report, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
