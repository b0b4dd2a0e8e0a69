"""Brute-force truth for 200 test images of a checkpoint: log p(x), ELBOs and modes, float64, without the engine.

    python -m benchmarks.reference CHECKPOINT [--data-dir DIR] [--images 200] [--nodes 2000]

A 2,000 x 2,000 grid over +-4.5 shows where the mass is and which modes hold it; float64 lattices, refined and widened
until doubling either changes the result by less than 1e-4 nats, give the numbers. Takes up to an hour on one core.
Writes benchmarks/results/reference-NAME.json.
"""

import argparse
import json
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.common import RESULTS, hardware, test_images
from gpvae_core.checkpoints import Checkpoint, load_checkpoint, write_atomically
from tests import reference

HALF_WIDTH = 4.5


@torch.no_grad()
def fields(checkpoint: Checkpoint, images: torch.Tensor, axis: np.ndarray) -> np.ndarray:
    """log p(x, z) up to a constant on axis x axis for every image, (N, n, n) in float32: to find the mass with."""
    model, precision = checkpoint.model.generative, float(checkpoint.model.generative.likelihood.std) ** -2
    x = images.flatten(1)
    result = np.empty((len(x), len(axis), len(axis)), np.float32)
    second = torch.tensor(axis, dtype=torch.float32)
    for i, first in enumerate(tqdm(axis, desc="global grid", mininterval=10)):
        z = torch.stack([torch.full_like(second, first), second], 1)
        means = torch.cat([model.decode(chunk).flatten(1) for chunk in z.split(128)])
        score = x @ means.T - 0.5 * (means**2).sum(1)
        result[:, i] = precision * score - 0.5 * (z**2).sum(1)
    return result


def record(checkpoint: Checkpoint, x: torch.Tensor, field: np.ndarray, axis: np.ndarray) -> dict[str, object]:
    """The truth about one image, nats."""
    likelihood = checkpoint.model.generative.likelihood
    pixel = reference.gaussian_pixel(float(np.exp(float(likelihood.log_std))))  # float32's exp would cost 1e-3 nats
    decoder = deepcopy(checkpoint.model.generative.decoder).double()
    log_joint = reference.log_joint_of(decoder, pixel, x.double().numpy())
    boxes = reference.boxes_around(field, axis)
    evidence, change = reference.log_evidence(log_joint, boxes, float(axis[1] - axis[0]))
    values: dict[str, object] = {"log_evidence": evidence, "log_evidence_change": change}
    with torch.no_grad():
        encoders = {"base": checkpoint.model.encoder.base(x)[0], "marginal": checkpoint.model.encoder(x)[0]}
    for name, q in encoders.items():
        elbo, elbo_change = reference.elbo(log_joint, q.mean.double().numpy(), q.std.double().numpy())
        values |= {f"elbo_{name}": elbo, f"elbo_{name}_change": elbo_change}
        values[f"q_{name}"] = [*q.mean.tolist(), *q.std.tolist()]  # float32's encoder differs from run to run
    modes = [(*z.tolist(), share) for z, share in reference.modes_on_grid(field, axis) if share > 1e-3]
    return values | {"modes": modes}


def main() -> None:
    """Compute, and store after every image: a run that is cut off goes on where it stood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=2000)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    out = RESULTS / f"reference-{checkpoint.name}.json"
    indices, images = test_images(checkpoint, arguments.data_dir, arguments.images)
    report = {"command": f"python -m benchmarks.reference {arguments.checkpoint}", "hardware": hardware()}
    report |= {"digest": checkpoint.digest, "nodes": arguments.nodes, "half_width": HALF_WIDTH}
    rows: list[dict[str, object]] = []
    if out.exists() and json.loads(out.read_text())["digest"] == checkpoint.digest:
        rows = json.loads(out.read_text())["rows"]
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, arguments.nodes)
    field = fields(checkpoint, images[len(rows) :], axis)
    for k in tqdm(range(len(rows), len(images)), desc="images", mininterval=10):
        start = time.perf_counter()
        row = record(checkpoint, images[k : k + 1], field[k - len(images)], axis)
        rows.append({"index": int(indices[k]), **row, "seconds": round(time.perf_counter() - start, 2)})
        write_atomically(out, (json.dumps({**report, "rows": rows}) + "\n").encode())


if __name__ == "__main__":
    main()
