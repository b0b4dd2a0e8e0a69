"""GPVAE and exact two-dimensional posteriors for variational autoencoders (nats throughout).

The names below are what most programs need; each is imported when it is first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "load_dataset": "data",
    "InputError": "errors",
    "GenerativeModel": "generative",
    "GaussianLikelihood": "generative",
    "BernoulliLikelihood": "generative",
    "METHODS": "inference",
    "ModelConfig": "models",
    "build": "models",
    "PosteriorEngine": "exact",
    "ExactPosterior": "exact",
    "DiagonalGaussian": "distributions",
    "FullGaussian": "distributions",
    "Mixture": "distributions",
    "Posterior": "distributions",
    "judge": "diagnostics.judgement",
    "fit": "training.fit",
    "TrainingConfig": "training.fit",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
