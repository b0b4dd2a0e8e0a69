"""All modes of p(z|x) that matter: starts from the base grid, polished by damped Gauss-Newton on real decodes."""

from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter

from gpvae_core.posterior.grid import BaseGrid
from gpvae_core.posterior.interpolation import REACH, STENCIL, basis
from gpvae_core.posterior.joint import Array, Decoded, Index

STARTS = 12  # a posterior of digits has one to four modes
FAR_STARTS = 6  # beyond the box; one image of MNIST in 250 has its main hill there, and no slope of the box leads to it
STEPS = 40
SETTLED = 1e-2  # nats that the last step may still promise: it is taken on trust
STALLED = 1e3  # the damping at which a start has met a kink and stays
STRIDE = 2.0  # grid spacings a step may cover, so that no start leaves its own hill
MARGIN = 12.0  # nats of Laplace mass below the best mode: what lies lower holds under 1e-5
FINE = np.linspace(-1, 1, 17)  # where the field is interpolated around a node, in grid spacings


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

    @property
    def frame(self) -> Array:
        """A with A A' = precision^-1: z = location + A u makes the Laplace approximation standard normal in u."""
        eigenvalues, vectors = np.linalg.eigh(self.precision)
        frame: Array = vectors / np.sqrt(eigenvalues)
        return frame

    def distance(self, z: Array) -> Array:
        """From the mode to points (..., 2), in its own standard deviations."""
        step = z - self.location
        distance: Array = np.sqrt(np.einsum("...i,ij,...j->...", step, self.precision, step))
        return distance


def find_modes(joint: Decoded, grid: BaseGrid, fields: Array, elsewhere: list[Array]) -> list[list[Mode]]:
    """For each image its modes by descending Laplace mass, none repeated; ``fields`` (B, n, n) holds log p(x, z).

    Sought from the summits of each field, and from ``elsewhere``, (k_i, 2) each.
    """
    if not len(fields):
        return []
    pairs = zip(fields, elsewhere, strict=True)
    starts = [np.concatenate([summits(grid.axis, field)[0][:STARTS], others]) for field, others in pairs]
    inside = [np.abs(z).max(1) < grid.axis[-2] - 1e-9 for z in starts]
    # beyond the grid's edge a mode can be anywhere
    reaches = [np.where(known, STRIDE * grid.spacing, np.inf) for known in inside]
    return [distinct(found) for found in climbed(joint, starts, reaches)]


def far_summits(axis: Array, field: Array, half_width: float) -> Array:
    """The highest nodes of one coarse field (n, n) that lie outside the box and no neighbour exceeds, (k, 2)."""
    node = np.argwhere(field == maximum_filter(field, size=3, mode="nearest"))
    node = node[np.abs(axis[node]).max(1) > half_width]
    highest: Array = axis[node[np.argsort(-field[tuple(node.T)])][:FAR_STARTS]]
    return highest


def climbed(joint: Decoded, starts: list[Array], reaches: list[Array]) -> list[list[Mode]]:
    """The mode above each start: starts[i] (k_i, 2) under image i, no step longer than reaches[i] (k_i,)."""
    counts = [len(z) for z in starts]
    owner = np.repeat(np.arange(len(starts)), counts)
    z, value, precision = _climb(joint, owner, np.concatenate(starts), np.concatenate(reaches))
    found = [Mode(*parts) for parts in zip(z, value.tolist(), precision, strict=True)]
    return [[found[k] for k in np.flatnonzero(owner == image)] for image in range(len(starts))]


def distinct(found: list[Mode]) -> list[Mode]:
    """The modes within MARGIN of the best, by descending mass, without those that repeat a better one."""
    found = sorted(found, key=lambda mode: -mode.log_mass)
    kept: list[Mode] = []
    for mode in found:
        if mode.log_mass > found[0].log_mass - MARGIN and all(other.distance(mode.location) > 0.5 for other in kept):
            kept.append(mode)
    return kept


def summits(axis: Array, field: Array) -> tuple[Array, Array, Array]:
    """Local maxima of one field (n, n) between the nodes, highest first: places (k, 2), values, curvatures (k, 2, 2).

    A peak narrower than the spacing can lie tens of nats above the node nearest to it; log p(x, z) itself is smooth,
    so the polynomial through the 7x7 nodes around each local maximum finds it. Curvature: minus the second
    derivatives there, not below the prior's.
    """
    spacing = axis[1] - axis[0]
    node = np.argwhere(field == maximum_filter(field, size=3, mode="nearest"))
    centre = node.clip(REACH, len(field) - 1 - REACH)
    windows = sliding_window_view(field, (len(STENCIL), len(STENCIL)))[tuple((centre - REACH).T)]
    weights = basis(FINE)
    fine = np.einsum("ai,kij,bj->kab", weights, windows, weights, optimize=True).reshape(len(node), -1)
    best = fine.argmax(1)
    offset = np.stack([FINE[best // len(FINE)], FINE[best % len(FINE)]], -1)
    rows = np.arange(len(node))
    edge = (node != centre).any(1)  # no room for the polynomial: the node itself
    places = np.where(edge[:, None], axis[node], axis[centre] + offset * spacing)
    values = np.where(edge, field[tuple(node.T)], fine[rows, best])
    order = np.argsort(-values)
    return places[order], values[order], _curvature(windows[order], offset[order]) / spacing**2


def _curvature(windows: Array, offset: Array) -> Array:
    """Minus the second derivatives of the polynomials at offset (k, 2), in node spacings, kept positive definite."""
    first, second = ([basis(offset[:, k], d) for d in (0, 1, 2)] for k in (0, 1))
    entries = {(i, j): np.einsum("ki,kij,kj->k", first[i], windows, second[j]) for i, j in ((2, 0), (1, 1), (0, 2))}
    hessian = -np.array([[entries[2, 0], entries[1, 1]], [entries[1, 1], entries[0, 2]]]).transpose(2, 0, 1)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    floored = np.maximum(eigenvalues, 1e-2 * np.abs(eigenvalues).max(1, keepdims=True) + 1e-12)
    positive: Array = (vectors * floored[:, None]) @ vectors.transpose(0, 2, 1)
    return positive


def _climb(joint: Decoded, owner: Index, z: Array, reach: Array) -> tuple[Array, Array, Array]:
    """Levenberg-Marquardt ascent of log p(x, z) from every row of z (n, 2) at once, no step longer than ``reach`` (n,).

    Step (H + damping diag H)^-1 (J'score - z) with H = J'Diag(precision)J + I, eq. of Park et al. 2019. Ends for a
    start that settles, or that promises to stay far below its image's best.
    """
    z = z.copy()
    value, gradient, precision = joint.quadratic(owner, z)
    damping = np.full(len(z), 1e-3)
    for _ in range(STEPS):
        damped = precision + damping[:, None, None] * precision * np.eye(2)
        step = np.linalg.solve(damped, gradient[..., None])[..., 0]
        step *= np.minimum(1, reach / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]
        promise = 0.5 * (step * gradient).sum(1)
        best = np.full(owner.max() + 1, -np.inf)
        np.maximum.at(best, owner, value)
        decrement = 0.5 * (np.linalg.solve(precision, gradient[..., None])[..., 0] * gradient).sum(1)
        hopeless = value + 4 * decrement + 1 < best[owner] - MARGIN
        active = np.flatnonzero((promise > SETTLED) & ~hopeless & (damping < STALLED))
        if not len(active):
            settled = promise <= SETTLED
            return z + settled[:, None] * step, value + settled * promise, precision
        trial = z[active] + step[active]
        new_value, new_gradient, new_precision = joint.quadratic(owner[active], trial)
        better = new_value > value[active]
        rows = active[better]
        z[rows], value[rows] = trial[better], new_value[better]
        gradient[rows], precision[rows] = new_gradient[better], new_precision[better]
        damping[active] = np.where(better, damping[active] * 0.1, damping[active] * 10).clip(1e-6)
    return z, value, precision
