"""A picture -> the ink of one digit: its pieces put together, dirt left out, and what is doubtful said."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gpvae_core.data.paper import Array, Box, Contrast, Grey, Mask, bounds, contrasts, from_flat, surround
from gpvae_core.errors import InputError

WORK = 640  # pixels a side at which a picture is searched
TINY = 28  # pixels a side below which a picture is ink on a flat ground and nothing else
NO_INK = "shows no ink: every pixel is as bright as its border; use a darker pen or more light"
CROP = "draw the crop around one digit"


@dataclass(frozen=True)
class Found:
    """Ink (h, w) in [0,1] of the region looked at, the digit's box in pixels of the picture, doubts as sentences."""

    ink: Array
    box: Box
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """One connected patch of ink: its number among the labels, where it lies, and how much ink it holds."""

    label: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    mass: float
    at_edge: bool

    @property
    def height(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]

    @property
    def extent(self) -> int:
        return max(self.height, self.width)


def find_ink(grey: Grey, name: str, crop: Box | None = None) -> Found:
    """The ink of one digit in a picture (H, W) uint8, or in its ``crop``, which is trusted.

    Raises InputError where there is no ink, or nothing but texture.
    """
    left, top, right, bottom = region(grey, name, crop)
    part = grey[top:bottom, left:right]
    found = _plain(part, name) if min(part.shape) < TINY else _found(part, name, trusted=crop is not None)
    x0, y0, x1, y1 = found.box
    return Found(found.ink, (left + x0, top + y0, left + x1, top + y1), found.doubts)


def region(grey: Grey, name: str, crop: Box | None) -> Box:
    """The crop cut to the picture, or all of the picture."""
    height, width = grey.shape
    if crop is None:
        return 0, 0, width, height
    left, top, right, bottom = (int(np.clip(v, 0, side)) for v, side in zip(crop, (width, height) * 2, strict=True))
    if right - left < 2 or bottom - top < 2:
        raise InputError(
            f"'{name}' has {width}x{height} pixels and the crop {crop} leaves nothing of it; draw the crop again"
        )
    return left, top, right, bottom


def _plain(grey: Grey, name: str) -> Found:
    """Ink on a flat ground, the median of the border."""
    ink = from_flat(grey, float(np.median(surround(grey))))
    peak = float(ink.max(initial=0.0))
    if peak < 25:
        raise InputError(f"'{name}' {NO_INK}")
    return Found(ink / peak, bounds(ink / peak > 0.2))


def _found(grey: Grey, name: str, *, trusted: bool) -> Found:
    """The reading of the picture with the fewest doubts."""
    factor = -(-max(grey.shape) // WORK)
    small = np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey
    best: Found | None = None
    for contrast in contrasts(small, trusted=trusted):
        found = _read(contrast, factor)
        if found and (best is None or len(found.doubts) < len(best.doubts)):
            best = found
        if best and not best.doubts:
            break
    if best is None:
        raise InputError(f"'{name}' {NO_INK}")
    left, top, right, bottom = (factor * edge for edge in best.box)
    return Found(best.ink, (left, top, min(right, grey.shape[1]), min(bottom, grey.shape[0])), best.doubts)


def _read(contrast: Contrast, factor: int) -> Found | None:
    """The main figure of one contrast, its box in pixels of the contrast; None where there is no ink."""
    labels, pieces = _pieces(contrast)
    if not pieces:
        return None
    figure, others = _figure(pieces, labels)
    mask = np.isin(labels, [piece.label for piece in figure])
    ink = _rendered(contrast, mask, labels)
    if not (ink > 0.15).any():
        return None
    return Found(ink, bounds(ink > 0.15), tuple(_doubts(contrast, mask, figure, others, factor)))


# --- pieces of ink ----------------------------------------------------------------------------------------------


def _pieces(contrast: Contrast) -> tuple[NDArray[np.int32], list[Piece]]:
    """Connected patches of ink, largest first; specks of a few pixels are left out."""
    threshold = _threshold(contrast)
    labels, count = ndimage.label(contrast.seen > threshold, np.ones((3, 3)))
    if count == 0:
        return labels, []
    masses = np.bincount(labels.ravel(), contrast.seen.ravel(), count + 1)
    edge = _touching(labels, contrast.sheet)
    slices = ndimage.find_objects(labels)
    order = [int(i) for i in np.argsort(-masses[1:])[:300]]
    pieces = [
        Piece(i + 1, (rows.start, rows.stop), (columns.start, columns.stop), float(masses[i + 1]), i + 1 in edge)
        for i in order
        for rows, columns in [slices[i]]
    ]
    return labels, [piece for piece in pieces if piece.extent > 2 or contrast.flat]


def _threshold(contrast: Contrast) -> float:
    """A third of the ink's typical contrast, and well above the noise."""
    least = 0.1 if contrast.flat else max(0.06, 5 * contrast.noise)
    labels, _ = ndimage.label(contrast.seen > least)
    away = ~np.isin(labels, [0, *_touching(labels, contrast.sheet)])
    values = np.sort(contrast.seen[away if away.any() else labels > 0])
    if not len(values):
        return least
    typical = values[np.searchsorted(np.cumsum(values), values.sum() / 2)]
    return max(least, 0.35 * float(typical))


def _touching(labels: NDArray[np.int32], sheet: Mask) -> set[int]:
    """Labels at the edge of the picture or of the sheet."""
    rim = set(np.unique(surround(labels)).tolist())
    if not sheet.all():
        rim |= set(np.unique(labels[sheet & ~ndimage.binary_erosion(sheet, iterations=2)]).tolist())
    return rim - {0}


def _figure(pieces: list[Piece], labels: NDArray[np.int32]) -> tuple[list[Piece], list[Piece]]:
    """The main piece with what belongs to it, and the rest."""
    inner = [piece for piece in pieces if not piece.at_edge] or pieces
    main = max(inner, key=lambda piece: piece.mass * piece.extent)
    if main.at_edge is False:
        cut = max(pieces, key=lambda piece: piece.mass * piece.extent)
        main = cut if cut.mass * cut.extent > 4 * main.mass * main.extent else main
    figure, rest = [main], [piece for piece in pieces if piece is not main]
    while joined := [piece for piece in rest if _belongs(piece, figure, labels)]:
        figure += joined
        rest = [piece for piece in rest if piece not in joined]
    return figure, rest


def _belongs(piece: Piece, figure: list[Piece], labels: NDArray[np.int32]) -> bool:
    """Large enough for a part of a digit, and near: a twelfth of its height, or a quarter for a bar above or beside."""
    main = figure[0]
    if piece.extent < 0.12 * main.extent or piece.mass < 0.02 * main.mass:
        return False
    reach = main.extent * (0.25 if _is_part(piece, main) else 0.15 if _upright([piece, *figure]) else 0.08)
    return any(_gap(piece, other, labels, reach) <= reach for other in figure)


def _upright(pieces: list[Piece]) -> bool:
    """Together no wider than high, as a digit is and two digits are not."""
    rows, columns = np.array([piece.rows for piece in pieces]), np.array([piece.columns for piece in pieces])
    return bool(columns.max() - columns.min() <= rows.max() - rows.min())


def _is_part(piece: Piece, main: Piece) -> bool:
    """A flat bar over or under the main piece, or a piece whose box overlaps the main one's in both directions."""
    across = _overlap(piece.columns, main.columns) / min(piece.width, main.width)
    down = _overlap(piece.rows, main.rows) / min(piece.height, main.height)
    bar = across > 0.4 and piece.height < 0.35 * main.height and piece.width > 0.3 * main.width
    return bar or (across > 0.15 and down > 0.3)


def _overlap(a: tuple[int, int], b: tuple[int, int]) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def _gap(piece: Piece, other: Piece, labels: NDArray[np.int32], reach: float) -> float:
    """Pixels between two pieces; infinite where their boxes are farther apart than ``reach``."""
    if any(
        max(a[0] - b[1], b[0] - a[1]) > reach for a, b in ((piece.rows, other.rows), (piece.columns, other.columns))
    ):
        return float("inf")
    top, bottom = min(piece.rows[0], other.rows[0]), max(piece.rows[1], other.rows[1])
    left, right = min(piece.columns[0], other.columns[0]), max(piece.columns[1], other.columns[1])
    part = labels[top:bottom, left:right]
    return float(ndimage.distance_transform_edt(part != other.label)[part == piece.label].min()) - 1


def _rendered(contrast: Contrast, mask: Mask, labels: NDArray[np.int32]) -> Array:
    """Ink in [0,1] of the figure alone: linear on a flat ground, else without the noise and even in its darkness.

    All 0 where most of the figure is no darker than its ground.
    """
    others = (labels > 0) & ~mask
    if contrast.flat:
        kept: Array = np.clip(contrast.ink, 0, 1) * ~(ndimage.binary_dilation(others, iterations=2) & ~mask)
        return kept / (float(kept[mask].max()) or 1.0)
    near = ndimage.binary_dilation(mask, iterations=max(2, round(0.3 * _stroke_width(mask))))
    full = float(np.percentile(contrast.ink[mask], 75))
    shown = contrast.seen if contrast.noise > 0.02 * full else contrast.ink
    full = float(np.percentile(shown[mask], 75))
    if full <= 0:
        return np.zeros(mask.shape)
    low = min(0.3, max(0.12, 3 * contrast.noise / full))
    ink: Array = np.clip((shown / full - low) / (0.9 - low), 0, 1) * near * ~others
    return ink


def _stroke_width(mask: Mask) -> float:
    """Pixels: in a stripe the mean distance to the paper is a quarter of its width."""
    left, top, right, bottom = bounds(mask)
    part = np.pad(mask[top:bottom, left:right], 1)
    return 4 * float(ndimage.distance_transform_edt(part)[part].mean())


# --- doubts -----------------------------------------------------------------------------------------------------


def _doubts(contrast: Contrast, mask: Mask, figure: list[Piece], others: list[Piece], factor: int) -> Iterator[str]:
    """Why what was found may not be one digit, one sentence each."""
    left, top, right, bottom = bounds(mask)
    height, width = bottom - top, right - left
    extent = max(height, width)
    separate = [
        piece
        for piece in others
        if (contrast.sheet.all() or not piece.at_edge)
        and piece.extent > 0.45 * extent
        and piece.mass > 0.1 * figure[0].mass
    ]
    if len(separate) > 8:
        yield f"The picture shows texture, not one digit on plain paper: {CROP}, or use plain paper."
    elif separate:
        yield f"The picture shows {1 + len(separate)} separate figures; the largest is taken: {CROP}."
    if any(piece.at_edge for piece in figure) and not (contrast.flat and not contrast.ruled and _fits_tightly(mask)):
        yield "The ink reaches the edge of the picture: photograph all of the digit, with paper around it."
    if extent * factor < 14:
        yield f"The digit is only {extent * factor} pixels high: photograph it from nearer."
    if width > 1.6 * height:
        yield f"The figure is much wider than high: turn the picture upright, or {CROP}."
    typical = float(np.median(contrast.seen[mask]))
    if not contrast.flat and typical < max(0.12, 7 * contrast.noise):
        yield "The ink is hardly darker than the paper: use a darker pen or more light."
    if _stroke_width(mask) > 0.5 * extent:
        yield f"The figure is a blot rather than strokes of a pen: {CROP}, or write with a thinner pen."
    if _holes(mask) > 3:
        yield f"The figure is a net of lines, not one digit: {CROP}, or use plain paper."


def _fits_tightly(mask: Mask) -> bool:
    """The ink reaches two opposite sides: the picture was cropped to it, nothing need be cut."""
    return bool((mask[0].any() and mask[-1].any()) or (mask[:, 0].any() and mask[:, -1].any()))


def _holes(mask: Mask) -> int:
    """Paper enclosed by ink, specks aside."""
    left, top, right, bottom = bounds(mask)
    labels, _ = ndimage.label(~np.pad(mask[top:bottom, left:right], 1))
    areas = np.bincount(labels.ravel())[1:]
    return int((areas > max(4, 0.002 * mask.sum())).sum()) - 1
