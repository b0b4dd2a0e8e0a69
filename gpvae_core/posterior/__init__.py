"""Exact two-dimensional posteriors: PosteriorEngine(model).posterior(x)."""

from gpvae_core.posterior.exact import Estimate, ExactPosterior, PosteriorEngine
from gpvae_core.posterior.modes import Mode

__all__ = ["Estimate", "ExactPosterior", "Mode", "PosteriorEngine"]
