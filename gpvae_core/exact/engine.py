"""PosteriorEngine: one decoder's exact posteriors for any image, many at a time."""

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import cached_property
from math import log
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpvae_core.errors import InputError
from gpvae_core.exact import interpolation
from gpvae_core.exact.cells import Cubature, Window
from gpvae_core.exact.covering import broad, cover, depth, resolved
from gpvae_core.exact.grid import BaseGrid, build_grid, open_grid
from gpvae_core.exact.joint import FARTHEST, QUADRATURE, Array, Decoded, Index, Task, no_pause, run, tallied
from gpvae_core.exact.lattice import HALVE, Lattice
from gpvae_core.exact.left_out import left_out
from gpvae_core.exact.modes import (
    MARGIN,
    STARTS,
    Mode,
    Starts,
    climbed,
    distinct,
    far_summits,
    find_modes,
    find_starts,
    separated,
    summits,
)
from gpvae_core.exact.posterior import ExactPosterior
from gpvae_core.fields import Tolerance, check
from gpvae_core.generative import GenerativeModel
from gpvae_core.tensors import image_batch, in_float64

HALF_WIDTH, NODES = 4.5, 181
FAR, FAR_NODES = 3.0, 91  # of the coarse grid on which hills outside the box are sought, in half widths
WINDOW = 7.0  # standard deviations around a mode that cells cover before growing: the rest holds 1e-11
CELL = WINDOW * 2 / 3  # side of the first cells, in standard deviations
BLOCK = 4  # grid nodes a side that share a window
GRID_CELL = 2.0  # side of the first cells over such blocks, in blocks
ACTIVE = 16.0  # a grid cell with less than e^-16 = 1e-7 of the mass is left alone
SEVERAL = 4  # modes, from which on the base grid refined once is cheaper than lattices around them
TRIFLE = 0.01  # of the tolerance: what a mode may hold and be passed over
ARITHMETIC_POINTS = 16
BEYOND = 5.0  # nats by which a preview falls in one node beyond the box: so gently that polynomials follow


class PosteriorEngine:
    """Exact posteriors of one generative model with a two-dimensional latent, for any image.

    Any ``GenerativeModel`` will do: the decoder is a module from z (B, 2) to pixel means, run in evaluation mode (of a
    model in training mode a copy is taken). Decoding the base grid
    over [-half_width, half_width]^2, and a coarse one three times as wide on which hills outside that box are sought,
    happens once, here, or both are read from ``cache``.

    Args:
        model: p(x, z) with two latent dimensions.
        half_width: Of the box [-half_width, half_width]^2, in latent units.
        nodes: Of the base grid, a side.
        tolerance: What the error estimate of log p(x) shall stay below, in nats.
        max_evaluations: Decodes for one image; a result that misses the tolerance within them says so in its
            ``log_evidence_error``. First attempts by lattices count; each may take 40,000 beyond it.
        cache: A folder in which the decoded grids are kept.
        digest: What identifies the weights there.
        report: Told the share of the grids that is decoded.
        pause: Called before each batch of decodes for an image, for a server that lets others have their turn there.
            What it raises ends the computation.

    Raises:
        InputError: The latent is not two-dimensional, the decoder does not take it or gives means that are not finite.
    """

    def __init__(
        self,
        model: GenerativeModel,
        *,
        half_width: float = HALF_WIDTH,
        nodes: int = NODES,
        tolerance: float = 1e-3,
        max_evaluations: int = 400_000,
        cache: Path | None = None,
        digest: str | None = None,
        report: Callable[[float], None] = lambda share: None,
        pause: Callable[[], None] = no_pause,
    ) -> None:
        if model.latent_dim != 2:
            raise InputError(
                f"the exact posterior needs two latent dimensions, but this model has {model.latent_dim}; "
                "use a checkpoint trained with --latent-dim 2"
            )
        check("tolerance", tolerance, Tolerance)
        model = deepcopy(model).eval() if model.training else model
        self.model = model
        self.image_shape = _image_shape(self.model)
        self.tolerance = tolerance
        self.max_evaluations = max_evaluations
        self.pause = pause

        total = nodes**2 + FAR_NODES**2

        def grid(half_width: float, nodes: int, before: int) -> BaseGrid:
            def on_decoded(count: int) -> None:
                report((before + count) / total)

            if cache is None or digest is None:
                return build_grid(model, half_width, nodes, on_decoded=on_decoded)
            return open_grid(model, half_width, nodes, cache, digest, on_decoded=on_decoded)

        self.grid = grid(half_width, nodes, 0)
        self.surroundings = grid(FAR * half_width, FAR_NODES, nodes**2)

    def at(self, tolerance: float) -> "PosteriorEngine":
        """The same engine with another tolerance, model and grids shared. Raises InputError where it is none."""
        check("tolerance", tolerance, Tolerance)
        other = copy(self)
        other.tolerance = tolerance
        return other

    @cached_property
    def double_model(self) -> GenerativeModel:
        """The same model in float64: the yardstick of the arithmetic error; on the CPU where its device has none."""
        return in_float64(self.model)

    @property
    def half_width(self) -> float:
        """Of the prior box that the base grid covers, in latent units."""
        return float(self.grid.axis[-1])

    # --- exact --------------------------------------------------------------------------------------------------

    def posterior(self, x: Tensor, *, near: Tensor | None = None) -> ExactPosterior:
        """p(z|x) of one image.

        Args:
            x: (C, H, W) or (1, C, H, W), pixels in [0, 1].
            near: Places (k, 2) where else to look for modes; see ``posteriors``.

        Returns:
            The exact posterior.

        Raises:
            InputError: See ``posteriors``.
        """
        return self.posteriors(self._single(x), near=None if near is None else near[None])[0]

    def posteriors(self, images: Tensor, *, near: Tensor | None = None) -> list[ExactPosterior]:
        """p(z|x) of each image (B, C, H, W), pixels in [0,1]; their decodes share batches.

        Modes are sought from the summits of both grids and from ``near`` (B, k, 2), in latent units: places where an
        encoder puts mass, such as its means. A hill that no grid shows is found from there only; places that show none
        change nothing, so that an image has one log p(x) whatever the encoder.

        Where the decoder's own precision is too coarse for the tolerance, the work is done again in float64. Raises
        InputError on non-finite pixels, on pixels outside the likelihood's support and on places of another shape
        or further than FARTHEST.
        """
        images = self._checked(images)
        joint = Decoded(self.model, images, self.pause)
        fields = self.grid.log_joint(self.model, joint.images)
        found = [find_starts(self.grid.axis, field) for field in fields]
        told, elsewhere = _places(near, len(images)), self._elsewhere(joint.images)
        starts = [np.concatenate([own.places, others]) for own, others in zip(found, elsewhere, strict=True)]
        modes = find_modes(joint, self.grid, starts, list(told))
        if joint.images.dtype == torch.float64:
            return self._integrate(joint, fields, modes, found)
        exact = Decoded(self.double_model, images, self.pause)
        fine = self._fine_enough(joint, exact, modes)
        first = self._integrate(joint.take(fine), fields[fine], [modes[k] for k in fine], [found[k] for k in fine])
        results = dict(zip(fine, first, strict=True))
        self._measure_arithmetic(results, exact)
        coarse = [
            k
            for k in range(len(modes))
            if k not in results or results[k].arithmetic_error > (1 - QUADRATURE) * self.tolerance
        ]
        again = exact.take(coarse)
        modes = find_modes(again, self.grid, [starts[k] for k in coarse], [told[k] for k in coarse])
        found = [found[k] for k in coarse]
        results |= zip(coarse, self._integrate(again, fields[coarse], modes, found), strict=True)
        return [results[k] for k in range(len(results))]

    def _elsewhere(self, images: Tensor) -> list[Array]:
        """Where outside the box to look for each image's modes, (k_i, 2)."""
        axis = self.surroundings.axis
        fields = self.surroundings.log_joint(self.model, images)
        return [far_summits(axis, field, self.half_width) for field in fields]

    def _fine_enough(self, joint: Decoded, exact: Decoded, modes: list[list[Mode]]) -> list[int]:
        """The images at whose best mode the decoder's precision does for the tolerance."""
        owner, best = np.arange(len(modes)), np.stack([found[0].location for found in modes])
        rounding = np.abs(joint(owner, best) - exact(owner, best))
        return np.flatnonzero(rounding <= (1 - QUADRATURE) * self.tolerance).tolist()

    def _single(self, x: Tensor) -> Tensor:
        """One image as a batch."""
        single = image_batch(x[None] if np.shape(x) == tuple(self.image_shape) else x, self.image_shape)
        if len(single) != 1:
            raise InputError(f"these are {len(single)} images; give one, of shape {tuple(self.image_shape)}")
        return single

    def _checked(self, images: Tensor) -> Tensor:
        """``images`` as a batch of this model's, within its likelihood's support. Raises InputError."""
        batch = image_batch(images, self.image_shape)
        self.model.likelihood.check(batch)
        return batch

    def _integrate(
        self, joint: Decoded, fields: Array, modes: list[list[Mode]], starts: list[Starts]
    ) -> list[ExactPosterior]:
        if not all(np.isfinite(found[0].log_joint) for found in modes):
            raise InputError("log p(x, z) is not finite at the posterior's mode; the decoder's weights are damaged")
        tasks = [self._pieces(found, field) for found, field in zip(modes, fields, strict=True)]
        covers = run(tasks, joint)
        known = zip(fields, covers, modes, starts, strict=True)
        rests = [left_out(self.grid, *one) for one in known]
        modes = separated(joint, _completed(joint, modes, covers))
        return [
            ExactPosterior(self.grid, fields[k], joint.take([k]), modes[k], pieces, left_out=rests[k])
            for k, pieces in enumerate(covers)
        ]

    def _pieces(self, modes: list[Mode], field: Array) -> Task[Sequence[Lattice | Cubature]]:
        """Lattices where they do, adaptive cells where they do not."""
        tolerance, axis = QUADRATURE * self.tolerance, self.grid.axis
        ways = [broad(axis, field, modes, tolerance), cover(modes, tolerance), broad(axis, field, modes, tolerance)]
        if not self._resolved(modes) and not self._nearly_resolved(modes):
            del ways[0]
        spent: list[int] = []
        for way in ways:
            if sum(spent) > self.max_evaluations // 2:
                break
            lattices = yield from tallied(way, spent)
            if lattices is not None and not self._misses(lattices, modes, field):
                return lattices
        best = modes[0]
        windows = [_mode_window(best, best), *_grid_windows(self.grid, field, modes)]
        windows += [_mode_window(mode, best) for mode in modes[1:]]
        cells = Cubature(best.location, best.frame, windows, CELL, best.log_joint)
        yield from cells.run(tolerance, max(self.max_evaluations - sum(spent), self.max_evaluations // 4))
        return [cells]

    def _misses(self, lattices: list[Lattice], modes: list[Mode], field: Array) -> bool:
        """Whether a mode, or a grid maximum, that may hold more than a trifle of the tolerance lies in no lattice."""
        top = max(lattice.log_integral for lattice in lattices)
        needed = top + log(TRIFLE * self.tolerance)
        matter = [m.location for m in modes if m.log_mass > needed]
        if not np.any([lattice.holds(np.reshape(matter, (-1, 2))) for lattice in lattices], 0).all():
            return True
        node = np.argwhere(field + 2 * log(self.grid.spacing) > top - ACTIVE + log(max(self.tolerance, 1e-3) / 1e-3))
        for lattice in lattices:
            node = node[~lattice.holds(self.grid.axis[node])]
        around = np.pad(field, 1, constant_values=-np.inf)
        neighbours = np.stack([around[node[:, 0] + i, node[:, 1] + k] for i in range(3) for k in range(3)], -1)
        return bool((field[tuple(node.T)] >= neighbours.max(-1)).any())

    def _measure_arithmetic(self, results: dict[int, ExactPosterior], exact: Decoded) -> None:
        """Set each result's error of decoding in the model's precision, from points at even shares of its mass."""
        if not results:
            return
        rows = {k: _at_even_shares(result.weights) for k, result in results.items()}
        owner = np.repeat(list(results), ARITHMETIC_POINTS)
        truth = exact(owner, np.concatenate([result.points[rows[k]] for k, result in results.items()]))
        for k, result in results.items():
            used = result.log_density_at_points[rows[k]] + result.log_evidence
            result.arithmetic_error = float(np.abs(truth[owner == k] - used).max())
            result.yardstick = exact.take([k])

    # --- preview ------------------------------------------------------------------------------------------------

    def preview(self, x: Tensor) -> ExactPosterior:
        """A first look at p(z|x) without a decode: everything interpolated from the base grid, and labelled so.

        log p(x) is typically a tenth of a nat off, more where the posterior is much narrower than the grid's spacing
        or lies outside the box; its error estimate says so.
        """
        x = self._checked(self._single(x))
        field = self.grid.log_joint(self.model, x)[0]
        surrogate = Interpolated(self.grid, field)
        summit = zip(*summits(self.grid.axis, field), strict=True)
        modes = distinct([Mode(place, float(value), curvature) for place, value, curvature in summit])
        (pieces,) = run([self._preview_pieces(modes, field)], surrogate)
        result = ExactPosterior(self.grid, field, surrogate, modes, pieces, preview=True)
        cubic = interpolation.at(field, surrogate.places(result.points), reach=1)
        rough = result.weights @ np.abs(cubic - result.log_density_at_points - result.log_evidence)
        beyond = result.mass_outside(float(self.grid.axis[-2])) > 1e-3  # there the grid knows nothing
        result.arithmetic_error = np.inf if beyond else float(rough)
        return result

    def _preview_pieces(self, modes: list[Mode], field: Array) -> Task[list[Lattice]]:
        tolerance = 0.05
        if self._resolved(modes):
            return [(yield from Lattice.on_grid(self.grid.axis, field, depth(tolerance), np.inf))]
        lattices = yield from cover(modes, tolerance)
        if lattices is None:  # one hill's own lattice would pass over others
            lattices = yield from broad(self.grid.axis, field, modes, tolerance)
        return lattices or [(yield from Lattice.around(modes[0], depth(tolerance)))]

    def _resolved(self, modes: list[Mode]) -> bool:
        """Whether the base grid is fine enough as it is: it costs no decode then."""
        return bool(resolved(modes, self.grid.spacing * np.eye(2), QUADRATURE * self.tolerance).all())

    def _nearly_resolved(self, modes: list[Mode]) -> bool:
        """Whether it is fine enough refined once, and has so many modes that a lattice around each would cost more."""
        matter = [mode for mode in modes if mode.log_mass > modes[0].log_mass - MARGIN]
        return len(matter) >= SEVERAL and bool(
            resolved(matter, self.grid.spacing * HALVE, QUADRATURE * self.tolerance).all()
        )


def _image_shape(model: GenerativeModel) -> torch.Size:
    """Of what the decoder makes. Raises InputError where it does not take z (B, 2)."""
    try:
        with torch.no_grad():
            return model.decode(torch.zeros(1, 2).to(next(model.parameters()))).shape[1:]
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the decoder does not take z of shape (B, 2) ({reason}); give it two inputs") from None


class Interpolated:
    """log p(x, z) of one image from its field on the base grid."""

    def __init__(self, grid: BaseGrid, field: Array) -> None:
        self.grid = grid
        self.field = field

    def places(self, z: Array) -> Array:
        """Fractional node indices, (n, 2)."""
        places: Array = (z - self.grid.axis[0]) / self.grid.spacing
        return places

    def __call__(self, owner: Index, z: Array) -> Array:
        places = self.places(z)
        inside = places.clip(0, len(self.grid.axis) - 1)
        # beyond the box nothing is known: fall off quickly
        values: Array = interpolation.at(self.field, inside) - BEYOND * ((places - inside) ** 2).sum(1)
        return values


def _places(near: Tensor | None, images: int) -> Array:
    """Where else to look for modes, (images, k, 2)."""
    if near is None:
        return np.empty((images, 0, 2))
    if near.ndim != 3 or near.shape[0] != images or near.shape[2] != 2:
        raise InputError(
            f"near has the shape {tuple(near.shape)}; give places of shape ({images}, k, 2), k for each image"
        )
    places: Array = near.detach().cpu().double().numpy()
    lost = np.flatnonzero(~(np.abs(places) <= FARTHEST).all((1, 2)))
    if len(lost):
        raise InputError(
            f"near of image {lost[0]} holds a place that is not finite, or further than {FARTHEST:g} from 0; give "
            "finite latent coordinates"
        )
    return places


def _completed(joint: Decoded, modes: list[list[Mode]], covers: list[Sequence[Lattice | Cubature]]) -> list[list[Mode]]:
    """The modes with those added that only the quadrature shows: between kinks Gauss-Newton can stop short."""
    starts = [_unaccounted(found, pieces) for found, pieces in zip(modes, covers, strict=True)]
    if not any(len(z) for z in starts):
        return modes
    reaches = [np.full(len(z), np.inf) for z in starts]
    return [distinct([*old, *new]) for old, new in zip(modes, climbed(joint, starts, reaches), strict=True)]


def _unaccounted(modes: list[Mode], pieces: Sequence[Lattice | Cubature]) -> Array:
    """Summits of the lattices that are half a standard deviation or more from every mode, (k, 2)."""
    summits_of = [piece.summits(MARGIN) for piece in pieces if isinstance(piece, Lattice)]
    places = np.concatenate([np.empty((0, 2)), *summits_of])
    new: Array = places[np.all([mode.distance(places) > 0.5 for mode in modes], 0)]
    return new[:STARTS]  # between many kinks there are many, none of which holds much


def _at_even_shares(weights: Array) -> Index:
    """Rows that stand for all the mass: the heaviest first, then ever lighter ones."""
    order = np.argsort(-weights)
    shares = (np.arange(ARITHMETIC_POINTS) + 0.5) / ARITHMETIC_POINTS
    rows: Index = order[np.searchsorted(np.cumsum(weights[order]), shares * weights.sum())]
    return rows


def _mode_window(mode: Mode, best: Mode) -> Window:
    inverse = np.linalg.inv(best.frame)
    centre = inverse @ (mode.location - best.location)
    std = np.sqrt(np.diag(inverse @ np.linalg.inv(mode.precision) @ inverse.T))
    return Window(centre - WINDOW * std, centre + WINDOW * std, CELL * std * (1 + 1e-9))


def _grid_windows(grid: BaseGrid, field: Array, modes: list[Mode]) -> list[Window]:
    """A window around each block of grid nodes that may hold mass and that no mode accounts for."""
    best = modes[0]
    node = np.argwhere(field + 2 * log(grid.spacing) > best.log_mass - ACTIVE)
    for mode in modes:
        node = node[mode.distance(grid.axis[node]) > WINDOW]
    blocks = np.unique(node // BLOCK, axis=0)
    inverse = np.linalg.inv(best.frame)
    half = np.abs(inverse).sum(1) * BLOCK * grid.spacing / 2
    centres = (grid.axis[0] + grid.spacing * (BLOCK * blocks + (BLOCK - 1) / 2) - best.location) @ inverse.T
    # the frame belongs to the best mode: out here the density can be narrow along any of its axes
    return [Window(c - half, c + half, GRID_CELL * 2 * half) for c in centres]
