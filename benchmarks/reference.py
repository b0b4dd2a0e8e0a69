"""Brute-force truth for test images of a checkpoint: log p(x), ELBOs and modes, float64, without the engine.

    python -m benchmarks.reference CHECKPOINT [--data-dir DIR] [--images 60] [--outside 0] [--nodes 1801]

A grid of 1,801 x 1,801 nodes over +-13.5, three times as wide as the engine's box, shows where the mass is and which
modes hold it; float64 lattices, refined and widened until doubling either changes the result by less than 1e-4 nats,
give the numbers. The images are spread evenly over the test set; ``--outside`` adds the first so many that the shipped
table puts outside the engine's box. Up to an hour on one core. Writes benchmarks/results/reference-NAME.json.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, command, evenly, hardware, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.files import write_atomically
from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood
from tests import reference

HALF_WIDTH, NODES = 13.5, 1801


def linear_form(
    likelihood: GaussianLikelihood | BernoulliLikelihood, means: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(eta, A) of log p(x | mean) = x . eta - A + a constant, for pixel means (n, P)."""
    if isinstance(likelihood, GaussianLikelihood):
        eta = means / torch.exp(2 * likelihood.log_std)
        return eta, 0.5 * (eta * means).sum(1)
    p = means.clamp(likelihood.CLAMP, 1 - likelihood.CLAMP)
    return torch.logit(p), -torch.log1p(-p).sum(1)


@torch.no_grad()
def grid_rows(model: GenerativeModel, images: torch.Tensor, axis: np.ndarray) -> Iterator[torch.Tensor]:
    """log p(x, z) up to a constant on axis x axis, one first coordinate after another, (N, n) in float32."""
    x, second = images.flatten(1), torch.tensor(axis, dtype=torch.float32)
    for first in tqdm(axis, desc="global grid", mininterval=10):
        z = torch.stack([torch.full_like(second, first), second], 1)
        means = torch.cat([model.decode(chunk).flatten(1) for chunk in z.split(128)])
        eta, normaliser = linear_form(model.likelihood, means)
        yield x @ eta.T - normaliser - 0.5 * (z**2).sum(1)


def record(checkpoint: Checkpoint, x: torch.Tensor, field: np.ndarray, axis: np.ndarray) -> dict[str, object]:
    """The truth about one image, nats."""
    log_joint = reference.log_joint_for(checkpoint.model.generative, x)
    boxes = reference.boxes_around(field, axis)
    evidence, change = reference.log_evidence(log_joint, boxes, float(axis[1] - axis[0]))
    values: dict[str, object] = {"log_evidence": evidence, "log_evidence_change": change}
    with torch.no_grad():
        encoders = {key: q[0] for key, q in checkpoint.model.infer(x).stages.items()}
    for name, q in encoders.items():
        elbo, elbo_change = reference.elbo(log_joint, q.mean.double().numpy(), q.std.double().numpy())
        values |= {f"elbo_{name}": elbo, f"elbo_{name}_change": elbo_change}
        values[f"q_{name}"] = [*q.mean.tolist(), *q.std.tolist()]  # float32's encoder differs from run to run
    modes = [(*z.tolist(), share) for z, share in reference.modes_on_grid(field, axis) if share > 1e-3]
    return values | {"modes": modes}


def chosen(checkpoint: Checkpoint, total: int, count: int, outside: int) -> np.ndarray:
    """The numbers of ``count`` images spread evenly, and the first ``outside`` that the table puts outside the box."""
    numbers = evenly(total, count)
    if not outside:
        return numbers
    beyond = stored_columns(checkpoint, checkpoint.training["dataset"], total)["mass_outside_box"] > 0.5
    return np.concatenate([numbers, np.setdiff1d(np.flatnonzero(beyond), numbers)[:outside]])


def main() -> None:
    """Compute, and store after every image: a run that is cut off goes on where it stood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--outside", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=NODES)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    test = dataset_of(checkpoint, None, arguments.data_dir).test
    numbers = chosen(checkpoint, len(test), arguments.images, arguments.outside)
    images = test.pixels(numbers)
    out = RESULTS / f"reference-{checkpoint.name}.json"
    report = {"command": command("reference", arguments.data_dir), "hardware": hardware()}
    report |= {"digest": checkpoint.digest, "nodes": arguments.nodes, "half_width": HALF_WIDTH}
    rows: list[dict[str, object]] = []
    if out.exists() and json.loads(out.read_text())["digest"] == checkpoint.digest:
        rows = json.loads(out.read_text())["rows"]
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, arguments.nodes)
    left = range(len(rows), len(images))
    fields = torch.stack(list(grid_rows(checkpoint.model.generative, images[left.start :], axis)), 1).numpy()
    for k, field in zip(tqdm(left, desc="images", mininterval=10), fields, strict=True):
        start = time.perf_counter()
        row = record(checkpoint, images[k : k + 1], field, axis)
        rows.append({"index": int(numbers[k]), **row, "seconds": round(time.perf_counter() - start, 2)})
        write_atomically(out, (json.dumps({**report, "rows": rows}) + "\n").encode())


if __name__ == "__main__":
    told(main)
