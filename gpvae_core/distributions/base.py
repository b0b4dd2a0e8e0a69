"""The one concept of inference: a posterior that can be sampled together with its log-density."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from math import log, pi
from typing import Any, Self

import torch
from torch import Tensor

from gpvae_core.errors import InputError

LOG_2PI = log(2 * pi)
DRAWS = 1024  # for moments without a closed form
Part = tuple[Tensor | None, "Posterior"]


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, summed over the last dimension."""
    return -0.5 * (z**2 + LOG_2PI).sum(-1)


class Posterior(ABC):
    """q(z|x) for a batch of images: the standard normal, transported. Latent units; logarithms in nats.

    ``batch_shape`` is () for one image and (B,) for B of them, ``dim`` the d of z. A subclass is a frozen dataclass
    of tensors (or of other Posteriors) and writes ``_transport`` and ``_log_prob``; everything else is written here.
    """

    @property
    @abstractmethod
    def batch_shape(self) -> torch.Size:
        """The images' own shape: () or (B,)."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number d of latent dimensions."""

    @abstractmethod
    def _transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """z (S, *batch, d) and log|det dz/du| (S, *batch) for u (S, *batch, d)."""

    @abstractmethod
    def _log_prob(self, z: Tensor) -> Tensor:
        """log q(z) (...) for z (..., d) that broadcasts over the batch."""

    # --- what a subclass may know in closed form -------------------------------------------------------------------

    def parts(self) -> Sequence[Part]:
        """(log weight, component) of a mixture, each weight (*batch); else one part: (None, self)."""
        return [(None, self)]

    def kl_to_prior(self) -> Tensor | None:
        """KL(q || N(0, I)), (*batch); None where there is no closed form."""
        return None

    def entropy(self) -> Tensor | None:
        """-E log q, (*batch); None where there is no closed form."""
        return None

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each coordinate, (*batch, d): exact for Gaussians, else of DRAWS draws."""
        z = self.rsample(DRAWS, generator=torch.Generator(self._first_tensor().device).manual_seed(0))
        return z.mean(0), z.std(0)

    # --- written once --------------------------------------------------------------------------------------------

    def transport(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The map from the standard normal: z (S, *batch, d) and log|det dz/du| (S, *batch) for u (S, *batch, d).

        Raises InputError for another shape of u, and for a mixture: transport its ``parts``.
        """
        if tuple(u.shape[1:]) != (*self.batch_shape, self.dim):
            raise InputError(
                f"u has the shape {tuple(u.shape)}; give noise of shape (S, {', '.join(map(str, self.batch_shape))}"
                f"{', ' if self.batch_shape else ''}{self.dim})"
            )
        return self._transport(u)

    def rsample_with_log_prob(
        self, samples: int = 1, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Reparametrised draws (S, *batch, d) and log q of each, (S, *batch): gradients reach q's parameters."""
        u = self._noise(samples, generator)
        z, log_det = self._transport(u)
        return z, standard_normal_log_prob(u) - log_det

    def rsample(self, samples: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        """``rsample_with_log_prob`` without the densities."""
        return self.rsample_with_log_prob(samples, generator=generator)[0]

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) (...) for z (..., d), which broadcasts over the batch. Raises InputError for another d."""
        if z.shape[-1:] != (self.dim,):
            raise InputError(f"z has the shape {tuple(z.shape)}; its last dimension must be the latent one, {self.dim}")
        return self._log_prob(z)

    def _noise(self, samples: int, generator: torch.Generator | None) -> Tensor:
        like = self._first_tensor()
        shape = (samples, *self.batch_shape, self.dim)
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)

    def _first_tensor(self) -> Tensor:
        found: list[Tensor] = []

        def note(t: Tensor) -> Tensor:
            found.append(t)
            return t

        self._map(note)
        return found[0]

    # --- the same q elsewhere ------------------------------------------------------------------------------------

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same q with every tensor of it changed."""
        changed: Self = _mapped(self, change)
        return changed

    def __getitem__(self, rows: Any) -> Self:
        """q of some of the images, or of one."""
        return self._map(lambda t: t[rows])

    def __len__(self) -> int:
        return self.batch_shape[0]

    def detach(self) -> Self:
        """Cut off from the graph."""
        return self._map(Tensor.detach)

    def double(self) -> Self:
        """In float64."""
        return self._map(Tensor.double)

    def to(self, *where: Any) -> Self:
        """On another device, in another dtype, or like another tensor."""
        return self._map(lambda t: t.to(*where))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(one, change) for one in value)
    if is_dataclass(value) and not isinstance(value, type):  # another Posterior, or a layer of one
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value
