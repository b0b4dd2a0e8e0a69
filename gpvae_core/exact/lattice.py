"""The trapezoid rule on a lattice that floods the mass: exponentially convergent where log p(x, z) is smooth."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, maximum_filter

from gpvae_core.exact import centres, interpolation
from gpvae_core.exact.joint import Array, Index, Task
from gpvae_core.exact.modes import Mode

SPACING = 0.75  # of the first lattice, in the mode's standard deviations
HALVE = np.array([[0.5, 0.5], [0.5, -0.5]])  # basis @ HALVE: the old nodes and the centres of their squares
RASTER = 4_000_000  # nodes of a bounding box that is still drawn up in memory
NODES = 40_000  # beyond these a lattice gives up: one spacing does not suit this posterior
LATTICE_SEES = 5.0  # such a squared spacing, in deviations of a hill, errs by 4 exp(-2 pi^2 / 5) = 8 % of it
RISE = 2.0  # nats by which log f may exceed the nodes around; on a hill that a lattice sees it is 5 / 4 at most
COSETS = 2.5  # the four sublattices of twice the spacing err this much more than their mean, at the least
SQUARED = 3.0  # times its square: what becomes of the error of a smooth integrand, one of whose hills holds a third
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
NEIGHBOURS = np.array([[0, 1], [0, -1], [1, 0], [-1, 0]])


@dataclass
class Lattice:
    """Nodes origin + basis @ c for integer c, those that hold mass, and log f there.

    ``coords`` (n, 2), ``values`` (n,), ``doubt`` (n,): what each value may be off in nats. A refinement adds the
    centre of every square: the basis turns by 45 degrees and shrinks by sqrt(2), and the old nodes are those of even
    c_1 + c_2.
    """

    origin: Array
    basis: Array
    coords: Index = field(default_factory=lambda: np.empty((0, 2), np.intp))
    values: Array = field(default_factory=lambda: np.empty(0))
    doubt: Array = field(init=False)
    refinements: int = 0
    given: int = 0  # nodes whose values cost no decode
    former_errors: list[float] = field(default_factory=list)  # before each refinement
    _corners: tuple[Array, Array] | None = None  # of the box around all cells, until nodes are added

    def __post_init__(self) -> None:
        self.doubt = np.zeros(len(self.values))

    # --- growing ----------------------------------------------------------------------------------------------

    @staticmethod
    def around(mode: Mode, drop: float) -> Task["Lattice"]:
        """A lattice in the mode's frame over the disc where its Laplace approximation lies within ``drop`` nats."""
        lattice = Lattice(mode.location, mode.frame * SPACING)
        n = int(np.sqrt(2 * drop) / SPACING)
        c = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
        yield from lattice._add(c[(c**2).sum(1) * SPACING**2 <= 2 * drop])
        yield from lattice.flood(drop)
        return lattice

    @staticmethod
    def on_grid(axis: Array, field: Array, drop: float, trusted: float) -> Task["Lattice"]:
        """The nodes of the base grid within ``drop`` nats of its maximum: a lattice without a decode.

        The field is log f but for rounding: where 16 decodes differ from it by more than ``trusted`` nats, all are
        decoded.
        """
        coords = np.argwhere(field > field.max() - drop)
        values = field[tuple(coords.T)]
        lattice = Lattice(np.full(2, axis[0]), np.eye(2) * (axis[1] - axis[0]), coords, values)
        highest = np.argsort(-values)[:16]
        checked = yield lattice.points[highest]
        if np.abs(checked - values[highest]).max() <= trusted:
            lattice.given = len(coords)
        else:
            lattice.values = yield lattice.points
        yield from lattice.flood(drop)
        return lattice

    def flood(self, drop: float) -> Task[None]:
        """Add neighbours until no unknown node touches one within ``drop`` - 3 nats of the highest.

        Each round looks at the nodes that the last one added: the highest only rises, so no old one comes to matter.
        """
        known, fresh = _keys(self.coords), np.arange(len(self.coords))
        while len(self.coords) < NODES and self.extent <= RASTER:
            new = np.setdiff1d(self._around(fresh, drop), known, assume_unique=True)
            if not len(new):
                return
            known = np.concatenate([known, new])
            fresh = len(self.coords) + np.arange(len(new))
            yield from self._add(_coords(new))

    def _around(self, nodes: Index, drop: float) -> NDArray[np.int64]:
        """Keys of the neighbours of those of the nodes that lie within ``drop`` - 3 nats of the highest, (n,)."""
        active = self.coords[nodes[self.values[nodes] > self.values.max() - drop + 3]]
        return np.unique(_keys((active[:, None] + NEIGHBOURS).reshape(-1, 2)))

    def include(self, mode: Mode, drop: float) -> Task[None]:
        """Add the nodes where the Laplace approximation of one more mode lies within ``drop`` nats, and flood."""
        inverse = np.linalg.inv(self.basis)
        reach = np.sqrt(2 * drop * np.diag(inverse @ np.linalg.inv(mode.precision) @ inverse.T))
        centre = inverse @ (mode.location - self.origin)
        if (2 * reach + 3).prod() > RASTER:
            return  # far too fine for this mode: that it is missing is for the caller to see
        axes = [np.arange(np.floor(a), np.ceil(b) + 1) for a, b in zip(centre - reach, centre + reach, strict=True)]
        c = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2).astype(int)
        near = mode.distance(self.origin + c @ self.basis.T) ** 2 <= 2 * drop
        if near.sum() > NODES:
            return
        new = c[near][~np.isin(_keys(c[near]), _keys(self.coords))]
        if len(new):
            yield from self._add(new)
        yield from self.flood(drop)

    def refine(self, drop: float, trusted: float, unseen: Sequence[Mode] = ()) -> Task[None]:
        """Shrink the spacing by sqrt(2), with the new nodes where the old ones hold mass.

        Those that the old ones foretell are not decoded, as long as what they may be off together is ``trusted`` of the
        mass. Of the hills of ``unseen`` modes the old ones know nothing.
        """
        self.former_errors.append(self._sublattices(self._held()))
        self.refinements += 1
        self._corners = None
        old, self.basis, self.coords = self.coords, self.basis @ HALVE, centres.refined(self.coords)
        new = _coords(self._around(np.arange(len(old)), drop))
        value, doubt = centres.predicted(old, self.values, self.doubt, new)
        for mode in unseen:
            doubt[mode.distance(self.origin + new @ self.basis.T) ** 2 < 2 * drop] = np.nan
        # each node's share of the mass at the most; those whose error costs the least go undecoded
        top = self.values.max()
        share = np.exp((value + doubt - top).clip(max=0)) / (2 * np.exp(self.values - top).sum())
        order = np.argsort(share * doubt)  # NaN last
        told = np.zeros(len(new), bool)
        told[order] = np.cumsum((share * doubt)[order]) <= trusted
        yield from self._add(new[~told])
        missed = np.abs(value[~told] - self.values[len(old) :])
        if np.nansum(share[~told] * missed) > np.nansum(share[~told] * doubt[~told]):
            yield from self._add(new[told])  # the estimates do not hold
        else:
            self._append(new[told], value[told], doubt[told])
            self.given += int(told.sum())
        yield from self.flood(drop)

    def _add(self, coords: Index) -> Task[None]:
        values = yield self.origin + coords @ self.basis.T
        self._append(coords, values, np.zeros(len(values)))

    def _append(self, coords: Index, values: Array, doubt: Array) -> None:
        self._corners = None
        self.coords = np.concatenate([self.coords, coords])
        self.values = np.concatenate([self.values, values])
        self.doubt = np.concatenate([self.doubt, doubt])

    def _raster(self, flags: NDArray[Any], unknown: float = 0) -> tuple[NDArray[Any], Index]:
        """``flags`` of the nodes in an array over their bounding box, wider by two; and its lowest coordinates."""
        low = self.coords.min(0) - 2
        raster = np.full(self.coords.max(0) - low + 3, unknown, flags.dtype)
        raster[tuple((self.coords - low).T)] = flags
        return raster, low

    @property
    def evaluations(self) -> int:
        return len(self.coords) - self.given

    @property
    def extent(self) -> int:
        """Nodes of the bounding box in the coordinates: the size of a raster."""
        return int((self.coords.max(0) - self.coords.min(0) + 5.0).prod())

    def summits(self, drop: float) -> Array:
        """Nodes within ``drop`` nats of the highest that no neighbour exceeds, (k, 2), highest first."""
        raster, low = self._raster(self.values - self.values.max(), -np.inf)
        peaks = np.argwhere((raster == maximum_filter(raster, size=3)) & (raster > -drop))
        highest = peaks[np.argsort(-raster[tuple(peaks.T)])]
        places: Array = self.origin + (highest + low) @ self.basis.T
        return places

    def ascended(self) -> Array:
        """For each node the summit to which steepest ascent over its neighbours leads, (n, 2)."""
        known, low = self._raster(np.arange(1, len(self.coords) + 1))
        heights = np.full(len(self.coords) + 1, -np.inf)
        heights[1:] = self.values
        i, k = (self.coords - low).T
        around = np.stack([known[i + a, k + b] for a in (-1, 0, 1) for b in (-1, 0, 1)])
        higher = around[heights[around].argmax(0), np.arange(len(i))] - 1
        while (higher != higher[higher]).any():
            higher = higher[higher]
        summits: Array = self.points[higher]
        return summits

    # --- integrals --------------------------------------------------------------------------------------------

    @property
    def points(self) -> Array:
        """All nodes, (n, 2)."""
        points: Array = self.origin + self.coords @ self.basis.T
        return points

    @property
    def log_cell(self) -> float:
        """Logarithm of the area that belongs to a node."""
        return float(np.linalg.slogdet(self.basis)[1])

    @property
    def log_integral(self) -> float:
        top = self.values.max()
        return float(top + np.log(np.exp(self.values - top).sum()) + self.log_cell)

    @property
    def relative_error(self) -> float:
        """What coarser sublattices say otherwise, plus what may lie beyond the rim.

        The even nodes are the lattice one refinement ago. The four cosets of twice the spacing guard against a chance
        agreement: where the integrand has kinks, their mean is about four times better than each. There the error
        only halves with a refinement, so it counts as no less than a part of what it was; a smooth integrand's squares.
        """
        held = self._held()
        error = self._sublattices(held)
        if self.former_errors and error > SQUARED * self.former_errors[-1] ** 2:
            error = max(error, *(e / (COSETS * 2**k) for k, e in enumerate(reversed(self.former_errors[-2:]))))
        rim = held[self._rim()]
        beyond = rim.sum() + rim.max(initial=0.0) / held.max()  # a Gaussian's share beyond such a level
        return error + float(held @ self.doubt + beyond)

    def _held(self) -> Array:
        """Each node's share of the mass."""
        held = np.exp(self.values - self.values.max())
        shares: Array = held / held.sum()
        return shares

    def sum_error(self, terms: Array) -> float:
        """Error of a sum of ``terms`` (n,) over the nodes, which scale with the density there."""
        return self._sublattices(terms) + float(np.abs(terms) @ self.doubt)

    def _sublattices(self, terms: Array) -> float:
        """What coarser sublattices say otherwise of a sum of ``terms`` (n,) over the nodes."""
        parity = self.coords % 2
        cosets = np.array([terms[(parity == p).all(1)].sum() for p in ((0, 0), (1, 1), (0, 1), (1, 0))])
        half = abs(2 * (cosets[0] + cosets[1]) - terms.sum())
        return float(max(half, np.abs(4 * cosets - terms.sum()).max() / COSETS))

    def beyond(self, weights: Array, values: Array) -> float:
        """What may lie beyond the rim of a sum of ``weights`` times non-negative ``values`` (n,) over the nodes."""
        rim = self._rim()
        share = float(weights.sum())
        held = self._held()
        outer = float((weights * values)[rim].sum())
        return outer + share * float(held[rim].max(initial=0.0) / held.max()) * float(values[rim].max(initial=0.0))

    def _rim(self) -> NDArray[np.bool_]:
        known, low = self._raster(np.ones(len(self.coords), bool))
        inner = ~binary_dilation(~known, CROSS)
        rim: NDArray[np.bool_] = ~inner[tuple((self.coords - low).T)]
        return rim

    # --- the density between the nodes --------------------------------------------------------------------------

    def interpolate(self, z: Array) -> Array:
        """log f at points (n, 2) from the nodes around each; -inf where the nearest node is unknown."""
        inside, t = self._locate(z)
        result = np.full(len(z), -np.inf)
        if inside.any():
            pad = interpolation.REACH
            between = interpolation.at(np.pad(self._filled(), pad, mode="edge"), t[inside] + pad)
            result[inside] = np.minimum(between, self._ceiling()[tuple(np.rint(t[inside]).astype(int).T)])
        return result

    def holds(self, z: Array) -> NDArray[np.bool_]:
        """Whether the node nearest to each point (n, 2) is known."""
        low, high = self._box()
        held: NDArray[np.bool_] = np.all((z >= low) & (z <= high), axis=1)
        if held.any():
            held[held] = self._locate(z[held])[0]
        return held

    def sees(self, place: Array, precision: Array) -> bool:
        """Whether the nodes around a hill at ``place`` (2,) are dense enough to measure most of it."""
        return bool(self.holds(place[None])[0] and squared_step(self.basis, precision[None])[0] < LATTICE_SEES)

    def _locate(self, z: Array) -> tuple[NDArray[np.bool_], Array]:
        """Whether the nearest node is known, (n,), and each point's place in the raster, (n, 2)."""
        known, low = self._raster(np.ones(len(self.coords), bool))
        t: Array = (z - self.origin) @ np.linalg.inv(self.basis).T - low
        node = np.rint(t).astype(int)
        inside: NDArray[np.bool_] = np.all((node >= 0) & (node < known.shape), axis=1)
        inside[inside] = known[tuple(node[inside].T)]
        return inside, t

    def resample(self, samples: int) -> interpolation.Fine:
        """log f on squares that tile every node's own cell, about ``samples`` in all."""
        per_axis = int(np.clip(np.sqrt(samples / len(self.coords)), 2, 16))
        tile = interpolation.midpoint_square(per_axis)
        points = self.origin + (self.coords[:, None] + tile).reshape(-1, 2) @ self.basis.T
        node = self.coords - (self.coords.min(0) - 2)
        values = interpolation.midpoints(self._filled(), node, per_axis)
        values = np.minimum(values, self._ceiling()[tuple(node.T)][:, None, None])
        sides = np.broadcast_to(self.basis / per_axis, (values.size, 2, 2))
        return interpolation.Fine(points, values.ravel(), interpolation.spreads(values).ravel(), sides)

    def _ceiling(self) -> Array:
        """What log f may be in each node's cell: at the rim polynomials through nodes that are not known go astray."""
        heights, _ = self._raster(self.values, -np.inf)
        ceiling: Array = maximum_filter(heights, size=3) + RISE
        return ceiling

    def _filled(self) -> Array:
        known, _ = self._raster(np.ones(len(self.coords), bool))
        values, _ = self._raster(self.values)
        return interpolation.filled(values, known)

    def meets(self, other: "Lattice", drop: float) -> bool:
        """Whether a node of either that matters lies in the other: its mass would count twice."""
        (low, high), (other_low, other_high) = self._box(), other._box()
        if (high < other_low).any() or (other_high < low).any():
            return False
        pairs = ((self, other), (other, self))
        return any(a.holds(b.points[b.values > b.values.max() - drop + 3]).any() for a, b in pairs)

    def _box(self) -> tuple[Array, Array]:
        """Corners of a box around all cells."""
        if self._corners is None:
            points, half = self.points, np.abs(self.basis).sum(1)
            self._corners = points.min(0) - half, points.max(0) + half
        return self._corners


def _keys(coords: Index) -> NDArray[np.int64]:
    """One number for each pair of coordinates, (n,)."""
    keys: NDArray[np.int64] = coords[:, 0].astype(np.int64) * 2**32 + coords[:, 1]
    return keys


def _coords(keys: NDArray[np.int64]) -> Index:
    """The opposite, (n, 2)."""
    second = (keys + 2**31) % 2**32 - 2**31
    return np.stack([(keys - second) // 2**32, second], 1)


def squared_step(basis: Array, precision: Array) -> Array:
    """The squared length of the lattice's longest step in deviations of Gaussians of precision (k, 2, 2), (k,)."""
    sides: Array = np.linalg.eigvalsh(np.asarray(basis.T @ precision @ basis, np.float64))[:, -1]
    return sides
