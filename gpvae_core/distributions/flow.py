"""A normalizing flow: a Gaussian carried through invertible layers."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpvae_core.distributions.base import Posterior
from gpvae_core.distributions.gaussian import DiagonalGaussian


class Layer(ABC):
    """One invertible map of z for each image: a frozen dataclass of tensors (*batch, ...) and, perhaps, a network."""

    @abstractmethod
    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The image of z (S, *batch, d), and log|det| of the map there, (S, *batch)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """What is carried to z (..., d), and log|det| of the forward map there, (...)."""


@dataclass(frozen=True)
class Reflection(Layer):
    """z - 2 v v'z / |v|^2, v (*batch, d): Householder's, its own inverse, volume preserving."""

    v: Tensor

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        unit = nn.functional.normalize(self.v, dim=-1)
        reflected = z - 2 * unit * (unit * z).sum(-1, keepdim=True)
        return reflected, torch.zeros_like(reflected[..., 0])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(z)


@dataclass(frozen=True)
class GatedAutoregressive(Layer):
    """g z + (1 - g) m, where g = sigmoid(s) and (m, s)_i = network(z_<i, context) (Kingma et al. 2016, eqs. 13-14).

    ``context`` (*batch, c). ``reversed_order``: the network sees the coordinates from the last to the first.
    """

    context: Tensor
    network: nn.Module
    reversed_order: bool

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = self._ordered(z)
        shift, gate = self._parameters(z)
        moved = torch.sigmoid(gate) * z + torch.sigmoid(-gate) * shift
        return self._ordered(moved), nn.functional.logsigmoid(gate).sum(-1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        moved = self._ordered(z)
        found = torch.zeros_like(moved).expand(*self._shape(moved), moved.shape[-1])
        for i in range(z.shape[-1]):  # coordinate i needs those before it
            shift, gate = self._parameters(found)
            column = moved[..., i] * (1 + torch.exp(-gate[..., i])) - torch.exp(-gate[..., i]) * shift[..., i]
            found = torch.cat([found[..., :i], column[..., None], found[..., i + 1 :]], -1)
        _, gate = self._parameters(found)
        return self._ordered(found), nn.functional.logsigmoid(gate).sum(-1)

    def _shape(self, z: Tensor) -> torch.Size:
        shape: torch.Size = torch.broadcast_shapes(z.shape[:-1], self.context.shape[:-1])
        return shape

    def _ordered(self, z: Tensor) -> Tensor:
        return z.flip(-1) if self.reversed_order else z

    def _parameters(self, z: Tensor) -> tuple[Tensor, Tensor]:
        inputs = [part.expand(*self._shape(z), part.shape[-1]) for part in (z, self.context)]
        shift, gate = _like(self.network, z)(torch.cat(inputs, -1)).chunk(2, dim=-1)
        return shift, gate


@dataclass(frozen=True)
class Flow(Posterior):
    """q(z): ``start`` carried through ``layers``, the first one first."""

    start: DiagonalGaussian
    layers: tuple[Layer, ...]

    @property
    def batch_shape(self) -> torch.Size:
        return self.start.batch_shape

    @property
    def dim(self) -> int:
        return self.start.dim

    def _transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.start.transport(u)
        for layer in self.layers:
            z, more = layer.forward(z)
            log_det = log_det + more
        return z, log_det

    def _log_prob(self, z: Tensor) -> Tensor:
        total = torch.zeros_like(z[..., 0])
        for layer in reversed(self.layers):
            z, log_det = layer.inverse(z)
            total = total + log_det
        return self.start.log_prob(z) - total


def _like(network: nn.Module, z: Tensor) -> nn.Module:
    """The network in z's precision and on its device: a q may be evaluated in another than its model's."""
    weight = next(network.parameters())
    return network if (weight.dtype, weight.device) == (z.dtype, z.device) else deepcopy(network).to(z)
