"""The exact posterior p(z|x) of an image in two dimensions: quadrature of real decodes, to a stated error."""

from collections.abc import Callable, Sequence
from functools import cached_property
from math import log
from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.optimize import brentq

from gpvae_core.distributions import Posterior
from gpvae_core.errors import InputError
from gpvae_core.exact import divergences
from gpvae_core.exact.cells import Cubature
from gpvae_core.exact.divergences import Density, Estimate
from gpvae_core.exact.grid import BaseGrid, grid_points
from gpvae_core.exact.interpolation import Fine, joined
from gpvae_core.exact.joint import Array, Decoded, LogJoint
from gpvae_core.exact.lattice import Lattice
from gpvae_core.exact.left_out import LeftOut
from gpvae_core.exact.modes import Mode
from gpvae_core.fields import Count, check

SAMPLES = 40_000  # points at which the density is interpolated for mass contours
Share = Annotated[float, Field(gt=0, lt=1)]
TRIALS = 256  # decodes that measure how far the interpolated density is off


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
        self.grid_exact = grid.exact and not preview
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
        """The posterior's mass outside the box [-half_width, half_width]^2, from the density between the nodes."""
        outside, _ = self._outside(half_width)
        return outside

    def _outside(self, half_width: float) -> tuple[float, float]:
        """The mass outside a box, and that of the small cells that its edge runs through: of these counts a share.

        As if they were bars across the edge: of a parallelogram another eighth at most lies beyond it.
        """
        if np.abs(self.points).max() < half_width:  # what lies beyond the nodes is for the error
            return 0.0, 0.0
        fine, mass = self._fine
        beyond, reach = np.abs(fine.points) - half_width, 0.5 * np.abs(fine.sides).sum(2)
        share = np.clip(0.5 + beyond / (2 * reach), 0, 1).max(1)
        return float(mass @ share), float(mass[(share > 0) & (share < 1)].sum())

    # --- the density --------------------------------------------------------------------------------------------

    def log_prob(self, z: Array) -> Array:
        """log p(z|x) at points (n, 2), by real decodes: exact anywhere. Raises InputError for others."""
        z = _places(z)
        values: Array = self.log_joint(np.zeros(len(z), np.intp), z) - self.log_evidence
        return values

    def log_density(self, first: Array, second: Array) -> Array:
        """log p(z|x) on the lattice first x second, interpolated without a decode; -inf where there is no mass."""
        z = grid_points(first, second)
        return self._interpolated(z).reshape(len(first), len(second))

    @cached_property
    def _fine(self) -> tuple[Fine, Array]:
        """The density between the nodes, and the mass of each small cell, summing to 1."""
        return self._resampled(SAMPLES)

    def _resampled(self, samples: int) -> tuple[Fine, Array]:
        fine = joined([piece.resample(samples // len(self.pieces)) for piece in self.pieces])
        mass = np.exp(fine.values - self.log_evidence) * fine.areas
        return fine, mass / mass.sum()

    def hdr_levels(self, masses: Sequence[float] | Array = (0.5, 0.8, 0.95, 0.99)) -> Array:
        """For each mass the log density above which p(z|x) holds it: the highest-density regions' edges.

        Raises InputError for a mass that does not lie between 0 and 1.
        """
        check("masses", list(masses) if np.ndim(masses) else masses, list[Share])
        return self._levels(self._fine, masses)

    def _levels(self, resampled: tuple[Fine, Array], masses: Sequence[float] | Array) -> Array:
        fine, mass = resampled
        order = np.argsort(-fine.values)
        rough = np.interp(masses, np.cumsum(mass[order]), fine.values[order])
        levels = [_level(fine.values, fine.spreads, mass, *pair) for pair in zip(masses, rough, strict=True)]
        found: Array = np.array(levels) - self.log_evidence
        return found

    def hdr_mass(self, z: Array) -> float:
        """The mass of the highest-density region on whose edge the point z (2,) lies: small near a mode.

        Uniform on [0, 1] over draws z ~ p(z|x): the region of 80 % holds the true z of 80 % of simulated images.
        """
        fine, mass = self._fine
        value = float(self.log_prob(np.asarray(z)[None])[0]) + self.log_evidence
        return float(mass @ _share_above(fine.values, fine.spreads, value))

    def sample(self, count: int, *, generator: np.random.Generator) -> Array:
        """Independent draws from p(z|x) without a decode: exact draws of the interpolated density.

        Args:
            count: How many.
            generator: NumPy's, for example ``numpy.random.default_rng(0)``.

        Returns:
            The draws, (count, 2), in latent units.

        Raises:
            InputError: The count is not positive.

        That density differs from p(z|x) by ``sampling_error`` in total variation. The proposal is uniform within each
        small cell; the acceptance probability is interpolated density / (bound * proposal).
        """
        check("count", count, Count)
        fine, mass = self._fine
        # a little for every cell: at the rim its midpoint's density does not stand for the rest of it
        proposal = (mass + 1e-6 * fine.areas / fine.areas.sum()) / (1 + 1e-6)
        density = proposal / fine.areas
        cumulative = np.cumsum(proposal)
        accepted: list[Array] = []
        bound = 1.5
        while sum(map(len, accepted)) < count:
            uniform = generator.random((2 * count + 64, 3))
            cell = np.searchsorted(cumulative, uniform[:, 0] * cumulative[-1], side="right").clip(max=len(mass) - 1)
            z = fine.points[cell] + np.einsum("nij,nj->ni", fine.sides[cell], uniform[:, 1:] - 0.5)
            ratio = np.exp(self._interpolated(z)) / density[cell]
            if ratio.max() > bound:  # what passed under too low a bound was not exact
                bound, accepted = 1.2 * float(ratio.max()), []
            else:
                accepted.append(z[generator.random(len(z)) * bound < ratio])
        return np.concatenate(accepted)[:count]

    @cached_property
    def sampling_error(self) -> float:
        """Estimate of the total variation between p(z|x) and the law of ``sample``, in [0, 1].

        Half the mean of |p / interpolated - 1| over 256 places at even shares of the mass, by real decodes, three
        standard errors added; and the mass left out or beyond the rim.
        """
        fine, mass = self._fine
        shares = (np.arange(TRIALS) + 0.5) / TRIALS
        rows = np.searchsorted(np.cumsum(mass), shares).clip(max=len(mass) - 1)
        gaps = self.log_prob(fine.points[rows]) + self.log_evidence - fine.values[rows]
        off = 0.5 * np.abs(np.expm1(gaps.clip(max=50)))
        return float(min(1.0, off.mean() + 3 * off.std() / np.sqrt(TRIALS) + self._missing))

    def _interpolated(self, z: Array) -> Array:
        """log p(z|x) at points (n, 2) between the nodes; -inf where there is no mass."""
        values: Array = np.max([piece.interpolate(z) for piece in self.pieces], 0) - self.log_evidence
        return values

    @cached_property
    def hill_shares(self) -> Array:
        """The share of the mass on each mode's hill, (k,), in the order of ``modes``, summing to 1.

        A node of the quadrature belongs to the mode at which steepest ascent over the nodes ends; where the quadrature
        is by cells, to the mode whose Laplace approximation is highest there.
        """
        tops = np.concatenate([p.ascended() if isinstance(p, Lattice) else p.points for p in self.pieces])
        heights = [mode.log_joint - 0.5 * mode.distance(tops) ** 2 for mode in self.modes]
        near = [-mode.distance(tops) for mode in self.modes]
        climbed = np.concatenate([np.full(len(p.values), isinstance(p, Lattice)) for p in self.pieces])
        owner = np.where(climbed, np.argmax(near, 0), np.argmax(heights, 0))
        return np.bincount(owner, self.weights, len(self.modes)).astype(np.float64)

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

    def _expectation_error(self, values: Array) -> float:
        """Error estimate of ``expected(values)``: what each lattice's own sublattices say otherwise."""
        terms, start, error = self.weights * (values - self.expected(values)), 0, 0.0
        for piece in self.pieces:
            part = terms[start : start + len(piece.values)]
            error += piece.sum_error(np.where(np.isfinite(part), part, 0.0))
            start += len(part)
        return error

    # --- errors of what is shown ----------------------------------------------------------------------------------

    @cached_property
    def mean_error(self) -> Array:
        """Error estimate of ``mean``, (2,), in latent units."""
        return np.array([self.error_of(lambda z, log_p: z[:, 0]), self.error_of(lambda z, log_p: z[:, 1])])

    @cached_property
    def covariance_error(self) -> Array:
        """Error estimate of ``covariance``, (2, 2), in squared latent units."""

        def product(i: int, j: int) -> float:
            return self.error_of(lambda z, log_p: (z[:, i] - self.mean[i]) * (z[:, j] - self.mean[j]))

        return np.array([[product(i, j) for j in (0, 1)] for i in (0, 1)]) + np.outer(self.mean_error, self.mean_error)

    @cached_property
    def entropy_error(self) -> float:
        """Error estimate of ``entropy``, in nats."""
        return self.error_of(lambda z, log_p: log_p) + self.quadrature_error + self._beyond(np.ones(len(self.weights)))

    @cached_property
    def negentropy_error(self) -> float:
        """Error estimate of ``negentropy``, in nats: to first order that of E[log p + (z - m)'C^-1(z - m)/2 | x]."""
        inverse = np.linalg.inv(self.covariance)

        def excess(z: Array, log_p: Array) -> Array:
            centred = z - self.mean
            values: Array = log_p + 0.5 * np.einsum("ni,ij,nj->n", centred, inverse, centred)
            return values

        return self.error_of(excess) + self.quadrature_error + self._beyond(np.ones(len(self.weights)))

    def hdr_level_errors(self, masses: Sequence[float] = (0.5, 0.8, 0.95, 0.99)) -> Array:
        """Error estimates of ``hdr_levels``, in nats.

        The most that three coarser grids of cells say otherwise: one can agree by chance. To that comes how far the
        level moves where the mass is off by ``sampling_error``, and the error of log p(x).
        """
        levels = self.hdr_levels(masses)
        shift = self.sampling_error + self.quadrature_error
        moved = [self.hdr_levels(np.clip(np.asarray(masses) + s, 1e-6, 1 - 1e-6)) for s in (-shift, shift)]
        rough = [self._levels(self._resampled(SAMPLES // part), masses) for part in (2, 4, 9)]
        change = np.abs([*moved, *rough] - levels).max(0)
        errors: Array = change + self.log_evidence_error
        return errors

    def mass_outside_error(self, half_width: float) -> float:
        """Error estimate of ``mass_outside``, at most 1."""
        _, across = self._outside(half_width)
        return min(1.0, across / 8 + self.quadrature_error + self.arithmetic_error + self._missing)

    def error_of(self, f: Callable[[Array, Array], Array]) -> float:
        """Error estimate of E[f(z, log p(z|x)) | x]: quadrature, decoder's arithmetic, rim and mass left out."""
        values = f(self.points, self.log_density_at_points)
        values = np.where(self.weights > 0, values, 0.0)
        centre = self.expected(values)
        off = np.abs(values - centre)
        arithmetic = self.arithmetic_error * self.expected(off)
        rest, shares = self.left_out, self.left_out.shares(self.log_evidence)
        beyond = np.abs(f(rest.places, rest.log_joint - self.log_evidence) - centre)
        return self._expectation_error(values) + arithmetic + self._beyond(off) + float(shares @ beyond)

    @property
    def _missing(self) -> float:
        """The mass left out or beyond the rim, relative to p(x)."""
        return float(self.left_out.shares(self.log_evidence).sum()) + self._beyond(np.ones(len(self.weights)))

    def _beyond(self, values: Array) -> float:
        """What lies beyond the rims of all pieces, at ``values`` (n,) as large as on them."""
        error, start = 0.0, 0
        for piece in self.pieces:
            own = slice(start, start + len(piece.values))
            error += piece.beyond(self.weights[own], values[own])
            start = own.stop
        return error

    # --- divergences --------------------------------------------------------------------------------------------

    def elbo(self, q: Posterior | Density) -> Estimate:
        """E_q[log p(x, z) - log q(z)] of one q over z, by real decodes over q's own support.

        Args:
            q: A ``Posterior`` of batch shape (), or any object whose ``log_prob`` takes z (n, 2) to (n,) in nats.

        Returns:
            The ELBO with its error, in nats.

        Raises:
            InputError: q is a batch, not normalised, gives another shape, or is a Gaussian without a positive width.
        """
        divergences.check_proper(q)
        return divergences.elbo(self, q)

    def kl_from(self, q: Posterior | Density) -> Estimate:
        """KL(q || p(z|x)) = log p(x) - ELBO[q], the gap, with its error in nats; ``q`` as in ``elbo``."""
        return divergences.gap(self, self.elbo(q))

    def kl_to(self, q: Posterior | Density) -> Estimate:
        """KL(p(z|x) || q) = E[log p(z|x) - log q(z) | x], with its error in nats; ``q`` as in ``elbo``."""
        divergences.check_proper(q)
        return divergences.kl_to(self, q)


def _places(z: Array) -> Array:
    """Points (n, 2) of the latent plane, finite. Raises InputError."""
    points = np.asarray(z)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InputError(f"z has the shape {points.shape}; give finite points (n, 2) of the latent plane")
    return points


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
