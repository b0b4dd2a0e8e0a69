"""Exact two-dimensional posteriors: PosteriorEngine(model).posterior(x)."""

from gpvae_core.posterior.divergences import Density, Estimate
from gpvae_core.posterior.engine import PosteriorEngine
from gpvae_core.posterior.exact import ExactPosterior
from gpvae_core.posterior.modes import Mode

__all__ = ["Density", "Estimate", "ExactPosterior", "Mode", "PosteriorEngine"]
