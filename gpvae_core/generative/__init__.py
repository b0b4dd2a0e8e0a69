"""The generative model p(z) p(x|z): prior, decoder and likelihood."""

from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from gpvae_core.generative.model import GenerativeModel, Simulation

__all__ = ["BernoulliLikelihood", "GaussianLikelihood", "GenerativeModel", "Likelihood", "Simulation"]
