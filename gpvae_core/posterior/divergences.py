"""ELBO, KL(q || p(z|x)) and KL(p(z|x) || q), each with the estimate of its numerical error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gpvae_core.distributions.gaussian import DiagonalGaussian, FullGaussian
from gpvae_core.errors import InputError
from gpvae_core.posterior.grid import grid_points
from gpvae_core.posterior.joint import Array, Decoded, Index, LogJoint, Task, run
from gpvae_core.posterior.lattice import COSETS, HALVE, Lattice, cover
from gpvae_core.posterior.modes import Mode, distinct, summits

if TYPE_CHECKING:
    from gpvae_core.posterior.exact import ExactPosterior

Gaussian = DiagonalGaussian | FullGaussian
Placed = tuple[Array, Array]  # centre (2,) and frame (2, 2) of a Gaussian
HERMITE_ORDERS = (4, 6, 8)
SPACING = 0.7  # of the first lattice under a Gaussian, in its standard deviations
RADIUS = 6.5  # where it ends: what lies beyond holds 7e-10 of q, and log p(x, z) falls like a square
INNER, OUTER = 3.0, 4.5  # between these radii refinement fades out
LATTICE_NODES = 30_000
ARITHMETIC_POINTS = 8  # decoded in float64 for each q


@dataclass(frozen=True)
class Estimate:
    """A number in nats and the estimate of its numerical error."""

    value: float
    error: float


class Density(Protocol):
    """Any normalised density over z."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats for z (n, 2) in float64 -> (n,)."""
        ...


@dataclass(frozen=True)
class Expectation:
    """E_q log p(x, z), its quadrature error, and the places where q holds most with the values used there."""

    value: float
    error: float
    places: Array
    used: Array


def elbos(posteriors: Sequence["ExactPosterior"], qs: Sequence[Gaussian], tolerance: float = 1e-3) -> list[Estimate]:
    """E_q[log p(x, z) - log q(z)] of Gaussian qs[k], mean (2,), under the image of posteriors[k]; in nats.

    By real decodes over q's own support, which may lie where p(z|x) has no mass: Gauss-Hermite, and where that does
    not settle (a decoder with kinks), a lattice over q refined until its error estimate is within half the tolerance.
    The error includes the decoder's arithmetic, measured where q holds most.
    """
    results: dict[int, Estimate] = {}
    asked: dict[int, list[int]] = {}
    for k, posterior in enumerate(posteriors):
        asked.setdefault(id(posterior), []).append(k)
    images = [posteriors[ks[0]] for ks in asked.values()]
    for rows, joint, yardstick in shared(images):
        groups = [list(asked.values())[row] for row in rows]
        smooth = [posteriors[ks[0]].smooth for ks in groups]
        found = elbos_by_decodes(joint, yardstick, [[qs[k] for k in ks] for ks in groups], smooth, tolerance)
        results |= zip(chain(*groups), chain(*found), strict=True)
    return [results[k] for k in range(len(qs))]


def elbos_by_decodes(
    joint: LogJoint,
    yardstick: Decoded | None,
    qs: Sequence[Sequence[Gaussian]],
    smooth: Sequence[bool],
    tolerance: float = 1e-3,
) -> list[list[Estimate]]:
    """``elbos`` without a posterior: of the Gaussians qs[i] under image number i of ``joint``, in nats.

    ``yardstick`` is the same joint in float64, None where ``joint`` is it already. ``smooth[i]``: whether Gauss-Hermite
    may be trusted there; not with a decoder that has kinks.
    """
    placed = [[centre_and_frame(q) for q in own] for own in qs]
    tasks = [_under_gaussians(own, 0.5 * tolerance, trusted) for own, trusted in zip(placed, smooth, strict=True)]
    results: list[list[Estimate]] = []
    for i, found in enumerate(run(tasks, joint)):
        one = None if yardstick is None else yardstick.take([i])
        entropies = [np.log(2 * np.pi * np.e) + float(np.linalg.slogdet(frame)[1]) for _, frame in placed[i]]
        pairs = zip(found, entropies, strict=True)
        results.append([Estimate(part.value + entropy, part.error + _rounding(part, one)) for part, entropy in pairs])
    return results


def elbo(posterior: "ExactPosterior", q: Gaussian | Density, tolerance: float = 1e-3) -> Estimate:
    """E_q[log p(x, z) - log q(z)] of any density q, in nats; see ``elbos`` for Gaussians.

    Another density is integrated by a lattice over its own mass, found from its values on the base grid. Raises
    InputError where that does not find a total mass of 1.
    """
    if isinstance(q, DiagonalGaussian | FullGaussian):
        return elbos([posterior], [q], tolerance)[0]
    lattices, missing = _lattices_of(q, posterior, tolerance)
    points = np.concatenate([lattice.points for lattice in lattices])
    log_q = np.concatenate([lattice.values for lattice in lattices])
    log_p = posterior.log_prob(points) + posterior.log_evidence
    logs = log_q + np.concatenate([np.full(len(lattice.values), lattice.log_cell) for lattice in lattices])
    weights = np.exp(logs) / np.exp(logs).sum()
    value = float(weights @ (log_p - log_q))
    terms, start, error = weights * (log_p - log_q - value), 0, missing
    for lattice in lattices:
        part = terms[start : start + len(lattice.values)]
        error += lattice.sum_error(part)
        start += len(part)
    heaviest = np.argsort(-weights)[:ARITHMETIC_POINTS]
    found = Expectation(value, error, points[heaviest], log_p[heaviest])
    ((_, _, yardstick),) = shared([posterior])
    return Estimate(value, error + _rounding(found, yardstick))


def gap(posterior: "ExactPosterior", bound: Estimate) -> Estimate:
    """log p(x) less an ELBO: KL(q || p(z|x)), the errors added."""
    return Estimate(posterior.log_evidence - bound.value, posterior.log_evidence_error + bound.error)


def kl_to(posterior: "ExactPosterior", q: Gaussian | Density) -> Estimate:
    """KL(p(z|x) || q) = E[log p(z|x) - log q(z) | x], in nats, on the posterior's own quadrature."""
    log_ratio = posterior.log_density_at_points - _log_q(q, posterior.points)
    value = posterior.expected(log_ratio)
    error = posterior.log_evidence_error + posterior.expectation_error(log_ratio)
    return Estimate(value, error)


# --- q as the field's objects give it ---------------------------------------------------------------------------


def centre_and_frame(q: Gaussian) -> tuple[Array, Array]:
    """Mean (2,) and Cholesky factor (2, 2) of one Gaussian, in float64. Raises InputError for a batch."""
    if tuple(q.mean.shape) != (2,):
        raise InputError(f"give one q(z|x) with a mean of shape (2,), not {tuple(q.mean.shape)}; index the batch first")
    mean: Array = q.mean.detach().cpu().double().numpy()
    return mean, q.scale_tril.detach().cpu().double().numpy()


def _log_q(q: Gaussian | Density, z: Array) -> Array:
    if isinstance(q, DiagonalGaussian):
        q = DiagonalGaussian(q.mean.cpu().double(), q.std.cpu().double())
    elif isinstance(q, FullGaussian):
        q = FullGaussian(q.mean.cpu().double(), q.scale_tril.cpu().double())
    values: Array = q.log_prob(torch.as_tensor(z)).detach().cpu().double().numpy()
    return values


def _lattices_of(q: Density, posterior: "ExactPosterior", tolerance: float) -> tuple[list[Lattice], float]:
    """Lattices over the mass of q, and how far their total is from 1."""

    def log_q(owner: Index, z: Array) -> Array:
        return _log_q(q, z)

    axis = posterior.grid_axis
    field = _log_q(q, grid_points(axis, axis)).reshape(len(axis), len(axis))
    modes = distinct([Mode(z, float(v), h) for z, v, h in zip(*summits(axis, field), strict=True)])
    (lattices,) = run([cover(modes, 0.1 * tolerance)], log_q)
    missing = np.inf if lattices is None else abs(sum(np.exp(lattice.log_integral) for lattice in lattices) - 1)
    if lattices is None or missing > 0.01:
        raise InputError(
            f"q(z) could not be integrated: {1 - missing:.3g} of its mass was found, not 1; it must be a normalised "
            "density whose mass lies in the prior box and is not much narrower than 0.005"
        )
    return lattices, float(missing)


# --- integration --------------------------------------------------------------------------------------------------


def shared(posteriors: Sequence["ExactPosterior"]) -> Iterable[tuple[list[int], LogJoint, Decoded | None]]:
    """Posteriors that share a decoder: their numbers, one log joint for all, and the float64 one to compare with."""
    groups: dict[object, list[int]] = {}
    for k, posterior in enumerate(posteriors):
        joint = posterior.log_joint
        groups.setdefault(id(joint.model) if isinstance(joint, Decoded) else ("alone", k), []).append(k)
    for rows in groups.values():
        first = posteriors[rows[0]]
        if isinstance(first.log_joint, Decoded):
            joints, yardsticks = ([getattr(posteriors[k], f) for k in rows] for f in ("log_joint", "yardstick"))
            yield rows, Decoded.stacked(joints), None if first.yardstick is None else Decoded.stacked(yardsticks)
        else:
            yield rows, first.log_joint, None


def _rounding(found: Expectation, yardstick: Decoded | None) -> float:
    """The largest difference of the values used from float64 decodes."""
    if yardstick is None:
        return 0.0
    truth = yardstick(np.zeros(len(found.used), np.intp), found.places)
    return float(np.abs(truth - found.used).max())


def _under_gaussians(placed: list[Placed], tolerance: float, smooth: bool) -> Task[list[Expectation]]:
    """E log p(x, z) under each N(centre, frame frame') of one image.

    Gauss-Hermite where it settles; not where the posterior itself was not smooth: there orders agree by chance.
    """
    rules = [hermite(order) for order in HERMITE_ORDERS]
    nodes = np.concatenate([u for u, _ in rules])
    ends = np.cumsum([len(u) for u, _ in rules])[:-1]
    values = yield np.concatenate([centre + nodes @ frame.T for centre, frame in placed])
    heaviest = np.argsort(-rules[-1][1])[:ARITHMETIC_POINTS]
    results: list[Expectation] = []
    for (centre, frame), own in zip(placed, np.split(values, len(placed)), strict=True):
        parts = np.split(own, ends)
        low, middle, high = (float(w @ part) for (_, w), part in zip(rules, parts, strict=True))
        # two agreements: one could be chance
        error = max(abs(high - middle), abs(middle - low) / COSETS) if smooth else np.inf
        results.append(Expectation(high, error, centre + rules[-1][0][heaviest] @ frame.T, parts[-1][heaviest]))
    rest = [k for k, result in enumerate(results) if result.error > tolerance]
    while rest:
        first = max(rest, key=lambda k: float(np.linalg.slogdet(placed[k][1])[1]))
        together = [first, *(k for k in rest if k != first and _close(placed[first], placed[k]))]
        found = yield from _on_lattice([placed[k] for k in together], tolerance)
        for k, (value, error) in zip(together, found, strict=True):
            results[k] = replace(results[k], value=value, error=error)
        rest = [k for k in rest if k not in together]
    return results


def _close(wide: Placed, other: Placed) -> bool:
    """Whether a lattice over the one serves the other as well."""
    inverse = np.linalg.inv(wide[1])
    widths = np.linalg.svd(inverse @ other[1], compute_uv=False)
    return bool(np.linalg.norm(inverse @ (other[0] - wide[0])) < 0.5 and 0.8 < widths[-1] <= widths[0] < 1.1)


def _on_lattice(placed: list[Placed], tolerance: float) -> Task[list[tuple[float, float]]]:
    """E log p(x, z) and its error under Gaussians close to the first, by nested lattices over that one.

    Each refinement adds the centres of the squares. After the first one only the part within OUTER standard
    deviations goes on, cut out by a smooth window: what lies beyond holds less than 1e-4 and has settled.
    """
    centre, frame = placed[0]
    inverse = np.linalg.inv(frame)
    shapes = [(inverse @ (m - centre), np.linalg.inv(inverse @ a)) for m, a in placed]
    basis = SPACING * np.eye(2)
    total = inner = outer = origin = np.zeros(0)
    changes: list[Array] = []
    nodes, level = 0, 0
    while True:
        u = _disc(basis, RADIUS + 0.5 if level < 2 else OUTER, fresh_only=level > 0)
        values = yield centre + u @ frame.T
        nodes += len(u)
        weights = np.stack([_standard_normal((u - d) @ t.T) * abs(np.linalg.det(t)) for d, t in shapes])
        weights *= abs(np.linalg.det(basis)) * (1 if level == 0 else 2)
        if level == 0:
            origin = weights @ values / weights.sum(1)  # integrate what is left after a constant: small numbers
        window = _window(np.linalg.norm(u, axis=1))
        left = weights * (values - origin[:, None])
        fresh_inner, fresh_outer = left @ window, left @ (1 - window)
        previous = total
        inner = fresh_inner if level == 0 else 0.5 * (inner + fresh_inner)
        outer = fresh_outer if level == 0 else 0.5 * (outer + fresh_outer) if level == 1 else outer
        total = origin + inner + outer
        if level > 0:
            changes.append(np.abs(total - previous))
        # a kink's error halves with each refinement; three changes in a row are not small by chance
        if level > 1:
            error = np.max([change / 2**k for k, change in enumerate(reversed(changes[-3:]))], axis=0)
            if (error <= tolerance).all() or 2 * nodes > LATTICE_NODES:
                return list(zip(total.tolist(), error.tolist(), strict=True))
        basis, level = basis @ HALVE, level + 1


def _standard_normal(u: Array) -> Array:
    density: Array = np.exp(-0.5 * (u**2).sum(1)) / (2 * np.pi)
    return density


def _window(radius: Array) -> Array:
    """1 within INNER, 0 beyond OUTER, three times differentiable between."""
    t = np.clip((OUTER - radius) / (OUTER - INNER), 0, 1)
    window: Array = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return window


def _disc(basis: Array, radius: float, *, fresh_only: bool) -> Array:
    """Lattice points of the disc, (n, 2): all of them, or only those that the last refinement added."""
    n = int(np.ceil(radius / np.sqrt(abs(np.linalg.det(basis))))) + 1
    axis = np.arange(-n, n + 1.0)
    c = grid_points(axis, axis)
    if fresh_only:
        c = c[c.sum(1) % 2 == 1]
    u = c @ basis.T
    inside: Array = u[(u**2).sum(1) <= radius**2]
    return inside


@cache
def hermite(order: int) -> tuple[Array, Array]:
    """Tensor-product Gauss-Hermite nodes (order^2, 2) and weights (order^2,), summing to 1, for N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    return grid_points(x, x), np.outer(w, w).ravel() / w.sum() ** 2
