"""What a decoder should learn from where q is refined on the image: four ways to train `gn` with two steps.

    python -m benchmarks.refined_training --data-dir DIR [--only NAME ...] [--dim 10] [--images 20000] [--epochs 10]
                                          [--seed 0] [--again]

Each trains from scratch on the first --images training images of MNIST, s_x trained. "together" is the library's: the
mean of the encoder's own ELBO and the refined one. "apart": the decoder learns from the refined q alone, and the
encoder, for itself, climbs its own ELBO. "its width alone": as apart, but q keeps the encoder's mean and takes the
refined covariance. "vae": no refinement. On the first 1,000 test images, in nats: as in benchmarks.paper_tables,
and the ELBO of what the encoder says before the steps. With --dim 2 also the exact log p(x).
Writes benchmarks/results/refined-training.json, a way at a time; runs/refined holds the trainings, which can go on.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import command, hardware, results_so_far, say_stored, store_part, told
from benchmarks.paper_tables import CELLS, mean, measure
from benchmarks.posterior import in_batches
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import load_dataset
from gpvae_core.distributions import FullGaussian
from gpvae_core.generative import GenerativeModel
from gpvae_core.identity import STATE
from gpvae_core.inference.base import Batch, Objective
from gpvae_core.inference.bounds import elbo_terms, held_log_likelihood
from gpvae_core.inference.newton import NewtonEncoder
from gpvae_core.models import VariationalAutoencoder, build
from gpvae_core.training.evaluation import evaluate_bounds
from gpvae_core.training.fit import TrainingConfig, fit
from gpvae_core.training.runs import Wanted, config_for

RESULT = "refined-training.json"
METHOD, TESTED = "gn-2", 1000


class Apart(NewtonEncoder):
    """The decoder learns from ``told`` alone, the encoder from its own ELBO, the decoder held."""

    def objective(self, batch: Batch, model: GenerativeModel, *, generator: torch.Generator | None = None) -> Objective:
        start = self.first(batch.seen, model)
        z = start.rsample(generator=generator)
        own = held_log_likelihood(model, batch.x, z[None])[0] - start.kl_to_prior()
        with torch.no_grad():
            q = self.refine_in_training(batch.x, model, start.detach())[-1]
        fit_of_q, neg_kl = elbo_terms(model, batch.x, self.told(start.mean.detach(), q), generator=generator)
        return Objective({"own": own.mean(), "log_likelihood": fit_of_q.mean(), "neg_kl_z": neg_kl.mean()})

    def told(self, mean: torch.Tensor, q: FullGaussian) -> FullGaussian:
        """The q from which the decoder learns; ``mean``: the encoder's."""
        return q


class WidthAlone(Apart):
    """The refined covariance around the encoder's mean."""

    def told(self, mean: torch.Tensor, q: FullGaussian) -> FullGaussian:
        return FullGaussian(mean, q.scale_tril)


WAYS: dict[str, tuple[str, type[NewtonEncoder] | None]] = {
    "vae": ("vae", None),
    "apart": (METHOD, Apart),
    "its width alone": (METHOD, WidthAlone),
    "together": (METHOD, None),
}


def made(way: str, data_dir: Path | None, dim: int, images: int, epochs: int, seed: int) -> dict[str, Any]:
    """Train one way, and measure it."""
    cell, kind = WAYS[way]
    data = load_dataset("mnist", data_dir)
    data = replace(data, train=data.train.take(np.arange(images)))
    config = config_for(data, *CELLS[cell], Wanted(latent_dim=dim), None)
    model = build(config, seed=seed)
    if kind is not None:
        model.encoder.__class__ = kind  # the same numbers, told another way
    folder = Path("runs/refined") / f"{way.replace(' ', '-')}-{dim}-{images}-{epochs}-{seed}"
    training = TrainingConfig.on(data, seed=seed, epochs=epochs)
    for at in fit(model, config, training, data, folder, resume=(folder / STATE).exists()):
        print(f"{way}: epoch {at.epoch}, validation ELBO {at.validation['elbo']:.1f}", flush=True)
    checkpoint = load_checkpoint(folder)
    trained: VariationalAutoencoder = checkpoint.model
    test = data.test.take(np.arange(TESTED))
    bounds = evaluate_bounds(trained, test, seed=0)
    own = bounds.get("elbo_start", bounds["elbo"]).values.numpy()
    about = {"dim": dim, "images": images, "epochs": epochs, "seed": seed}
    exact = {}
    if dim == 2:
        evidence = [posterior.log_evidence for posterior in in_batches(checkpoint, test.pixels())]
        exact = mean("log_evidence", np.array(evidence))
    return measure(trained, test) | mean("elbo_of_encoder", own) | exact | about


def main() -> None:
    """Make the ways that are asked for and are not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="NAME")
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="Make ways that are stored, too.")
    given = parser.parse_args()
    about = {"command": command("refined_training", given.data_dir), "hardware": hardware()}
    schedule = (given.dim, given.images, given.epochs, given.seed)
    keys = {way: "{}, d = {}, {:,} images, {} epochs, seed {}".format(way, *schedule) for way in given.only}
    there = [] if given.again else [way for way, key in keys.items() if key in results_so_far(RESULT)]
    say_stored([keys[way] for way in there])
    for way in given.only:
        if way not in there:
            store_part(RESULT, keys[way], made(way, given.data_dir, *schedule) | about)


if __name__ == "__main__":
    told(main)
