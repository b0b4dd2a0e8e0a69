"""How near a VAE and IWAE-5 come to two published log-likelihoods of binary MNIST.

    python -m benchmarks.binary_bounds --data-dir DIR [--only vae iwae-5] [--epochs 200] [--images 10000]
                                       [--draws 5000] [--seed 0] [--again]

Their setting: MNIST's pixels drawn anew at each use, z of 50 dimensions, two dense layers of 200 units on either side
(here with SiLU, there with tanh). Theirs train for 3,280 epochs. On the first --images test images, one fixed draw of
the pixels: the ELBO, the importance-weighted bound of --draws, and the standard error of its mean over images, in nats.
Writes benchmarks/results/binary-bounds.json; runs/binary-bounds holds the trainings, which can go on.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import command, hardware, results_so_far, say_stored, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.identity import STATE
from gpvae_core.models import build
from gpvae_core.training.evaluation import evaluate_elbo, iwae_bound
from gpvae_core.training.fit import TrainingConfig, fit
from gpvae_core.training.runs import Wanted, config_for

RESULT = "binary-bounds.json"
DRAWS = {"vae": 0, "iwae-5": 5}  # of z, by which the objective is importance-weighted
PUBLISHED = {"vae": -86.76, "iwae-5": -85.54}  # Burda, Grosse & Salakhutdinov (2016), Table 1, one stochastic layer
SETTING = Wanted(latent_dim=50, network="dense", hidden=200)


def made(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Train one of them, and measure it."""
    data = load_dataset("binary-mnist", given.data_dir)
    config = config_for(data, "vae", {}, SETTING, None)
    folder = Path("runs/binary-bounds") / f"{name}-{given.epochs}-{given.seed}"
    training = TrainingConfig.on(
        data, seed=given.seed, epochs=given.epochs, patience=given.epochs, importance=DRAWS[name]
    )
    model, resume = build(config, seed=given.seed), (folder / STATE).exists()
    for at in fit(model, config, training, data, folder, resume=resume):
        if at.epoch % 10 == 0:
            print(f"{name}: epoch {at.epoch}, best bound on validation {at.best_bound:.2f}", flush=True)
    checkpoint = load_checkpoint(folder)
    test = data.test.take(np.arange(given.images))
    bound = iwae_bound(checkpoint.model, test, samples=given.draws, seed=0, chunk=50_000)
    record = {
        "epochs": given.epochs,
        "best_epoch": checkpoint.training["best_epoch"],
        "seed": given.seed,
        "images": len(test),
        "draws": given.draws,
        "elbo": float(evaluate_elbo(checkpoint.model, test, seed=0, samples=10)["elbo"].mean()),
        "bound": float(bound.values.mean()),
        "bound_stderr": bound.stderr,
        "command": command("binary_bounds", given.data_dir),
        "hardware": hardware(),
    }
    print(f"{name}: {record['bound']:.2f} nats, published {PUBLISHED[name]}", flush=True)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", choices=DRAWS, default=list(DRAWS))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    stored = [] if given.again else [name for name in given.only if name in results_so_far(RESULT)]
    say_stored(stored)
    for name in given.only:
        if name not in stored:
            store_part(RESULT, name, made(name, given))


if __name__ == "__main__":
    told(main)
