"""A mixture of posteriors: stratified where it is integrated, so that gradients reach its weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpvae_core.distributions.base import Part, Posterior
from gpvae_core.errors import InputError


@dataclass(frozen=True)
class Mixture(Posterior):
    """q(z) = sum_k w_k q_k(z).

    Args:
        log_weights: log w_k, (*batch, K); the w_k sum to 1.
        components: K Posteriors of the same batch shape.

    An expectation under q is sum_k w_k E_{q_k}, see ``parts``: each component is a transport, the mixture itself is
    none. Draws choose a component first, so their gradients reach the components but not the weights.
    """

    log_weights: Tensor
    components: tuple[Posterior, ...]

    @property
    def batch_shape(self) -> torch.Size:
        return self.log_weights.shape[:-1]

    @property
    def dim(self) -> int:
        return self.components[0].dim

    def parts(self) -> Sequence[Part]:
        return [(self.log_weights[..., k], component) for k, component in enumerate(self.components)]

    def transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        raise InputError("a mixture is no transport of one normal; transport each component of its parts()")

    def _transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.transport(u)

    def _log_prob(self, z: Tensor) -> Tensor:
        logs = [weight + component.log_prob(z) for weight, component in self.parts() if weight is not None]
        return torch.logsumexp(torch.stack(logs), 0)

    def rsample_with_log_prob(
        self, samples: int = 1, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws (S, *batch, d), each from a component chosen by the weights, and log q of each, (S, *batch)."""
        all_z = torch.stack([component.rsample(samples, generator=generator) for component in self.components], -2)
        weights = torch.exp(self.log_weights.detach()).reshape(-1, len(self.components))
        chosen = torch.multinomial(weights, samples, replacement=True, generator=generator)  # (batch, S)
        index = chosen.T.reshape(samples, *self.batch_shape, 1, 1).expand(*all_z.shape[:-2], 1, self.dim)
        z = all_z.gather(-2, index)[..., 0, :]
        return z, self._log_prob(z)
