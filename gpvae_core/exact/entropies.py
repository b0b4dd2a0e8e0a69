"""The entropy of a mixture over the plane, where some part is so narrow that the rules of the others miss it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gpvae_core.distributions import Posterior
from gpvae_core.exact.cells import gauss_kronrod_15
from gpvae_core.exact.grid import grid_points

Array = NDArray[np.float64]
NARROW = 0.4  # times the width of another part: down to there its rule sees this one
REACH = 9.0  # standard deviations of a part, beyond which it holds less than 1e-17
CUTS = (-6.0, -2.0, 0.0, 2.0, 6.0)  # of a part: where the boxes that are integrated one by one meet
TOLERANCE = 1e-7  # nats of each rectangle
ROUNDS, MOST = 12, 4000  # of refinement; rectangles in one


def uneven(placed: Sequence[tuple[Array, Array]]) -> bool:
    """Whether some Gaussian (centre, frame) lies within another one's reach and is much narrower."""
    for centre, frame in placed:
        inverse = np.linalg.inv(frame)
        for other, narrow in placed:
            near = np.linalg.norm(inverse @ (other - centre)) < REACH
            if near and np.linalg.svd(inverse @ narrow, compute_uv=False)[-1] < NARROW:
                return True
    return False


def entropy(q: Posterior, placed: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """-E log q in nats and its error, of a mixture of Gaussians (centre, frame), by adaptive Gauss-Kronrod.

    The box is first cut at every part's own places, so that none is too small to be noticed. All rectangles of a
    round are evaluated at once; those whose error is above TOLERANCE are cut in four for the next.
    """
    ends = []
    for axis in (0, 1):
        cuts = [c[axis] + np.linalg.norm(f[axis]) * np.array([-REACH, *CUTS, REACH]) for c, f in placed]
        ends.append(np.unique(np.concatenate(cuts)))
    low, high = (np.stack(np.meshgrid(ends[0][s], ends[1][s]), -1).reshape(-1, 2) for s in (slice(-1), slice(1, None)))
    value = error = 0.0
    for left in reversed(range(ROUNDS)):
        integrals, off = _integrals(q, low, high)
        rough = off > TOLERANCE
        rough &= left > 0 and np.count_nonzero(rough) < MOST  # else all stay as they are, with their errors
        value, error = value + float(integrals[~rough].sum()), error + float(off[~rough].sum())
        if not rough.any():
            break
        low, high = _quarters(low[rough], high[rough])
    return value, error


def _quarters(low: Array, high: Array) -> tuple[Array, Array]:
    """The four quarters of each rectangle, corners (n, 2) -> (4 n, 2)."""
    half = (high - low) / 2
    corners = np.concatenate([low + half * step for step in ((0, 0), (0, 1), (1, 0), (1, 1))])
    return corners, corners + np.tile(half, (4, 1))


def _integrals(q: Posterior, low: Array, high: Array) -> tuple[Array, Array]:
    """-E log q over each rectangle, corners (n, 2), and how far the rule's coarser one is from it; (n,) each."""
    half, rule = (high - low) / 2, gauss_kronrod_15()
    u = grid_points(rule.nodes, rule.nodes)
    values = _minus_q_log_q(q, ((low + half)[:, None] + half[:, None] * u).reshape(-1, 2)).reshape(len(low), -1)
    fine, coarse = (np.multiply.outer(w, w).ravel() for w in (rule.weights, rule.coarse_weights))
    area = half.prod(1)
    return area * (values @ fine), area * np.abs(values @ (fine - coarse))


def _minus_q_log_q(q: Posterior, z: Array) -> Array:
    log_q = q.log_prob(torch.as_tensor(z)).numpy()
    values: Array = -np.exp(log_q) * np.maximum(log_q, -700.0)
    return values
