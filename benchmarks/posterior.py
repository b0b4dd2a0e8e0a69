"""The exact engine measured: accuracy, speed, throughput, calibration, best Gaussians. One section at a time.

    python -m benchmarks.posterior SECTION CHECKPOINT [--data-dir DIR] [--images N]

Sections: accuracy (needs benchmarks.reference first), hills (of a shipped checkpoint), speed, calibration, gaussians,
throughput (a whole test set). Each one's figures go with command and hardware into
benchmarks/results/posterior-NAME.json.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from scipy.stats import binom
from tqdm import tqdm

from benchmarks.common import RESULTS, Figures, command, evenly, hardware, store_part, test_images, told
from benchmarks.posterior_speed import speed
from benchmarks.reference import HALF_WIDTH, NODES, grid_rows
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import dataset_of
from gpvae_core.diagnostics.judgement import places
from gpvae_core.diagnostics.stored import stored_columns
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact import ExactPosterior
from gpvae_core.exact.best_gaussian import best_gaussians
from gpvae_core.exact.divergences import elbos
from gpvae_core.exact.engine import HALF_WIDTH as BOX
from gpvae_core.exact.modes import DIP
from gpvae_core.tables import read_table
from tests import reference

MASSES = (0.5, 0.8, 0.95)
ALIKE = 0.02  # nats within which two ways to log p(x) count as the same: the shipped tables are computed to 0.01
AROUND = 12  # nodes to each side of a grid's summit that are looked at again


def in_batches(checkpoint: Checkpoint, images: torch.Tensor, size: int = 64) -> list[ExactPosterior]:
    """Exact posteriors to the engine's own tolerance, sought where the encoder puts mass too."""
    engine, parts = checkpoint.engine(), tqdm(images.split(size), desc="posteriors", mininterval=10)
    return [p for part in parts for p in engine.posteriors(part, near=places(checkpoint.model.infer(part)))]


# --- accuracy -------------------------------------------------------------------------------------------------


def accuracy(source: str, data_dir: Path | None, count: int) -> Figures:
    """Log evidence, both KLs, HDR and modes against benchmarks.reference, on the images that it holds."""
    checkpoint = load_checkpoint(source)
    rows = json.loads((RESULTS / f"reference-{checkpoint.name}.json").read_text())["rows"]
    images = dataset_of(checkpoint, None, data_dir).test.pixels(np.array([row["index"] for row in rows]))
    posteriors = in_batches(checkpoint, images)
    stages = [key.removeprefix("q_") for key in rows[0] if key.startswith("q_")]  # a plain VAE has one
    pairs = {name: [_gaussian(row[f"q_{name}"]) for row in rows] for name in stages}
    outside = sum(p.mass_outside(BOX) > 0.5 for p in posteriors)
    figures: Figures = {"images": len(rows), "outside_the_box": outside}
    truth = np.array([row["log_evidence"] for row in rows])
    found = np.array([p.log_evidence for p in posteriors])
    own = np.array([p.log_evidence_error for p in posteriors])
    figures["log_evidence"] = _compare(found - truth, own, [row["log_evidence_change"] for row in rows])
    for name, qs in pairs.items():
        bounds = elbos(posteriors, qs)
        error = found - [b.value for b in bounds] - (truth - [row[f"elbo_{name}"] for row in rows])
        change = [row["log_evidence_change"] + row[f"elbo_{name}_change"] for row in rows]
        figures[f"kl_{name}"] = _compare(error, own + [b.error for b in bounds], change)
    figures["modes_above_0.1_percent"] = sum(len(_inner(row)) for row in rows)
    figures["modes_missed"] = sum(
        _missed(checkpoint, images[k : k + 1], row, posteriors[k]) for k, row in enumerate(rows)
    )
    return figures


def _gaussian(numbers: list[float]) -> DiagonalGaussian:
    return DiagonalGaussian(torch.tensor(numbers[:2]).double(), torch.tensor(numbers[2:]).double())


def _compare(error: np.ndarray, reported: np.ndarray, reference_change: list[float]) -> Figures:
    """Largest and median error, and how often the reported error covers it, the reference's own uncertainty added."""
    size = np.abs(error)
    return {
        "max_error": float(size.max()),
        "median_error": float(np.median(size)),
        "max_reported": float(reported.max()),
        "covered": float((size <= reported + reference_change).mean()),
        "covered_without_reference_change": float((size <= reported).mean()),
    }


def _inner(row: dict[str, list[list[float]]]) -> list[list[float]]:
    """The reference's modes that its grid's edge did not make."""
    return [mode for mode in row["modes"] if max(abs(mode[0]), abs(mode[1])) < 0.999 * HALF_WIDTH]


def _missed(
    checkpoint: Checkpoint, x: torch.Tensor, row: dict[str, list[list[float]]], posterior: ExactPosterior
) -> int:
    """Reference modes farther than a standard deviation from every mode found; a ridge's aliases climb first.

    Modes with no dip of DIP nats between them are one to the engine.
    """
    missed = 0
    for mode in _inner(row):
        z = np.array(mode[:2])
        if min(m.distance(z) for m in posterior.modes) > 1:
            log_joint = reference.log_joint_for(checkpoint.model.generative, x)
            z = minimize(lambda p: -log_joint(p[None])[0], z, method="Nelder-Mead", options={"xatol": 1e-6}).x  # noqa: B023
            apart = min(m.distance(z) for m in posterior.modes) > 1
            missed += int(apart and all(_dip(log_joint, z, m.location) > DIP for m in posterior.modes))
    return missed


def _dip(log_joint: reference.LogJoint, low: np.ndarray, high: np.ndarray) -> float:
    """How far log p(x, z) falls below its value at ``low`` on the straight way to ``high``, in nats."""
    values = log_joint(low + np.linspace(0, 1, 401)[:, None] * (high - low))
    return float(values[0] - values.min())


# --- hills ----------------------------------------------------------------------------------------------------


def hills(source: str, data_dir: Path | None, count: int) -> Figures:
    """Log p(x) by one grid over +-13.5 against the shipped table: a hill that the engine missed makes it larger.

    Where it is larger, what lies around the grid's summit is integrated on a finer lattice: of a posterior not wider
    than the grid's step the grid alone can make too much.
    """
    checkpoint = load_checkpoint(source)
    model, test = checkpoint.model.generative, dataset_of(checkpoint, None, data_dir).test
    numbers = evenly(len(test), count)
    images = test.pixels(numbers)
    axis = np.linspace(-HALF_WIDTH, HALF_WIDTH, NODES)
    step = float(axis[1] - axis[0])
    top, mass = torch.full((len(images),), -torch.inf), torch.zeros(len(images))
    summit = np.zeros((len(images), 2))
    for first, row in zip(axis, grid_rows(model, images, axis), strict=True):
        height, second = row.max(1)
        risen = (height > top).numpy()
        summit[risen] = np.stack([np.full(risen.sum(), first), axis[second.numpy()[risen]]], 1)
        level = torch.maximum(top, height)
        mass = mass * torch.exp(top - level) + torch.exp(row - level[:, None]).sum(1)
        top = level
    heights = [reference.log_joint_for(model, x)(z[None])[0] for x, z in zip(images[:, None], summit, strict=True)]
    evidence = np.array(heights) + np.log(mass.double().numpy()) + 2 * np.log(step)
    columns = stored_columns(checkpoint, checkpoint.training["dataset"], len(test))
    more = evidence - columns["log_evidence"][numbers]
    larger = np.flatnonzero(more > ALIKE)
    for k in larger:
        more[k] += _refinement(reference.log_joint_for(model, images[k : k + 1]), summit[k], step, evidence[k])
    return {
        "images": len(images),
        "nodes": len(axis),
        "outside_the_box": int((columns["mass_outside_box"][numbers] > 0.5).sum()),
        "refined": len(larger),
        "largest_deficit": float(more.max()),
        f"deficit_above_{ALIKE:g}": int((more > ALIKE).sum()),
        "median_difference": float(np.median(np.abs(more))),
        "worst_image": int(numbers[more.argmax()]),
    }


def _refinement(log_joint: reference.LogJoint, summit: np.ndarray, step: float, evidence: float) -> float:
    """What the grid's log p(x) gains where its nodes around ``summit`` give way to a lattice five times as fine."""
    axis = step * np.arange(-AROUND, AROUND + 1)
    nodes = summit + np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    coarse = logsumexp(log_joint(nodes)) + 2 * np.log(step)
    fine = reference.log_integral(log_joint, [reference.square(summit, (AROUND + 0.5) * step)], step / 5)
    return float(np.log1p(np.exp(fine - evidence) - np.exp(coarse - evidence)))


# --- calibration ----------------------------------------------------------------------------------------------


def calibration(source: str, data_dir: Path | None, count: int) -> Figures:
    """How often the exact regions hold the true z of images drawn from the model itself, floats and unclipped."""
    checkpoint = load_checkpoint(source)
    model = checkpoint.model.generative
    simulation = model.simulate(count, generator=torch.Generator().manual_seed(0))
    posteriors = in_batches(checkpoint, simulation.images)
    inside = np.zeros(len(MASSES))
    for posterior, z in zip(posteriors, simulation.latents.double().numpy(), strict=True):
        inside += posterior.log_prob(z[None])[0] > posterior.hdr_levels(MASSES)
    return {
        "images": count,
        "seed": 0,
        "max_log_evidence_error": max(p.log_evidence_error for p in posteriors),
        "regions": [
            {
                "mass": m,
                "held": n / count,
                "binomial_p": float(2 * min(binom(count, m).cdf(n), binom(count, m).sf(n - 1))),
            }
            for m, n in zip(MASSES, inside, strict=True)
        ],
    }


# --- best Gaussians -------------------------------------------------------------------------------------------


def gaussians(source: str, data_dir: Path | None, count: int) -> Figures:
    """The search for the best diagonal Gaussian against 1,000 Adam steps from five starts, ELBOs by the engine."""
    checkpoint = load_checkpoint(source)
    images = test_images(checkpoint, data_dir, count)
    posteriors, encoding = in_batches(checkpoint, images), checkpoint.model.infer(images)
    starts = [[encoding.start[k]] for k in range(count)]
    start = time.perf_counter()
    fits = best_gaussians(posteriors, starts, diagonal=True)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    others = adam(checkpoint, images, encoding.start)
    adam_seconds = time.perf_counter() - start
    found = np.array([fit.elbo.value for fit in fits])
    rivals = np.array([[b.value for b in elbos(posteriors, [q[k] for k in range(count)])] for q in others]).max(0)
    tolerance = np.array([fit.elbo.error for fit in fits])
    return {
        "images": count,
        "seconds": seconds,
        "adam_seconds": adam_seconds,
        "at_least_adam": float((found >= rivals - tolerance).mean()),
        "worst_deficit_nats": float((rivals - found).max()),
        "median_advantage_nats": float(np.median(found - rivals)),
        "steps_from_the_encoder": float(np.median([len(fit.path) - 1 for fit in fits])),
        "median_approximation_gap": float(np.median([p.log_evidence for p in posteriors] - found)),
    }


def adam(checkpoint: Checkpoint, images: torch.Tensor, base: DiagonalGaussian) -> list[DiagonalGaussian]:
    """Mean and log std by Adam on one reparametrised sample a step, 0.02 falling to 0: encoder, 0 and prior draws."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(base.mean.shape, generator=generator) for _ in range(3)]
    narrow = torch.full_like(base.std, 0.05)
    starts = [(base.mean, base.std), (torch.zeros_like(base.mean), narrow), *((z, narrow) for z in drawn)]
    mean = torch.stack([m for m, _ in starts]).float().requires_grad_()
    log_std = torch.stack([s.log() for _, s in starts]).float().requires_grad_()
    optimiser = torch.optim.Adam([mean, log_std], lr=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1e-3, 1000)
    for _ in tqdm(range(1000), desc="Adam", mininterval=10):
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=generator)
        value = sum(
            checkpoint.model.generative.log_joint(x, part).sum()
            for x, part in zip(images.split(50), z.split(50, dim=1), strict=True)
        )
        optimiser.zero_grad()
        (-(value + log_std.sum())).backward()
        optimiser.step()
        schedule.step()
    return [DiagonalGaussian(m, s) for m, s in zip(mean.detach(), log_std.detach().exp(), strict=True)]


# --- throughput -----------------------------------------------------------------------------------------------


def throughput(source: str, data_dir: Path | None, count: int) -> Figures:
    """`gaps` over ``count`` test images as a user runs it, in a process of its own, opening included."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "gaps.parquet"
        options = ["--checkpoint", source, "--limit", str(count), "--out", str(out)]
        data = [] if data_dir is None else ["--data-dir", str(data_dir)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "gpvae_core", "gaps", *options, *data], check=True)
        seconds = time.perf_counter() - start
        rows = read_table(out)
    errors = np.array([row["log_evidence_error"] for row in rows])
    return {
        "images": len(rows),
        "seconds": seconds,
        "ms_per_image": 1e3 * seconds / len(rows),
        "max_log_evidence_error": float(errors.max()),
        "beyond_1e-3": int((errors > 1e-3).sum()),
        "mean_kl_base": float(np.mean([row["kl_base"] for row in rows])),
        "median_kl_base": float(np.median([row["kl_base"] for row in rows])),
        "mean_kl_marginal": float(np.mean([row["kl_marginal"] for row in rows])),
        "median_kl_marginal": float(np.median([row["kl_marginal"] for row in rows])),
        "mass_outside_box_above_half": int(sum(row["mass_outside_box"] > 0.5 for row in rows)),
    }


SECTIONS = {
    "accuracy": (accuracy, 0),
    "hills": (hills, 2000),
    "speed": (speed, 100),
    "calibration": (calibration, 5000),
    "gaussians": (gaussians, 500),
    "throughput": (throughput, 10_000),
}


def main() -> None:
    """Run one section and store its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("checkpoint")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int)
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    section, count = SECTIONS[arguments.section]
    figures = section(arguments.checkpoint, arguments.data_dir, arguments.images or count)
    line = command("posterior", arguments.data_dir)
    record = {"command": line, "hardware": hardware(), "digest": checkpoint.digest, **figures}
    store_part(f"posterior-{checkpoint.name}.json", arguments.section, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    told(main)
