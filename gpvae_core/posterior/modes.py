"""All modes of p(z|x) that matter: starts from the base grid, polished by damped Gauss-Newton."""

import threading
from dataclasses import dataclass
from math import log, pi

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor
from torch.autograd import forward_ad

from gpvae_core.generative import GenerativeModel
from gpvae_core.posterior.grid import Array, BaseGrid

STARTS = 16
STEPS = 30
REACH = 2.0  # grid spacings a step may cover, so that no start leaves its own hill
MASS_MARGIN = 16.0  # nats of Laplace mass below the best mode: what lies lower holds under 1e-7

_FORWARD_MODE = threading.Lock()  # torch has one dual level for the whole process: a second thread's would raise


@dataclass(frozen=True)
class Mode:
    """A local maximum: location (2,), log p(x, z) there, and the Gauss-Newton precision J'J-like + I, (2, 2)."""

    location: Array
    log_joint: float
    precision: Array

    @property
    def log_mass(self) -> float:
        """Laplace's estimate of the log mass around the mode, in nats."""
        return self.log_joint + log(2 * pi) - 0.5 * float(np.linalg.slogdet(self.precision)[1])


def find_modes(model: GenerativeModel, x: Tensor, grid: BaseGrid, field: Array) -> list[Mode]:
    """Modes by descending Laplace mass, none repeated; ``field`` is the log joint on ``grid``."""
    starts = _starts(grid, field)
    inside = np.abs(starts).max(1) < grid.axis[-2] - 1e-9
    reach = np.where(inside, REACH * grid.spacing, np.inf)  # beyond the grid's edge a mode can be anywhere
    location, value, precision = _gauss_newton(
        model, x, *(torch.as_tensor(a, dtype=x.dtype, device=x.device) for a in (starts, reach))
    )
    found = [Mode(z, float(v), h) for z, v, h in zip(_np(location), _np(value), _np(precision), strict=True)]
    kept: list[Mode] = []
    for mode in sorted(found, key=lambda m: -m.log_mass):
        if kept and mode.log_mass < kept[0].log_mass - MASS_MARGIN:
            break
        if all(_distance(mode, other) > 0.5 for other in kept):
            kept.append(mode)
    return kept


def _np(t: Tensor) -> Array:
    values: Array = t.double().cpu().numpy()
    return values


def _distance(mode: Mode, other: Mode) -> float:
    """In the standard deviations of the other mode."""
    step = mode.location - other.location
    return float(np.sqrt(step @ other.precision @ step))


def _starts(grid: BaseGrid, field: Array) -> Array:
    """The nodes highest after the ascent that a quadratic through their 3x3 neighbourhood promises, (k, 2).

    A peak narrower than the grid's spacing can lie tens of nats above the node nearest to it, so raw values do
    not order the candidates.
    """
    i, k = np.nonzero(field == maximum_filter(field, size=3, mode="nearest"))
    i, k = i.clip(1, len(field) - 2), k.clip(1, len(field) - 2)
    f = field
    slope = np.stack([f[i + 1, k] - f[i - 1, k], f[i, k + 1] - f[i, k - 1]], -1) / 2
    bend = [f[i + 1, k] - 2 * f[i, k] + f[i - 1, k], f[i, k + 1] - 2 * f[i, k] + f[i, k - 1]]
    gain = sum(slope[:, j] ** 2 / np.maximum(-2 * bend[j], 1e-6) for j in (0, 1))
    order = np.argsort(-(f[i, k] + np.minimum(gain, np.abs(slope).sum(-1))))[:STARTS]
    starts: Array = np.stack([grid.axis[i[order]], grid.axis[k[order]]], -1)
    return starts


@torch.no_grad()
def _gauss_newton(model: GenerativeModel, x: Tensor, z: Tensor, reach: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levenberg-Marquardt ascent of log p(x, z) from every row of z (k, 2) at once, no step longer than ``reach`` (k,).

    Step (H + damping diag H)^-1 (J'score - z) with H = J'Diag(precision)J + I, eq. of Park et al. 2019.
    """
    value, gradient, precision = _quadratic(model, x, z)
    damping = torch.full_like(value, 1e-3)
    for _ in range(STEPS):
        damped = precision + torch.diag_embed(damping[:, None] * precision.diagonal(dim1=-2, dim2=-1))
        step = torch.linalg.solve(damped, gradient)
        step = step * (reach / step.norm(dim=-1)).clamp(max=1)[:, None]
        promised = 0.5 * (step * gradient).sum(-1)
        if bool((promised < 1e-5).all()) or bool((damping > 1e8).all()):
            break
        new_value, new_gradient, new_precision = _quadratic(model, x, z + step)
        better = new_value > value
        z = torch.where(better[:, None], z + step, z)
        value = torch.where(better, new_value, value)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        precision = torch.where(better[:, None, None], new_precision, precision)
        damping = torch.where(better, damping * 0.1, damping * 10).clamp(min=1e-6)
    return z, value, precision


def _quadratic(model: GenerativeModel, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x, z), its gradient and Gauss-Newton precision at each row of z, by d forward-mode products."""
    columns = []
    for axis in range(z.shape[-1]):
        tangent = torch.zeros_like(z)
        tangent[:, axis] = 1.0
        with _FORWARD_MODE, forward_ad.dual_level():
            mean, column = forward_ad.unpack_dual(model.decode(forward_ad.make_dual(z, tangent)))
        columns.append(column.flatten(1))
    jacobian = torch.stack(columns, -1)  # (k, P, d)
    score = model.likelihood.score(x, mean).flatten(1)
    weight = model.likelihood.precision(mean).flatten(1)
    gradient = torch.einsum("kpi,kp->ki", jacobian, score) - z
    precision = torch.einsum("kpi,kp,kpj->kij", jacobian, weight, jacobian) + torch.eye(z.shape[-1]).to(z)
    value = model.likelihood.log_prob(x, mean).flatten(1).sum(-1) - 0.5 * (z**2).sum(-1) - log(2 * pi)
    return value, gradient, precision
