"""Draws of the prior, decoded once: which of them explain an image best is a matrix product."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from gpvae_core.generative.laplace import Laplace, laplace, laplace_of
from gpvae_core.generative.model import GenerativeModel
from gpvae_core.generative.tangents import with_jacobian

TOGETHER = 512  # decodes, or images, at a time
NEIGHBOURS = 8
FARTHER = 2.0
DIRECTIONS, LISTED, SWEEPS = 96, 16, 3  # of a first search, and how many of its finds are then compared in full
KEPT = 2**25  # numbers of all Jacobians together; with more they are made anew where they are asked for


@dataclass(frozen=True)
class PriorDraws:
    """Places z_k (K, d), and log p(x, z_k) = x . eta_k + offset_k but for what depends on x alone.

    ``near`` (K, n) are the numbers of each one's nearest neighbours. ``axes`` (P, r) are directions in which the eta_k
    differ most, ``along`` (K, r) the eta_k less their mean along them. ``jacobian`` (K, P, d) is the decoder's where
    ``seen`` (K,) says so: it is filled as draws are asked for. None where all of them together would be too large.
    """

    z: Tensor
    eta: Tensor
    offset: Tensor
    near: Tensor
    axes: Tensor
    along: Tensor
    jacobian: Tensor | None
    seen: Tensor

    @staticmethod
    @torch.no_grad()
    def of(model: GenerativeModel, count: int, like: Tensor) -> "PriorDraws":
        """``count`` points of a scrambled Sobol sequence under N(0, I), every second one FARTHER out: always the same.

        On ``mnist-2d`` the posteriors that plain draws miss lie up to 7 from the origin.
        """
        z = normal_points(model.latent_dim, count).to(like)
        z[1::2] *= FARTHER
        means = torch.cat([model.decode(part).flatten(1) for part in z.split(TOGETHER)])
        small = means.numel() * model.latent_dim <= KEPT
        jacobian = means.new_empty(*means.shape, model.latent_dim) if small else None
        eta, normaliser = model.likelihood.natural(means)
        nearest = min(NEIGHBOURS + 1, count)  # with itself
        near = torch.cat(
            [torch.cdist(part, z).topk(nearest, largest=False).indices[:, 1:] for part in z.split(TOGETHER)]
        )
        varying = eta - eta.mean(0)
        axes = leading(varying, DIRECTIONS)
        offset = -normaliser.sum(1) - 0.5 * (z**2).sum(1)
        return PriorDraws(z, eta, offset, near, axes, varying @ axes, jacobian, z.new_zeros(count, dtype=torch.bool))

    def looks(self, model: GenerativeModel, x: Tensor, count: int) -> Laplace:
        """Laplace's Gaussians at the ``tops`` of images x (B, C, H, W): B for the highest, then B for the next, ..."""
        rows = self.tops(x, count).flatten()
        every = x.repeat(len(rows) // len(x), *[1] * (x.dim() - 1))
        if self.jacobian is None:
            return laplace(model, every, self.z[rows])
        fresh = rows[~self.seen[rows]].unique()
        for some in fresh.split(TOGETHER) if len(fresh) else ():
            self.jacobian[some] = with_jacobian(model.decoder, self.z[some])[1]
            self.seen[some] = True
        return laplace_of(model, every, self.z[rows], model.likelihood.mean_of(self.eta[rows]), self.jacobian[rows])

    def tops(self, x: Tensor, count: int) -> Tensor:
        """The numbers of up to ``count`` draws for each image x (B, C, H, W), (count, B), the highest first.

        Those that no neighbour exceeds come before the others: so several lie on several hills.
        """
        tops = self._highest if count == 1 else lambda part: self._tops(part, count)
        return torch.cat([tops(part) for part in x.flatten(1).split(TOGETHER)], 1)

    def _highest(self, x: Tensor) -> Tensor:
        """For images x (B, P), (1, B): listed along ``axes`` alone, then compared in full.

        Of 5 x 1,024 images on five shipped decoders one had the highest of its 8,192 draws outside the list.
        """
        rough = (x @ self.axes) @ self.along.T + self.offset
        listed = rough.topk(min(LISTED, len(self.z)), 1).indices
        height = (self.eta[listed] @ x[:, :, None])[:, :, 0] + self.offset[listed]
        return listed.gather(1, height.argmax(1, keepdim=True)).T

    def _tops(self, x: Tensor, count: int) -> Tensor:
        height = x @ self.eta.T + self.offset
        top = torch.ones_like(height, dtype=torch.bool)
        for neighbour in self.near.T:
            top &= height >= height[:, neighbour]
        depth = height.amax(1, keepdim=True) - height.amin(1, keepdim=True)
        return torch.where(top, height, height - depth - 1).topk(min(count, len(self.z)), 1).indices.T  # tops first


def leading(rows: Tensor, count: int) -> Tensor:
    """Orthonormal directions (P, r), r <= ``count``, close to those in which rows (K, P) vary most."""
    axes = rows[:: max(1, len(rows) // count)][:count].T
    for _ in range(SWEEPS):
        axes = torch.linalg.qr(rows.T @ (rows @ torch.linalg.qr(axes).Q)).Q
    return axes


def normal_points(dim: int, count: int, seed: int = 0) -> Tensor:
    """Quasi-random points (count, dim) that fill N(0, I) evenly, float64, within 4.9 of 0 in each direction."""
    uniform = SobolEngine(dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    points: Tensor = 2**0.5 * torch.erfinv(2 * uniform.clamp(1e-6, 1 - 1e-6) - 1)
    return points
