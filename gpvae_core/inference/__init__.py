"""METHODS is the only list of inference methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from gpvae_core.errors import InputError
from gpvae_core.inference.base import Encoder, Inference, NoOptions
from gpvae_core.inference.flows import AutoregressiveEncoder, HouseholderEncoder
from gpvae_core.inference.full_gaussian import FullGaussianEncoder
from gpvae_core.inference.gaussian import GaussianEncoder
from gpvae_core.inference.gp import GPEncoder
from gpvae_core.inference.mixtures import CodedMixtureEncoder, MixtureEncoder, RecursiveMixtureEncoder
from gpvae_core.inference.newton import NewtonEncoder
from gpvae_core.inference.savae import SemiAmortizedEncoder
from gpvae_core.inference.svi import SVIEncoder

MOST_PARTS, MOST = 64, 100_000  # of networks of their own within one encoder; of anything else


def most_of(option: str) -> int:
    """The largest value of a method's option that is a whole number: beyond it memory ends before sense does."""
    return MOST_PARTS if option in ("trunks", "flows", "components") else MOST


@dataclass(frozen=True)
class Method:
    """A method's class, words for it, where it is from, and its options where they are not the class's own."""

    encoder: type[Encoder]
    label: str
    source: str
    options: Any = None

    def configured(self, given: Mapping[str, Any]) -> Any:
        """The options with the ``given`` ones in their place. Raises InputError for one that the method lacks."""
        options = self.encoder.Options() if self.options is None else self.options
        known = {field.name: type(getattr(options, field.name)) for field in fields(options)}
        for name, value in given.items():
            if name not in known:
                cure = f"it has {', '.join(known)}" if known else "leave it out"
                raise InputError(f"this method has no option '{name}'; {cure}")
            if type(value) is not known[name]:
                raise InputError(f"option '{name}' must be of type {known[name].__name__}, but it is {value!r}")
            if type(value) is int and value > most_of(name):
                raise InputError(f"option '{name}' must be at most {most_of(name)}, but it is {str(value)[:20]}")
        return replace(options, **given)

    def build(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, given: Mapping[str, Any] | None = None
    ) -> Encoder:
        """A fresh encoder; see ``Encoder``."""
        return self.encoder(trunk, features, latent_dim, self.configured(given or {}))


UNDAMPED = NewtonEncoder.Options(steps=4, starts=1, draws=0, search=False)
KINGMA, KIM, KIM_PAVLOVIC = "Kingma & Welling 2014", "Kim 2022", "Kim & Pavlovic 2020"
METHODS: dict[str, Method] = {
    "vae": Method(GaussianEncoder, "VAE", KINGMA),
    "vae-3": Method(GaussianEncoder, "VAE with three trunks", KINGMA, GaussianEncoder.Options(trunks=3)),
    "fullcov": Method(FullGaussianEncoder, "VAE with a full covariance", "Cremer, Li & Duvenaud 2018"),
    "me": Method(MixtureEncoder, "mixture encoder", KIM_PAVLOVIC),
    "rme": Method(RecursiveMixtureEncoder, "recursive mixture encoder", KIM_PAVLOVIC),
    "misvae": Method(CodedMixtureEncoder, "mixture by component codes", "Hotti et al. 2024"),
    "hf": Method(HouseholderEncoder, "Householder flow", "Tomczak & Welling 2016"),
    "iaf": Method(AutoregressiveEncoder, "inverse autoregressive flow", "Kingma et al. 2016"),
    "savae": Method(SemiAmortizedEncoder, "semi-amortised VAE", "Kim, Wiseman et al. 2018"),
    "svi": Method(SVIEncoder, "SVI, image by image", "Hoffman et al. 2013"),
    "vlae": Method(NewtonEncoder, "VLAE", "Park, Kim & Kim 2019", UNDAMPED),
    "gn": Method(NewtonEncoder, "Gauss-Newton search", "here", NewtonEncoder.Options()),
    "gpvae": Method(GPEncoder, "GPVAE", KIM),
    "gpvae-shared": Method(GPEncoder, "GPVAE on the encoder's own features", KIM, GPEncoder.Options(shared=True)),
    "gpvae-unit": Method(GPEncoder, "GPVAE on unit features", KIM, GPEncoder.Options(shared=True, unit=True)),
}

__all__ = ["METHODS", "Encoder", "GPEncoder", "GaussianEncoder", "Inference", "Method", "NoOptions"]
