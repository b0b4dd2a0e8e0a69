"""From one image to everything that is drawn of it: plain arrays, so that results can be cached, stored and tested."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from app.overlays import BEST, BEST_LABEL, Overlay, overlay, places_of
from app.theme import MASSES
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.data.images import SIDE
from gpvae_core.diagnostics.judgement import Judged, judge
from gpvae_core.diagnostics.scores import score_inferred
from gpvae_core.exact import ExactPosterior, PosteriorEngine
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.exact.grid import grid_points

Array = NDArray[np.floating]
TOLERANCE = 5e-3  # nats in log p(x): at 1e-3 the worst of 100 posteriors of mnist-2d-wide takes 0.7 s, so 0.2 s
ZOOM_NODES = 121
ATLAS_NODES = 7
BOX_ATLAS_NODES = 33
BOX_NODES = 91  # of the box's log p(x, z), as the browser gets it
REACH = 4.0  # posterior standard deviations around the mean that the zoomed window holds at most
TAIL, MARGIN = 5e-4, 0.1  # of the mass beyond each end, and of the width: as far as REACH in a Gaussian
HILLS, FAINTEST = 3, 0.01  # of a posterior: how many are pictured, those that hold so much of the mass
ARRIVED = 0.01  # nats: two searches that end closer than this found the same optimum
WIDEST = 6.0  # times the posterior's own window: an encoder farther away is left out and named


@dataclass(frozen=True)
class View:
    """One image under one checkpoint.

    ``report`` and ``scores`` hold the numbers. ``others`` are the keys of other encoders' overlays. The rest is what
    figures need. ``box_log_joint`` is log p(x, z) on the base grid (n, n). ``zoom_log_density`` is the log density on
    the zoomed lattice, -inf where there is no mass. ``levels`` are those of the mass contours. ``tiles`` are decoded
    over the zoomed window, ``pictures`` at the centre of each stage, by its label. ``hills``: the share of the mass on
    each of the posterior's main hills, the largest first, and the picture at its top. ``path`` is the way of the
    Gaussian search from the encoder, which ends ``path_short`` nats below the best Gaussian. ``paths`` are the steps of
    each method that makes some, by its overlay's key, and the walks that a page adds (``walks``).
    """

    pixels: Array
    truth: Array | None
    truth_mass: float | None
    report: dict[str, Any]
    scores: dict[str, float]
    overlays: list[Overlay]
    others: tuple[str, ...]
    left_out: list[str]
    box_axis: Array
    box_log_joint: Array
    zoom_first: Array
    zoom_second: Array
    zoom_log_density: Array
    levels: Array
    tiles: Array
    pictures: dict[str, Array]
    hills: list[tuple[float, Array]]
    path: list[Step]
    path_short: float
    paths: dict[str, list[Step]]

    @property
    def arrives(self) -> bool:
        """Whether the search from the encoder ends at the best Gaussian, not in a lower optimum."""
        return self.path_short <= ARRIVED

    @property
    def stages(self) -> list[Overlay]:
        """The method's own q's in order: the last one is what it stands for, the first what one pass says."""
        return [q for q in self.overlays if q.key not in (BEST, *self.others)]

    @property
    def coarse_box(self) -> Array:
        """``box_log_joint`` on every so many of its nodes, about BOX_NODES a side, both ends among them."""
        step = (len(self.box_axis) - 1) // (BOX_NODES - 1)
        return self.box_log_joint[::step, ::step]

    @property
    def has_gp(self) -> bool:
        """Whether the checkpoint's method has a Gaussian process, and so an uncertainty U(x)."""
        return self.report["uncertainty"] is not None


Encoders = Sequence[tuple[str, Checkpoint]]


def compute_view(
    checkpoint: Checkpoint,
    engine: PosteriorEngine,
    pixels: Array,
    truth: tuple[float, float] | None = None,
    others: Encoders = (),
    *,
    preview: bool = False,
) -> View:
    """The exact posterior of ``pixels`` (28, 28) and every q on it; ``truth``: the z that made the image, if known.

    ``others``: further encoders on the checkpoint's decoder, by name. ``preview``: read off the engine's grid instead,
    see ``PosteriorEngine.preview``. Raises InputError as the engine does.
    """
    (view,) = compute_views(checkpoint, engine, [pixels], [truth], others, preview=preview)
    return view


@torch.no_grad()
def compute_views(
    checkpoint: Checkpoint,
    engine: PosteriorEngine,
    images: Sequence[Array],
    truths: Sequence[tuple[float, float] | None],
    others: Encoders = (),
    *,
    preview: bool = False,
) -> list[View]:
    """``compute_view`` of several images at once: they share batches of decodes."""
    x = as_images(images)
    inference = checkpoint.infer(x)
    scores = score_inferred(checkpoint.model, x, inference)
    offers = checkpoint.encoders if others else {}  # read from disk
    labels = {**checkpoint.model.encoder.labels, **{name: offers[name].label for name, _ in others}}
    said = {name: other.infer(x) for name, other in others}
    judgements = judge(engine, x, inference, labels, others=said, paths=True, preview=preview)
    places = places_of(list(said), list(offers))
    frames = [_frame(judged, places) for judged in judgements]
    latents = [frame.latents for frame in frames]
    # one decode for the tiles and pictures of all
    decoded = np.split(decode(checkpoint, np.concatenate(latents)), np.cumsum([len(z) for z in latents])[:-1])
    return [
        _view(judged, frame, {name: float(values[k]) for name, values in scores.items()}, images[k], truths[k], means)
        for k, (judged, frame, means) in enumerate(zip(judgements, frames, decoded, strict=True))
    ]


def as_images(images: Sequence[Array]) -> torch.Tensor:
    """Images (28, 28) as a model takes them, (n, 1, 28, 28)."""
    return ImageSet(np.stack([np.asarray(pixels, dtype=np.float32) for pixels in images])).pixels()


def to_bytes(pixels: Array) -> bytes:
    """The identity of an image: its float32 pixels."""
    return np.ascontiguousarray(pixels, dtype=np.float32).tobytes()


def from_bytes(pixels: bytes) -> Array:
    """The image of ``to_bytes``."""
    return np.frombuffer(pixels, dtype=np.float32).reshape(SIDE, SIDE)


@dataclass(frozen=True)
class Frame:
    """What is drawn where: the q's, the zoomed window's axes, and who does not fit.

    Pictured are ``places``, the stages' centres by label, and ``tops`` (k, 2) of the main hills, which hold ``shares``
    of the mass.
    """

    overlays: list[Overlay]
    first: Array
    second: Array
    left_out: list[str]
    places: dict[str, Array]
    shares: list[float]
    tops: Array

    @property
    def latents(self) -> Array:
        """All that has to be decoded, (ATLAS_NODES^2 + places + tops, 2): the window's tiles first."""
        tiles = grid_points(*(np.linspace(axis[0], axis[-1], ATLAS_NODES) for axis in (self.first, self.second)))
        return np.concatenate([tiles, *(z[None] for z in self.places.values()), self.tops])


def _frame(judged: Judged, places: Mapping[str, int]) -> Frame:
    """``places``: of the other encoders' styles, by their key."""
    stages = [overlay(one.key, one.label, one.q) for one in judged.of.values()]
    others = [overlay(key, one.label, one.q, places[key]) for key, one in judged.others.items()]
    overlays = [*stages, *others, overlay(BEST, BEST_LABEL, judged.best["diagonal"].q)]
    places = {q.label: q.mean for q in stages}
    return Frame(overlays, *_window(judged.exact, overlays), places, *_main_hills(judged.exact))


def _main_hills(exact: ExactPosterior) -> tuple[list[float], Array]:
    """The shares of the mass on the largest hills, and their tops (k, 2): HILLS at most, one at least."""
    order = np.argsort(-exact.hill_shares, kind="stable")[:HILLS]
    main = [k for k in order if exact.hill_shares[k] >= FAINTEST] or order[:1].tolist()
    return [float(exact.hill_shares[k]) for k in main], np.stack([exact.modes[k].location for k in main])


def _view(
    judged: Judged,
    frame: Frame,
    scores: dict[str, float],
    pixels: Array,
    truth: tuple[float, float] | None,
    decoded: Array,
) -> View:
    """Everything together; ``decoded`` (n, 28, 28) belongs to ``frame.latents``."""
    exact, count = judged.exact, ATLAS_NODES**2
    pictures = decoded[count:]
    known = None if truth is None else np.array(truth)
    return View(
        pixels=np.array(pixels, dtype=np.float32),
        truth=known,
        truth_mass=None if known is None else exact.hdr_mass(known),
        report=judged.report(),
        scores=scores,
        overlays=frame.overlays,
        others=tuple(judged.others),
        left_out=frame.left_out,
        box_axis=exact.grid_axis,
        box_log_joint=exact.grid_log_joint,
        zoom_first=frame.first,
        zoom_second=frame.second,
        zoom_log_density=exact.log_density(frame.first, frame.second),
        levels=exact.hdr_levels(MASSES),
        tiles=grey(decoded[:count]).reshape(ATLAS_NODES, ATLAS_NODES, *decoded.shape[1:]),
        pictures=dict(zip(frame.places, pictures, strict=False)),
        hills=list(zip(frame.shares, pictures[len(frame.places) :], strict=True)),
        path=judged.best["diagonal"].path,
        path_short=judged.best["diagonal"].short,
        paths=judged.paths,
    )


def _window(exact: ExactPosterior, overlays: list[Overlay]) -> tuple[Array, Array, list[str]]:
    """Axes of a square lattice over the posterior's mass, and the names of the q's that do not fit."""
    reach = REACH * np.sqrt(np.diag(exact.covariance))
    low, high = extent(exact.points, exact.weights)
    low, high, left_out = zoom_window(
        np.maximum(low, exact.mean - reach), np.minimum(high, exact.mean + reach), overlays
    )
    first, second = (np.linspace(low[j], high[j], ZOOM_NODES) for j in (0, 1))
    return first, second, left_out


def extent(points: Array, weights: Array) -> tuple[Array, Array]:
    """Both corners of the box that holds the mass but its TAILs: less than REACH where hills lie far apart."""
    ends = []
    for places in points.T:
        order = np.argsort(places, kind="stable")
        below = np.cumsum(weights[order])
        low, high = places[order][np.searchsorted(below, [TAIL, below[-1] - TAIL])]
        ends.append((low - MARGIN * (high - low), high + MARGIN * (high - low)))
    low, high = np.array(ends).T
    return low, high


def zoom_window(low: Array, high: Array, overlays: list[Overlay]) -> tuple[Array, Array, list[str]]:
    """A square around [low, high], widened to hold each q's 95 % region where that costs less than WIDEST sides."""
    side = float((high - low).max())
    left_out = []
    for q in overlays:
        reach = 2.6 * q.std
        wide_low, wide_high = np.minimum(low, q.mean - reach), np.maximum(high, q.mean + reach)
        if not (wide_high - wide_low).max() <= WIDEST * side:  # also where q has no finite moments
            left_out.append(q.label)
        else:
            low, high = wide_low, wide_high
    centre, half = (low + high) / 2, 0.54 * float((high - low).max())
    return centre - half, centre + half, left_out


@torch.no_grad()
def decode(checkpoint: Checkpoint, z: Array) -> Array:
    """Pixel means g(z) of z (n, 2), cut to [0, 1], (n, 28, 28)."""
    means = checkpoint.model.generative.decode(torch.as_tensor(z, dtype=torch.float32))
    pixels: Array = means[:, 0].clamp(0, 1).numpy()
    return pixels


def grey(pixels: Array) -> NDArray[np.uint8]:
    """Pixels, cut to [0, 1], as bytes; 0 where the decoder gives none."""
    return np.rint(255 * np.nan_to_num(np.clip(pixels, 0, 1))).astype(np.uint8)


MAP_TILES = 15
MEANS_AT_ONCE = 500


def means_of(checkpoint: Checkpoint, images: ImageSet, report: Callable[[float], None]) -> Array:
    """The mean of what one pass of the encoder says of each image, (n, 2)."""
    parts = []
    for start in range(0, len(images), MEANS_AT_ONCE):
        x = images.pixels(slice(start, start + MEANS_AT_ONCE))
        parts.append(checkpoint.model.infer_as_it_is(x).start.mean_and_std()[0].double().numpy())
        report((start + len(x)) / len(images))
    return np.concatenate(parts)


def tiles_over(checkpoint: Checkpoint, half: float) -> NDArray[np.uint8]:
    """The middles of MAP_TILES cells a side of [-half, half]^2, decoded: (k, k, 28, 28), first axis first."""
    middles = half * (2 * (np.arange(MAP_TILES) + 0.5) / MAP_TILES - 1)
    tiles = grey(decode(checkpoint, grid_points(middles, middles)))
    return tiles.reshape(MAP_TILES, MAP_TILES, *tiles.shape[1:])


def box_atlas(checkpoint: Checkpoint, half: float) -> dict[str, Any]:
    """The box [-half, half]^2 decoded on BOX_ATLAS_NODES points a side, as one WebP picture in base64."""
    n, axis = BOX_ATLAS_NODES, np.linspace(-half, half, BOX_ATLAS_NODES)
    tiles = grey(decode(checkpoint, grid_points(axis, axis)))
    height, width = tiles.shape[1:]
    picture = tiles.reshape(n, n, height, width).swapaxes(1, 2).reshape(n * height, n * width)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=80)
    text = base64.b64encode(buffer.getvalue()).decode()
    return {"digest": checkpoint.digest, "half": half, "nodes": n, "picture": text}
