"""One training as a program of its own: python -m app.trainer FOLDER does what FOLDER/plan.json says.

Each epoch, and each look at exact posteriors, is a line of JSON in FOLDER/log.jsonl; the checkpoint is in FOLDER/run.
The program ends when its standard input does: whoever started it is gone then. Started again, it goes on.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from contourpy import contour_generator

from app.overlays import outlines
from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.data import Dataset, load_dataset
from gpvae_core.diagnostics.judgement import places
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.posterior import ExactPosterior
from gpvae_core.files import read_json
from gpvae_core.identity import STATE
from gpvae_core.models import VariationalAutoencoder, build
from gpvae_core.training.fit import TrainingConfig
from gpvae_core.training.runs import Wanted, config_for, run

PLAN, LOG, RUN, PICTURES = "plan.json", "log.jsonl", "run", "pictures"
MOST_IMAGES, MOST_VALIDATION, LEAST_IMAGES = 10_000, 1_000, 30  # of training
BATCH = 64  # small, since trainings here are short
FOLLOWED, LOOKS = 10, 6  # test images whose exact gaps are followed, and how often
NODES, TOLERANCE = 61, 0.05  # of the engine that looks: a tenth of its usual grid, decoded anew at each look
MASSES, SIDE, REACH = (0.5, 0.95), 121, 6.0  # outlines: masses; nodes a side; standard deviations each way
POLITE = 2  # how far the training steps back behind whoever looks at pages


@dataclass(frozen=True)
class Plan:
    """What is trained: ``dataset`` and ``method`` by name, for ``epochs``; ``std`` is s_x, or None: it is trained."""

    dataset: str
    method: str
    epochs: int
    seed: int
    std: float | None


def main(folder: Path) -> None:
    """Train, a line in the log for whatever happens; an InputError is the last line."""
    Thread(target=_end_with_standard_input, daemon=True).start()
    os.nice(POLITE)
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    with (folder / LOG).open("a") as log:
        try:
            for record in training(Plan(**read_json(folder / PLAN)), folder):
                log.write(json.dumps(record) + "\n")
                log.flush()
        except InputError as error:
            said = str(error).replace(str((folder / PICTURES).resolve()), "the archive")
            log.write(json.dumps({"failed": said}) + "\n")


def _end_with_standard_input() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock the interpreter wants when it ends
        pass
    os._exit(1)


def training(plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    """A record for the data, for each epoch, and for each look; see ``look``. Raises InputError."""
    data = _few(load_dataset(plan.dataset, seed=plan.seed))
    yield {"images": len(data.train), "notes": list(data.notes)}
    config = config_for(data, plan.method, {}, Wanted(s_x=plan.std), None)
    asked = TrainingConfig.on(data, seed=plan.seed, epochs=plan.epochs, patience=plan.epochs, batch_size=BATCH)
    out = folder / RUN
    if not (out / STATE).exists():
        yield {"look": 0, **look(build(config, seed=plan.seed), data)}
    looks = set(np.unique(np.geomspace(1, plan.epochs, LOOKS).round().astype(int)).tolist())
    for progress in run(out, data, config, asked, resume=(out / STATE).exists()):
        yield {
            "epoch": progress.epoch,
            "objective": sum(progress.parts.values()),
            "validation": progress.validation["elbo"],
            "seconds": progress.seconds,
            "images_per_second": progress.images_per_second,
        }
        if progress.epoch in looks:
            yield {"look": progress.epoch, **look(load_checkpoint(out).model, data)}


def _few(data: Dataset) -> Dataset:
    """So many images as one can wait for. Raises InputError where there are too few to learn from."""
    if len(data.train) < LEAST_IMAGES:
        raise InputError(
            f"there are {len(data.train)} images to train on, a fifth kept for tests; give at least {LEAST_IMAGES}"
        )
    first = {"train": MOST_IMAGES, "validation": MOST_VALIDATION}
    parts = {name: getattr(data, name) for name in first}
    return replace(data, **{name: part.take(np.arange(len(part))[: first[name]]) for name, part in parts.items()})


def look(model: VariationalAutoencoder, data: Dataset) -> dict[str, Any]:
    """What a model says of the first test images, against their exact posteriors, in nats.

    KL(q || p(z|x)) and its error for each of FOLLOWED; of the first, log p(x) and outlines of p and q, lists of points.
    """
    model = model.eval().requires_grad_(False)
    x = data.test.pixels(slice(0, FOLLOWED))
    inference = model.infer(x)
    engine = PosteriorEngine(model.generative, nodes=NODES, tolerance=TOLERANCE)
    posteriors = engine.posteriors(x, near=places(inference))
    gaps = [exact.kl_from(inference.q[k]) for k, exact in enumerate(posteriors)]
    return {
        "gaps": [gap.value for gap in gaps],
        "errors": [gap.error for gap in gaps],
        "log_evidence": posteriors[0].log_evidence,
        "exact": _outlines(posteriors[0]),
        "q": [_rounded(line) for mass, lines in outlines(inference.q[0]).items() if mass in MASSES for line in lines],
    }


def _outlines(exact: ExactPosterior) -> list[list[list[float]]]:
    """The edges of the regions that hold MASSES."""
    reach = REACH * np.sqrt(np.diag(exact.covariance))
    first, second = (np.linspace(m - r, m + r, SIDE) for m, r in zip(exact.mean, reach, strict=True))
    lines = contour_generator(first, second, exact.log_density(first, second).T).lines
    return [_rounded(line) for level in exact.hdr_levels(MASSES) for line in lines(float(level))]


def _rounded(line: np.ndarray) -> list[list[float]]:
    return np.round(line, 4).tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
