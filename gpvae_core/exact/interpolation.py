"""Local polynomial interpolation of values on a regular lattice: degree 6 through the 7x7 nodes around each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from gpvae_core.exact.joint import Array

REACH = 3  # nodes on either side
STENCIL = np.arange(-REACH, REACH + 1)


@dataclass(frozen=True)
class Fine:
    """Small parallelograms that tile a region.

    Centres (m, 2), log f there (m,), how far it rises and falls within each (m,), side vectors as columns (m, 2, 2).
    """

    points: Array
    values: Array
    spreads: Array
    sides: Array

    @property
    def areas(self) -> Array:
        s = self.sides
        areas: Array = np.abs(s[:, 0, 0] * s[:, 1, 1] - s[:, 0, 1] * s[:, 1, 0])
        return areas


def joined(parts: Sequence[Fine]) -> Fine:
    """All of them as one."""
    return Fine(
        *(np.concatenate([getattr(part, f) for part in parts]) for f in ("points", "values", "spreads", "sides"))
    )


def midpoint_square(per_axis: int) -> Array:
    """Centres of the per_axis^2 squares that tile [-1/2, 1/2]^2, row-major (per_axis^2, 2)."""
    offset = (np.arange(per_axis) + 0.5) / per_axis - 0.5
    return np.stack(np.meshgrid(offset, offset, indexing="ij"), -1).reshape(-1, 2)


def spreads(values: Array) -> Array:
    """Half the range of a function linear in each small square, from values (..., n, n) on tiles of squares."""
    first, second = np.gradient(values, axis=(-2, -1))
    half_ranges: Array = 0.5 * (np.abs(first) + np.abs(second))
    return half_ranges


def basis(offsets: Array, derivative: int = 0, reach: int = REACH) -> Array:
    """Lagrange weights (len(offsets), 2 reach + 1) of the nodes -reach..reach at offsets in node spacings.

    ``derivative`` 1 or 2 gives the weights of that derivative.
    """
    weights: Array = np.vander(offsets, 2 * reach + 1 - derivative, increasing=True) @ _coefficients(derivative, reach)
    return weights


@cache
def _coefficients(derivative: int, reach: int) -> Array:
    """C with d^k/dx^k of the interpolant = sum_j x^j C[j] @ values, (2 reach + 1 - k, 2 reach + 1)."""
    rows: Array = np.linalg.inv(np.vander(np.arange(-reach, reach + 1.0), increasing=True))
    for _ in range(derivative):
        rows = np.arange(1, len(rows))[:, None] * rows[1:]
    return rows


def filled(values: Array, known: NDArray[np.bool_]) -> Array:
    """``values`` with unknown nodes extrapolated: a quadratic fit to all, plus the nearest known node's residual."""
    i, k = ((np.arange(n) - n / 2) / n for n in values.shape)
    i, k = np.meshgrid(i, k, indexing="ij")
    terms = np.stack([np.ones(values.shape), i, k, i * i, i * k, k * k], -1)
    trend = terms @ np.linalg.lstsq(terms[known], values[known], rcond=None)[0]
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    result: Array = trend + (values - trend)[tuple(nearest)]
    return result


def at(values: Array, t: Array, reach: int = REACH) -> Array:
    """The interpolant at fractional node indices t (n, 2) of a full lattice ``values``; clipped to its inner part."""
    node = np.clip(np.rint(t), reach, np.array(values.shape) - 1 - reach).astype(int)
    weights = [basis(t[:, k] - node[:, k], reach=reach) for k in (0, 1)]
    windows = sliding_window_view(values, (2 * reach + 1, 2 * reach + 1))[node[:, 0] - reach, node[:, 1] - reach]
    result: Array = np.einsum("ni,nij,nj->n", weights[0], windows, weights[1])
    return result


def midpoints(values: Array, node: NDArray[np.intp], per_axis: int) -> Array:
    """The interpolant at the midpoints of squares that tile each node's own cell, (n, per_axis, per_axis)."""
    offsets = (np.arange(per_axis) + 0.5) / per_axis - 0.5
    weights = basis(offsets)
    padded = np.pad(values, REACH, mode="edge")
    windows = sliding_window_view(padded, (len(STENCIL), len(STENCIL)))[node[:, 0], node[:, 1]]
    fine: Array = np.einsum("ai,nij,bj->nab", weights, windows, weights, optimize=True)
    return fine
