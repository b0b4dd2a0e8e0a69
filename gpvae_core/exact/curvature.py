"""Widths of hills from values of log p(x, z) itself: Gauss-Newton's are wrong where the decoder's Jacobian vanishes."""

import numpy as np

from gpvae_core.exact.joint import Array, Decoded, Index

NARROW = 2.0  # nats lost a standard deviation away, for a Gaussian 0.5: more says that the hill is under half as wide
RISE = 0.5  # nats gained there: the place is no summit
DEEP = 40.0  # nats below the image's best place: such a place is not looked at
SCALES: Array = 4.0 ** -np.arange(0.0, 16.0)  # of the standard deviations at which a hill is measured
ARMS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])


def checked(joint: Decoded, owner: Index, z: Array, value: Array, precision: Array) -> tuple[Array, Array, Array]:
    """Summits z (n, 2), values (n,) and precisions (n, 2, 2), set right where four decodes each say otherwise.

    Precisions only grow: a hill wider than its Gauss-Newton precision says is found by the quadrature as it spreads.
    """
    z, value, precision = z.copy(), value.copy(), precision.copy()
    best = np.full(owner.max() + 1, -np.inf)
    np.maximum.at(best, owner, value)
    looked_at = np.flatnonzero(value > best[owner] - DEEP)
    drops = _drops(joint, owner[looked_at], z[looked_at], value[looked_at], frames(precision[looked_at]), np.ones(1))
    wrong = looked_at[_is_wrong(drops[..., 0])]
    if not len(wrong):
        return z, value, precision
    value[wrong] = joint(owner[wrong], z[wrong])  # a last step taken on trust can have promised too much
    low = looked_at[drops[..., 0].min(1) < -RISE]
    if len(low):
        z[low], value[low] = _highest(joint, owner[low], z[low], value[low], frames(precision[low]))
    axes = frames(precision[wrong])
    drops = _drops(joint, owner[wrong], z[wrong], value[wrong], axes, SCALES)
    scales = np.array([[_half_nat(drops[k, 2 * j : 2 * j + 2].mean(0)) for j in (0, 1)] for k in range(len(wrong))])
    inverse = np.linalg.inv(axes * scales[:, None])
    precision[wrong] = inverse.transpose(0, 2, 1) @ inverse
    return z, value, precision


def frames(precision: Array) -> Array:
    """A (n, 2, 2) with A A' = precision^-1."""
    eigenvalues, vectors = np.linalg.eigh(precision)
    axes: Array = vectors / np.sqrt(eigenvalues)[:, None]
    return axes


def _is_wrong(drops: Array) -> Array:
    """Whether one of the arms (n, 4) rises, or both of an axis fall too fast."""
    means = drops.reshape(-1, 2, 2).mean(2)
    wrong: Array = (means.max(1) > NARROW) | (drops.min(1) < -RISE)
    return wrong


def _arms(z: Array, axes: Array, scales: Array) -> Array:
    """Points at all scales along both axes, (n, 4, len(scales), 2)."""
    points: Array = z[:, None, None] + scales[:, None] * (ARMS @ axes.transpose(0, 2, 1))[:, :, None]
    return points


def _drops(joint: Decoded, owner: Index, z: Array, value: Array, axes: Array, scales: Array) -> Array:
    """How far log p(x, z) falls from z to each of ``_arms``, (n, 4, len(scales)) in nats."""
    points = _arms(z, axes, scales)
    values = joint(np.repeat(owner, points[0].size // 2), points.reshape(-1, 2))
    drops: Array = value[:, None, None] - values.reshape(points.shape[:3])
    return drops


def _highest(joint: Decoded, owner: Index, z: Array, value: Array, axes: Array) -> tuple[Array, Array]:
    """The summits reached by going from z to the highest of its arms' points, at most once for each scale."""
    z, value = z.copy(), value.copy()
    for _ in range(len(SCALES)):
        points = _arms(z, axes, SCALES).reshape(len(z), -1, 2)
        values = value[:, None] - _drops(joint, owner, z, value, axes, SCALES).reshape(len(z), -1)
        best, rows = values.argmax(1), np.arange(len(z))
        gain = values[rows, best] - value
        if not (gain > RISE).any():
            break
        moved = np.flatnonzero(gain > 0)
        z[moved], value[moved] = points[moved, best[moved]], values[moved, best[moved]]
    return z, value


def _half_nat(drop: Array) -> float:
    """The scale at which a mean drop (len(SCALES),), falling from scale 1 down, passes half a nat."""
    below = np.flatnonzero(drop < 0.5)
    if not len(below):
        return float(SCALES[-1])
    k = int(below[0])
    if k == 0:
        return 1.0
    share = np.log(drop[k - 1] / 0.5) / max(np.log(drop[k - 1] / max(drop[k], 1e-12)), 1e-12)
    return float(SCALES[k - 1] * 4.0 ** -np.clip(share, 0, 1))
