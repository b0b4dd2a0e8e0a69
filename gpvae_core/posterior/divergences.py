"""ELBO, KL(q || p(z|x)) and KL(p(z|x) || q), each with the estimate of its numerical error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.gaussian import DiagonalGaussian, FullGaussian
from gpvae_core.posterior.grid import grid_points
from gpvae_core.posterior.joint import Array, Decoded, Index, LogJoint, Task, run
from gpvae_core.posterior.lattice import COSETS, HALVE, Lattice, cover
from gpvae_core.posterior.modes import Mode, distinct, summits

if TYPE_CHECKING:
    from gpvae_core.posterior.exact import ExactPosterior

Gaussian = DiagonalGaussian | FullGaussian
HERMITE_ORDERS = (5, 7, 9)
SPACING = 0.7  # of the first lattice under a Gaussian, in its standard deviations
RADIUS = 6.5  # where it ends: what lies beyond holds 7e-10 of q, and log p(x, z) falls like a square
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
    placed = [centre_and_frame(q) for q in qs]
    results: dict[int, Estimate] = {}
    for rows, joint, yardstick in shared(posteriors):
        found = run([_under_gaussian(*placed[k], 0.5 * tolerance) for k in rows], joint)
        for k, one, rounding in zip(rows, found, _rounding(found, yardstick), strict=True):
            entropy = np.log(2 * np.pi * np.e) + float(np.linalg.slogdet(placed[k][1])[1])
            results[k] = Estimate(one.value + entropy, one.error + rounding)
    return [results[k] for k in range(len(qs))]


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
    return Estimate(value, error + _rounding([found], yardstick)[0])


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


def _rounding(found: Sequence[Expectation], yardstick: Decoded | None) -> list[float]:
    """The largest difference of the values used from float64 decodes, for each expectation."""
    if yardstick is None:
        return [0.0] * len(found)
    owner = np.repeat(np.arange(len(found)), [len(one.used) for one in found])
    truth = yardstick(owner, np.concatenate([one.places for one in found]))
    difference = np.abs(truth - np.concatenate([one.used for one in found]))
    return [float(difference[owner == k].max()) for k in range(len(found))]


def _under_gaussian(centre: Array, frame: Array, tolerance: float) -> Task[Expectation]:
    """E log p(x, z) under N(centre, frame frame')."""
    rules = [hermite(order) for order in HERMITE_ORDERS]
    nodes = np.concatenate([u for u, _ in rules])
    values = yield centre + nodes @ frame.T
    parts = np.split(values, np.cumsum([len(u) for u, _ in rules])[:-1])
    low, middle, high = (float(w @ part) for (_, w), part in zip(rules, parts, strict=True))
    heaviest = np.argsort(-rules[-1][1])[:ARITHMETIC_POINTS]
    places, used = centre + rules[-1][0][heaviest] @ frame.T, parts[-1][heaviest]
    error = max(abs(high - middle), abs(middle - low) / COSETS)  # two agreements: kinks could feign one
    if error > tolerance:
        high, error = yield from _on_lattice(centre, frame, tolerance)
    return Expectation(high, error, places, used)


def _on_lattice(centre: Array, frame: Array, tolerance: float) -> Task[tuple[float, float]]:
    """E log p(x, z) under N(centre, frame frame') by nested lattices: each adds the centres of the former's squares."""
    basis = SPACING * np.eye(2)
    u = _disc(basis, fresh_only=False)
    value, change, error = np.nan, np.inf, np.inf
    count = 0
    while True:
        weights = np.exp(-0.5 * (u**2).sum(1))
        fresh = float(weights @ (yield centre + u @ frame.T)) / float(weights.sum())
        count += len(u)
        previous, value = value, fresh if count == len(u) else 0.5 * (value + fresh)
        if count > len(u):
            former, change = change, abs(value - previous)
            error = max(change, former / COSETS)
        if error <= tolerance or 2 * count > LATTICE_NODES:
            return value, error
        basis = basis @ HALVE
        u = _disc(basis, fresh_only=True)


def _disc(basis: Array, fresh_only: bool) -> Array:
    """Lattice points of the disc, (n, 2): all of them, or only those that the last refinement added."""
    n = int(np.ceil(RADIUS / np.sqrt(abs(np.linalg.det(basis))))) + 1
    axis = np.arange(-n, n + 1.0)
    c = grid_points(axis, axis)
    if fresh_only:
        c = c[c.sum(1) % 2 == 1]
    u = c @ basis.T
    inside: Array = u[(u**2).sum(1) <= RADIUS**2]
    return inside


@cache
def hermite(order: int) -> tuple[Array, Array]:
    """Tensor-product Gauss-Hermite nodes (order^2, 2) and weights (order^2,), summing to 1, for N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(order)
    return grid_points(x, x), np.outer(w, w).ravel() / w.sum() ** 2
