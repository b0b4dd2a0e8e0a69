"""Lattices over a whole posterior, refined until they see every mode and their error is within the tolerance."""

from collections.abc import Sequence
from itertools import combinations
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from gpvae_core.exact.joint import Array, Task
from gpvae_core.exact.lattice import NODES, RASTER, Lattice, squared_step
from gpvae_core.exact.modes import MARGIN, Mode, weights

MERGING_NODES = 8_000  # as NODES, while modes of unequal scales share a lattice
TRUSTED = 0.05  # of the tolerance: what the nodes that a refinement does not decode may be off together


def resolved(modes: Sequence[Mode], basis: Array, tolerance: float) -> NDArray[np.bool_]:
    """For each mode whether a lattice of this basis may pass over it, its share of the mass being what it is.

    On a Gaussian of standard deviation 1 the trapezoid rule of spacing h errs by 4 exp(-2 pi^2 / h^2) of its mass.
    That, weighed by Laplace's shares and by what they mean for moments and entropy, has to stay below a tenth of the
    tolerance. It is no error bound, only what a refinement needs in order to see every mode that matters.
    """
    mass = np.array([mode.log_mass for mode in modes])
    log_share = mass - np.logaddexp.reduce(mass) + weights(modes)
    side = squared_step(basis, np.stack([mode.precision for mode in modes]))
    seen: NDArray[np.bool_] = log_share + log(4) - 2 * pi**2 / side <= log(0.1 * tolerance)
    return seen


def _unseen(modes: Sequence[Mode], seen: NDArray[np.bool_]) -> list[Mode]:
    """Those that a lattice does not resolve."""
    return [mode for mode, known in zip(modes, seen, strict=True) if not known]


def depth(tolerance: float) -> float:
    """How many nats below the maximum a lattice reaches: what lies lower holds about e^-9 of the tolerance."""
    return float(9 - np.log(tolerance))


def cover(modes: Sequence[Mode], tolerance: float) -> Task[list[Lattice] | None]:
    """Disjoint lattices over the mass around all modes, refined until their error is within ``tolerance``.

    None where that would take more than NODES nodes: one spacing does not suit such a posterior.
    """
    drop = depth(tolerance)
    lattices: list[Lattice] = []
    for number, mode in enumerate(modes):
        home = next((lattice for lattice in lattices if lattice.holds(mode.location[None])[0]), None)
        if home is None:
            fresh = yield from Lattice.around(mode, drop)
            home = next((lattice for lattice in lattices if lattice.meets(fresh, drop)), fresh)
            if home is fresh:
                lattices.append(fresh)
            else:
                yield from home.include(mode, drop)
        while not (seen := resolved(modes, home.basis, tolerance))[number]:
            if _too_many(lattices, home, MERGING_NODES):
                return None
            yield from home.refine(drop, TRUSTED * tolerance, _unseen(modes, seen))
    if any(one.meets(other, drop) for one, other in combinations(lattices, 2)):
        return None
    return (yield from settled(lattices, tolerance, drop))


def broad(axis: Array, field: Array, modes: Sequence[Mode], tolerance: float) -> Task[list[Lattice] | None]:
    """One lattice that begins with the base grid: for broad posteriors with many modes; None as for cover."""
    drop = depth(tolerance)
    lattice = yield from Lattice.on_grid(axis, field, drop, 0.1 * tolerance)
    modes = [mode for mode in modes if mode.log_mass > modes[0].log_mass - MARGIN]  # the far ones go into the errors
    if not lattice.holds(np.stack([mode.location for mode in modes])).all():
        return None
    while not (seen := resolved(modes, lattice.basis, tolerance)).all():
        if _too_many([lattice], lattice, NODES):
            return None
        yield from lattice.refine(drop, TRUSTED * tolerance, _unseen(modes, seen))
    return (yield from settled([lattice], tolerance, drop))


def settled(lattices: list[Lattice], tolerance: float, drop: float) -> Task[list[Lattice] | None]:
    """The lattices, the worst of them refined until their error together is within ``tolerance``; None as for cover."""
    while True:
        logs = np.array([lattice.log_integral for lattice in lattices])
        shares = np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()
        errors = np.maximum(shares * [lattice.relative_error for lattice in lattices], shown_errors(lattices))
        if errors.sum() <= tolerance:
            return lattices
        worst = lattices[int(errors.argmax())]
        if _too_many(lattices, worst, NODES):
            return None
        yield from worst.refine(drop, TRUSTED * tolerance)


def shown_errors(lattices: Sequence[Lattice]) -> Array:
    """For each lattice the largest error that its nodes bring to a mean, a variance or the entropy, (n,).

    In tenths of a deviation, in thirtieths of the variance, in tenths of a nat. No more is asked: the sublattices give
    the error of a lattice twice as coarse, and each number carries its own error anyway.
    """
    logs = np.concatenate([lattice.values + lattice.log_cell for lattice in lattices])
    mass = np.exp(logs - np.logaddexp.reduce(logs))
    points, values = (np.concatenate([getattr(lattice, f) for lattice in lattices]) for f in ("points", "values"))
    centred = points - mass @ points
    covariance = (centred * mass[:, None]).T @ centred
    if np.linalg.eigvalsh(covariance)[0] <= 0:  # all mass on one node, or on a line of them: far too coarse
        return np.full(len(lattices), np.inf)
    u = np.linalg.solve(np.linalg.cholesky(covariance), centred.T)
    squares = [u[0] ** 2 - 1, u[1] ** 2 - 1, u[0] * u[1]]
    terms = mass * np.stack([0.1 * u[0], 0.1 * u[1], *[s / 30 for s in squares], 0.1 * (values - mass @ values)])
    ends = np.cumsum([len(lattice.values) for lattice in lattices])[:-1]
    pairs = zip(lattices, np.split(terms, ends, axis=1), strict=True)
    return np.array([max(lattice.sum_error(term) for term in own) for lattice, own in pairs])


def _too_many(lattices: list[Lattice], refined: Lattice, limit: int) -> bool:
    """Whether refining that lattice goes beyond ``limit`` nodes, or its bounding box beyond memory."""
    nodes = sum(len(lattice.coords) - lattice.given for lattice in lattices) + len(refined.coords)
    return nodes > limit or 4 * refined.extent > RASTER
