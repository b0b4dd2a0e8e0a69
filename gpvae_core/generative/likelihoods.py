"""p(x | pixel means): Gaussian noise with one s_x, and Bernoulli pixels."""

from math import log
from typing import Protocol

import torch
from torch import Tensor, nn

from gpvae_core.distributions.base import LOG_2PI
from gpvae_core.errors import InputError


class Likelihood(Protocol):
    """Log p(x | mean) = x . eta(mean) - A(mean) + h(x), an exponential family in each pixel.

    Images and means are (..., C, H, W) or (..., P); ``pixel_dims`` of them are summed over. The linear
    form is what lets a cached grid of decoded means answer for any image with one matrix product.
    """

    def log_prob(self, x: Tensor, mean: Tensor) -> Tensor:
        """Log p(x | mean) per pixel, in nats, not yet summed."""
        ...

    def natural(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """(eta, A), per pixel."""
        ...

    def mean_of(self, eta: Tensor) -> Tensor:
        """The mean that has the natural parameter ``eta``, per pixel."""
        ...

    def log_base(self, x: Tensor) -> Tensor:
        """h(x), per pixel."""
        ...

    def score(self, x: Tensor, mean: Tensor) -> Tensor:
        """d log p / d mean, per pixel."""
        ...

    def precision(self, mean: Tensor) -> Tensor:
        """Fisher information of the mean, per pixel."""
        ...

    def sample(self, mean: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A draw x ~ p(x | mean)."""
        ...

    def check(self, x: Tensor) -> None:
        """Raise InputError where x is outside the support."""
        ...

    def admitted(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """An image within the support for x: itself, or a draw of which x is the mean."""
        ...


class GaussianLikelihood(nn.Module):
    """p(x | mean) = N(x; mean, s_x^2 I), eq. (1) of Kim (2022).

    Args:
        std: s_x, in pixels of [0, 1].
        trained: Whether s_x is a parameter.

    Raises:
        InputError: s_x is not positive.
    """

    def __init__(self, std: float, *, trained: bool = False) -> None:
        super().__init__()
        if not std > 0:
            raise InputError(f"the pixel noise s_x must be positive, but it is {std}; give for example 0.2")
        value = torch.tensor(log(std))
        if trained:
            self.log_std = nn.Parameter(value)
        else:
            self.register_buffer("log_std", value)

    log_std: Tensor

    @property
    def std(self) -> Tensor:
        return torch.exp(self.log_std)

    def log_prob(self, x: Tensor, mean: Tensor) -> Tensor:
        return -0.5 * ((x - mean) / self.std) ** 2 - self.log_std - 0.5 * LOG_2PI

    def natural(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        eta = mean / self.std**2
        return eta, 0.5 * eta * mean

    def mean_of(self, eta: Tensor) -> Tensor:
        return eta * self.std**2

    def log_base(self, x: Tensor) -> Tensor:
        return -0.5 * (x / self.std) ** 2 - self.log_std - 0.5 * LOG_2PI

    def score(self, x: Tensor, mean: Tensor) -> Tensor:
        return (x - mean) / self.std**2

    def precision(self, mean: Tensor) -> Tensor:
        return torch.ones_like(mean) / self.std**2

    def sample(self, mean: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + self.std * noise

    def check(self, x: Tensor) -> None:
        """Any finite image is in the support."""

    def admitted(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return x


class BernoulliLikelihood(nn.Module):
    """p(x | mean) = prod mean^x (1 - mean)^(1-x), x in {0, 1}; the decoder gives probabilities, not logits.

    Means are clamped to [1e-6, 1 - 1e-6]: part of the model's definition, so that float32 and float64
    agree on it and no pixel costs more than 13.8 nats.
    """

    CLAMP = 1e-6

    def _mean(self, mean: Tensor) -> Tensor:
        return mean.clamp(self.CLAMP, 1 - self.CLAMP)

    def log_prob(self, x: Tensor, mean: Tensor) -> Tensor:
        p = self._mean(mean)
        return x * torch.log(p) + (1 - x) * torch.log1p(-p)

    def natural(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        p = self._mean(mean)
        return torch.log(p) - torch.log1p(-p), -torch.log1p(-p)

    def mean_of(self, eta: Tensor) -> Tensor:
        return torch.sigmoid(eta)

    def log_base(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def score(self, x: Tensor, mean: Tensor) -> Tensor:
        p = self._mean(mean)
        return (x - p) / (p * (1 - p))

    def precision(self, mean: Tensor) -> Tensor:
        p = self._mean(mean)
        return 1 / (p * (1 - p))

    def sample(self, mean: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(self._mean(mean), generator=generator)

    def check(self, x: Tensor) -> None:
        grey = (x != 0) & (x != 1)
        if grey.any():
            raise InputError(
                f"a Bernoulli likelihood needs pixels of 0 or 1, but {int(grey.sum())} lie between "
                f"(the first is {float(x[grey][0]):.3g}); binarise the image by a Bernoulli draw first"
            )

    def admitted(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return torch.bernoulli(x.clamp(0, 1), generator=generator)
