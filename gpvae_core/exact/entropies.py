"""The entropy of a mixture over the plane, where some part is so narrow that the rules of the others miss it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import cubature

from gpvae_core.distributions import Posterior

Array = NDArray[np.float64]
NARROW = 0.4  # times the width of another part: down to there its rule sees this one
REACH = 9.0  # standard deviations of a part, beyond which it holds less than 1e-17
CUTS = (-6.0, -2.0, 0.0, 2.0, 6.0)  # of a part: where the boxes that are integrated one by one meet
TOLERANCE, MOST = 1e-7, 2000  # of each box, in nats; subdivisions


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

    The box is first cut at every part's own places, so that none is too small to be noticed.
    """
    ends = []
    for axis in (0, 1):
        cuts = [c[axis] + np.linalg.norm(f[axis]) * np.array([-REACH, *CUTS, REACH]) for c, f in placed]
        ends.append(np.unique(np.concatenate(cuts)))
    value = error = 0.0
    for low, high in zip(ends[0][:-1], ends[0][1:], strict=True):
        for left, right in zip(ends[1][:-1], ends[1][1:], strict=True):
            found = cubature(
                lambda z: _minus_q_log_q(q, z),
                [low, left],
                [high, right],
                rule="gauss-kronrod",
                atol=TOLERANCE,
                rtol=0.0,
                max_subdivisions=MOST,
            )
            value, error = value + float(found.estimate), error + float(found.error)
    return value, error


def _minus_q_log_q(q: Posterior, z: Array) -> Array:
    log_q = q.log_prob(torch.as_tensor(z)).numpy()
    values: Array = -np.exp(log_q) * np.maximum(log_q, -700.0)
    return values
