"""What is said of one image: the numbers that the CLI prints and the app shows, from one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpvae_core.gaussian import DiagonalGaussian
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


@dataclass(frozen=True)
class Encoding:
    """What an encoder says of a batch: its base and its marginalised Gaussian, and U(x) (B,) or None."""

    base: DiagonalGaussian
    marginal: DiagonalGaussian
    uncertainty: Tensor | None


@torch.no_grad()
def encode(model: VariationalAutoencoder, images: Tensor) -> Encoding:
    """Both Gaussians and the uncertainty of images (B, C, H, W), on the CPU."""
    images = images.to(model.device)
    base, marginal, score = model.encoder.base(images), model.encoder(images), model.encoder.uncertainty(images)
    base, marginal = (DiagonalGaussian(q.mean.cpu(), q.std.cpu()) for q in (base, marginal))
    return Encoding(base, marginal, None if score is None else score.cpu())


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
