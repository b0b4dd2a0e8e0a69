"""What one decode says of a posterior: Laplace's Gaussian at a place z, and the gap it implies to a q there."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gpvae_core.distributions import FullGaussian
from gpvae_core.distributions.base import LOG_2PI, standard_normal_log_prob
from gpvae_core.generative.model import GenerativeModel
from gpvae_core.generative.tangents import with_jacobian


@dataclass(frozen=True)
class Laplace:
    """log p(x, z) near m, as a parabola: slope a = grad log p(x, m) (B, d), Gauss-Newton precision H (B, d, d).

    With J the decoder's Jacobian at m = ``place`` (B, d) and w the likelihood's precision, a = J'score - m and
    H = J'Diag(w)J + I; so p(z|x) ~ N(m + H^-1 a, H^-1). ``height`` (B,) is log p(x, m), ``means`` (B, P) are the
    decoded pixels. Slope and precision are float64.
    """

    place: Tensor
    slope: Tensor
    precision: Tensor
    height: Tensor
    means: Tensor

    def step(self) -> Tensor:
        """H^-1 a, (B, d): from m to the parabola's top."""
        step: Tensor = torch.linalg.solve(self.precision, self.slope)
        return step

    def pull(self) -> Tensor:
        """a'H^-1 a, (B,): the squared length of that step, in its own standard deviations."""
        length: Tensor = (self.slope * self.step()).sum(-1)
        return length

    def log_det(self) -> Tensor:
        """log det H, (B,)."""
        log_det: Tensor = torch.linalg.slogdet(self.precision).logabsdet
        return log_det

    def log_evidence(self) -> Tensor:
        """Laplace's approximation of log p(x), (B,): the mass of N(m, H^-1) scaled to log p(x, m) at its top."""
        return self.height + 0.5 * self.place.shape[-1] * LOG_2PI - 0.5 * self.log_det().to(self.height)

    def take(self, rows: Tensor) -> "Laplace":
        """Those of the images with numbers ``rows``."""
        return Laplace(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def put(self, rows: Tensor, others: "Laplace") -> "Laplace":
        """The same with ``others`` in the place of the images with numbers ``rows``."""
        return Laplace(
            **{f.name: getattr(self, f.name).index_copy(0, rows, getattr(others, f.name)) for f in fields(self)}
        )

    @staticmethod
    def joined(parts: Sequence["Laplace"]) -> "Laplace":
        """Those of all parts, one after the other."""
        return Laplace(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Laplace)})

    def gap(self, factor: Tensor) -> Tensor:
        """KL(N(m, L L') || Laplace's Gaussian), (B,), in nats: never negative, 0 if they agree; L ``factor`` (B, d, d).

        L is the Cholesky factor of the covariance: lower triangular, its diagonal positive.
        """
        scaled = (factor * (self.precision @ factor)).sum((-2, -1))  # tr(L'HL)
        volume = 2 * torch.log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1) + self.log_det()
        value: Tensor = 0.5 * (scaled - volume - factor.shape[-1] + self.pull())
        return value

    def gaussian(self, mean: Tensor) -> FullGaussian:
        """N(mean, H^-1), in the place's own precision."""
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(self.precision))
        return FullGaussian(mean, torch.linalg.cholesky(covariance).to(self.place))


def laplace(model: GenerativeModel, x: Tensor, z: Tensor) -> Laplace:
    """Laplace's Gaussian for images x (B, C, H, W) at z (B, d): 1 + d decodes."""
    place = z.detach().to(x)
    return laplace_of(model, x, place, *with_jacobian(model.decoder, place))


def laplace_of(model: GenerativeModel, x: Tensor, place: Tensor, means: Tensor, jacobian: Tensor) -> Laplace:
    """The same where the decoder's value (B, P) and Jacobian (B, P, d) at the place are known: no decode."""
    jacobian = jacobian.double()
    score, weight = model.likelihood.score(x.flatten(1), means), model.likelihood.precision(means)
    slope = torch.einsum("bpi,bp->bi", jacobian, score.to(jacobian)) - place
    weighted = (jacobian * weight.to(jacobian).expand_as(means)[..., None]).transpose(1, 2)
    precision = weighted @ jacobian + torch.eye(place.shape[1], dtype=jacobian.dtype, device=jacobian.device)
    height = model.likelihood.log_prob(x.flatten(1), means).sum(-1) + standard_normal_log_prob(place)
    return Laplace(place, slope.detach(), precision.detach(), height.detach(), means)
