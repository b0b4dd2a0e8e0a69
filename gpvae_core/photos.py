"""A picture -> the ink of one digit: even out the light, leave desk, lines and dirt, and say what is doubtful."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from gpvae_core.errors import InputError

Grey = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture; right and bottom exclusive
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.number[Any])

WORK = 640  # pixels a side at which a picture is searched
TINY = 28  # pixels a side below which a picture is ink on a flat ground and nothing else
STROKE = 0.3  # of the shorter side: the widest stroke; what is wider and dark is no ink
FLAT = 2  # grey levels from the ground within which paper is flat
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


@dataclass(frozen=True)
class Contrast:
    """Contrast of the ink to the paper (h, w), 0 on paper; its noise; where the sheet is; whether the ground is flat.

    ``seen`` is the same, smoothed, to look for pieces in.
    """

    ink: Array
    seen: Array
    noise: float
    sheet: Mask
    flat: bool
    ruled: bool = False


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


def surround(grey: NDArray[Number]) -> NDArray[Number]:
    """The pixels at the four sides."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _plain(grey: Grey, name: str) -> Found:
    """Ink on a flat ground, the median of the border."""
    ink = _from_flat(grey, float(np.median(surround(grey))))
    peak = float(ink.max(initial=0.0))
    if peak < 25:
        raise InputError(f"'{name}' {NO_INK}")
    return Found(ink / peak, _bounds(ink / peak > 0.2))


def _from_flat(grey: Grey, ground: float) -> Array:
    """Grey levels from a ground; ink is dark on a light ground and light on a dark one."""
    levels = grey.astype(np.float64)
    difference: Array = np.maximum(levels - ground if ground < 128 else ground - levels, 0)
    return difference


def _bounds(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _found(grey: Grey, name: str, *, trusted: bool) -> Found:
    """The reading of the picture with the fewest doubts."""
    factor = -(-max(grey.shape) // WORK)
    small = np.asarray(Image.fromarray(grey).reduce(factor)) if factor > 1 else grey
    best: Found | None = None
    for contrast in _contrasts(small, trusted=trusted):
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
    return Found(ink, _bounds(ink > 0.15), tuple(_doubts(contrast, mask, figure, others, factor)))


# --- contrast of the ink to its paper ---------------------------------------------------------------------------


def _contrasts(grey: Grey, *, trusted: bool) -> Iterator[Contrast]:
    """Ways to see the picture, the likeliest first: a flat ground; a sheet on a desk; a sheet that fills it."""
    everywhere = np.ones(grey.shape, bool)
    if (ground := _flat_ground(grey)) is not None:
        if flat := _flat_contrast(grey, ground):
            yield flat
        return
    light = (grey.astype(np.float64) + 1) / 256
    sheet = everywhere if trusted else _sheet(light)
    if sheet.all():
        yield _photo_contrast(light, sheet, dark=_ink_is_dark(light))
        return
    yield _photo_contrast(light, sheet, dark=True)
    yield _photo_contrast(light, everywhere, dark=True)  # a shadow's edge may look like a sheet's


def _flat_ground(grey: Grey) -> float | None:
    """The grey level of a drawing's or scan's ground, None where the ground is not flat."""
    border = surround(grey)
    ground = float(np.median(border))
    other = np.abs(grey.astype(np.int16) - int(ground)) > FLAT
    if np.mean(np.abs(border - ground) > FLAT) > 0.2 or other.mean() > 0.6:
        return None
    wide = max(3, round(STROKE * min(grey.shape)))  # shadows, desks and sheets are wider than strokes
    step = max(1, wide // 16)
    return None if ndimage.minimum_filter(other[::step, ::step], wide // step).any() else ground


def _flat_contrast(grey: Grey, ground: float) -> Contrast | None:
    ink = _from_flat(grey, ground)
    peak = float(ink.max(initial=0.0))
    if peak < 25:
        return None
    sheet = np.ones(grey.shape, bool)
    ink, ruled = ink / peak, False
    if surround(ink).any():  # lines run to the border
        ink, ruled = _without_lines(ink, 0.0, 0.0, sheet)
    if ink.max() < 0.4:  # what is left of the lines
        return None
    return Contrast(ink, ink, 0.0, sheet, True, ruled)


def _photo_contrast(light: Array, sheet: Mask, *, dark: bool) -> Contrast:
    """Light evened out: the share of the paper's light that the ink takes, or adds on a dark board."""
    blur = max(0.7, 0.003 * min(light.shape))
    smooth = _smoothed(light, blur)
    size = max(5, round(STROKE * min(_lengths(sheet))))
    ground = _ground(smooth, sheet, size, dark=dark)
    ink, seen = (_share(image, ground, dark=dark) * sheet for image in (light, smooth))
    middle = float(np.median(seen[sheet]))
    noise = 1.4826 * float(np.median(np.abs(seen[sheet] - middle)))
    ink, ruled = _without_lines(ink - middle * sheet, blur, noise, sheet)
    seen = _smoothed(ink, blur) if ruled else seen - middle * sheet
    return Contrast(np.maximum(ink, 0), np.maximum(seen, 0), noise, sheet, False, ruled)


def _share(light: Array, ground: Array, *, dark: bool) -> Array:
    share: Array = 1 - light / ground if dark else light / ground - 1
    return share


def _lengths(mask: Mask) -> tuple[int, int]:
    left, top, right, bottom = _bounds(mask)
    return bottom - top, right - left


def _ground(light: Array, sheet: Mask, size: int, *, dark: bool) -> Array:
    """The paper's brightness everywhere: dark (or, on a board, light) marks narrower than ``size`` are filled."""
    fill = ndimage.grey_closing if dark else ndimage.grey_opening
    inside = _extended(light, sheet)
    # beyond the picture light goes on as it falls: mirrored, a dim corner would look like ink
    beyond = np.clip(np.pad(inside, size, "reflect", reflect_type="odd"), inside.min(), inside.max())
    ground: Array = fill(beyond, (size, size))[size:-size, size:-size]
    return np.maximum(ground, 1e-3)


def _extended(light: Array, sheet: Mask) -> Array:
    """Outside the sheet, the brightness of about its nearest point."""
    if sheet.all():
        return light
    step = 4
    coarse = ndimage.binary_erosion(sheet[::step, ::step], border_value=1)
    nearest = ndimage.distance_transform_edt(~coarse, return_distances=False, return_indices=True)
    far = light[::step, ::step][tuple(nearest)].repeat(step, 0).repeat(step, 1)
    extended: Array = np.where(sheet, light, far[: light.shape[0], : light.shape[1]])
    return extended


def _ink_is_dark(light: Array) -> bool:
    """Whether what differs most from its wide surround is darker than it; on a board it is lighter."""
    step = max(1, min(light.shape) // 48)
    rows, columns = (length // step * step for length in light.shape)
    blocks = light[:rows, :columns].reshape(rows // step, step, columns // step, step).mean((1, 3))
    levels = np.log(blocks)
    departure = levels - ndimage.median_filter(levels, max(3, int(0.45 * min(levels.shape))))
    return bool((np.maximum(-departure, 0) ** 2).sum() >= (np.maximum(departure, 0) ** 2).sum())


# --- the sheet --------------------------------------------------------------------------------------------------


def _sheet(light: Array) -> Mask:
    """Where a light sheet lies on a darker desk: solid, with a sharp edge. All of the picture where there is none."""
    everywhere = np.ones(light.shape, bool)
    step = max(1, min(light.shape) // 96)
    levels = np.log(ndimage.grey_closing(light[::step, ::step], max(3, int(0.12 * min(light.shape) / step))))
    bright = _largest(levels > _otsu(levels))
    if not 0.08 < bright.mean() < 0.97 or not _solid(bright) or not _sharp_edge(levels, bright):
        return everywhere
    inner = ndimage.binary_erosion(bright, iterations=2, border_value=1)
    rows, columns = (np.minimum(np.arange(n) // step, m - 1) for n, m in zip(light.shape, inner.shape, strict=True))
    sheet: Mask = inner[np.ix_(rows, columns)]
    return sheet if sheet.any() else everywhere


def _otsu(values: Array) -> float:
    """The threshold between two classes with the largest variance between them."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    below, mass = np.cumsum(counts), np.cumsum(counts * middles)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(edges[1:][np.nanargmax(between[:-1])]) if np.ptp(values) > 0 else float(values.flat[0])


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    filled: Mask = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:])))
    return filled


def _solid(mask: Mask) -> bool:
    """A sheet fills most of a rectangle that is not narrow; a chalk digit does not."""
    try:
        points = np.argwhere(mask ^ ndimage.binary_erosion(mask))
        corners = points[ConvexHull(points).vertices]
    except (QhullError, ValueError):
        return False
    turns = np.deg2rad(np.arange(0, 90, 3))
    sides = [
        np.ptp(corners @ axis, axis=0) + 1
        for axis in np.array([[np.cos(turns), np.sin(turns)], [-np.sin(turns), np.cos(turns)]])
    ]
    least = int(np.argmin(sides[0] * sides[1]))
    across = min(sides[0][least], sides[1][least])
    return bool(mask.sum() > 0.8 * sides[0][least] * sides[1][least] and across > 0.25 * min(mask.shape))


def _sharp_edge(levels: Array, bright: Mask) -> bool:
    """Three quarters of the edge fall by a third or more within a few pixels: a desk, no fading light."""
    rim = bright & ~ndimage.binary_erosion(bright, border_value=1)
    fall = ndimage.maximum_filter(levels, 7) - ndimage.minimum_filter(levels, 7)
    return bool(rim.any() and np.mean(fall[rim] > 0.4) > 0.75)


# --- ruled lines ------------------------------------------------------------------------------------------------


def _without_lines(ink: Array, blur: float, noise: float, sheet: Mask) -> tuple[Array, bool]:
    """Divide by the light that printed lines leave; strokes that cross them stay. And whether there were lines."""
    ruled = False
    for _ in ("level", "upright"):
        for slope, start in _lines(_smoothed(ink, blur), max(0.03, 3 * noise), sheet):
            ink, ruled = _line_removed(ink, slope, start, sheet), True
        ink, sheet = ink.T, sheet.T
    return ink, ruled


def _smoothed(image: Array, blur: float) -> Array:
    smooth: Array = ndimage.gaussian_filter(image, blur) if blur else image
    return smooth


SLOPES = np.linspace(-0.2, 0.2, 161)


def _lines(seen: Array, least: float, sheet: Mask) -> list[tuple[float, float]]:
    """(slope, row at the first column) of each thin dark line that crosses the sheet from side to side."""
    reach = max(2, round(0.012 * min(seen.shape)))
    # a line is darker than what lies ``reach`` above and below it
    padded = np.pad(seen, ((reach, reach), (0, 0)), "edge")
    thin = (seen - np.maximum(padded[: -2 * reach], padded[2 * reach :]) > least) & sheet
    rows, columns = np.nonzero(thin)
    if len(rows) < 0.5 * seen.shape[1]:
        return []
    return list(_voted(rows, columns, sheet))


def _voted(rows: NDArray[np.int_], columns: NDArray[np.int_], sheet: Mask) -> Iterator[tuple[float, float]]:
    """Hough: the best line of the points, then the best of those left, while it is in nearly every column."""
    slopes, misses = SLOPES, 0
    while len(rows) > 0.4 * sheet.shape[1] and misses < 4:
        slope, start = _fitted(rows, columns, *_best_line(rows, columns, slopes))
        away = np.abs(rows - slope * columns - start)
        if _crosses(columns[away <= 1.5], slope, start, sheet):
            yield slope, start
            slopes = SLOPES[np.abs(SLOPES - slope) < 0.04]  # lines of one sheet are nearly parallel
        else:
            misses += 1
        rows, columns = rows[away > 4], columns[away > 4]


def _best_line(rows: NDArray[np.int_], columns: NDArray[np.int_], slopes: Array) -> tuple[float, float]:
    """(slope, start) that most of a sample of the points lie on, to a pixel."""
    step = -(-len(rows) // 2_000)
    starts = np.rint(rows[None, ::step] - slopes[:, None] * columns[None, ::step]).astype(np.int64)
    starts -= (lowest := int(starts.min()))
    length = int(starts.max()) + 1
    votes = np.bincount((starts + length * np.arange(len(slopes))[:, None]).ravel(), minlength=length * len(slopes))
    best = int(np.argmax(votes))
    return float(slopes[best // length]), float(best % length + lowest)


def _fitted(rows: NDArray[np.int_], columns: NDArray[np.int_], slope: float, start: float) -> tuple[float, float]:
    """Least squares through the points near a line, twice, so that the line is known to a fraction of a pixel."""
    for reach in (4.0, 2.0):
        near = np.abs(rows - slope * columns - start) <= reach
        if len(np.unique(columns[near])) > 1:
            slope, start = (float(v) for v in np.polyfit(columns[near], rows[near], 1))
    return slope, start


def _crosses(columns: NDArray[np.int_], slope: float, start: float, sheet: Mask) -> bool:
    """Seen in half of the sheet's columns along it (the digit may hide the rest), and in both outer eighths."""
    height, width = sheet.shape
    places = np.rint(start + slope * np.arange(width)).astype(np.int64)
    on = (places >= 0) & (places < height)
    on[on] = sheet[places[on], np.flatnonzero(on)]
    met = np.zeros(width, bool)
    met[columns] = True
    along = met[on]
    end = len(along) // 8
    return bool(end > 2 and along.mean() > 0.5 and along[:end].mean() > 0.4 and along[-end:].mean() > 0.4)


def _line_removed(image: Array, slope: float, start: float, sheet: Mask) -> Array:
    """Divide out the median contrast at each distance from the line; bridge strokes that cross it."""
    height, width = image.shape
    half = max(3, round(0.012 * min(image.shape)))
    columns = np.arange(width)
    middle = start + slope * columns
    base = np.rint(middle).astype(np.int64)
    band = np.arange(-half, half + 1)[:, None] + base
    inside = (band >= 0) & (band < height)
    rows = np.clip(band, 0, height - 1)
    values = image[rows, columns]
    valid = inside & sheet[rows, columns]
    line = _line_profile(values, band - middle, valid)
    cleared = 1 - (1 - values) / np.maximum(1 - line, 0.05)
    bridged = np.maximum(cleared, np.minimum(values[0], values[-1]) * (line > 0.02))
    result = image.copy()
    result[rows[inside], np.broadcast_to(columns, rows.shape)[inside]] = bridged[inside]
    return result


def _line_profile(values: Array, distance: Array, valid: Mask) -> Array:
    """The line's contrast at each pixel of the band: the median of pixels as far from its middle, to half a pixel."""
    bins = np.rint(2 * distance).astype(np.int64)
    bins -= bins.min()
    profile = np.zeros(int(bins.max()) + 1)
    few = np.s_[:, :: max(1, bins.shape[1] // 160)]
    for number in range(len(profile)):
        here = values[few][(bins[few] == number) & valid[few]]
        profile[number] = np.median(here) if len(here) else 0.0
    paper = np.median(np.r_[profile[:2], profile[-2:]])
    line: Array = np.maximum(profile - paper, 0)[bins]
    return line


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
    """Ink in [0,1] of the figure alone: linear on a flat ground, else without the noise and even in its darkness."""
    others = (labels > 0) & ~mask
    if contrast.flat:
        kept: Array = np.clip(contrast.ink, 0, 1) * ~(ndimage.binary_dilation(others, iterations=2) & ~mask)
        return kept / float(kept[mask].max())
    near = ndimage.binary_dilation(mask, iterations=max(2, round(0.3 * _stroke_width(mask))))
    full = float(np.percentile(contrast.ink[mask], 75))
    shown = contrast.seen if contrast.noise > 0.02 * full else contrast.ink
    full = float(np.percentile(shown[mask], 75))
    low = min(0.3, max(0.12, 3 * contrast.noise / full))
    ink: Array = np.clip((shown / full - low) / (0.9 - low), 0, 1) * near * ~others
    return ink


def _stroke_width(mask: Mask) -> float:
    """Pixels: in a stripe the mean distance to the paper is a quarter of its width."""
    left, top, right, bottom = _bounds(mask)
    part = np.pad(mask[top:bottom, left:right], 1)
    return 4 * float(ndimage.distance_transform_edt(part)[part].mean())


# --- doubts -----------------------------------------------------------------------------------------------------


def _doubts(contrast: Contrast, mask: Mask, figure: list[Piece], others: list[Piece], factor: int) -> Iterator[str]:
    """Why what was found may not be one digit, one sentence each."""
    left, top, right, bottom = _bounds(mask)
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
    left, top, right, bottom = _bounds(mask)
    labels, _ = ndimage.label(~np.pad(mask[top:bottom, left:right], 1))
    areas = np.bincount(labels.ravel())[1:]
    return int((areas > max(4, 0.002 * mask.sum())).sum()) - 1
