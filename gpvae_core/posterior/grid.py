"""The base grid: a decoder's means over the prior box, decoded once, that answers for any image at once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.gaussian import standard_normal_log_prob
from gpvae_core.generative import GenerativeModel

Array = NDArray[np.float64]
CHUNK = 512  # decodes at once: fits the caches


@dataclass(frozen=True)
class BaseGrid:
    """Natural parameters of p(x|z) at the nodes of a square grid over [-half_width, half_width]^2.

    ``axis`` (n,); ``eta`` (n*n, P) and ``constant`` (n*n,) = log p(z) - sum A, row index i*n + k for the node
    (z_1, z_2) = (axis[i], axis[k]).
    """

    axis: Array
    eta: Tensor
    constant: Tensor

    @property
    def spacing(self) -> float:
        return float(self.axis[1] - self.axis[0])

    @property
    def points(self) -> Array:
        """The nodes, (n*n, 2)."""
        return grid_points(self.axis, self.axis)

    def log_joint(self, model: GenerativeModel, x: Tensor) -> Array:
        """log p(x, z) at the nodes in nats, (n, n): one matrix product, exact to float32 cancellation.

        Good to about 1e-6 |x|^2 / s_x^2 nats: enough to search and to draw, not to integrate.
        """
        linear = self.eta @ x.flatten().to(self.eta)
        field = (linear + self.constant).double() + model.likelihood.log_base(x).double().sum()
        n = len(self.axis)
        values: Array = field.reshape(n, n).cpu().numpy()
        return values


def grid_points(first: Array, second: Array) -> Array:
    """All pairs (first[i], second[k]), row-major, (len(first) * len(second), 2)."""
    return np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)


@torch.no_grad()
def build_grid(model: GenerativeModel, half_width: float, nodes: int) -> BaseGrid:
    """Decode a (nodes, nodes) grid over [-half_width, half_width]^2. Raises InputError on non-finite means."""
    parameter = next(model.parameters(), torch.zeros(()))
    axis = np.linspace(-half_width, half_width, nodes)
    z = torch.as_tensor(grid_points(axis, axis), dtype=parameter.dtype, device=parameter.device)
    etas, constants = [], []
    for chunk in z.split(CHUNK):
        eta, normaliser = model.likelihood.natural(model.decode(chunk))
        etas.append(eta.flatten(1))
        constants.append(standard_normal_log_prob(chunk) - normaliser.flatten(1).sum(-1))
    grid = BaseGrid(axis, torch.cat(etas), torch.cat(constants))
    if not bool(torch.isfinite(grid.constant).all()):
        raise InputError(
            "the decoder gives non-finite pixel means inside the prior box; its weights are damaged or its inputs "
            "need another scale: train it again or restore the checkpoint"
        )
    return grid
