"""The exact posterior p(z|x) of an image in two dimensions: quadrature of real decodes, to a stated error."""

from collections.abc import Sequence
from functools import cached_property
from math import log

import numpy as np
from scipy.optimize import brentq

from gpvae_core.posterior import divergences
from gpvae_core.posterior.cells import Cubature
from gpvae_core.posterior.divergences import Density, Estimate, Gaussian
from gpvae_core.posterior.grid import BaseGrid, grid_points
from gpvae_core.posterior.interpolation import Fine, joined
from gpvae_core.posterior.joint import Array, Decoded, LogJoint
from gpvae_core.posterior.lattice import Lattice
from gpvae_core.posterior.left_out import LeftOut
from gpvae_core.posterior.modes import Mode

SAMPLES = 40_000  # points at which the density is interpolated for mass contours


class ExactPosterior:
    """p(z|x) of one image: evidence, moments, mass contours, samples, each by quadrature, in nats.

    Built by ``PosteriorEngine``. ``modes`` come by descending mass. ``points`` (n, 2) and ``weights`` (n,), summing to
    1, are the quadrature: E[f(z)|x] = weights @ f(points). ``log_joint`` gives log p(x, z) as used here, ``yardstick``
    the same in float64. ``preview`` says that every value is interpolated from the base grid: a first look only.
    """

    def __init__(
        self,
        grid: BaseGrid,
        field: Array,
        log_joint: LogJoint,
        modes: list[Mode],
        pieces: Sequence[Lattice | Cubature],
        *,
        yardstick: Decoded | None = None,
        preview: bool = False,
        left_out: LeftOut | None = None,
    ) -> None:
        self.modes = modes
        self.pieces = pieces
        self.preview = preview
        self.left_out = left_out or LeftOut()
        self.grid_axis = grid.axis
        self.grid_log_joint = field
        self.log_joint = log_joint
        self.yardstick = yardstick
        logs = np.concatenate([piece.values + piece.log_cell for piece in pieces])
        top = float(logs.max())
        held = np.exp(logs - top)
        self.log_evidence = top + log(float(held.sum()))
        """log p(x) = log int p(x, z) dz."""
        self.arithmetic_error = 1e-13 * (1 + abs(self.log_evidence))  # float64's; the engine measures float32's
        self.weights: Array = held / held.sum()

    @cached_property
    def points(self) -> Array:
        return np.concatenate([piece.points for piece in self.pieces])

    @property
    def evaluations(self) -> int:
        """Decodes that the quadrature took, the mode search apart."""
        return sum(piece.evaluations for piece in self.pieces)

    @property
    def smooth(self) -> bool:
        """Whether coarse lattices settled: log p(x, z) is close to a polynomial over the mass."""
        return all(isinstance(piece, Lattice) and piece.refinements <= 2 for piece in self.pieces)

    @cached_property
    def quadrature_error(self) -> float:
        """The quadrature's error estimate of log p(x)."""
        shares = np.exp([piece.log_integral - self.log_evidence for piece in self.pieces])
        return float(shares @ [piece.relative_error for piece in self.pieces])

    @property
    def log_evidence_error(self) -> float:
        """Quadrature error estimate plus arithmetic error plus what the mass left out may add."""
        return self.quadrature_error + self.arithmetic_error + self.left_out.evidence_error(self.log_evidence)

    def mass_outside(self, half_width: float) -> float:
        """The posterior's mass outside the box [-half_width, half_width]^2."""
        return float(self.weights[np.abs(self.points).max(1) > half_width].sum())

    # --- the density --------------------------------------------------------------------------------------------

    def log_prob(self, z: Array) -> Array:
        """log p(z|x) at points (n, 2), by real decodes: exact anywhere."""
        values: Array = self.log_joint(np.zeros(len(z), np.intp), np.asarray(z)) - self.log_evidence
        return values

    def log_density(self, first: Array, second: Array) -> Array:
        """log p(z|x) on the lattice first x second, interpolated without a decode; -inf where there is no mass."""
        z = grid_points(first, second)
        values: Array = np.max([piece.interpolate(z) for piece in self.pieces], 0) - self.log_evidence
        return values.reshape(len(first), len(second))

    @cached_property
    def _fine(self) -> tuple[Fine, Array]:
        """The density between the nodes, and the mass of each small cell, summing to 1."""
        fine = joined([piece.resample(SAMPLES // len(self.pieces)) for piece in self.pieces])
        mass = np.exp(fine.values - self.log_evidence) * fine.areas
        return fine, mass / mass.sum()

    def hdr_levels(self, masses: Sequence[float] = (0.5, 0.8, 0.95, 0.99)) -> Array:
        """For each mass the log density above which p(z|x) holds it: the highest-density regions' edges."""
        fine, mass = self._fine
        order = np.argsort(-fine.values)
        rough = np.interp(masses, np.cumsum(mass[order]), fine.values[order])
        levels = [_level(fine.values, fine.spreads, mass, *pair) for pair in zip(masses, rough, strict=True)]
        return np.array(levels) - self.log_evidence

    def hdr_mass(self, z: Array) -> float:
        """The mass of the highest-density region on whose edge the point z (2,) lies: small near a mode.

        Uniform on [0, 1] over draws z ~ p(z|x): the region of 80 % holds the true z of 80 % of simulated images.
        """
        fine, mass = self._fine
        value = float(self.log_prob(np.asarray(z)[None])[0]) + self.log_evidence
        return float(mass @ _share_above(fine.values, fine.spreads, value))

    def sample(self, count: int, *, generator: np.random.Generator) -> Array:
        """Independent draws from p(z|x), (count, 2): rejection from the interpolated density by real decodes.

        The proposal is uniform within each small cell; what it lacks is made up by the acceptance probability
        p(z|x) / (bound * proposal), so the draws are exact but for the mass off the quadrature, below 1e-6.
        """
        fine, mass = self._fine
        # a little for every cell: at the rim its midpoint's density does not stand for the rest of it
        proposal = (mass + 1e-6 * fine.areas / fine.areas.sum()) / (1 + 1e-6)
        accepted: list[Array] = []
        bound = 1.5
        while sum(map(len, accepted)) < count:
            cell = generator.choice(len(mass), size=2 * count + 64, p=proposal)
            z = fine.points[cell] + np.einsum("nij,nj->ni", fine.sides[cell], generator.random((len(cell), 2)) - 0.5)
            ratio = np.exp(self.log_prob(z)) * fine.areas[cell] / proposal[cell]
            if ratio.max() > bound:  # what passed under too low a bound was not exact
                bound, accepted = 1.2 * float(ratio.max()), []
            else:
                accepted.append(z[generator.random(len(z)) * bound < ratio])
        return np.concatenate(accepted)[:count]

    # --- moments ------------------------------------------------------------------------------------------------

    @cached_property
    def mean(self) -> Array:
        """E[z|x], (2,)."""
        mean: Array = self.weights @ self.points
        return mean

    @cached_property
    def covariance(self) -> Array:
        """Cov[z|x], (2, 2)."""
        centred = self.points - self.mean
        covariance: Array = (centred * self.weights[:, None]).T @ centred
        return covariance

    @cached_property
    def log_density_at_points(self) -> Array:
        """log p(z|x) at ``points``, (n,)."""
        result: Array = np.concatenate([piece.values for piece in self.pieces]) - self.log_evidence
        return result

    @cached_property
    def entropy(self) -> float:
        """-E log p(z|x)."""
        return -self.expected(self.log_density_at_points)

    @cached_property
    def negentropy(self) -> float:
        """KL from p(z|x) to the Gaussian of its own mean and covariance: 0 for a Gaussian."""
        return 0.5 * float(np.linalg.slogdet(2 * np.pi * np.e * self.covariance)[1]) - self.entropy

    def expected(self, values: Array) -> float:
        """E[f(z)|x] of values f at ``points``."""
        mass = self.weights > 0
        return float(self.weights[mass] @ values[mass])

    def expectation_error(self, values: Array) -> float:
        """Error estimate of ``expected(values)``: what each lattice's own sublattices say otherwise."""
        terms, start, error = self.weights * (values - self.expected(values)), 0, 0.0
        for piece in self.pieces:
            part = terms[start : start + len(piece.values)]
            error += piece.sum_error(np.where(np.isfinite(part), part, 0.0))
            start += len(part)
        return error

    # --- divergences --------------------------------------------------------------------------------------------

    def elbo(self, q: Gaussian | Density) -> Estimate:
        """E_q[log p(x, z) - log q(z)] of one q over z: by real decodes over q's own support."""
        return divergences.elbo(self, q)

    def kl_from(self, q: Gaussian | Density) -> Estimate:
        """KL(q || p(z|x)) = log p(x) - ELBO[q]: the gap that the encoder pays."""
        return divergences.gap(self, self.elbo(q))

    def kl_to(self, q: Gaussian | Density) -> Estimate:
        """KL(p(z|x) || q) = E[log p(z|x) - log q(z) | x]."""
        return divergences.kl_to(self, q)


def _level(values: Array, spreads: Array, mass: Array, wanted: float, rough: float) -> float:
    """The value above which the cells hold ``wanted`` of the mass: a cell across it counts by the share that is above.

    Within a cell the function counts as linear, its values as uniform over +- its spread.
    """
    reach = 4 * float(np.median(spreads[np.abs(values - rough) < 1]))
    near = np.abs(values - rough) < reach + spreads
    settled = float(mass[~near & (values > rough)].sum())
    v, w, m = values[near], spreads[near], mass[near]

    def excess(level: float) -> float:
        return settled + float(m @ _share_above(v, w, level)) - wanted

    return float(brentq(excess, rough - reach, rough + reach, xtol=1e-9))


def _share_above(values: Array, spreads: Array, level: float) -> Array:
    """The share of each cell that lies above ``level``."""
    share: Array = np.clip(0.5 + (values - level) / (2 * np.maximum(spreads, 1e-12)), 0, 1)
    return share
