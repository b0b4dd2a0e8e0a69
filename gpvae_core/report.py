"""What is said of one image: the numbers that the CLI prints and the app shows, from one place."""

from typing import Any

import torch
from torch import Tensor

from gpvae_core.models import VariationalAutoencoder
from gpvae_core.posterior import ExactPosterior, PosteriorEngine


def posterior_report(engine: PosteriorEngine, model: VariationalAutoencoder, x: Tensor) -> dict[str, Any]:
    """Exact posterior of x (1, C, H, W) against the base and the marginalised encoder, in nats; JSON-ready."""
    return describe(engine.posterior(x), model, x)


@torch.no_grad()
def describe(exact: ExactPosterior, model: VariationalAutoencoder, x: Tensor) -> dict[str, Any]:
    """``posterior_report`` for a posterior that is already there."""
    base, marginal = model.encoder.base(x)[0], model.encoder(x)[0]
    elbo_base, elbo_marginal = exact.elbo(base), exact.elbo(marginal)
    score = model.encoder.uncertainty(x)
    return {
        "log_evidence": exact.log_evidence,
        "log_evidence_error": exact.log_evidence_error,
        "kl_base": exact.log_evidence - elbo_base.value,
        "kl_base_error": exact.log_evidence_error + elbo_base.error,
        "kl_marginal": exact.log_evidence - elbo_marginal.value,
        "kl_marginal_error": exact.log_evidence_error + elbo_marginal.error,
        "elbo_base": elbo_base.value,
        "elbo_marginal": elbo_marginal.value,
        "uncertainty": None if score is None else float(score),
        "mean": exact.mean.tolist(),
        "covariance": exact.covariance.tolist(),
        "entropy": exact.entropy,
        "negentropy": exact.negentropy,
        "modes": [mode.location.tolist() for mode in exact.modes],
        "base_mean": base.mean.tolist(),
        "base_std": base.std.tolist(),
        "marginal_mean": marginal.mean.tolist(),
        "marginal_std": marginal.std.tolist(),
    }
