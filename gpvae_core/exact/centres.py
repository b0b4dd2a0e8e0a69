"""Values at the centres of a lattice's squares from the nodes around, each with an estimate of its error.

Where log p(x, z) is smooth at a lattice's spacing, the next finer lattice can be had without most of its decodes.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpvae_core.exact.joint import Array, Index

# of the polynomial through so many nodes a side, at the middle; the wider first
MIDDLE = {6: np.array([3, -25, 150, 150, -25, 3]) / 256, 4: np.array([-1, 9, 9, -1]) / 16}
AROUND = 4  # nodes a side of the square around a centre in which errors are looked for
PAD = max(MIDDLE)


def predicted(coords: Index, values: Array, doubt: Array, centres: Index) -> tuple[Array, Array]:
    """Values and errors at centres, (n,) each; NaN where too few of the nodes around are known.

    Args:
        coords: Of the nodes, integers (m, 2).
        values: There, (m,).
        doubt: What each of them may be off, (m,).
        centres: Of squares of nodes, in the coordinates of the lattice refined once, (n, 2); see ``refined``.

    The error is the largest miss around: what the same polynomial makes of a node when it sees every second one only.
    That lattice is coarser by sqrt(2). Where the function is smooth, it misses eight times what is missed at a centre.
    """
    even = coords.sum(1) % 2 == 0
    former, between = _coarsened(coords[even]), coords[~even]
    value, error = np.full((2, len(centres)), np.nan)
    for width in MIDDLE:
        missed = np.abs(_middle(former, values[even], between, width) - values[~even])
        seen = np.where(doubt > 0, doubt, -np.inf)  # a decode, or a miss that is not known, says nothing of the others
        seen[~even] = np.fmax(seen[~even], missed)
        worst = _windows(coords, seen, centres, AROUND, -np.inf).max((1, 2))
        found = _middle(coords, values, centres, width)
        take = np.isnan(value) & np.isfinite(worst) & ~np.isnan(found)
        value[take], error[take] = found[take], worst[take]
    return value, error


def refined(coords: Index) -> Index:
    """Coordinates of the same nodes in the lattice refined once, (n, 2): their sum is even, that of centres odd."""
    fine: Index = coords @ np.array([[1, 1], [1, -1]])
    return fine


def _coarsened(coords: Index) -> Index:
    """The opposite: of nodes whose sum is even, or of the square below a centre."""
    return refined(coords) // 2


def _middle(coords: Index, values: Array, centres: Index, width: int) -> Array:
    """The polynomial through width^2 nodes around each centre, (n,); NaN where one of them is unknown."""
    weights = MIDDLE[width]
    windows = _windows(coords, values, centres, width, np.nan)
    middle: Array = np.einsum("i,nik,k->n", weights, windows, weights)
    return middle


def _windows(coords: Index, values: Array, centres: Index, width: int, unknown: float) -> Array:
    """Values of the width^2 nodes around each centre, (n, width, width)."""
    below = _coarsened(centres)
    low = np.minimum(coords.min(0), below.min(0)) - PAD
    raster = np.full(np.maximum(coords.max(0), below.max(0)) - low + PAD, unknown)
    raster[tuple((coords - low).T)] = values
    first = below - low - width // 2 + 1
    windows: Array = sliding_window_view(raster, (width, width))[tuple(first.T)]
    return windows
