"""Normalizing flows on the encoder's Gaussian: Householder reflections and inverse autoregressive layers."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions.flow import Flow, GatedAutoregressive, Reflection
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Encoder, Inference, at_least
from gpvae_core.inference.gaussian import FromGaussian
from gpvae_core.inference.masked import masked_network

WIDTH = 64  # of the hidden layers of a masked network
CONTEXT = 32  # numbers that the trunk hands to each
GATE = 1.5  # a gate that is open at first: the layer begins near the identity


@dataclass(frozen=True)
class FlowOptions:
    """How many ``flows`` follow the Gaussian."""

    flows: int = 2

    def __post_init__(self) -> None:
        at_least(1, flows=self.flows)


class FlowEncoder(FromGaussian):
    """A plain VAE's Gaussian, carried through layers that the same trunk's features set."""

    Options: ClassVar[type] = FlowOptions
    labels: ClassVar[dict[str, str]] = {"start": "encoder's Gaussian", "q": "q(z|x) after the flow"}

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        features = self.trunk_features(x)
        start = self.amortized.gaussian(features)
        return Inference({"start": start, "q": Flow(start, self.layers(features))})

    @abstractmethod
    def layers(self, features: Tensor) -> tuple[Reflection | GatedAutoregressive, ...]:
        """The layers for each image, from the trunk's features (B, p)."""


class HouseholderEncoder(FlowEncoder):
    """Reflections (Tomczak & Welling 2016): v_1 linear in the features, v_t linear in v_{t-1}.

    Each v_t begins as v_{t-1}: two equal reflections cancel, so that q begins as the plain VAE's.
    """

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: FlowOptions = FlowOptions()
    ) -> None:
        super().__init__(trunk, features, latent_dim, options)
        widths = [features, *[latent_dim] * options.flows]
        linears = [nn.Linear(*pair) for pair in pairwise(widths)]
        for linear in linears[1:]:
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.vectors = nn.ModuleList(linears)

    @torch.no_grad()
    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """The same; of an odd number of reflections one is left, along the first axis: the Gaussian begins mirrored."""
        super().start_from(other, x, size)
        if len(self.vectors) % 2 and type(other) is not type(self):
            first, head = list(self.vectors[0].parameters()), list(self.amortized.head.parameters())
            for weight, mirrored in zip(first, head, strict=True):
                weight.zero_()
                mirrored[0].neg_()
            first[1][0] = 1.0

    def layers(self, features: Tensor) -> tuple[Reflection, ...]:
        v, found = features, []
        for linear in self.vectors:
            v = linear(v)
            found.append(Reflection(v))
        return tuple(found)


class AutoregressiveEncoder(FlowEncoder):
    """Inverse autoregressive flow (Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016), the order turned
    from layer to layer."""

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: FlowOptions = FlowOptions()
    ) -> None:
        super().__init__(trunk, features, latent_dim, options)
        self.context = nn.Linear(features, CONTEXT)
        self.networks = nn.ModuleList(masked_network(latent_dim, CONTEXT, WIDTH, GATE) for _ in range(options.flows))

    def layers(self, features: Tensor) -> tuple[GatedAutoregressive, ...]:
        context = self.context(features)
        return tuple(GatedAutoregressive(context, net, k % 2 == 1) for k, net in enumerate(self.networks))
