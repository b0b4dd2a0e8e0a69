"""The paper that ink stands on: its light evened out, the sheet found on its desk, printed lines taken away."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

Grey = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the picture; right and bottom exclusive
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.number[Any])

STROKE = 0.3  # of the shorter side: the widest stroke; what is wider and dark is no ink
FLAT = 2  # grey levels from the ground within which paper is flat


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


def surround(grey: NDArray[Number]) -> NDArray[Number]:
    """The pixels at the four sides."""
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def from_flat(grey: Grey, ground: float) -> Array:
    """Grey levels from a ground; ink is dark on a light ground and light on a dark one."""
    levels = grey.astype(np.float64)
    difference: Array = np.maximum(levels - ground if ground < 128 else ground - levels, 0)
    return difference


def bounds(mask: Mask) -> Box:
    """The smallest box around the pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


# --- contrast of the ink to its paper ---------------------------------------------------------------------------


def contrasts(grey: Grey, *, trusted: bool) -> Iterator[Contrast]:
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
    ink = from_flat(grey, ground)
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
    left, top, right, bottom = bounds(mask)
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
            # lines of one sheet are nearly parallel; a fitted slope may lie beyond those that were tried
            slopes = SLOPES[np.abs(SLOPES - np.clip(slope, SLOPES[0], SLOPES[-1])) < 0.04]
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
