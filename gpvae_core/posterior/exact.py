"""The exact posterior p(z|x) of one image in two dimensions, by adaptive cubature of real decodes."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from math import log

import numpy as np
import torch
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.gaussian import DiagonalGaussian, gauss_hermite, standard_normal_log_prob
from gpvae_core.generative import GenerativeModel
from gpvae_core.posterior.cells import Cubature, Window
from gpvae_core.posterior.grid import CHUNK, Array, BaseGrid, build_grid
from gpvae_core.posterior.modes import Mode, find_modes

WINDOW = 7.0  # standard deviations around a mode that are covered before growing: the rest holds 1e-11
CELL = WINDOW * 2 / 3  # side of the first cells, in standard deviations
GRID_CELL = 4.0  # side of the first cells around active grid nodes, in grid spacings
ACTIVE = 23.0  # a grid cell with less than e^-23 = 1e-10 of the mass is left alone
ARITHMETIC_POINTS = 32
HERMITE_ORDERS = (16, 24, 36, 54, 80)


@dataclass(frozen=True)
class Estimate:
    """A number in nats and the estimate of its numerical error."""

    value: float
    error: float


class PosteriorEngine:
    """Exact posteriors of one generative model with a two-dimensional latent, for any image.

    Any ``GenerativeModel`` will do: the decoder is a module from z (B, 2) to pixel means. Decoding the base grid
    over [-half_width, half_width]^2 happens once, here. ``tolerance`` bounds the error estimate of log p(x) in nats;
    a result that misses it within ``max_evaluations`` decodes says so in its ``log_evidence_error``.

    Raises InputError when the latent is not two-dimensional or the decoder gives non-finite means.
    """

    def __init__(
        self,
        model: GenerativeModel,
        *,
        half_width: float = 4.5,
        nodes: int = 181,
        tolerance: float = 1e-3,
        max_evaluations: int = 400_000,
    ) -> None:
        if model.latent_dim != 2:
            raise InputError(
                f"the exact posterior needs two latent dimensions, but this model has {model.latent_dim}; "
                "use a checkpoint trained with --latent-dim 2"
            )
        self.model = model
        self.tolerance = tolerance
        self.max_evaluations = max_evaluations
        self.grid: BaseGrid = build_grid(model, half_width, nodes)

    @cached_property
    def double_model(self) -> GenerativeModel:
        """The same model in float64 on the CPU: the yardstick of the arithmetic error."""
        return deepcopy(self.model).cpu().double()

    def posterior(self, x: Tensor) -> "ExactPosterior":
        """p(z|x) of one image x (C, H, W) or (1, C, H, W), pixels in [0,1].

        Where the decoder's own precision is too coarse for the tolerance, the work is done again in float64. Raises
        InputError on non-finite pixels and on pixels outside the likelihood's support.
        """
        x = x.reshape(1, *x.shape[-3:])
        if not bool(torch.isfinite(x).all()):
            raise InputError("the image holds pixels that are not finite numbers; replace them and try again")
        self.model.likelihood.check(x)
        field = self.grid.log_joint(self.model, x)
        result = self._integrate(self.model, x, field)
        if result.arithmetic_error > 0.5 * self.tolerance:
            result = self._integrate(self.double_model, x.cpu().double(), field)
        return result

    def _integrate(self, model: GenerativeModel, x: Tensor, field: Array) -> "ExactPosterior":
        parameter = next(model.parameters(), x)
        x = x.to(parameter)
        modes = find_modes(model, x, self.grid, field)
        best = modes[0]
        if not np.isfinite(best.log_joint):
            raise InputError("log p(x, z) is not finite at the posterior's mode; the decoder's weights are damaged")
        frame = _eigenframe(best)
        windows = [_mode_window(mode, best, frame) for mode in modes]
        windows += _grid_windows(self.grid, field, modes, best, frame)

        def log_f(u: Array) -> Array:
            return log_joint_at(model, x, best.location + u @ frame.T)

        root = 4 * max(float(np.abs([w.low for w in windows]).max()), float(np.abs([w.high for w in windows]).max()))
        cubature = Cubature(log_f, windows, root, CELL, best.log_joint)
        cubature.run(0.5 * self.tolerance, self.max_evaluations)
        return ExactPosterior(self, model, x, field, modes, best.location, frame, cubature)


def _eigenframe(mode: Mode) -> Array:
    """A with A A' = precision^-1: z = mode + A u makes the Laplace approximation standard normal in u."""
    eigenvalues, vectors = np.linalg.eigh(mode.precision)
    frame: Array = vectors / np.sqrt(eigenvalues)
    return frame


def _mode_window(mode: Mode, best: Mode, frame: Array) -> Window:
    inverse = np.linalg.inv(frame)
    centre = inverse @ (mode.location - best.location)
    std = np.sqrt(np.diag(inverse @ np.linalg.inv(mode.precision) @ inverse.T))
    return Window(centre - WINDOW * std, centre + WINDOW * std, CELL * std * (1 + 1e-9))


def _grid_windows(grid: BaseGrid, field: Array, modes: list[Mode], best: Mode, frame: Array) -> list[Window]:
    """A window around each grid node that may hold mass and that no mode accounts for."""
    log_mass = field.ravel() + 2 * log(grid.spacing)
    active = grid.points[log_mass > best.log_mass - ACTIVE]
    for mode in modes:
        step = active - mode.location
        active = active[np.einsum("ni,ij,nj->n", step, mode.precision, step) > WINDOW**2]
    inverse = np.linalg.inv(frame)
    half = np.abs(inverse).sum(1) * grid.spacing / 2
    centres = (active - best.location) @ inverse.T
    # the frame belongs to the best mode: out here the density can be narrow along any of its axes
    return [Window(c - half, c + half, GRID_CELL * 2 * half) for c in centres]


@torch.no_grad()
def log_joint_at(model: GenerativeModel, x: Tensor, z: Array) -> Array:
    """log p(x, z) in nats at points (n, 2), accumulated in float64. Raises InputError where it is NaN."""
    points = torch.as_tensor(z, dtype=x.dtype, device=x.device)
    values = []
    for chunk in points.split(CHUNK):
        pixels = model.likelihood.log_prob(x, model.decode(chunk)).flatten(1)
        values.append(pixels.double().sum(-1).cpu() if x.device.type != "mps" else pixels.sum(-1).cpu().double())
    total = torch.cat(values) + standard_normal_log_prob(torch.as_tensor(z))
    if bool(total.isnan().any()):
        raise InputError("the decoder gives pixel means that are not numbers; restore the checkpoint or train again")
    result: Array = total.numpy()
    return result


class ExactPosterior:
    """p(z|x) of one image: evidence, moments, mass contours, and divergences, each by quadrature, in nats.

    Built by ``PosteriorEngine.posterior``. ``modes`` come by descending mass.
    """

    def __init__(
        self,
        engine: PosteriorEngine,
        model: GenerativeModel,
        x: Tensor,
        field: Array,
        modes: list[Mode],
        origin: Array,
        frame: Array,
        cubature: Cubature,
    ) -> None:
        self.modes = modes
        self.grid_axis = engine.grid.axis
        self.grid_log_joint = field
        self.evaluations = cubature.evaluations
        self._engine = engine
        self._model = model
        self._x = x
        self._origin = origin
        self._frame = frame
        self._cubature = cubature
        self._log_jacobian = float(np.linalg.slogdet(frame)[1])
        u, self.weights = cubature.points_and_weights()
        self.points = origin + u @ frame.T

    # --- evidence -----------------------------------------------------------------------------------------------

    @cached_property
    def log_evidence(self) -> float:
        """log p(x) = log int p(x, z) dz."""
        return self._cubature.log_integral + self._log_jacobian

    @cached_property
    def log_evidence_error(self) -> float:
        """Cubature error estimate plus arithmetic error."""
        return self._cubature.relative_error + self.arithmetic_error

    @cached_property
    def arithmetic_error(self) -> float:
        """The largest |float32 - float64| of log p(x, z) where the mass is; for a float64 model, its rounding."""
        z = self.points[np.argsort(-self.weights)[:ARITHMETIC_POINTS]]
        exact = log_joint_at(self._engine.double_model, self._x.cpu().double(), z)
        if self._x.dtype == torch.float64:
            return float(1e-13 * np.abs(exact).max())
        return float(np.abs(log_joint_at(self._model, self._x, z) - exact).max())

    # --- the density --------------------------------------------------------------------------------------------

    def log_prob(self, z: Array) -> Array:
        """log p(z|x) at points (n, 2), by real decodes: exact anywhere."""
        return log_joint_at(self._model, self._x, z) - self.log_evidence

    def log_density(self, first: Array, second: Array) -> Array:
        """log p(z|x) on the lattice first x second, interpolated from the cells without a decode; -inf off them."""
        z = np.stack(np.meshgrid(first, second, indexing="ij"), -1).reshape(-1, 2)
        u = (z - self._origin) @ np.linalg.inv(self._frame).T
        return (self._cubature.interpolate(u) - self.log_evidence).reshape(len(first), len(second))

    def hdr_levels(self, masses: tuple[float, ...] = (0.5, 0.8, 0.95, 0.99)) -> Array:
        """For each mass the log density above which p(z|x) holds it: the highest-density regions' edges."""
        per_axis = int(np.clip(np.sqrt(200_000 / len(self._cubature.leaves)), 15, 150))
        log_values, areas = self._cubature.resample(per_axis)
        log_values, share = log_values.ravel() - self.log_evidence, areas.ravel() * np.exp(self._log_jacobian)
        order = np.argsort(-log_values)
        held = np.exp(log_values[order]) * share[order]
        above = np.cumsum(held) - held / 2  # half of a lattice cell lies above its own midpoint's level
        levels: Array = np.interp(np.array(masses) * held.sum(), above, log_values[order])
        return levels

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
    def _log_density_at_points(self) -> Array:
        values = np.concatenate([leaf.log_values.ravel() for leaf in self._cubature.leaves.values()])
        result: Array = values - self.log_evidence
        return result

    @cached_property
    def entropy(self) -> float:
        """-E log p(z|x)."""
        return -float(self._expected(self._log_density_at_points))

    @cached_property
    def negentropy(self) -> float:
        """KL from p(z|x) to the Gaussian of its own mean and covariance: 0 for a Gaussian."""
        return 0.5 * float(np.linalg.slogdet(2 * np.pi * np.e * self.covariance)[1]) - self.entropy

    def _expected(self, values: Array) -> float:
        mass = self.weights > 0
        return float(self.weights[mass] @ values[mass])

    # --- divergences --------------------------------------------------------------------------------------------

    def elbo(self, q: DiagonalGaussian) -> Estimate:
        """E_q[log p(x, z) - log q(z)] of one Gaussian, mean (2,): Gauss-Hermite on q's own support, real decodes.

        The order is raised until two successive ones agree within the engine's tolerance; their difference and the
        arithmetic error are the error estimate.
        """
        q = DiagonalGaussian(q.mean.detach().cpu().double(), q.std.detach().cpu().double())
        previous, difference = self._expected_under(q, HERMITE_ORDERS[0]), np.inf
        for order in HERMITE_ORDERS[1:]:
            value = self._expected_under(q, order)
            difference, previous = abs(value - previous), value
            if difference < 0.5 * self._engine.tolerance:
                break
        return Estimate(previous + float(q.entropy()), difference + self.arithmetic_error)

    def _expected_under(self, q: DiagonalGaussian, order: int) -> float:
        z, weights = gauss_hermite(q, order)
        kept = weights > 1e-14  # the corners of the tensor rule
        return float(weights[kept].numpy() @ log_joint_at(self._model, self._x, z[kept].numpy()))

    def kl_from(self, q: DiagonalGaussian) -> Estimate:
        """KL(q || p(z|x)) = log p(x) - ELBO[q]: the gap that the encoder pays."""
        elbo = self.elbo(q)
        return Estimate(self.log_evidence - elbo.value, self.log_evidence_error + elbo.error)

    def kl_to(self, log_q: Callable[[Array], Array]) -> float:
        """KL(p(z|x) || q) for any log density on points (n, 2)."""
        return self._expected(self._log_density_at_points - log_q(self.points))
