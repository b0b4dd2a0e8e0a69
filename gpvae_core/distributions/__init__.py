"""Distributions over z: no images, no networks."""

from gpvae_core.distributions.base import Posterior, standard_normal_log_prob
from gpvae_core.distributions.gaussian import DiagonalGaussian, FullGaussian
from gpvae_core.distributions.mixture import Mixture

__all__ = ["DiagonalGaussian", "FullGaussian", "Mixture", "Posterior", "standard_normal_log_prob"]
