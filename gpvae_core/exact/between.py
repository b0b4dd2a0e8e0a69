"""log p(x, z) between the nodes of the base grid: fifty times cheaper than a decode, for looking around only."""

import numpy as np
import torch
from numpy.typing import NDArray

from gpvae_core.exact.grid import BaseGrid
from gpvae_core.exact.interpolation import basis
from gpvae_core.exact.joint import Array, Decoded, Index, Quadratic, combined

REACH = 2  # nodes on either side
STENCIL = np.arange(-REACH, REACH + 1)
ROWS = 64  # places at once: the nodes around each take 80 kB


class Between:
    """Inside the box g(z) comes from the natural parameters at the 5x5 nodes around z, of degree 4 in each axis.

    What it says there is an approximation without an error estimate: whoever uses it looks again with real decodes.
    Outside the box it decodes.
    """

    def __init__(self, joint: Decoded, grid: BaseGrid) -> None:
        self.joint = joint
        self.grid = grid

    def inside(self, z: Array) -> NDArray[np.bool_]:
        """Whether each place (n, 2) has nodes all around it."""
        inside: NDArray[np.bool_] = np.abs(z).max(1) < self.grid.axis[-2] - 1e-9
        return inside

    @torch.no_grad()
    def quadratic(self, owner: Index, z: Array) -> Quadratic:
        """See ``Decoded.quadratic``: values (n,), gradients (n, 2), precisions (n, 2, 2)."""
        inside = self.inside(z)
        known, unknown = np.flatnonzero(inside), np.flatnonzero(~inside)
        groups = np.split(known, range(ROWS, len(known), ROWS)) if len(known) else []
        parts = [self._interpolated(owner[rows], z[rows]) for rows in groups]
        if len(unknown):
            parts.append(self.joint.quadratic(owner[unknown], z[unknown]))
        order = np.argsort(np.concatenate([known, unknown]))
        value, gradient, precision = (np.concatenate(column)[order] for column in zip(*parts, strict=True))
        return value, gradient, precision

    def _interpolated(self, owner: Index, z: Array) -> Quadratic:
        eta, likelihood = self.grid.eta, self.joint.model.likelihood
        nodes, weights = self._stencils(z)
        around = eta[torch.as_tensor(nodes, device=eta.device)]  # (n, 25, P)
        value, *slopes = torch.bmm(torch.as_tensor(weights).to(eta), around).unbind(1)
        mean = likelihood.mean_of(value)
        # d mean / d eta is the variance, whose inverse is the Fisher information of the mean
        jacobian = torch.stack(slopes, 1) / (self.grid.spacing * likelihood.precision(mean)[:, None])
        x = self.joint.images[torch.as_tensor(owner, device=eta.device)].flatten(1).to(eta)
        return combined(likelihood, x, z, mean, jacobian)

    def _stencils(self, z: Array) -> tuple[Index, Array]:
        """Rows of the 25 nodes around each place, (n, 25); weights for the value and both slopes, (n, 3, 25)."""
        axis = self.grid.axis
        places = (z - axis[0]) / self.grid.spacing
        node = np.rint(places).astype(np.intp).clip(REACH, len(axis) - 1 - REACH)
        level, slope = ([basis((places - node)[:, k], d, REACH) for k in (0, 1)] for d in (0, 1))
        pairs = ((level[0], level[1]), (slope[0], level[1]), (level[0], slope[1]))
        weights = np.stack([np.einsum("ni,nk->nik", *pair).reshape(len(z), -1) for pair in pairs], 1)
        first, second = (node[:, k, None] + STENCIL for k in (0, 1))
        return (first[:, :, None] * len(axis) + second[:, None]).reshape(len(z), -1), weights
