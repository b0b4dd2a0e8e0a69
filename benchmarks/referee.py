"""What judges a q without the truth, held against the exact KL of test images: how often is each judge wrong?

    python -m benchmarks.referee mnist-2d mnist-2d-wide binary-mnist-2d --data-dir DIR [--images 1000] [--device cuda]

Judged are the shipped encoders: ``base``, the VAE within, and ``marginal``, GPVAE's q. Their exact KLs stand beside
the weights. Each judge sees the same DRAWS log weights log p(x, z) - log q(z) of z ~ q:

    k      Pareto's k; q is trusted up to 0.7
    draws  effective draws, (sum of weights)^2 / sum of squared weights, tail smoothed; trusted from 100 of 1,000 on
    bound  IWAE-1000 less the ELBO: the KL, if IWAE-1000 were log p(x); trusted below 0.32 nats, between 0.1 and 1

A miss: trusted, though the KL is 1 nat or more. A false alarm: not trusted, though it is 0.1 nats or less.
The images are every tenth of the test set, then the next ones; runs/referee keeps each, so a killed run goes on.
Writes benchmarks/results/referee.json.
"""

import argparse
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.common import command, device_name, hardware, store_part, told
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import ImageSet, dataset_of
from gpvae_core.diagnostics.psis import LIMIT, smoothed
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.distributions import Posterior
from gpvae_core.files import json_bytes, read_json, write_atomically
from gpvae_core.generative import GenerativeModel
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.tensors import full_precision
from gpvae_core.training.evaluation import generator_on

RUNS = Path("runs/referee")
STAGES = ("base", "marginal")
DRAWS, DECODED_TOGETHER, TOGETHER = 1000, 1000, 50
SMALL_KL, LARGE_KL = 0.1, 1.0  # nats: q is near, q is far
TENTHS = (0, 5, 2, 7, 1, 6, 3, 8, 4, 9)
SIGNS = {"k": -1, "draws": 1, "bound": -1}  # of each judge: 1 where more is better
LIMITS = {"k": LIMIT, "draws": 100.0, "bound": 10**-0.5}
Seen = dict[str, float]  # of one image: each judge's figure, and IWAE-1000 itself


@torch.no_grad()
@full_precision()
def log_weights(model: GenerativeModel, x: Tensor, q: Posterior, seed: int) -> Tensor:
    """log p(x, z) - log q(z) of DRAWS draws from the q of each image, (DRAWS, B), on the CPU."""
    z, log_q = q.rsample_with_log_prob(DRAWS, generator=generator_on(x.device, seed))
    parts = [model.log_joint(x, part) for part in z.split(max(1, DECODED_TOGETHER // len(x)))]
    return (torch.cat(parts) - log_q).cpu()


def judged(weights: Tensor) -> list[Seen]:
    """What each judge says of every column of log weights (DRAWS, B)."""
    found, iwae = smoothed(weights), torch.logsumexp(weights.double(), 0) - log(len(weights))
    figures = zip(found.k, found.ess, iwae - weights.double().mean(0), iwae, strict=True)
    return [dict(zip((*SIGNS, "iwae"), map(float, own), strict=True)) for own in figures]


def order(count: int) -> np.ndarray:
    """Every tenth row, then those half-way between, and so on: what came first is spread over the test set."""
    return np.concatenate([np.arange(first, count, len(TENTHS)) for first in TENTHS])


def see(model: VariationalAutoencoder, images: ImageSet, rows: np.ndarray, path: Path) -> dict[str, dict[str, Seen]]:
    """What the judges say of ``rows``, by stage and row; kept in ``path``, which is read first."""
    kept: dict[str, dict[str, Seen]] = read_json(path) if path.exists() else {stage: {} for stage in STAGES}
    for first in range(0, len(rows), TOGETHER):
        some = rows[first : first + TOGETHER]
        if all(str(row) in kept[STAGES[-1]] for row in some):
            continue
        x = images.pixels(some).to(model.device)
        stages = model.infer_as_it_is(x).stages
        for stage in STAGES:
            seen = judged(log_weights(model.generative, x, stages[stage], int(some[0])))
            kept[stage] |= {str(row): one for row, one in zip(some, seen, strict=True)}
        write_atomically(path, json_bytes(kept))
        print(f"{path.stem}: {first + len(some)} of {len(rows)}", flush=True)
    return kept


def errors_of(name: str, figure: np.ndarray, kl: np.ndarray) -> dict[str, Any]:
    """How often a judge is wrong, its rank correlation with the KL, and the largest KL that it trusts."""
    trusted = SIGNS[name] * figure >= SIGNS[name] * LIMITS[name]
    far, near = kl >= LARGE_KL, kl <= SMALL_KL
    return {
        "missed": int((trusted & far).sum()),
        "far": int(far.sum()),
        "false_alarms": int((~trusted & near).sum()),
        "near": int(near.sum()),
        "spearman": float(spearmanr(-SIGNS[name] * figure, kl).statistic),
        "worst_trusted": float(kl[trusted].max(initial=0)),
    }


def record(seen: dict[str, Seen], rows: np.ndarray, columns: dict[str, np.ndarray], stage: str) -> dict[str, Any]:
    """Every judge's errors over ``rows``, and what IWAE-1000 falls short of log p(x)."""
    kl, evidence = columns[f"kl_{stage}"][rows], columns["log_evidence"][rows]
    figures = {name: np.array([seen[str(row)][name] for row in rows]) for name in (*SIGNS, "iwae")}
    short = evidence - figures.pop("iwae")
    return {name: errors_of(name, figure, kl) for name, figure in figures.items()} | {
        "images": len(rows),
        "shortfall": float(short.mean()),
        "shortfall_median": float(np.median(short)),
        "short_by_a_nat": int((short >= LARGE_KL).sum()),
    }


def main() -> None:
    """Judge what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoders", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, help="By default the whole test set.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    about = {"command": command("referee", given.data_dir), "hardware": hardware()}
    RUNS.mkdir(parents=True, exist_ok=True)
    for name in given.decoders:
        base = load_checkpoint(name)
        data = dataset_of(base, None, given.data_dir)
        columns = stored_columns(base, data.name, len(data.test))
        rows = order(len(data.test))[: given.images]
        seen = see(base.model.to(given.device), data.test, rows, RUNS / f"{base.name}.json")
        for stage in STAGES:
            found = record(seen[stage], rows, columns, stage)
            store_part("referee.json", f"{base.name}, {stage}", found | about | {"device": device_name(given.device)})


if __name__ == "__main__":
    told(main)
