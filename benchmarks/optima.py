"""The best diagonal and the best full-covariance Gaussian of each image: what a family of q cannot go below.

    python -m benchmarks.optima mnist-2d --data-dir DIR [--of 1000] [--images N] [--again 50]

KL(q || p(z|x)) of ``best_gaussians``, which depends on the decoder and the image alone: the approximation gap of the
family. Its images are spread over the first OF, which the exact-gap table has. Of AGAIN of them the search is
made once more, from OTHERS other starts: Gaussians of the posterior's covariance at draws from it. ``gain``: nats by
which that betters the first search. runs/optima/DECODER.json keeps each image, so a run that was killed goes on.
Writes benchmarks/results/optima.json.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import command, hardware, store_part, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.distributions import FullGaussian
from gpvae_core.errors import InputError
from gpvae_core.exact.best_gaussian import FAMILIES, GaussianFit, best_gaussians
from gpvae_core.exact.posterior import ExactPosterior
from gpvae_core.files import json_bytes, read_json, write_atomically

RUNS = Path("runs/optima")
OF, AGAIN, OTHERS, TOGETHER, FIRST = 1000, 50, 8, 25, 3
Found = dict[str, dict[str, float]]  # of one image, by family


def elsewhere(exact: ExactPosterior, seed: int) -> list[FullGaussian]:
    """OTHERS starts at draws from the posterior, as wide as it is."""
    frame = torch.as_tensor(np.linalg.cholesky(exact.covariance))
    places = exact.sample(OTHERS, generator=np.random.default_rng(seed))
    return [FullGaussian(torch.as_tensor(place), frame) for place in places]


def optima(base: Checkpoint, x: Tensor, seeds: Sequence[int], *, again: bool = False) -> list[Found]:
    """ELBO of the best of each family for images x, with its error; ``gain``: what a search from elsewhere adds."""
    posteriors, start = base.kept_engine().posteriors(x), base.infer(x).start
    starts = [[start[k]] for k in range(len(x))]
    found: list[Found] = [{} for _ in posteriors]
    for family, diagonal in FAMILIES.items():
        fits = best_gaussians(posteriors, starts, diagonal=diagonal)
        gains = _gains(posteriors, fits, seeds, diagonal) if again else []
        for k, fit in enumerate(fits):
            found[k][family] = {"elbo": fit.elbo.value, "error": fit.elbo.error}
            if again:
                found[k][family] |= {"gain": gains[k]}
    return found


def _gains(
    posteriors: Sequence[ExactPosterior], fits: Sequence[GaussianFit], seeds: Sequence[int], diagonal: bool
) -> list[float]:
    others = [elsewhere(exact, seed) for exact, seed in zip(posteriors, seeds, strict=True)]
    second = best_gaussians(posteriors, others, diagonal=diagonal)
    return [max(0.0, new.elbo.value - old.elbo.value) for new, old in zip(second, fits, strict=True)]


def chosen(of: int, count: int) -> list[int]:
    """``count`` images spread over the first ``of``, or all of them. Half as many of an even number are among these."""
    if count < 1:
        raise InputError(f"{count} images are none to search; give at least 1")
    return [k * of // count for k in range(count)] if count < of else list(range(of))


def compute(base: Checkpoint, pixels: Any, rows: Sequence[int], kept: dict[str, Found], *, again: bool) -> None:
    """Add to ``kept`` those of ``rows`` that it lacks, and write it after each few."""
    missing = [row for row in rows if str(row) not in kept or (again and "gain" not in kept[str(row)]["full"])]
    for first in range(0, len(missing), TOGETHER):
        some = missing[first : first + TOGETHER]
        for row, found in zip(some, optima(base, pixels(np.array(some)), some, again=again), strict=True):
            kept[str(row)] = found
        write_atomically(RUNS / f"{base.name}.json", json_bytes(kept))
        print(f"{base.name}: {first + len(some)} of {len(missing)}", flush=True)


def summary(kept: dict[str, Found], rows: Sequence[int], evidence: np.ndarray) -> dict[str, Any]:
    """Of each family, over ``rows``: mean KL with its standard error, the largest error, and what ``gain`` says."""
    found: dict[str, Any] = {"images": len(rows)}
    for family in FAMILIES:
        ones = [kept[str(row)][family] for row in rows]
        kl = evidence[list(rows)] - [one["elbo"] for one in ones]
        gains = [one[family]["gain"] for one in kept.values() if "gain" in one[family]]
        found[family] = {
            "kl": float(kl.mean()),
            "stderr": float(kl.std() / len(kl) ** 0.5),
            "median": float(np.median(kl)),
            "largest_error": max(one["error"] for one in ones),
            "first": kl[:FIRST].tolist(),
            "searched_again": len(gains),
            "gain": float(np.mean(gains)),
            "largest_gain": max(gains),
        }
    return found


def main() -> None:
    """Find what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("decoder")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--of", type=int, default=OF, help="The first images, which the table's rows have.")
    parser.add_argument("--images", type=int, help="So many of them; by default all.")
    parser.add_argument("--again", type=int, default=AGAIN)
    given = parser.parse_args()
    base = load_checkpoint(given.decoder)
    data = dataset_of(base, None, given.data_dir)
    of = min(given.of, len(data.test))
    rows = chosen(of, given.images or of)
    path = RUNS / f"{base.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = read_json(path) if path.exists() else {}
    compute(base, data.test.pixels, chosen(of, given.again), kept, again=True)
    compute(base, data.test.pixels, rows, kept, again=False)
    evidence = stored_columns(base, data.name, len(data.test))["log_evidence"]
    about = {"command": command("optima", given.data_dir), "hardware": hardware()}
    found = summary(kept, rows, evidence)
    store_part("optima.json", base.name, {"of": of} | found | about)
    print({family: (found[family]["kl"], found[family]["gain"]) for family in FAMILIES})


if __name__ == "__main__":
    told(main)
