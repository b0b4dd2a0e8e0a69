"""What is said of one image: the numbers that the CLI prints and the app shows, from one place."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from gpvae_core.inference.base import Encoding
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.posterior import ExactPosterior, PosteriorEngine
from gpvae_core.posterior.divergences import elbos, gap


def posterior_report(engine: PosteriorEngine, model: VariationalAutoencoder, x: Tensor) -> dict[str, Any]:
    """Exact posterior of x (1, C, H, W) against the base and the marginalised encoder, in nats; JSON-ready."""
    return describe(engine.posterior(x), model, x)


def describe(exact: ExactPosterior, model: VariationalAutoencoder, x: Tensor) -> dict[str, Any]:
    """``posterior_report`` for a posterior that is already there."""
    encoding = encode(model, x)
    (numbers,) = gap_rows([exact], encoding)
    return numbers | {
        "mean": exact.mean.tolist(),
        "covariance": exact.covariance.tolist(),
        "entropy": exact.entropy,
        "negentropy": exact.negentropy,
        "modes": [mode.location.tolist() for mode in exact.modes],
        "base_mean": encoding.base.mean[0].tolist(),
        "base_std": encoding.base.std[0].tolist(),
        "marginal_mean": encoding.marginal.mean[0].tolist(),
        "marginal_std": encoding.marginal.std[0].tolist(),
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
