"""ELBO, KL(q || p(z|x)) and KL(p(z|x) || q), each with the estimate of its numerical error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from gpvae_core.distributions import Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact.covering import cover
from gpvae_core.exact.expectations import (
    HEAVIEST,
    Component,
    Expectation,
    Gaussian,
    components,
    moments,
    single,
    under,
    uneven_parts,
)
from gpvae_core.exact.grid import grid_points
from gpvae_core.exact.joint import QUADRATURE, Array, Decoded, Index, LogJoint, run
from gpvae_core.exact.lattice import Lattice
from gpvae_core.exact.modes import Mode, distinct, summits

if TYPE_CHECKING:
    from gpvae_core.exact.posterior import ExactPosterior

BY_GRID = 7.5  # standard deviations of q within which its nodes count
COARSEST = 0.7  # grid spacings that q's narrower axis has to measure, in standard deviations
# E[|z|^2 | |z| > r] / r^2 of a density on the plane that falls like |z|^-5, as Student's t of 3 degrees does
TAIL = 3.0
NOTHING = -1e4  # log q where there is none: as good as -inf, and still a number to climb from
MISSING = 1e-6  # of q's mass: what the rim may hold


@dataclass(frozen=True)
class Estimate:
    """A number in nats and the estimate of its numerical error.

    Args:
        value: The number.
        error: How far it may be off, by estimate; not a bound.
    """

    value: float
    error: float


class Density(Protocol):
    """Any normalised density over z."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) in nats for z (n, 2) in float64 -> (n,)."""
        ...


def elbos(posteriors: Sequence["ExactPosterior"], qs: Sequence[Posterior], tolerance: float = 1e-3) -> list[Estimate]:
    """E_q[log p(x, z) - log q(z)] of one q over the plane each, qs[k] under the image of posteriors[k]; in nats.

    By real decodes over q's own support, which may lie where p(z|x) has no mass. Those of the base grid do where it is
    fine enough for q, else those of Gauss-Hermite. Where that does not settle (a decoder with kinks), a lattice over q
    is refined until its error estimate is within three quarters of the tolerance. The error includes the decoder's
    arithmetic, measured where q holds most.
    """
    by_grid = [_by_grid(posterior, q, tolerance) for posterior, q in zip(posteriors, qs, strict=True)]
    results = {k: one for k, one in enumerate(by_grid) if one is not None}
    asked: dict[int, list[int]] = {}
    for k, posterior in enumerate(posteriors):
        if k not in results:
            asked.setdefault(id(posterior), []).append(k)
    images = [posteriors[ks[0]] for ks in asked.values()]
    for rows, joint, yardstick in shared(images):
        groups = [list(asked.values())[row] for row in rows]
        smooth = [posteriors[ks[0]].smooth for ks in groups]
        found = elbos_by_decodes(joint, yardstick, [[qs[k] for k in ks] for ks in groups], smooth, tolerance)
        results |= zip(chain(*groups), chain(*found), strict=True)
    return [results[k] for k in range(len(qs))]


def _by_grid(posterior: "ExactPosterior", q: Posterior, tolerance: float) -> Estimate | None:
    """The same from the nodes of the base grid around q, no decode needed; None where they do not do.

    They do where log p(x, z) is known there to float32's rounding, and the lattice of nodes integrates q to 1.
    """
    if not posterior.grid_exact:
        return None
    one, axis = single(q), posterior.grid_axis
    if uneven_parts(one):
        return None
    mean, covariance = moments(q)
    spacing, reach = axis[1] - axis[0], BY_GRID * np.sqrt(np.diag(covariance))
    if not (
        np.sqrt(np.linalg.eigvalsh(covariance)[0]) > COARSEST * spacing and (np.abs(mean) + reach < axis[-1]).all()
    ):
        return None
    first, second = (np.flatnonzero(np.abs(axis - m) <= r) for m, r in zip(mean, reach, strict=True))
    nodes = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
    points, log_p = axis[nodes], posterior.grid_log_joint[tuple(nodes.T)]
    log_q = one.log_prob(torch.as_tensor(points)).numpy()
    lattice = Lattice(np.full(2, axis[0]), np.eye(2) * spacing, nodes, log_q)
    weights = np.exp(log_q + lattice.log_cell)
    missing = abs(weights.sum() - 1)
    value = float(weights @ (log_p - log_q) / weights.sum())
    left = log_p - log_q - value
    error = lattice.sum_error(weights * left) + missing * (1 + np.abs(left).max())
    heaviest = np.argsort(-weights)[:HEAVIEST]
    found = Expectation(value, error, points[heaviest], log_p[heaviest])
    if not (missing < MISSING and found.error <= QUADRATURE * tolerance):
        return None
    rounding = _rounding(found, posterior.yardstick)
    return Estimate(value, float(found.error + rounding)) if rounding <= (1 - QUADRATURE) * tolerance else None


def elbos_by_decodes(
    joint: LogJoint,
    yardstick: Decoded | None,
    qs: Sequence[Sequence[Posterior]],
    smooth: Sequence[bool],
    tolerance: float = 1e-3,
) -> list[list[Estimate]]:
    """``elbos`` without a posterior: of each of qs[i] under image number i of ``joint``, in nats.

    ``yardstick`` is the same joint in float64, None where ``joint`` is it already. ``smooth[i]``: whether Gauss-Hermite
    may be trusted there; not with a decoder that has kinks.
    """
    parts = [[components(q) for q in own] for own in qs]
    tasks = [under(own, QUADRATURE * tolerance, trusted) for own, trusted in zip(parts, smooth, strict=True)]
    results: list[list[Estimate]] = []
    for i, found in enumerate(run(tasks, joint)):
        one = None if yardstick is None else yardstick.take([i])
        results.append([_mixed(q, own, one) for q, own in zip(parts[i], found, strict=True)])
    return results


def _mixed(parts: Sequence[Component], found: Sequence[Expectation], yardstick: Decoded | None) -> Estimate:
    """The components' expectations by their shares, with the error of the decoder's arithmetic."""
    value = sum(part.weight * (one.value + part.rest[0]) for part, one in zip(parts, found, strict=True))
    if not np.isfinite(value):
        return Estimate(-np.inf, np.inf)
    errors = [
        part.weight * (one.error + part.rest[1] + _rounding(one, yardstick))
        for part, one in zip(parts, found, strict=True)
    ]
    return Estimate(value, sum(errors))


def elbo(posterior: "ExactPosterior", q: Posterior | Density, tolerance: float = 1e-3) -> Estimate:
    """E_q[log p(x, z) - log q(z)] of any density q, in nats; see ``elbos`` for Posteriors.

    Another density is integrated by a lattice over its own mass, found from its values on the base grid. Raises
    InputError where that does not find a total mass of 1.
    """
    if isinstance(q, Posterior):
        return elbos([posterior], [q], tolerance)[0]
    lattices, missing = _lattices_of(q, posterior, tolerance)
    points = np.concatenate([lattice.points for lattice in lattices])
    log_q = np.concatenate([lattice.values for lattice in lattices])
    log_p = posterior.log_prob(points) + posterior.log_evidence
    logs = log_q + np.concatenate([np.full(len(lattice.values), lattice.log_cell) for lattice in lattices])
    weights = np.exp(logs) / np.exp(logs).sum()
    ratio = np.where(weights > 0, log_p - log_q, 0.0)  # where q has no density, nothing is asked of p
    value = float(weights @ ratio)
    left = np.where(weights > 0, ratio - value, 0.0)
    # what q holds beyond the lattices: there the ratio is off as on their rims, or TAIL times as far
    start, error = 0, missing * (1 + TAIL * float(np.abs(left).max()))
    for lattice in lattices:
        own = slice(start, start + len(lattice.values))
        error += lattice.sum_error(weights[own] * left[own])
        start = own.stop
    heaviest = np.argsort(-weights)[:HEAVIEST]
    found = Expectation(value, error, points[heaviest], log_p[heaviest])
    ((_, _, yardstick),) = shared([posterior])
    return Estimate(value, error + _rounding(found, yardstick))


def gap(posterior: "ExactPosterior", bound: Estimate) -> Estimate:
    """log p(x) less an ELBO: KL(q || p(z|x)), the errors added."""
    return Estimate(posterior.log_evidence - bound.value, posterior.log_evidence_error + bound.error)


def kl_to(posterior: "ExactPosterior", q: Posterior | Density) -> Estimate:
    """KL(p(z|x) || q) = E[log p(z|x) - log q(z) | x], in nats, on the posterior's own quadrature.

    Infinite where q has no density somewhere there. Raises InputError where q's density is no number.
    """

    def log_ratio(z: Array, log_p: Array) -> Array:
        return log_p - _log_q(q, z)

    value = posterior.expected(log_ratio(posterior.points, posterior.log_density_at_points))
    if value == np.inf:
        return Estimate(value, np.inf)
    return Estimate(value, posterior.log_evidence_error + posterior.error_of(log_ratio))


def check_proper(q: Posterior | Density) -> None:
    """Raise InputError where q is no density: no such object, or a Gaussian whose width is not positive and finite."""
    if not isinstance(q, Posterior):
        if not callable(getattr(q, "log_prob", None)):
            raise InputError(f"a {type(q).__name__} is no q(z); give a Posterior, or an object with log_prob(z)")
        return
    for _, part in q.parts():
        for name in ("mean", "std", "scale_tril"):
            values = getattr(part, name, None)
            if values is not None and not bool(torch.isfinite(values).all()):
                raise InputError(f"the {name} of this q is {values.tolist()}; give finite numbers")
        if isinstance(part, Gaussian):
            factor, square = part.scale_tril, (*part.mean.shape, *part.mean.shape[-1:])
            if factor.shape != square or not bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all()):
                raise InputError(
                    f"the widths of this q are {factor.tolist()} for a mean of shape {tuple(part.mean.shape)}; give a "
                    "positive one for each coordinate, or a Cholesky factor with a positive diagonal"
                )


# --- q as the field's objects give it ---------------------------------------------------------------------------


def _log_q(q: Posterior | Density, z: Array) -> Array:
    density = single(q) if isinstance(q, Posterior) else q
    logs = density.log_prob(torch.as_tensor(z)).detach()
    if logs.shape != z.shape[:1]:
        raise InputError(
            f"log_prob of {len(z)} places z has the shape {tuple(logs.shape)}, not ({len(z)},); a torch.distributions "
            "object of independent coordinates needs torch.distributions.Independent(q, 1)"
        )
    values: Array = logs.cpu().double().numpy()
    wrong = np.isnan(values) | (values == np.inf)
    if wrong.any():
        place = np.asarray(z)[wrong][0].tolist()
        raise InputError(f"log_prob of this q is {values[wrong][0]} at z = {place}; it must be a density everywhere")
    return values


def _lattices_of(q: Density, posterior: "ExactPosterior", tolerance: float) -> tuple[list[Lattice], float]:
    """Lattices over the mass of q, and how far their total is from 1."""

    def log_q(owner: Index, z: Array) -> Array:
        return np.maximum(_log_q(q, z), NOTHING)

    axis = posterior.grid_axis
    points = grid_points(axis, axis)
    field = log_q(np.zeros(len(points), np.intp), points).reshape(len(axis), len(axis))
    modes = distinct([Mode(z, float(v), h) for z, v, h in zip(*summits(axis, field), strict=True)])
    (lattices,) = run([cover(modes, 0.1 * tolerance)], log_q)
    missing = np.inf if lattices is None else abs(sum(np.exp(lattice.log_integral) for lattice in lattices) - 1)
    if lattices is None or missing > 0.01:
        found = "no lattice over it settles" if lattices is None else f"{1 - missing:.3g} of its mass was found, not 1"
        raise InputError(
            f"q(z) could not be integrated: {found}; it must be a normalised density without jumps, whose mass lies in "
            "the prior box and is not much narrower than 0.005"
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
