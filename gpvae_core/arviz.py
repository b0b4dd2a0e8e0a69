"""Exact draws in ArviZ's own form: a reference for samplers and for approximate inference; needs the extra arviz."""

from typing import Any

import arviz_base
import numpy as np

import gpvae_core
from gpvae_core.exact import ExactPosterior


def to_arviz(posterior: ExactPosterior, *, draws: int = 1000, chains: int = 4, seed: int = 0) -> Any:
    """Independent draws from p(z|x) as an ArviZ ``DataTree``; needs the extra ``arviz``.

    Args:
        posterior: From ``gpvae_core.posterior``.
        draws: In each chain.
        chains: Independent ones, so that R-hat and effective sample sizes can be taken as of any sampler.
        seed: Of the draws.

    Returns:
        A ``DataTree`` with z (chain, draw, latent) in the group ``posterior``, and ``lp`` = log p(z|x) in nats in
        ``sample_stats``. Its attributes hold log p(x) with its error, and ``sampling_error``: how far the law of the
        draws may be from p(z|x), in total variation.

    Raises:
        InputError: The extra is not installed.
    """
    z = posterior.sample(chains * draws, generator=np.random.default_rng(seed))
    groups: dict[str, dict[str, Any]] = {
        "posterior": {"z": z.reshape(chains, draws, 2)},
        "sample_stats": {"lp": posterior.log_prob(z).reshape(chains, draws)},
    }
    about = {
        "inference_library": "gpvae_core",
        "inference_library_version": gpvae_core.__version__,
        "log_evidence": posterior.log_evidence,
        "log_evidence_error": posterior.log_evidence_error,
        "sampling_error": posterior.sampling_error,
    }
    return arviz_base.from_dict(groups, dims={"z": ["latent"]}, attrs={"posterior": about})
