"""Independent references: plain, slow, float64, and sharing no code with the engine they judge."""

from collections.abc import Callable
from copy import deepcopy
from itertools import combinations

import numpy as np
import torch
from scipy.ndimage import binary_dilation, find_objects, label
from scipy.optimize import minimize
from scipy.special import logsumexp

from gpvae_core.generative import GenerativeModel
from gpvae_core.generative.likelihoods import BernoulliLikelihood, GaussianLikelihood

Array = np.ndarray
LogJoint = Callable[[Array], Array]
LogPixel = Callable[[Array, Array], Array]
Box = tuple[Array, Array]  # low and high corner, (2,) each


def _log_joint_of(decoder: torch.nn.Module, log_pixel: LogPixel, x: Array) -> LogJoint:
    """log p(x, z) at points (n, 2) by decoding in float64; ``log_pixel(x, mean)`` per pixel."""

    def log_joint(z: Array) -> Array:
        values = []
        for chunk in np.array_split(z, max(1, len(z) // 64)):  # small chunks stay in the cache
            with torch.no_grad():
                mean = decoder(torch.as_tensor(chunk)).reshape(len(chunk), -1).numpy()
            prior = -0.5 * (chunk**2).sum(1) - np.log(2 * np.pi)
            values.append(log_pixel(x.ravel(), mean).sum(1) + prior)
        return np.concatenate(values)

    return log_joint


def gaussian_pixel(std: float) -> LogPixel:
    return lambda x, mean: -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def bernoulli_pixel(clamp: float) -> LogPixel:
    return lambda x, mean: np.log(np.clip(np.where(x > 0.5, mean, 1 - mean), clamp, 1 - clamp))


def log_pixel_of(likelihood: GaussianLikelihood | BernoulliLikelihood) -> LogPixel:
    if isinstance(likelihood, GaussianLikelihood):
        return gaussian_pixel(float(np.exp(float(likelihood.log_std))))  # float32's exp would cost 1e-3 nats
    return bernoulli_pixel(likelihood.CLAMP)


def log_joint_for(model: GenerativeModel, x: torch.Tensor) -> LogJoint:
    """log p(x, z) of one image under a model of this project, decoded in float64."""
    return _log_joint_of(deepcopy(model.decoder).double(), log_pixel_of(model.likelihood), x.double().numpy())


# --- where the mass is ----------------------------------------------------------------------------------------


def square(centre: Array, half: float) -> Box:
    return np.asarray(centre) - half, np.asarray(centre) + half


def boxes_around(field: Array, axis: Array, drop: float = 25.0, margin: int = 3) -> list[Box]:
    """Bounding boxes, ``margin`` nodes wider, of the connected sets of nodes within ``drop`` nats of the maximum."""
    labels, _ = label(field > field.max() - drop, structure=np.ones((3, 3)))
    step = axis[1] - axis[0]
    found = []
    for first, second in find_objects(labels):
        low = np.array([axis[first.start], axis[second.start]]) - margin * step
        found.append((low, np.array([axis[first.stop - 1], axis[second.stop - 1]]) + margin * step))
    return merged(found)


def merged(boxes: list[Box]) -> list[Box]:
    """The same set as disjoint boxes: two that overlap become their common bounding box."""
    for i, j in combinations(range(len(boxes)), 2):
        (a, b), (c, d) = boxes[i], boxes[j]
        if (np.maximum(a, c) < np.minimum(b, d)).all():
            rest = [box for k, box in enumerate(boxes) if k not in (i, j)]
            return merged([*rest, (np.minimum(a, c), np.maximum(b, d))])
    return boxes


def box_around_peak(log_joint: LogJoint, drop: float = 25.0, start: float = 0.01, nodes: int = 100) -> Box:
    """A square around the highest peak, widened until its whole edge lies ``drop`` nats below it.

    The peak: the best of a coarse grid of ``nodes`` to a side, then Nelder-Mead.
    """
    z = lattice(square(np.zeros(2), 4.5), (nodes, nodes))
    results = [
        minimize(lambda p: -log_joint(p[None])[0], node, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-7})
        for node in z[np.argsort(-log_joint(z))[:4]]
    ]
    peak, half = min(results, key=lambda r: r.fun).x, start
    top = log_joint(peak[None])[0]
    while log_joint(_edge(square(peak, half))).max() > top - drop:
        half *= 1.3
    return square(peak, half)


def _edge(box: Box, n: int = 41) -> Array:
    z = lattice(box, (n, n), midpoints=False).reshape(n, n, 2)
    return np.concatenate([z[0], z[-1], z[:, 0], z[:, -1]])


def modes_on_grid(field: Array, axis: Array, drop: float = 25.0) -> list[tuple[Array, float]]:
    """Local maxima of the field with the share of the mass that climbs to each, by descending share."""
    padded = np.pad(field, 1, constant_values=-np.inf)
    active = np.argwhere(field > field.max() - drop)
    row = {tuple(node): k for k, node in enumerate(active)}
    windows = np.stack([padded[active[:, 0] + a, active[:, 1] + b] for a in range(3) for b in range(3)], 1)
    uphill = active + np.stack(np.divmod(windows.argmax(1), 3), 1) - 1
    target = np.array([row[tuple(node)] for node in uphill])
    while (target[target] != target).any():
        target = target[target]
    mass = np.bincount(target, np.exp(field[tuple(active.T)] - field.max()), len(active))
    peaks = np.flatnonzero(np.bincount(target, minlength=len(active)))
    return sorted(((axis[active[k]], float(mass[k] / mass.sum())) for k in peaks), key=lambda mode: -mode[1])


# --- integrals ------------------------------------------------------------------------------------------------


def lattice(box: Box, counts: tuple[int, int], *, midpoints: bool = True) -> Array:
    """Nodes of a regular lattice over the box, row-major (n, 2): cell midpoints, or corners included."""
    shares = [(np.arange(n) + 0.5) / n if midpoints else np.arange(n) / (n - 1) for n in counts]
    axes = [a + t * (b - a) for a, b, t in zip(*box, shares, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def log_integral(log_f: LogJoint, boxes: list[Box], spacing: float) -> float:
    """Trapezoid over boxes on whose edges the integrand has vanished, so that all weights are equal."""
    terms = []
    for low, high in boxes:
        first, second = np.ceil((high - low) / spacing).astype(int)
        values = log_f(lattice((low, high), (first, second)))
        terms.append(logsumexp(values) + np.log(np.prod(high - low) / (first * second)))
    return float(logsumexp(terms))


def stretched(log_f: LogJoint, scale: float) -> LogJoint:
    """The same integrand over u, where z = scale sinh(u): as many nodes to each width of a peak at 0 as of its hill."""
    return lambda u: log_f(scale * np.sinh(u)) + np.log(scale * np.cosh(u)).sum(1)


def log_evidence(
    log_joint: LogJoint, boxes: list[Box], spacing: float, *, tolerance: float = 1e-4, most: int = 6
) -> tuple[float, float]:
    """log p(x) and its last change: refined, and widened, until doubling either changes it by less than tolerance."""
    boxes = grown(log_joint, boxes, spacing)
    spacing = max(spacing, max(float((high - low).max()) for low, high in boxes) / 150)  # a broad one needs no finer
    wider = merged([(low - (high - low) / 2, high + (high - low) / 2) for low, high in boxes])

    def outside(z: Array) -> Array:
        values = np.full(len(z), -np.inf)
        out = ~np.any([((z > low) & (z < high)).all(1) for low, high in boxes], 0)
        values[out] = log_joint(z[out])
        return values

    value = log_integral(log_joint, boxes, spacing)
    widening = float(np.exp(log_integral(outside, wider, spacing) - value))
    masks = [np.ones(tuple(np.ceil((high - low) / spacing).astype(int)), bool) for low, high in boxes]
    for _ in range(most + 1):
        refined, masks = _masked_integral(log_joint, boxes, masks)
        change, value = abs(refined - value), refined
        if 0 < change < tolerance:
            break
    return value, change + widening


def _masked_integral(
    log_joint: LogJoint, boxes: list[Box], masks: list[Array], drop: float = 25.0
) -> tuple[float, list[Array]]:
    """The midpoint rule over the cells in the masks, and those of the halved cells that can matter."""
    fields = []
    for box, mask in zip(boxes, masks, strict=True):
        fields.append(np.full(mask.shape, -np.inf))
        fields[-1][mask] = log_joint(lattice(box, mask.shape)[mask.ravel()])
    cells = [np.log(np.prod(high - low) / mask.size) for (low, high), mask in zip(boxes, masks, strict=True)]
    top = max(field.max() for field in fields)
    finer = [np.kron(binary_dilation(f > top - drop, np.ones((3, 3))), np.ones((2, 2))) > 0 for f in fields]
    return float(logsumexp([logsumexp(f) + cell for f, cell in zip(fields, cells, strict=True)])), finer


def moments(log_joint: LogJoint, box: Box, nodes: int = 1200, drop: float = 30.0) -> tuple[Array, Array, float, float]:
    """Mean, covariance, entropy and negentropy of the normalised integrand, by the midpoint rule over its mass.

    ``box`` holds the mass; the rule's own window ends where the integrand has fallen ``drop`` nats.
    """
    coarse = lattice(box, (nodes // 3, nodes // 3))
    values = log_joint(coarse)
    held, side = coarse[values > values.max() - drop], 3 * (box[1] - box[0]) / nodes
    low, high = held.min(0) - side, held.max(0) + side
    z = lattice((low, high), (nodes, nodes))
    log_p = log_joint(z)
    log_p -= logsumexp(log_p) + np.log(np.prod(high - low) / nodes**2)
    weight = np.exp(log_p) * np.prod(high - low) / nodes**2
    mean = weight @ z
    covariance = ((z - mean) * weight[:, None]).T @ (z - mean)
    entropy = -float(weight @ np.where(weight > 0, log_p, 0.0))
    gaussian = 0.5 * float(np.linalg.slogdet(2 * np.pi * np.e * covariance)[1])
    return mean, covariance, entropy, gaussian - entropy


def grown(log_joint: LogJoint, boxes: list[Box], spacing: float, drop: float = 25.0) -> list[Box]:
    """The boxes with every side moved to where the integrand has fallen ``drop`` nats below the top, and no further."""
    top = max(log_joint(lattice(box, (40, 40))).max() for box in boxes)
    result = []
    for start in boxes:
        low, high = (corner.copy() for corner in start)
        moved = True
        while moved:
            side, moved = 0.2 * (high - low), False
            for axis, corner, sign in ((0, low, -1), (0, high, 1), (1, low, -1), (1, high, 1)):
                edge = [low.copy(), high.copy()]
                edge[0][axis] = edge[1][axis] = corner[axis]
                along = max(2, int((high - low)[1 - axis] / spacing))
                values = log_joint(lattice((edge[0], edge[1]), (1, along) if axis == 0 else (along, 1)))
                if values.max() > top - drop:
                    corner[axis] += sign * side[axis]
                    top, moved = max(top, values.max()), True
        z = lattice((low, high), tuple(np.ceil((high - low) / spacing).astype(int)))
        held = z[log_joint(z) > top - drop]
        if len(held):
            result.append((held.min(0) - 3 * spacing, held.max(0) + 3 * spacing))
    return merged(result)


def elbo(
    log_joint: LogJoint, mean: Array, std: Array, *, tolerance: float = 1e-4, fewest: int = 33, most: int = 257
) -> tuple[float, float]:
    """E_q[log p(x,z) - log q(z)] of a diagonal Gaussian and its last change, by trapezoid over a disc of 7.5 std."""
    n, value, change = fewest, np.inf, np.inf
    while n <= most and change > tolerance:
        u = lattice(square(np.zeros(2), 7.5), (n, n))
        u = u[(u**2).sum(1) < 7.5**2]
        weight = np.exp(-0.5 * (u**2).sum(1))
        refined = float((weight / weight.sum()) @ log_joint(mean + std * u))
        change, value, n = abs(refined - value), refined, 2 * n - 1
    return value + float(np.log(2 * np.pi * np.e * std[0] * std[1])), change
