"""GPVAE against the plain VAE of equal budget on MNIST's 10,000 test images, in nats; one row per checkpoint.

    python -m benchmarks.three_seeds --data-dir DIR [--seeds 0 1 2]

Reads runs/vae-S-more and runs/gpvae-S, which the commands in README train; writes benchmarks/results/three_seeds.json.
"""

import argparse
import json
from pathlib import Path

from benchmarks.common import command, hardware, store_result
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.evaluation import evaluate_elbo


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
    header = {"command": command("three_seeds", arguments.data_dir), "hardware": hardware(), "noise_seed": 0}
    store_result("three_seeds.json", header | {"rows": rows})


if __name__ == "__main__":
    main()
