"""What one decode says of a posterior: Laplace's Gaussian at a place z, and the gap it implies to a q there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpvae_core.distributions import FullGaussian
from gpvae_core.generative.model import GenerativeModel
from gpvae_core.generative.tangents import with_jacobian


@dataclass(frozen=True)
class Laplace:
    """log p(x, z) near m, as a parabola: slope a = grad log p(x, m) (B, d), Gauss-Newton precision H (B, d, d).

    With J the decoder's Jacobian at m = ``place`` (B, d) and w the likelihood's precision, a = J'score - m and
    H = J'Diag(w)J + I; so p(z|x) ~ N(m + H^-1 a, H^-1). ``means`` (B, P) are the decoded pixels. In float64 but for
    the pixels.
    """

    place: Tensor
    slope: Tensor
    precision: Tensor
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

    def gap(self, variance: Tensor) -> Tensor:
        """KL(N(m, Diag(variance)) || Laplace's Gaussian), (B,), in nats: never negative, 0 if they agree."""
        scaled = self.precision.diagonal(dim1=-2, dim2=-1) * variance
        shape = (scaled - torch.log(variance) - 1).sum(-1) - self.log_det()
        value: Tensor = 0.5 * (shape + self.pull())
        return value

    def gaussian(self) -> FullGaussian:
        """N(m, H^-1), in the place's own precision."""
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(self.precision))
        return FullGaussian(self.place, torch.linalg.cholesky(covariance).to(self.place))


def laplace(model: GenerativeModel, x: Tensor, z: Tensor) -> Laplace:
    """Laplace's Gaussian for images x (B, C, H, W) at z (B, d): 1 + d decodes."""
    place = z.detach().to(x)
    means, jacobian = with_jacobian(model.decoder, place)
    jacobian = jacobian.double()
    score, weight = model.likelihood.score(x.flatten(1), means), model.likelihood.precision(means)
    slope = torch.einsum("bpi,bp->bi", jacobian, score.to(jacobian)) - place
    curvature = torch.einsum("bpi,bp,bpj->bij", jacobian, weight.to(jacobian).expand_as(means), jacobian)
    return Laplace(place, slope.detach(), (curvature + torch.eye(place.shape[1]).to(curvature)).detach(), means)
