"""Adaptive cubature over the plane: binary cells where the mass is, a Gauss-Kronrod rule in each."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from gpvae_core.posterior.interpolation import Fine, midpoint_square, spreads
from gpvae_core.posterior.joint import Array, Task

# A cell is a node of a binary tree per axis: (level_1, index_1, level_2, index_2), sides = root / 2^level.
Key = tuple[int, int, int, int]
LOG_FLOOR = -745.0  # exp underflows below


@dataclass(frozen=True)
class Rule:
    """A rule on [-1, 1] with an embedded coarser one on a subset of its nodes."""

    nodes: Array
    weights: Array
    coarse_weights: Array  # zero where the coarse rule has no node


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
        """Refine until ``error`` <= tolerance * integral, or until the budget is spent (``error`` then says so)."""
        while True:
            self.leaves = yield from self._evaluate(self._subdivide())
            if self.evaluations >= max_evaluations or not (self._refine(tolerance) or self._grow(tolerance)):
                return

    @property
    def evaluations(self) -> int:
        return len(self._cache) * len(self.rule.nodes) ** 2

    @property
    def log_integral(self) -> float:
        return self.offset + float(np.log(self._integrals()[0].sum())) + self._log_jacobian

    @property
    def relative_error(self) -> float:
        """Sum over cells of the difference between the rule and its coarser half in each axis, over the integral."""
        fine, errors = self._integrals()
        return float(errors.sum() / fine.sum())

    def sum_error(self, terms: Array) -> float:
        """Error of a sum of ``terms`` (n,), quadrature weights included, over the nodes: coarse against fine rule."""
        ratio = np.outer(self.rule.coarse_weights / self.rule.weights, np.ones(len(self.rule.nodes)))
        cells = terms.reshape(len(self.leaves), *ratio.shape)
        coarse = np.stack([(cells * r).sum((1, 2)) for r in (ratio, ratio.T)])
        return float(np.abs(coarse - cells.sum((1, 2))).sum())

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
        low, high, known = (
            np.stack([getattr(leaf, f) for leaf in self.leaves.values()]) for f in ("low", "high", "log_values")
        )
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
            boxes = np.array([self._box(key) for key in pending])
            meets: Any = ((boxes[:, None, 0] < high - 1e-9) & (boxes[:, None, 1] > low + 1e-9)).all(-1)
            limit = np.where(meets[..., None], cell, np.inf).min(1)
            excess = (boxes[:, 1] - boxes[:, 0]) / limit
            following: list[Key] = []
            for key, hit, ratio in zip(pending, meets.any(1), excess, strict=True):
                if not hit:
                    continue
                axis = int(ratio.argmax()) if ratio.max() > 1 + 1e-9 else self.refined.get(key)
                if axis is None:
                    leaves.append(key)
                else:
                    following += _halves(key, axis)
            pending = following
        return leaves

    def _box(self, key: Key) -> tuple[Array, Array]:
        sides = self.side / 2.0 ** np.array([key[0], key[2]])
        low = self.origin + sides * np.array([key[1], key[3]])
        return low, low + sides

    def _evaluate(self, keys: list[Key]) -> Task[dict[Key, Leaf]]:
        fresh = [key for key in keys if key not in self._cache]
        if fresh:
            boxes = [self._box(key) for key in fresh]
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

    def _scaled(self, leaf: Leaf) -> Array:
        scaled: Array = np.exp(np.maximum(leaf.log_values - self.offset, LOG_FLOOR))
        return scaled

    def _axis_errors(self) -> Array:
        """|rule - rule with the coarse weights in one axis|, (leaves, 2)."""
        fine, coarse = self.rule.weights, self.rule.coarse_weights
        errors = []
        for leaf in self.leaves.values():
            values, area = self._scaled(leaf), np.prod(leaf.high - leaf.low) / 4
            best = fine @ values @ fine
            errors.append(area * np.abs([coarse @ values @ fine - best, fine @ values @ coarse - best]))
        return np.array(errors)

    def _integrals(self) -> tuple[Array, Array]:
        fine = np.array([(self._scaled(leaf) * self._weights(leaf)).sum() for leaf in self.leaves.values()])
        return fine, self._axis_errors().sum(1)

    def _refine(self, tolerance: float) -> bool:
        fine, errors = self._integrals()
        total = fine.sum()
        if errors.sum() <= tolerance * total:
            return False
        worst = self._axis_errors().argmax(1)
        for key, error, axis in zip(self.leaves, errors, worst, strict=True):
            if error > 0.5 * tolerance * total / len(self.leaves):
                self.refined[key] = int(axis)
        return True

    def _grow(self, tolerance: float) -> bool:
        """Cover the mirror image of every cell over an outer edge on which the integrand still matters."""
        total = self._integrals()[0].sum()
        added = [
            window
            for window, probe, flow in self._outflows()
            if flow > 1e-3 * tolerance * total and not self._covered(probe)
        ]
        self.windows += added
        return bool(added)

    def _outflows(self) -> Iterable[tuple[Window, Array, float]]:
        """For each edge of each cell: the cell mirrored over it, a point just across, and the mass it may hold."""
        for leaf in self.leaves.values():
            side = leaf.high - leaf.low
            scaled = self._scaled(leaf)
            edges = ((0, -1, scaled[0]), (0, 1, scaled[-1]), (1, -1, scaled[:, 0]), (1, 1, scaled[:, -1]))
            for axis, sign, edge in edges:
                shift = np.zeros(2)
                shift[axis] = sign * side[axis]
                probe = np.where(sign > 0, leaf.high, leaf.low) + 1e-6 * shift
                # beside the highest node: a node itself can lie on the border of two smaller cells
                highest = (self.rule.nodes[edge.argmax()] + 1) / 2 + 1e-3
                probe[1 - axis] = leaf.low[1 - axis] + highest * side[1 - axis]
                yield Window(leaf.low + shift, leaf.high + shift, side), probe, float(edge.max() * np.prod(side))

    def _covered(self, point: Array) -> bool:
        return any(bool(((point > leaf.low) & (point < leaf.high)).all()) for leaf in self.leaves.values())


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
