"""METHODS is the only list of inference methods: name -> encoder class."""

from collections.abc import Callable
from functools import partial

from torch import nn

from gpvae_core.inference.base import Encoder
from gpvae_core.inference.gaussian import GaussianEncoder
from gpvae_core.inference.gp import GPEncoder

METHODS: dict[str, Callable[[Callable[[], nn.Module], int, int], Encoder]] = {
    "vae": GaussianEncoder,
    "vae-3": partial(GaussianEncoder, trunks=3),
    "gpvae": GPEncoder,
    "gpvae-shared": partial(GPEncoder, shared=True),
    "gpvae-unit": partial(GPEncoder, shared=True, unit=True),
}

__all__ = ["METHODS", "Encoder", "GPEncoder", "GaussianEncoder"]
