"""The plain VAE's amortised diagonal Gaussian."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.generative import GenerativeModel
from gpvae_core.inference.base import Encoder, Inference, at_least, cannot_start


class GaussianEncoder(Encoder):
    """q(z|x) = N(b(x), Diag(c(x))^2) with b and log c linear in a trunk's features (Kingma & Welling 2014)."""

    @dataclass(frozen=True)
    class Options:
        """``trunks`` > 1 takes the features of several trunks together: as large an encoder as GPVAE's."""

        trunks: int = 1

        def __post_init__(self) -> None:
            at_least(1, trunks=self.trunks)

    labels: ClassVar[dict[str, str]] = {"q": "encoder's q(z|x)"}

    def __init__(
        self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Options = Options()
    ) -> None:
        super().__init__(trunk, features, latent_dim)
        self.trunk = trunk()
        self.others = nn.ModuleList(trunk() for _ in range(options.trunks - 1))
        self.head = nn.Linear(options.trunks * features, 2 * latent_dim)

    def trunk_features(self, x: Tensor) -> Tensor:
        return torch.cat([self.trunk(x), *(other(x) for other in self.others)], dim=-1)

    def infer(self, x: Tensor, model: GenerativeModel) -> Inference:
        return Inference({"q": self.gaussian(self.trunk_features(x))})

    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """Take the plain VAE's encoder within another method's; further trunks begin unheard."""
        plain = other.plain()
        if isinstance(plain, GaussianEncoder) and len(self.others) > len(plain.others):
            self._extend(plain)
        else:
            super().start_from(plain, x, size)

    @torch.no_grad()
    def _extend(self, smaller: "GaussianEncoder") -> None:
        """Say what one of fewer trunks says: the head's weights for the others' features are 0."""
        try:
            for mine, theirs in zip([self.trunk, *self.others], [smaller.trunk, *smaller.others], strict=False):
                mine.load_state_dict(theirs.state_dict())
            self.head.weight.zero_()[:, : smaller.head.in_features].copy_(smaller.head.weight)
            self.head.bias.copy_(smaller.head.bias)
        except RuntimeError:
            raise cannot_start(self, smaller) from None

    def gaussian(self, features: Tensor) -> DiagonalGaussian:
        """q from the trunk's features (B, p)."""
        mean, log_std = self.head(features).chunk(2, dim=-1)
        return DiagonalGaussian(mean, torch.exp(log_std))


class OnTrunk(Encoder):
    """A method whose numbers are linear in one trunk's features, as a plain VAE's are."""

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Any = None) -> None:
        super().__init__(trunk, features, latent_dim)
        self.trunk = trunk()

    def trunk_features(self, x: Tensor) -> Tensor:
        features: Tensor = self.trunk(x)
        return features

    @torch.no_grad()
    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """Take the trunk and head of the plain VAE within another method, or all from the same method."""
        plain = other.plain()
        if isinstance(plain, GaussianEncoder):
            self.trunk.load_state_dict(plain.trunk.state_dict())
            self.take_head(plain.head)
        else:
            super().start_from(other, x, size)

    @abstractmethod
    def take_head(self, head: nn.Linear) -> None:
        """Begin with what a plain VAE's head says."""


class FromGaussian(Encoder):
    """A method whose first stage is a plain VAE's Gaussian, and which can start from such a VAE."""

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Any = None) -> None:
        super().__init__(trunk, features, latent_dim)
        self.amortized = GaussianEncoder(trunk, features, latent_dim)

    def trunk_features(self, x: Tensor) -> Tensor:
        return self.amortized.trunk_features(x)

    def plain(self) -> GaussianEncoder:
        return self.amortized

    def start_from(self, other: Encoder, x: Tensor, size: int) -> None:
        """Take the plain VAE's encoder of another method for the Gaussian, or all from the same method."""
        if type(other) is type(self):
            super().start_from(other, x, size)
        else:
            self.amortized.start_from(other.plain(), x, size)


class OnEncoder(FromGaussian):
    """A method that goes on from what a network says, and needs no training: any trained encoder will do."""

    trained: ClassVar[bool] = False

    def __init__(self, trunk: Callable[[], nn.Module], features: int, latent_dim: int, options: Any = None) -> None:
        super().__init__(trunk, features, latent_dim)
        self.below: Encoder | None = None  # the encoder it stands on, where no plain VAE's is within that one

    def first(self, x: Tensor, model: GenerativeModel) -> DiagonalGaussian:
        """What the network says of images x: of another q than a diagonal Gaussian its means and widths."""
        if self.below is None:
            return self.amortized.gaussian(self.trunk_features(x))
        return DiagonalGaussian(*self.below.infer(x, model).start.mean_and_std())

    def trunk_features(self, x: Tensor) -> Tensor:
        return super().trunk_features(x) if self.below is None else self.below.trunk_features(x)

    def stand_on(self, other: Encoder) -> None:
        plain = other.plain()
        if type(other) is type(self) or (isinstance(plain, GaussianEncoder) and not plain.others):
            super().stand_on(other)
        else:
            self.below = other
