"""All modes of p(z|x) that matter: starts from the base grid, polished by damped Gauss-Newton on real decodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from gpvae_core.exact.between import Between
from gpvae_core.exact.curvature import checked
from gpvae_core.exact.grid import BaseGrid
from gpvae_core.exact.interpolation import REACH, STENCIL, basis
from gpvae_core.exact.joint import Array, Decoded, Index

STARTS = 12  # climbed at the least: a posterior of digits has one to four modes
FAR_STARTS = 6  # beyond the box; one image of MNIST in 250 has its main hill there, and no slope of the box leads to it
MOST_STARTS = 256  # what is left out beyond them enters the error
STEPS = 40
SETTLED = 1e-2  # nats that an undamped step may still promise: it is taken on trust
ASTRAY = 3.0  # nats between a decode and what the grid says of the same place
STALLED = 1e3  # the damping at which a start has met a kink and stays
LEAST_DAMPING = 1e-16  # relative to the steepest axis: more would hold a flat ridge's steps back
FAITHFUL = 0.75  # of the gain foreseen: a step that brings as much may be followed by one twice as long
DIP = 0.05  # nats by which log p(x, z) has to fall between two modes: less is one hill
SAME = 0.5  # standard deviations: two ascents that end closer have found one mode
PATH = np.linspace(0, 1, 17)[1:-1]  # where it is looked at between them
ONE_HILL = 8.0  # standard deviations of either: farther apart on one hill, the lower one would not count
RIVALS = 3  # of the better modes, the nearest, with which a mode is compared
STRIDE = 2.0  # grid spacings a step may cover, so that no start leaves its own hill
MARGIN = 12.0  # nats of Laplace mass below the best mode: what lies lower holds under 1e-5
FAR_MARGIN = 7.6  # the same for mass times squared distance, in deviations of the best: a tenth of 5e-3, the variances'
FINE = np.linspace(-1, 1, 17)  # where the field is interpolated around a node, in grid spacings


@dataclass(frozen=True)
class Mode:
    """A local maximum: location (2,), log p(x, z) there, and the Gauss-Newton precision J'J-like + I, (2, 2)."""

    location: Array
    log_joint: float
    precision: Array

    @property
    def log_mass(self) -> float:
        """Laplace's estimate of the log mass around the mode, in nats."""
        return self.log_joint + log(2 * pi) - 0.5 * float(np.linalg.slogdet(self.precision)[1])

    @property
    def frame(self) -> Array:
        """A with A A' = precision^-1: z = location + A u makes the Laplace approximation standard normal in u."""
        eigenvalues, vectors = np.linalg.eigh(self.precision)
        frame: Array = vectors / np.sqrt(eigenvalues)
        return frame

    def distance(self, z: Array) -> Array:
        """From the mode to points (..., 2), in its own standard deviations."""
        step = z - self.location
        distance: Array = np.sqrt(np.einsum("...i,ij,...j->...", step, self.precision, step))
        return distance


@dataclass(frozen=True)
class Starts:
    """Where a field's modes are sought, (k, 2), and the summits left out: what mass and what height each may have."""

    places: Array
    left_out: Array
    left_out_log_mass: Array
    left_out_log_joint: Array


def find_starts(axis: Array, field: Array) -> Starts:
    """The summits of one field (n, n) that a hill that matters may rise from; the highest STARTS in any case.

    A hill between the nodes can rise above its summit by about what the nodes around it fall; the MOST_STARTS that may
    rise highest are taken.
    """
    places, values, curvature = summits(axis, field)
    possible = values + _fall(field, np.rint((places - axis[0]) / (axis[1] - axis[0])).astype(int))
    matter = (np.arange(len(values)) < STARTS) | (possible > values[0] - MARGIN)
    order = np.argsort(-np.where(matter, possible, -np.inf), kind="stable")
    taken = np.sort(order[: min(int(matter.sum()), MOST_STARTS)])
    left = order[len(taken) : int(matter.sum())]
    log_mass = possible[left] + log(2 * pi) - 0.5 * np.linalg.slogdet(curvature[left])[1]
    return Starts(places[taken], places[left], log_mass, possible[left])


def _fall(field: Array, node: Index) -> Array:
    """How far the field falls from each node (k, 2) to the lowest of its eight neighbours, (k,)."""
    around = minimum_filter(field, size=3, mode="nearest")
    fall: Array = field[tuple(node.T)] - around[tuple(node.T)]
    return fall


def find_modes(joint: Decoded, grid: BaseGrid, starts: list[Array], told: list[Array]) -> list[list[Mode]]:
    """For each image its modes above ``starts[i]`` (k_i, 2) by descending Laplace mass, none repeated.

    ``told[i]`` (l_i, 2): where else to look. A place that leads to a mode that is known without it changes nothing, not
    a bit: log p(x) hangs on an encoder's places only where they show a hill that no grid shows.
    """
    found = _above(joint, grid, starts, [[] for _ in starts])
    more = _above(joint, grid, told, found)
    return [distinct([*own, *others]) if others else own for own, others in zip(found, more, strict=True)]


def _above(joint: Decoded, grid: BaseGrid, starts: list[Array], known: list[list[Mode]]) -> list[list[Mode]]:
    """For each image the modes above its starts, those left out that are ``known``.

    The ascents first go by what the grid says of the decoder, and decodes finish them. Where a decode says otherwise
    than the grid by more than ASTRAY, decodes make all the way: from a start that disagrees, and from all starts of an
    image where a summit does.
    """
    if not sum(map(len, starts)):
        return [[] for _ in starts]
    between = Between(joint, grid)
    agreed = _agreed(between, starts)
    trusted = [z[sure] for z, sure in zip(starts, agreed, strict=True)]
    rough = [
        distinct(_new(modes, own))
        for modes, own in zip(climbed(between, trusted, _reaches(between, trusted)), known, strict=True)
    ]
    nearer = [
        np.concatenate([np.reshape([mode.location for mode in modes], (-1, 2)), z[~sure]])
        for modes, z, sure in zip(rough, starts, agreed, strict=True)
    ]
    found = climbed(joint, nearer, _reaches(between, nearer))
    astray = [
        image
        for image, (own, said) in enumerate(zip(found, rough, strict=True))
        if not np.all([abs(a.log_joint - b.log_joint) < ASTRAY for a, b in zip(own, said, strict=False)])
    ]
    own_starts = [starts[image] for image in astray]
    again = climbed(joint.take(astray), own_starts, _reaches(between, own_starts)) if astray else []
    for image, modes in zip(astray, again, strict=True):
        found[image] = modes
    return [distinct(_new(modes, own)) for modes, own in zip(found, known, strict=True)]


def _new(modes: list[Mode], known: list[Mode]) -> list[Mode]:
    """The modes that repeat none of the known ones."""
    return [mode for mode in modes if not _repeats(mode, known)]


def _repeats(mode: Mode, others: Sequence[Mode]) -> bool:
    """Whether it lies within half a standard deviation of one of the others."""
    return any(other.distance(mode.location) <= SAME for other in others)


def _agreed(between: Between, starts: list[Array]) -> list[NDArray[np.bool_]]:
    """For each start whether a decode there agrees with the grid, (k_i,) for each image."""
    owner, z = np.repeat(np.arange(len(starts)), [len(z) for z in starts]), np.concatenate(starts)
    agreed = between.inside(z)
    known = np.flatnonzero(agreed)
    if len(known):
        said = between.quadratic(owner[known], z[known])[0]
        agreed[known] = np.abs(between.joint(owner[known], z[known]) - said) < ASTRAY
    return np.split(agreed, np.cumsum([len(z) for z in starts])[:-1])


def _reaches(between: Between, places: list[Array]) -> list[Array]:
    """How far a step from each place may go: beyond the grid's edge a mode can be anywhere."""
    return [np.where(between.inside(z), STRIDE * between.grid.spacing, np.inf) for z in places]


def far_summits(axis: Array, field: Array, half_width: float) -> Array:
    """The nodes of one coarse field (n, n) outside the box that no neighbour exceeds, (k, 2), chosen like summits."""
    node = np.argwhere(field == maximum_filter(field, size=3, mode="nearest"))
    node = node[np.abs(axis[node]).max(1) > half_width]
    node = node[np.argsort(-field[tuple(node.T)])]
    possible = field[tuple(node.T)] + _fall(field, node)
    matter = (np.arange(len(node)) < FAR_STARTS) | (possible > field.max() - MARGIN)
    highest: Array = axis[node[matter][:MOST_STARTS]]
    return highest


def climbed(joint: Decoded | Between, starts: list[Array], reaches: list[Array]) -> list[list[Mode]]:
    """The mode above each start: starts[i] (k_i, 2) under image i, no step longer than reaches[i] (k_i,).

    Decodes also look at the widths.
    """
    counts = [len(z) for z in starts]
    if not sum(counts):
        return [[] for _ in starts]
    owner = np.repeat(np.arange(len(starts)), counts)
    z, value, precision, arrived = _climb(joint, owner, np.concatenate(starts), np.concatenate(reaches))
    if isinstance(joint, Decoded) and arrived.any():  # a start given up stands on a slope, where no width is measured
        z[arrived], value[arrived], precision[arrived] = checked(
            joint, owner[arrived], z[arrived], value[arrived], precision[arrived]
        )
    found = [Mode(*parts) for parts in zip(z, value.tolist(), precision, strict=True)]
    return [[found[k] for k in np.flatnonzero(owner == image)] for image in range(len(starts))]


def weights(modes: Sequence[Mode]) -> Array:
    """What a relative error of each mode's mass costs what is shown, against the same of log p(x), logarithm (k,).

    A mode d standard deviations of the whole from its mean moves the variances by d^2 times its mass, the entropy by
    the difference of the heights times its mass. Both may err by more than log p(x): thirty times, and ten times.
    """
    mass = np.array([mode.log_mass for mode in modes])
    shares = np.exp(mass - np.logaddexp.reduce(mass))
    places = np.stack([mode.location for mode in modes])
    off = places - shares @ places
    spread = (off * shares[:, None]).T @ off
    within = np.einsum("k,kij->ij", shares, np.linalg.inv(np.stack([mode.precision for mode in modes])))
    squared = np.einsum("ki,ij,kj->k", off, np.linalg.inv(spread + within), off)
    heights = np.array([mode.log_joint for mode in modes])
    result: Array = np.log(1 + squared / 30 + 0.1 * (heights.max() - heights))
    return result


def distinct(found: list[Mode]) -> list[Mode]:
    """The modes that matter, by descending mass, without those that repeat a better one.

    They are within MARGIN of the best, or so far off that what is shown depends on them.
    """
    found = sorted(found, key=lambda mode: -mode.log_mass)
    kept: list[Mode] = []
    for mode in found:
        margin = max(MARGIN, FAR_MARGIN + 2 * log(1 + float(found[0].distance(mode.location))))
        if mode.log_mass > found[0].log_mass - margin and not _repeats(mode, kept):
            kept.append(mode)
    return kept


def separated(joint: Decoded, modes: list[list[Mode]]) -> list[list[Mode]]:
    """The modes less those that a straight path joins to a better one without a dip of log p(x, z).

    Along a flat ridge ascents stop short of each other; one hill has one mode.
    """
    pairs = [
        (image, k, rival)
        for image, own in enumerate(modes)
        for k in range(1, len(own))
        for rival in sorted(range(k), key=lambda j: float(own[j].distance(own[k].location)))[:RIVALS]
        if min(own[rival].distance(own[k].location), own[k].distance(own[rival].location)) < ONE_HILL
    ]
    if not pairs:
        return modes
    ends = [(modes[i][k].location, modes[i][rival].location) for i, k, rival in pairs]
    paths = np.concatenate([a + PATH[:, None] * (b - a) for a, b in ends])
    lowest = joint(np.repeat([i for i, _, _ in pairs], len(PATH)), paths).reshape(-1, len(PATH)).min(1)
    lower_end = [min(modes[i][k].log_joint, modes[i][rival].log_joint) for i, k, rival in pairs]
    joined = {pair[:2] for pair, low, end in zip(pairs, lowest, lower_end, strict=True) if low > end - DIP}
    return [[mode for k, mode in enumerate(own) if (i, k) not in joined] for i, own in enumerate(modes)]


def summits(axis: Array, field: Array) -> tuple[Array, Array, Array]:
    """Local maxima of one field (n, n) between the nodes, highest first: places (k, 2), values, curvatures (k, 2, 2).

    A peak narrower than the spacing can lie tens of nats above the node nearest to it; log p(x, z) itself is smooth,
    so the polynomial through the 7x7 nodes around each local maximum finds it. Curvature: minus the second
    derivatives there, not below the prior's.
    """
    spacing = axis[1] - axis[0]
    node = np.argwhere(field == maximum_filter(field, size=3, mode="nearest"))
    centre = node.clip(REACH, len(field) - 1 - REACH)
    windows = sliding_window_view(field, (len(STENCIL), len(STENCIL)))[tuple((centre - REACH).T)]
    weights = basis(FINE)
    fine = np.einsum("ai,kij,bj->kab", weights, windows, weights, optimize=True).reshape(len(node), -1)
    best = fine.argmax(1)
    offset = np.stack([FINE[best // len(FINE)], FINE[best % len(FINE)]], -1)
    rows = np.arange(len(node))
    edge = (node != centre).any(1)  # no room for the polynomial: the node itself
    places = np.where(edge[:, None], axis[node], axis[centre] + offset * spacing)
    values = np.where(edge, field[tuple(node.T)], fine[rows, best])
    order = np.argsort(-values)
    return places[order], values[order], _curvature(windows[order], offset[order]) / spacing**2


def _curvature(windows: Array, offset: Array) -> Array:
    """Minus the second derivatives of the polynomials at offset (k, 2), in node spacings, kept positive definite."""
    first, second = ([basis(offset[:, k], d) for d in (0, 1, 2)] for k in (0, 1))
    entries = {(i, j): np.einsum("ki,kij,kj->k", first[i], windows, second[j]) for i, j in ((2, 0), (1, 1), (0, 2))}
    hessian = -np.array([[entries[2, 0], entries[1, 1]], [entries[1, 1], entries[0, 2]]]).transpose(2, 0, 1)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    floored = np.maximum(eigenvalues, 1e-2 * np.abs(eigenvalues).max(1, keepdims=True) + 1e-12)
    positive: Array = (vectors * floored[:, None]) @ vectors.transpose(0, 2, 1)
    return positive


def _climb(
    joint: Decoded | Between, owner: Index, z: Array, reach: Array
) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """Levenberg-Marquardt ascent of log p(x, z) from every row of z (n, 2) at once, no step longer than ``reach`` (n,).

    Step (H + damping diag H)^-1 (J'score - z) with H = J'Diag(precision)J + I, eq. of Park et al. 2019. A start's
    reach doubles while its quadratic model foresees the gain: a flat ridge is walked to its top. Ends for a start
    that settles, or that promises to stay far below its image's best. Places, values, precisions, and who arrived.
    """
    z, reach = z.copy(), reach.copy()
    value, gradient, precision = joint.quadratic(owner, z)
    damping = np.full(len(z), 1e-3)
    for _ in range(STEPS):
        newton = np.linalg.solve(precision, gradient[..., None])[..., 0]
        decrement = 0.5 * (newton * gradient).sum(1)
        best = np.full(owner.max() + 1, -np.inf)
        np.maximum.at(best, owner, value)
        hopeless = value + 4 * decrement + 1 < best[owner] - _margin(owner, z, value, precision)
        active = np.flatnonzero((decrement > SETTLED) & ~hopeless & (damping < STALLED))
        if not len(active):
            settled = decrement <= SETTLED
            return z + settled[:, None] * newton, value + settled * decrement, precision, ~hopeless
        step, foreseen = _step(gradient[active], precision[active], damping[active], reach[active])
        trial = z[active] + step
        new_value, new_gradient, new_precision = joint.quadratic(owner[active], trial)
        gain = new_value - value[active]
        better = gain > 0
        rows = active[better]
        z[rows], value[rows] = trial[better], new_value[better]
        gradient[rows], precision[rows] = new_gradient[better], new_precision[better]
        damping[active] = np.where(better, damping[active] * 0.1, damping[active] * 10).clip(LEAST_DAMPING)
        reach[active] *= np.where(gain > FAITHFUL * foreseen, 2.0, 1.0)
    return z, value, precision, np.ones(len(z), bool)


def _margin(owner: Index, z: Array, value: Array, precision: Array) -> Array:
    """How far below its image's best a start may promise to stay and yet matter, (n,) in nats."""
    order = np.lexsort((value, owner))
    best = order[np.searchsorted(owner[order], owner, side="right") - 1]
    off = z - z[best]
    squared = np.einsum("ni,nij,nj->n", off, precision[best], off)
    margin: Array = np.maximum(MARGIN, FAR_MARGIN + np.log1p(squared))
    return margin


def _step(gradient: Array, precision: Array, damping: Array, reach: Array) -> tuple[Array, Array]:
    """Damped steps (n, 2), none longer than ``reach``, and the gains that the quadratic models foresee for them."""
    damped = precision + damping[:, None, None] * precision * np.eye(2)
    step = np.asarray(np.linalg.solve(damped, gradient[..., None])[..., 0], np.float64)
    step *= np.minimum(1, reach / np.maximum(np.linalg.norm(step, axis=1), 1e-300))[:, None]
    foreseen: Array = (step * gradient).sum(1) - 0.5 * np.einsum("ni,nij,nj->n", step, precision, step)
    return step, foreseen
