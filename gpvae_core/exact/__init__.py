"""Exact two-dimensional posteriors: PosteriorEngine(model).posterior(x)."""

from gpvae_core.exact.divergences import Density, Estimate
from gpvae_core.exact.engine import PosteriorEngine
from gpvae_core.exact.modes import Mode
from gpvae_core.exact.posterior import ExactPosterior

__all__ = ["Density", "Estimate", "ExactPosterior", "Mode", "PosteriorEngine"]
