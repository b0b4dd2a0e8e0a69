"""Draws of the prior, decoded once: which of them explain an image best is one matrix product."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from gpvae_core.generative.model import GenerativeModel

TOGETHER = 512  # decodes, or images, at a time
NEIGHBOURS = 8
FARTHER = 2.0


@dataclass(frozen=True)
class PriorDraws:
    """Places z_k (K, d), and log p(x, z_k) = x . eta_k + offset_k but for what depends on x alone.

    ``near`` (K, n) are the numbers of each one's nearest neighbours.
    """

    z: Tensor
    eta: Tensor
    offset: Tensor
    near: Tensor

    @staticmethod
    @torch.no_grad()
    def of(model: GenerativeModel, count: int, like: Tensor) -> "PriorDraws":
        """``count`` points of a scrambled Sobol sequence under N(0, I), every second one FARTHER out: always the same.

        On ``mnist-2d`` the posteriors that plain draws miss lie up to 7 from the origin.
        """
        z = normal_points(model.latent_dim, count).to(like)
        z[1::2] *= FARTHER
        parts = [model.likelihood.natural(model.decode(part).flatten(1)) for part in z.split(TOGETHER)]
        eta, normaliser = (torch.cat(kind) for kind in zip(*parts, strict=True))
        distances = torch.cdist(z, z).fill_diagonal_(torch.inf)
        near = distances.topk(min(NEIGHBOURS, count - 1), largest=False).indices
        return PriorDraws(z, eta, -normaliser.sum(1) - 0.5 * (z**2).sum(1), near)

    def tops(self, x: Tensor, count: int) -> Tensor:
        """Up to ``count`` places for each image x (B, C, H, W), (count, B, d): the highest of those that no neighbour
        exceeds, so that several lie on several hills; after them the others."""
        return torch.cat([self._tops(part, count) for part in x.flatten(1).split(TOGETHER)], 1)

    def _tops(self, x: Tensor, count: int) -> Tensor:
        height = x @ self.eta.T + self.offset
        if count == 1:  # the highest of all is a top
            return self.z[height.argmax(1)][None]
        top = torch.ones_like(height, dtype=torch.bool)
        for neighbour in self.near.T:
            top &= height >= height[:, neighbour]
        depth = height.amax(1, keepdim=True) - height.amin(1, keepdim=True)
        rows = torch.where(top, height, height - depth - 1).topk(min(count, len(self.z)), 1).indices  # tops first
        return self.z[rows].transpose(0, 1)


def normal_points(dim: int, count: int, seed: int = 0) -> Tensor:
    """Quasi-random points (count, dim) that fill N(0, I) evenly, float64, within 4.9 of 0 in each direction."""
    uniform = SobolEngine(dim, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    points: Tensor = 2**0.5 * torch.erfinv(2 * uniform.clamp(1e-6, 1 - 1e-6) - 1)
    return points
