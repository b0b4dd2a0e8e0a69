"""GPVAE and exact two-dimensional posteriors for variational autoencoders (nats throughout).

    import gpvae_core as gp

The names in ``__all__`` are the library's public face; each is imported when it is first asked for. They stay from
one minor version to the next, and CHANGELOG.md says what changes. Everything else may move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpvae_core.extras import extras

if TYPE_CHECKING:
    from gpvae_core.api import best_gaussian as best_gaussian
    from gpvae_core.api import dataset as dataset
    from gpvae_core.api import judge as judge
    from gpvae_core.api import load as load
    from gpvae_core.api import methods as methods
    from gpvae_core.api import posterior as posterior
    from gpvae_core.api import references as references
    from gpvae_core.api import train as train
    from gpvae_core.arviz import to_arviz as to_arviz
    from gpvae_core.checkpoints import Checkpoint as Checkpoint
    from gpvae_core.data import Dataset as Dataset
    from gpvae_core.diagnostics.judgement import Judged as Judged
    from gpvae_core.diagnostics.references import ReferencePosterior as ReferencePosterior
    from gpvae_core.distributions import DiagonalGaussian as DiagonalGaussian
    from gpvae_core.distributions import FullGaussian as FullGaussian
    from gpvae_core.distributions import Mixture as Mixture
    from gpvae_core.distributions import Posterior as Posterior
    from gpvae_core.errors import InputError as InputError
    from gpvae_core.exact import Estimate as Estimate
    from gpvae_core.exact import ExactPosterior as ExactPosterior
    from gpvae_core.exact import PosteriorEngine as PosteriorEngine
    from gpvae_core.exact.best_gaussian import GaussianFit as GaussianFit
    from gpvae_core.generative import BernoulliLikelihood as BernoulliLikelihood
    from gpvae_core.generative import GaussianLikelihood as GaussianLikelihood
    from gpvae_core.generative import GenerativeModel as GenerativeModel

__version__ = "0.2.0"

_HOMES = {
    **dict.fromkeys(
        ("load", "dataset", "methods", "posterior", "best_gaussian", "judge", "train", "references"), "api"
    ),
    "to_arviz": "arviz",
    "Checkpoint": "checkpoints",
    "Dataset": "data",
    "Judged": "diagnostics.judgement",
    "ReferencePosterior": "diagnostics.references",
    **dict.fromkeys(("DiagonalGaussian", "FullGaussian", "Mixture", "Posterior"), "distributions"),
    "InputError": "errors",
    **dict.fromkeys(("Estimate", "ExactPosterior", "PosteriorEngine"), "exact"),
    "GaussianFit": "exact.best_gaussian",
    **dict.fromkeys(("BernoulliLikelihood", "GaussianLikelihood", "GenerativeModel"), "generative"),
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extras():
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
