"""Every q over the true posterior: its words, its looks and its outlines, for page, print and export alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from contourpy import contour_generator
from numpy.typing import NDArray

from app.theme import MASSES
from gpvae_core.distributions import DiagonalGaussian, FullGaussian, Posterior
from gpvae_core.exact.expectations import moments, single
from gpvae_core.exact.joint import FARTHEST

Array = NDArray[np.floating]
POINTS = 90  # of an ellipse
DRAWS = 4096  # of another q: where its regions lie, to a percent of their mass
NODES = 161  # a side of the lattice on which its outlines are drawn


@dataclass(frozen=True)
class Style:
    """Colours on a light page, on a dark one and over the heat map; "-", "--" or ":"; the shape of the mean's mark."""

    colour: str
    dark: str
    bright: str
    dash: str
    marker: str


@dataclass(frozen=True)
class Overlay:
    """A q over z: ``key``, words, style, mean and std (2,), and the edges of its regions, by mass, as lines (n, 2)."""

    key: str
    label: str
    style: Style
    mean: Array
    std: Array
    outlines: dict[float, list[Array]]


BEST = "best"
BEST_LABEL = "best Gaussian"
OWN = {
    "base": Style("#D55E00", "#f0863c", "#ff9a52", "--", "saltire"),
    "marginal": Style("#0072B2", "#5db4ec", "#7cc8ff", "-", "cross"),
    "q": Style("#D55E00", "#f0863c", "#ff9a52", "--", "saltire"),
    "start": Style("#5f5f5f", "#b9b9b9", "#dddddd", "--", "saltire"),
    "mine": Style("#00703C", "#3fd07f", "#7dffab", "-", "cross"),
    BEST: Style("#A3397C", "#e08fc0", "#ffb3dd", ":", "diamond"),
}
# far from those: yellow of Okabe and Ito, darkened where it is to be read on white, teal, and violet
OTHERS = [("#8a6a00", "#e69f00", "#ffc23d"), ("#0b6b7d", "#4dd0e1", "#80eaf5"), ("#6a3d9a", "#b79be0", "#d3c2f0")]
LINES = [("-", "cross"), ("--", "saltire"), (":", "diamond")]
PLACES = len(OTHERS) * len(LINES)  # more than can be chosen at once


def style_of(key: str, place: int = 0) -> Style:
    """The style of a stage: its own, or, for any other q, that of its ``place`` among those."""
    if key in OWN:
        return OWN[key]
    return Style(*OTHERS[place % len(OTHERS)], *LINES[place // len(OTHERS) % len(LINES)])


def places_of(chosen: Sequence[str], offered: Sequence[str]) -> dict[str, int]:
    """A place for each of the ``chosen`` encoders, see ``style_of``: its own among all that are ``offered``.

    So an encoder keeps its colour when others come and go; where two would share one, the later takes the next free.
    """
    places: dict[str, int] = {}
    for name in chosen:
        place = offered.index(name) % PLACES
        while place in places.values():
            place = (place + 1) % PLACES
        places[name] = place
    return places


def overlay(key: str, label: str, q: Posterior, place: int = 0) -> Overlay:
    """One q over the plane as it is drawn; ``place``: see ``style_of``."""
    mean, covariance = moments(q)
    return Overlay(key, label, style_of(key, place), mean, np.sqrt(np.diag(covariance)), outlines(q))


def outlines(q: Posterior) -> dict[float, list[Array]]:
    """The edges of the regions of highest density of one q that hold MASSES of it; none beyond FARTHEST."""
    one = single(q)
    if not isinstance(one, DiagonalGaussian | FullGaussian):
        return _contours(one)
    edges = {mass: ellipse(one.mean.numpy(), one.scale_tril.numpy(), mass) for mass in MASSES}
    return {mass: [edge] if (np.abs(edge) <= FARTHEST).all() else [] for mass, edge in edges.items()}


def ellipse(mean: Array, frame: Array, mass: float) -> Array:
    """The edge of the region that holds ``mass`` of a Gaussian, (POINTS, 2): radius sqrt(-2 log(1 - mass))."""
    angle = np.linspace(0, 2 * np.pi, POINTS)
    circle = np.sqrt(-2 * np.log1p(-mass)) * np.stack([np.cos(angle), np.sin(angle)], 1)
    with np.errstate(invalid="ignore"):  # of an infinite width
        edge: Array = mean + circle @ frame.T
    return edge


@torch.no_grad()
def _contours(q: Posterior) -> dict[float, list[Array]]:
    """Lines of log q at the levels that its own draws lie above as often as each mass says."""
    z, log_q = q.rsample_with_log_prob(DRAWS, generator=torch.Generator().manual_seed(0))
    low, high = z.min(0).values.numpy(), z.max(0).values.numpy()
    pad = 0.1 * (high - low)
    axes = [np.linspace(a, b, NODES) for a, b in zip(low - pad, high + pad, strict=True)]
    lattice = torch.as_tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    lines = contour_generator(*axes, q.log_prob(lattice).reshape(NODES, NODES).T.numpy()).lines
    return {mass: lines(float(np.quantile(log_q.numpy(), 1 - mass))) for mass in MASSES}
