"""What is said of one image: the numbers that the CLI prints and the app shows, from one place."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpvae_core.inference.base import Encoding
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.posterior import ExactPosterior, PosteriorEngine
from gpvae_core.posterior.best_gaussian import GaussianFit, best_gaussians
from gpvae_core.posterior.divergences import Gaussian, centre_and_frame, elbos, gap


@dataclass(frozen=True)
class Judged:
    """One image: its exact posterior, its best diagonal Gaussian, and every number of both encoders against them."""

    exact: ExactPosterior
    fit: GaussianFit
    report: dict[str, Any]


def posterior_report(engine: PosteriorEngine, model: VariationalAutoencoder, x: Tensor) -> dict[str, Any]:
    """Exact posterior of x (1, C, H, W) against the base and the marginalised encoder, in nats; JSON-ready."""
    (judged,) = judge(engine, x, encode(model, x))
    return judged.report


def judge(engine: PosteriorEngine, x: Tensor, encoding: Encoding) -> list[Judged]:
    """Each image of x (B, C, H, W), whose encoding is there already; all of them share decodes."""
    posteriors = engine.posteriors(x, near=encoding.means)
    fits = best_gaussians(posteriors, [[encoding.base[k]] for k in range(len(posteriors))], diagonal=True)
    rows = gap_rows(posteriors, encoding)
    half_width = float(engine.grid.axis[-1])
    return [
        Judged(exact, fit, _report(exact, fit, encoding.base[k], encoding.marginal[k], row, half_width))
        for k, (exact, fit, row) in enumerate(zip(posteriors, fits, rows, strict=True))
    ]


def _report(
    exact: ExactPosterior,
    fit: GaussianFit,
    base: Gaussian,
    marginal: Gaussian,
    row: Mapping[str, float | None],
    half_width: float,
) -> dict[str, Any]:
    """``row``, of ``gap_rows``, with the best Gaussian, the reverse KLs, all moments and what lies outside the box."""
    kl_best = gap(exact, fit.elbo)
    report = {**row, "elbo_best": fit.elbo.value, "kl_best": kl_best.value, "kl_best_error": kl_best.error}
    report |= gap_split(exact, fit, row)
    for name, q in (("base", base), ("marginal", marginal), ("best", fit.q)):
        backward = exact.kl_to(q)
        report |= {f"kl_to_{name}": backward.value, f"kl_to_{name}_error": backward.error}
        mean, frame = centre_and_frame(q)
        report |= {f"{name}_mean": mean.tolist(), f"{name}_std": np.sqrt(np.diag(frame @ frame.T)).tolist()}
    return report | {
        "mean": exact.mean.tolist(),
        "covariance": exact.covariance.tolist(),
        "entropy": exact.entropy,
        "negentropy": exact.negentropy,
        "modes": [mode.location.tolist() for mode in exact.modes],
        "mass_outside_box": exact.mass_outside(half_width),
    }


@torch.no_grad()
def encode(model: VariationalAutoencoder, images: Tensor) -> Encoding:
    """Both Gaussians and the uncertainty of images (B, C, H, W), by the encoder in float64 on the CPU.

    float32's rounding depends on the batch, and where a KL is 300 nats it moves that KL by 1e-3.
    """
    return deepcopy(model.encoder).cpu().double().encode(images.cpu().double())


def gap_rows(posteriors: Sequence[ExactPosterior], encoding: Encoding) -> list[dict[str, float | None]]:
    """For each image: log p(x), the ELBO and the KL of both encoders with their errors, and U(x)."""
    both = {"base": encoding.base, "marginal": encoding.marginal}
    count = len(posteriors)
    bounds = elbos([*posteriors, *posteriors], [q[k] for q in both.values() for k in range(count)])
    rows: list[dict[str, float | None]] = []
    for k, exact in enumerate(posteriors):
        row: dict[str, float | None] = {
            "log_evidence": exact.log_evidence,
            "log_evidence_error": exact.log_evidence_error,
        }
        for name, bound in zip(both, (bounds[k], bounds[count + k]), strict=True):
            kl = gap(exact, bound)
            row |= {f"elbo_{name}": bound.value, f"kl_{name}": kl.value, f"kl_{name}_error": kl.error}
        score = encoding.uncertainty
        rows.append(row | {"uncertainty": None if score is None else float(score[k])})
    return rows


def gap_split(exact: ExactPosterior, best: GaussianFit, row: Mapping[str, float | None]) -> dict[str, float | None]:
    """The KL of both encoders taken apart, ``row`` being theirs of ``gap_rows`` (Cremer, Li & Duvenaud 2018).

    Approximation gap: log p(x) less the ELBO of the best diagonal Gaussian. Amortization gap: that ELBO less the
    marginalised encoder's (``amortization_gap``) or its base's.
    """
    approximation = gap(exact, best.elbo)
    split: dict[str, float | None] = {
        "approximation_gap": approximation.value,
        "approximation_gap_error": approximation.error,
    }
    for name, suffix in (("marginal", ""), ("base", "_base")):
        elbo, kl_error = row[f"elbo_{name}"], row[f"kl_{name}_error"]
        assert elbo is not None and kl_error is not None
        split[f"amortization_gap{suffix}"] = best.elbo.value - elbo
        split[f"amortization_gap{suffix}_error"] = best.elbo.error + kl_error - exact.log_evidence_error
    return split
