"""What the paper says of GPVAE, held against exact posteriors.

    python -m benchmarks.claims CHECKPOINT ... [--data-dir DIR] [--images 1000] [--of-train 1000]

For each checkpoint (a name or a folder that `train` wrote), on test images spread evenly, or all of them, and on
training images: exact KL of base and marginalised q, exact log p(x), their ELBOs, IWAE-100 less log p(x). Is f the
error: for the exact best diagonal Gaussian (m*, s*) of each test image, the share of (m* - b)^2 that mu'psi_m takes
away, and the mean of (m* - b - mu'psi_m)^2 / V(f), which is 1 if V(f) is the error's variance; h likewise. Is (12)
good enough: KL of the exact mixture (11) to it, and what it shifts in E log p(x, z). Coverage: how often the true z
of 5,000 simulated images lies in q's own 50, 80 and 95 % regions. Intervals: mean +- 1.96 standard errors over
images. Results, one record a checkpoint, go into benchmarks/results/claims.json; per-image KLs into
runs/claims-NAME.npz, for paired differences.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from benchmarks.common import command, evenly, hardware, store_part, told
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import ImageSet, dataset_of
from gpvae_core.diagnostics.judgement import judge
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact import ExactPosterior, PosteriorEngine
from gpvae_core.exact.best_gaussian import GaussianFit, best_gaussians
from gpvae_core.exact.divergences import elbos
from gpvae_core.exact.expectations import hermite
from gpvae_core.inference.gp import Correction, has_process
from gpvae_core.training.evaluation import evaluate_iwae

BATCH = 50
FITS = 500  # images whose best Gaussian is compared with f and h
MIXTURES = 100  # images on which (11) is integrated
SIMULATED = 5000
MASSES = (0.5, 0.8, 0.95)
Table = dict[str, np.ndarray]


def gaps(checkpoint: Checkpoint, engine: PosteriorEngine, images: ImageSet) -> Table:
    """log p(x) and both KLs of each image, and IWAE-100, in nats."""
    rows = []
    for start in tqdm(range(0, len(images), BATCH), desc=checkpoint.name):
        x = images.pixels(slice(start, start + BATCH))
        inference = checkpoint.model.infer(x)
        rows += [judged.row() for judged in judge(engine, x, inference, families=())]
    first, *_, last = [*inference.stages, *inference.stages]  # of a plain VAE the same
    names = {"kl_base": f"kl_{first}", "kl_marginal": f"kl_{last}"}
    names |= {key: key for key in ("log_evidence", "log_evidence_error")}
    table = {name: np.array([row[key] for row in rows]) for name, key in names.items()}
    return table | {"iwae": evaluate_iwae(checkpoint.model, images, samples=100, seed=0).double().numpy()}


def mean(values: ArrayLike) -> list[float]:
    """Mean and the half-width of its 95 % interval."""
    values = np.asarray(values, dtype=float)
    return [round(float(values.mean()), 4), round(float(1.96 * values.std(ddof=1) / len(values) ** 0.5), 4)]


def summary(table: Table) -> dict[str, object]:
    """The table's figures, in nats."""
    record: dict[str, object] = {"images": len(table["log_evidence"])}
    for q in ("base", "marginal"):
        kl = table[f"kl_{q}"]
        record[f"kl_{q}"] = {
            "median": round(float(np.median(kl)), 4),
            "mean": mean(kl),
            "p90": round(float(np.quantile(kl, 0.9)), 4),
        }
        record[f"elbo_{q}"] = mean(table["log_evidence"] - kl)
    return record | {
        "log_evidence": mean(table["log_evidence"]),
        "gain": mean(table["kl_base"] - table["kl_marginal"]),
        "made_worse": round(float((table["kl_base"] < table["kl_marginal"]).mean()), 4),
        "iwae_less_log_evidence": mean(table["iwae"] - table["log_evidence"]),
        "worst_error": float(table["log_evidence_error"].max()),
    }


# --- is f the error? --------------------------------------------------------------------------------------------


def errors(correction: Correction, fits: list[GaussianFit]) -> dict[str, object]:
    """What mu'psi_m explains of m* - b and eta'psi_s of s* - c, and whether V(f), V(h) are their variances."""
    best = DiagonalGaussian(
        torch.stack([fit.q.mean for fit in fits]), torch.stack([fit.q.scale_tril.diagonal() for fit in fits])
    )
    pairs = {
        "f": (best.mean - correction.base.mean, correction.mean_f, correction.var_f),
        "h": (best.std - correction.base.std, correction.mean_h, correction.var_h),
    }
    record: dict[str, object] = {}
    for name, (error, predicted, variance) in pairs.items():
        left = error - predicted
        ratio = (left**2 / variance).flatten().numpy()
        record[name] = {
            "r_squared": round(float(1 - (left**2).sum() / (error**2).sum()), 5),
            "correlation": _correlation(error.flatten().numpy(), predicted.flatten().numpy()),
            "rms_error": float((error**2).mean().sqrt()),
            "rms_predicted": float((predicted**2).mean().sqrt()),
            "squared_error_over_variance": {"mean": mean(ratio), "median": round(float(np.median(ratio)), 3)},
        }
    return record


def _correlation(error: np.ndarray, predicted: np.ndarray) -> float | None:
    """Pearson's; None where nothing is predicted: a settled GP on a plain VAE has mean weights of zero."""
    return round(float(np.corrcoef(error, predicted)[0, 1]), 4) if predicted.any() else None


def mixture(correction: Correction, posteriors: list[ExactPosterior]) -> dict[str, object]:
    """The mixture (11), W and U integrated exactly, against its moment-matched Gaussian (12)."""
    q = correction.marginal()
    kl = [sum(_mixture_kl(correction, k, j) for j in range(q.mean.shape[1])) for k in range(len(posteriors))]
    nodes, weights = hermite(5)
    shifts = []
    for k, exact in enumerate(posteriors):
        h = correction.mean_h[k] + correction.var_h[k].sqrt() * torch.tensor(nodes)
        stds = torch.sqrt((correction.base.std[k] + h) ** 2 + correction.var_f[k])
        parts = [DiagonalGaussian(q.mean[k], std) for std in stds]
        values = [bound.value for bound in elbos([exact] * (len(parts) + 1), [*parts, q[k]])]
        fits = np.array(values) - np.array([float(part.entropy()) for part in [*parts, q[k]]])
        shifts.append(float(weights @ fits[:-1] - fits[-1]))
    return {"images": len(kl), "kl": mean(kl), "worst_kl": float(max(kl)), "shift": mean(shifts)}


def _mixture_kl(correction: Correction, k: int, j: int) -> float:
    """KL of dimension j's mixture over h ~ N(eta'psi, V(h)) to the Gaussian of the same moments."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    weights = weights / weights.sum()
    h = float(correction.mean_h[k, j]) + float(correction.var_h[k, j]) ** 0.5 * nodes
    stds = np.sqrt((float(correction.base.std[k, j]) + h) ** 2 + float(correction.var_f[k, j]))
    std = float(correction.marginal().std[k, j])
    z = np.linspace(-10 * std, 10 * std, 8001)
    log_parts = -0.5 * (z / stds[:, None]) ** 2 - np.log(stds[:, None])
    log_mixture = np.logaddexp.reduce(log_parts + np.log(weights)[:, None], axis=0)
    log_gaussian = -0.5 * (z / std) ** 2 - np.log(std)
    return float(np.trapezoid(np.exp(log_mixture) * (log_mixture - log_gaussian), z) / np.sqrt(2 * np.pi))


# --- coverage ---------------------------------------------------------------------------------------------------


def coverage(checkpoint: Checkpoint) -> dict[str, object]:
    """Share of simulated images whose true z lies in the regions of 50, 80, 95 % of each q."""
    simulation = checkpoint.model.generative.simulate(SIMULATED, generator=torch.Generator().manual_seed(0))
    encoding = checkpoint.model.infer(simulation.images)
    record: dict[str, object] = {"images": SIMULATED}
    for name, q in (("base", encoding.start), ("marginal", encoding.q)):
        squared = (((simulation.latents - q.mean) / q.std) ** 2).sum(-1).numpy()
        record[name] = {f"{mass:.0%}": round(float((squared < -2 * np.log1p(-mass)).mean()), 4) for mass in MASSES}
    return record


def measure(
    checkpoint: Checkpoint, data_dir: Path | None, images: int, of_train: int, tolerance: float
) -> tuple[dict[str, object], Table]:
    """Everything of one checkpoint."""
    data, engine = dataset_of(checkpoint, None, data_dir), checkpoint.engine(tolerance=tolerance)
    test = gaps(checkpoint, engine, data.test.take(evenly(len(data.test), images)))
    record: dict[str, object] = {
        "method": checkpoint.config.method,
        "training": checkpoint.training,
        "digest": checkpoint.digest,
        "test": summary(test),
        "train": summary(gaps(checkpoint, engine, data.split("train").take(evenly(len(data.train), of_train)))),
        "coverage": coverage(checkpoint),
    }
    encoder = checkpoint.model.encoder
    if has_process(encoder):
        x = data.test.pixels(evenly(len(data.test), FITS))
        with torch.no_grad():
            correction = encoder.double().correction(x.double())
        encoder.float()
        batches = zip(x.split(BATCH), correction.base.mean.split(BATCH), strict=True)
        posteriors = [p for images, means in batches for p in engine.posteriors(images, near=means[:, None])]
        fits = best_gaussians(posteriors, [[correction.base[k]] for k in range(len(x))], diagonal=True)
        record |= {"error": errors(correction, fits), "mixture": mixture(correction, posteriors[:MIXTURES])}
        alive = correction.variance() / correction.marginal().std ** 2
        record["gp_variance_over_q_variance"] = mean(alive.flatten().numpy())
        record["var_f_over_q_variance"] = mean(correction.share_of_f().flatten().numpy())
    return record, test


def main() -> None:
    """Measure each checkpoint and keep its record beside the others'."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--of-train", type=int, default=1000)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of log p(x), in nats")
    arguments = parser.parse_args()
    header = {"command": command("claims", arguments.data_dir), "hardware": hardware()}
    for name in arguments.checkpoints:
        checkpoint = load_checkpoint(name)
        record, test = measure(
            checkpoint, arguments.data_dir, arguments.images, arguments.of_train, arguments.tolerance
        )
        np.savez(Path("runs") / f"claims-{checkpoint.name}.npz", **test)
        store_part("claims.json", checkpoint.name, header | record)


if __name__ == "__main__":
    told(main)
