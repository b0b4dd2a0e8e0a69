"""What a quadrature leaves out: the places, and the mass that may be at each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np

from gpvae_core.exact.cells import Cubature
from gpvae_core.exact.grid import BaseGrid
from gpvae_core.exact.joint import Array
from gpvae_core.exact.lattice import Lattice
from gpvae_core.exact.modes import Mode, Starts

FAINT = 30.0  # nats below log p(x): a whole grid of such nodes holds 3e-9 of the mass


@dataclass(frozen=True)
class LeftOut:
    """Places (k, 2), the log of int p(x, z) dz that may lie there uncounted, (k,), and log p(x, z) there, (k,)."""

    places: Array = field(default_factory=lambda: np.empty((0, 2)))
    log_mass: Array = field(default_factory=lambda: np.empty(0))
    log_joint: Array = field(default_factory=lambda: np.empty(0))

    def shares(self, log_evidence: float) -> Array:
        """The masses relative to p(x), (k,); infinite where they exceed it beyond float64."""
        with np.errstate(over="ignore"):
            shares: Array = np.exp(self.log_mass - log_evidence)
        return shares

    def evidence_error(self, log_evidence: float) -> float:
        """By how much log p(x) rises if all of it is there, in nats."""
        if not len(self.log_mass):
            return 0.0
        return float(np.logaddexp(0.0, np.logaddexp.reduce(self.log_mass) - log_evidence))


def left_out(
    grid: BaseGrid,
    values: Array,
    pieces: Sequence[Lattice | Cubature],
    modes: Sequence[Mode],
    starts: Starts,
) -> LeftOut:
    """Grid nodes, modes and unclimbed summits in none of the pieces; ``values`` (n, n) is log p(x, z) on the grid.

    A node stands for the grid cell around it, a mode for its Laplace mass, a summit for what it may rise to.
    """
    log_evidence = np.logaddexp.reduce([piece.log_integral for piece in pieces])
    node = np.argwhere(values + 2 * log(grid.spacing) > log_evidence - FAINT)
    places = np.concatenate([grid.axis[node], [mode.location for mode in modes], starts.left_out])
    node_mass = values[tuple(node.T)] + 2 * log(grid.spacing)
    log_mass = np.concatenate([node_mass, [mode.log_mass for mode in modes], starts.left_out_log_mass])
    tops = np.array([mode.log_joint for mode in modes])
    log_joint = np.concatenate([values[tuple(node.T)], tops, starts.left_out_log_joint])
    held = np.any([piece.holds(places) for piece in pieces], axis=0)
    for k, mode in enumerate(modes):  # too large a cell, or a spacing, passes over a hill
        held[len(node) + k] = any(piece.sees(mode.location, mode.precision) for piece in pieces)
    return LeftOut(places[~held], log_mass[~held], log_joint[~held])
