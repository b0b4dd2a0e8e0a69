"""Adaptive cubature over the plane: binary cells where the mass is, a Gauss-Kronrod rule in each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from gpvae_core.exact.interpolation import Fine, midpoint_square, spreads
from gpvae_core.exact.joint import Array, Task

# A cell is a node of a binary tree per axis: (level_1, index_1, level_2, index_2), sides = root / 2^level.
Key = tuple[int, int, int, int]
LOG_FLOOR = -745.0  # exp underflows below
PAIRS = 4_000_000  # of cells and windows compared at once
CELLS_SEE = 20.0  # standard deviations of a hill that a cell's 15 nodes an axis may span and not pass over it


@dataclass(frozen=True)
class Rule:
    """A rule on [-1, 1] with an embedded coarser one on a subset of its nodes."""

    nodes: Array
    weights: Array
    coarse_weights: Array  # zero where the coarse rule has no node


@cache
def gauss_kronrod_15() -> Rule:
    """Gauss 7 inside Kronrod 15; the Kronrod nodes are the roots of the Stieltjes polynomial, found numerically."""
    gauss, gauss_weights = roots_legendre(7)
    legendre = np.polynomial.legendre
    # E_8 with int P_7 E_8 P_k = 0 for k < 8: a linear system in E_8's Legendre coefficients
    x, w = roots_legendre(40)
    p = np.stack([legendre.legval(x, np.eye(9)[k]) for k in range(9)])
    system = (p[:8] * (p[7] * w)) @ p.T
    coefficients = np.append(np.linalg.lstsq(system[:, :8], -system[:, 8], rcond=None)[0], 1.0)
    nodes = np.sort(np.concatenate([gauss, legendre.legroots(coefficients).real]))
    vandermonde = legendre.legvander(nodes, 14)
    moments = np.append(2.0, np.zeros(14))
    weights = np.linalg.solve(vandermonde.T, moments)
    coarse = np.zeros(15)
    coarse[[int(np.abs(nodes - g).argmin()) for g in gauss]] = gauss_weights
    return Rule(nodes, weights, coarse)


@dataclass(frozen=True)
class Window:
    """A rectangle that has to be covered, by cells whose sides do not exceed ``cell``; all (2,)."""

    low: Array
    high: Array
    cell: Array


@dataclass(frozen=True)
class Leaf:
    """A cell with the logarithm of the integrand at its tensor nodes, (15, 15)."""

    low: Array
    high: Array
    log_values: Array


class Cubature:
    """int exp(log_f(u)) du over the plane, refined until its error estimate falls below a relative tolerance.

    Cells are rectangles in u with z = origin + frame @ u. The covered region is the union of ``windows``; it grows
    where the integrand flows over an outer edge. ``offset`` is a value near the maximum of log_f.
    """

    def __init__(self, origin: Array, frame: Array, windows: list[Window], cell: float, offset: float) -> None:
        self.rule = gauss_kronrod_15()
        self.centre = origin
        self.frame = frame
        self.windows = windows
        self.offset = offset
        root = 4 * max(float(np.abs([w.low for w in windows]).max()), float(np.abs([w.high for w in windows]).max()))
        levels = int(np.ceil(np.log2(2 * root / cell)))
        self.side = cell * 2.0**levels
        self.origin = -self.side / 2 - cell / 2  # u = 0 is the middle of a cell, not a corner of four
        self.leaves: dict[Key, Leaf] = {}
        self.refined: dict[Key, int] = {}
        self._cache: dict[Key, Leaf] = {}

    def run(self, tolerance: float, max_evaluations: int) -> Task[None]:
        """Refine until ``error`` <= tolerance * integral, or until the budget is spent (``error`` then says so).

        Where the windows alone would take more than the budget, the last of them are left out first.
        """
        self._shed(max_evaluations // self._cost)
        while True:
            self.leaves = yield from self._evaluate(self._subdivide())
            room = (max_evaluations - self.evaluations) // self._cost
            if room < 2 or not (self._refine(tolerance, room // 2) or self._grow(tolerance, room // 2)):
                return

    def _shed(self, most: int) -> None:
        """Leave out windows, the last first, until they need no more than ``most`` cells; one stays in any case."""
        while len(self.windows) > 1 and len(self._subdivide()) > most:
            self.windows = self.windows[: max(1, int(0.7 * len(self.windows)))]

    @property
    def _cost(self) -> int:
        """Decodes that a cell takes."""
        return len(self.rule.nodes) ** 2

    @property
    def evaluations(self) -> int:
        return len(self._cache) * self._cost

    @property
    def log_integral(self) -> float:
        return self.offset + float(np.log(self._integrals()[0].sum())) + self._log_jacobian

    @property
    def relative_error(self) -> float:
        """Sum over cells of the difference between the rule and its coarser half in each axis, over the integral."""
        integrals, errors = self._integrals()
        return float(errors.sum() / integrals.sum()) + self._rim()

    def sum_error(self, terms: Array) -> float:
        """Error of a sum of ``terms`` (n,), quadrature weights included, over the nodes: coarse against fine rule."""
        ratio = np.outer(self.rule.coarse_weights / self.rule.weights, np.ones(len(self.rule.nodes)))
        cells = terms.reshape(len(self.leaves), *ratio.shape)
        coarse = np.stack([(cells * r).sum((1, 2)) for r in (ratio, ratio.T)])
        return float(np.abs(coarse - cells.sum((1, 2))).sum())

    def _rim(self) -> float:
        """The share that may lie across the outer edges."""
        flows, probes, _ = self._outflows()
        total = self._integrals()[0].sum()
        matter = np.flatnonzero(flows > 1e-12 * total)
        return float(flows[matter][self._cell_of(probes[matter]) < 0].sum() / total)

    def beyond(self, weights: Array, values: Array) -> float:
        """What may lie across the outer edges of a sum of ``weights`` times non-negative ``values`` (n,)."""
        return self._rim() * float(weights.sum()) * float(values[weights > 0].max(initial=0.0))

    def sees(self, place: Array, precision: Array) -> bool:
        """Whether the cell around a hill at ``place`` (2,) is small enough for its rule: CELLS_SEE deviations."""
        cell = int(self._locate(place[None])[1][0])
        if cell < 0:
            return False
        side = (self._stacked("high") - self._stacked("low"))[cell]
        inverse = np.linalg.inv(self.frame)
        std = np.sqrt(np.diag(inverse @ np.linalg.inv(precision) @ inverse.T))
        return bool((side < CELLS_SEE * std).all())

    @property
    def _log_jacobian(self) -> float:
        return float(np.linalg.slogdet(self.frame)[1])

    @property
    def points(self) -> Array:
        """All nodes, (n, 2)."""
        return self._place(np.concatenate([self._nodes(leaf.low, leaf.high) for leaf in self.leaves.values()]))

    @property
    def values(self) -> Array:
        """log_f at the nodes, (n,)."""
        return np.concatenate([leaf.log_values.ravel() for leaf in self.leaves.values()])

    @property
    def log_cell(self) -> Array:
        """Logarithm of each node's quadrature weight, (n,)."""
        weights = np.concatenate([self._weights(leaf).ravel() for leaf in self.leaves.values()])
        log_weights: Array = np.log(weights) + self._log_jacobian
        return log_weights

    def interpolate(self, z: Array) -> Array:
        """log_f at points (n, 2) from each cell's polynomial of degree 14 in each axis; -inf off the cells."""
        u, cell = self._locate(z)
        result = np.full(len(u), -np.inf)
        inside = np.flatnonzero(cell >= 0)
        low, high, known = (self._stacked(f) for f in ("low", "high", "log_values"))
        low, high = low[cell[inside]], high[cell[inside]]
        local = 2 * (u[inside] - low) / (high - low) - 1
        for some in np.array_split(np.arange(len(inside)), len(inside) // 4096 + 1):
            first, second = (lagrange_basis(self.rule.nodes, local[some, j]) for j in (0, 1))
            result[inside[some]] = np.einsum("ni,nij,nj->n", first, known[cell[inside[some]]], second)
        return result

    def holds(self, z: Array) -> NDArray[np.bool_]:
        """Whether each point (n, 2) lies in a cell."""
        held: NDArray[np.bool_] = self._locate(z)[1] >= 0
        return held

    def _locate(self, z: Array) -> tuple[Array, NDArray[np.intp]]:
        """Points (n, 2) as u, and the number of the cell that each lies in, (n,); -1 for none."""
        u = (z - self.centre) @ np.linalg.inv(self.frame).T
        return u, self._cell_of(u)

    def _cell_of(self, u: Array) -> NDArray[np.intp]:
        """Cells of equal size are looked up together: one size after another, (n,)."""
        cell = np.full(len(u), -1, np.intp)
        sizes: dict[tuple[int, int], dict[tuple[int, int], int]] = {}
        for number, (level, i, other, k) in enumerate(self.leaves):
            sizes.setdefault((level, other), {})[i, k] = number
        for levels, own in sizes.items():
            index = np.floor((u - self.origin) / (self.side / 2.0 ** np.array(levels)))
            low, high = (f(np.array(list(own)), axis=0) for f in (np.min, np.max))
            near = np.flatnonzero(((index >= low) & (index <= high)).all(1))
            cell[near] = [own.get((int(a), int(b)), old) for (a, b), old in zip(index[near], cell[near], strict=True)]
        return cell

    def resample(self, samples: int) -> Fine:
        """log_f on small rectangles that tile every cell, about ``samples`` in all."""
        per_axis = int(np.clip(np.sqrt(samples / len(self.leaves)), 15, 150))
        tile = midpoint_square(per_axis)
        basis = lagrange_basis(self.rule.nodes, 2 * tile[:per_axis, 1])
        leaves = list(self.leaves.values())
        centres = [(leaf.low + leaf.high) / 2 + tile * (leaf.high - leaf.low) for leaf in leaves]
        values = np.stack([basis @ leaf.log_values @ basis.T for leaf in leaves])
        sides = [np.tile(self.frame * (leaf.high - leaf.low) / per_axis, (len(tile), 1, 1)) for leaf in leaves]
        points = self._place(np.concatenate(centres))
        return Fine(points, values.ravel(), spreads(values).ravel(), np.concatenate(sides))

    # --- the tree ---------------------------------------------------------------------------------------------

    def _subdivide(self) -> list[Key]:
        """Walk from the root: split what is refined or too large for a window it meets, drop what meets none."""
        low, high, cell = (np.stack([getattr(w, f) for w in self.windows]) for f in ("low", "high", "cell"))
        pending: list[Key] = [(0, 0, 0, 0)]
        leaves: list[Key] = []
        while pending:
            boxes = np.stack(self._boxes(pending), 1)
            limits = [
                self._limit(some, low, high, cell) for some in np.array_split(boxes, 1 + boxes.size * len(low) // PAIRS)
            ]
            excess = (boxes[:, 1] - boxes[:, 0]) / np.concatenate(limits)
            following: list[Key] = []
            for key, ratio in zip(pending, excess, strict=True):
                if not ratio.any():  # it meets no window
                    continue
                axis = int(ratio.argmax()) if ratio.max() > 1 + 1e-9 else self.refined.get(key)
                if axis is None:
                    leaves.append(key)
                else:
                    following += _halves(key, axis)
            pending = following
        return leaves

    def _limit(self, boxes: Array, low: Array, high: Array, cell: Array) -> Array:
        """The sides allowed to boxes (n, 2, 2) by the windows that they meet, (n, 2): infinite where they meet none."""
        margin = 1e-9 * (high - low)
        meets: Any = ((boxes[:, None, 0] < high - margin) & (boxes[:, None, 1] > low + margin)).all(-1)
        limit: Array = np.where(meets[..., None], cell, np.inf).min(1)
        return limit

    def _boxes(self, keys: Sequence[Key]) -> tuple[Array, Array]:
        """Low and high corners, (n, 2) each."""
        table = np.array(keys, dtype=float).reshape(-1, 4)
        sides = self.side / 2.0 ** table[:, ::2]
        low = self.origin + sides * table[:, 1::2]
        return low, low + sides

    def _evaluate(self, keys: list[Key]) -> Task[dict[Key, Leaf]]:
        fresh = [key for key in keys if key not in self._cache]
        if fresh:
            boxes = list(zip(*self._boxes(fresh), strict=True))
            values = yield self._place(np.concatenate([self._nodes(*box) for box in boxes]))
            n = len(self.rule.nodes)
            for key, box, part in zip(fresh, boxes, values.reshape(-1, n, n), strict=True):
                self._cache[key] = Leaf(*box, part)
        return {key: self._cache[key] for key in keys}

    def _place(self, u: Array) -> Array:
        z: Array = self.centre + u @ self.frame.T
        return z

    def _nodes(self, low: Array, high: Array) -> Array:
        first, second = (low[j] + (high[j] - low[j]) * (self.rule.nodes + 1) / 2 for j in (0, 1))
        return np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)

    def _weights(self, leaf: Leaf) -> Array:
        area = float(np.prod(leaf.high - leaf.low)) / 4
        return np.outer(self.rule.weights, self.rule.weights) * area

    def _stacked(self, name: str) -> Array:
        """``low``, ``high`` (n, 2) or ``log_values`` (n, 15, 15) of all cells."""
        return np.stack([getattr(leaf, name) for leaf in self.leaves.values()])

    def _scaled(self) -> Array:
        """exp(log_f - offset) at all nodes, (n, 15, 15); never beyond float64."""
        scaled: Array = np.exp(np.clip(self._stacked("log_values") - self.offset, LOG_FLOOR, -LOG_FLOOR / 2))
        return scaled

    def _areas(self) -> Array:
        areas: Array = (self._stacked("high") - self._stacked("low")).prod(1) / 4
        return areas

    def _integrals(self) -> tuple[Array, Array]:
        """Each cell's integral, (n,), and |rule - rule with the coarse weights in one axis|, (n, 2)."""
        fine, coarse = self.rule.weights, self.rule.coarse_weights
        values = self._scaled()
        rows, columns = fine @ values, values @ fine
        best = columns @ fine
        errors = np.abs(np.stack([columns @ coarse - best, rows @ coarse - best], -1))
        areas = self._areas()
        return areas * best, areas[:, None] * errors

    def _refine(self, tolerance: float, most: int) -> bool:
        """Mark the cells to halve, the worst ``most`` at most."""
        integrals, by_axis = self._integrals()
        total, errors = integrals.sum(), by_axis.sum(1) * self._weights_of(integrals)
        if errors.sum() <= tolerance * total:
            return False
        keys = list(self.leaves)
        worst = [k for k in np.argsort(-errors)[:most] if errors[k] > 0.5 * tolerance * total / len(keys)]
        self.refined |= {keys[k]: int(by_axis[k].argmax()) for k in worst}
        return bool(worst)

    def _weights_of(self, integrals: Array) -> Array:
        """What an error of each cell's mass means for the variances, at least 1, (n,): they may err five times more."""
        centres = (self._stacked("low") + self._stacked("high")) / 2
        shares = np.maximum(integrals, 0) / np.maximum(integrals, 0).sum()
        off = centres - shares @ centres
        sides = self._stacked("high") - self._stacked("low")
        covariance = (off * shares[:, None]).T @ off + np.diag(shares @ sides**2 / 12)
        weighted: Array = np.maximum(1, 0.2 * np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off))
        return weighted

    def _grow(self, tolerance: float, most: int) -> bool:
        """Cover the mirror image of every cell over an outer edge on which the integrand still matters."""
        flows, probes, windows = self._outflows()
        matter = np.flatnonzero(flows > 1e-3 * tolerance * self._integrals()[0].sum())
        open_edges = matter[self._cell_of(probes[matter]) < 0]
        highest = open_edges[np.argsort(-flows[open_edges])][:most]
        self.windows += [Window(*windows[:, k]) for k in highest]
        return bool(len(highest))

    def _outflows(self) -> tuple[Array, Array, Array]:
        """For each edge of each cell the mass across it may hold, a point just across, and the cell mirrored over it.

        (4 n,), (4 n, 2), and low, high and sides (3, 4 n, 2).
        """
        low, high, scaled = self._stacked("low"), self._stacked("high"), self._scaled()
        side = high - low
        flows, probes, windows = [], [], []
        edges = ((0, -1, scaled[:, 0]), (0, 1, scaled[:, -1]), (1, -1, scaled[..., 0]), (1, 1, scaled[..., -1]))
        for axis, sign, edge in edges:
            shift = np.zeros(side.shape)
            shift[:, axis] = sign * side[:, axis]
            probe = (high if sign > 0 else low) + 1e-6 * shift
            # beside the highest node: a node itself can lie on the border of two smaller cells
            highest = (self.rule.nodes[edge.argmax(1)] + 1) / 2 + 1e-3
            probe[:, 1 - axis] = low[:, 1 - axis] + highest * side[:, 1 - axis]
            flows.append(edge.max(1) * side.prod(1))
            probes.append(probe)
            windows.append(np.stack([low + shift, high + shift, side]))
        return np.concatenate(flows), np.concatenate(probes), np.concatenate(windows, 1)


def _halves(key: Key, axis: int) -> list[Key]:
    halves = []
    for side in (0, 1):
        child = list(key)
        child[2 * axis] += 1
        child[2 * axis + 1] = 2 * child[2 * axis + 1] + side
        halves.append((child[0], child[1], child[2], child[3]))
    return halves


def lagrange_basis(nodes: Array, x: Array) -> Array:
    """Values (len(x), len(nodes)) of the Lagrange polynomials, by the barycentric formula."""
    differences = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(differences, 1.0)
    barycentric = 1 / differences.prod(1)
    gaps = x[:, None] - nodes
    exact = np.abs(gaps) < 1e-14
    terms = barycentric / np.where(exact, 1.0, gaps)
    basis = terms / terms.sum(1, keepdims=True)
    hit = exact.any(1)
    basis[hit] = exact[hit].astype(float)
    values: Array = basis
    return values
