"""Drawings: strokes <-> a short text for the address bar, and strokes -> a grey picture.

What the text holds is the drawing: the picture is made from the simplified strokes, so a link gives the same pixels.
"""

import base64
import binascii
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.words import t
from gpvae_core.errors import InputError

SIDE = 256  # of the sheet; coordinates are whole numbers 0..255
PEN = 22.0  # width of the stroke
PICTURE = 112  # pixels a side of the picture that preprocessing gets
TOLERANCE = 1.5  # sheet units that simplification may move a line by
MAX_POINTS = 4_000
TOO_MANY = "the drawing has more than {most:,} points or strokes; clear it and draw with fewer strokes"
DAMAGED = "the link's {what} is damaged; ask for the link again, or give the {what} anew"
TOO_LARGE = "the link's {what} is damaged or too large; ask for the link again, or give the {what} anew"
Stroke = list[tuple[int, int]]


def simplified(strokes: list[list[list[int]]]) -> list[Stroke]:
    """The canonical form of what the sheet sends: whole numbers in range, points that change nothing left out.

    Raises InputError for what is not a drawing or has more than MAX_POINTS points.
    """
    try:
        arrays = [_places(stroke).clip(0, SIDE - 1) for stroke in strokes[: MAX_POINTS + 1]]
    except (ValueError, TypeError, OverflowError):
        raise InputError(t("the drawing is not a list of strokes of points (x, y); draw it again")) from None
    if len(arrays) > MAX_POINTS or sum(map(len, arrays)) > MAX_POINTS:
        raise InputError(t(TOO_MANY, most=MAX_POINTS))
    return [[(int(x), int(y)) for x, y in _thinned(points)] for points in arrays if len(points)]


def _places(stroke: Any) -> NDArray[np.int64]:
    """Points (n, 2). Raises ValueError, TypeError or OverflowError for anything but a list of pairs of numbers."""
    points = np.asarray(stroke)
    if points.size == 0:
        return np.zeros((0, 2), np.int64)
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf" or not np.isfinite(points).all():
        raise ValueError
    return points.clip(-SIDE, 2 * SIDE).astype(np.int64)


def _thinned(points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ramer, Douglas and Peucker: keep the point farthest from the chord while it is beyond TOLERANCE."""
    keep = np.zeros(len(points), bool)
    keep[[0, -1]] = True
    pending = [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        inner = points[first + 1 : last].astype(float)
        distance = _distance(inner, points[first].astype(float), points[last].astype(float))
        farthest = int(distance.argmax())
        if distance[farthest] > TOLERANCE:
            middle = first + 1 + farthest
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return points[keep]


def _distance(points: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of each point (..., 2) from the segment."""
    along = end - start
    length = float(along @ along)
    share = np.zeros(points.shape[:-1]) if length == 0 else np.clip((points - start) @ along / length, 0, 1)
    distance: NDArray[np.float64] = np.linalg.norm(points - start - share[..., None] * along, axis=-1)
    return distance


def encode(strokes: list[Stroke]) -> str:
    """Lengths and coordinates as bytes, deflated, in the alphabet of URLs."""
    raw = bytearray()
    for stroke in strokes:
        points = np.array(stroke, dtype=np.int64)
        steps = np.diff(points, axis=0, prepend=0) % SIDE  # small numbers deflate better
        raw += len(stroke).to_bytes(2, "big") + steps.astype(np.uint8).tobytes()
    return to_text(bytes(raw))


def decode(text: str) -> list[Stroke]:
    """The strokes of ``encode``. Raises InputError for anything else."""
    raw = from_text(text, "drawing", 2 * MAX_POINTS + 2 * MAX_POINTS)
    strokes: list[Stroke] = []
    start = points = 0
    while start < len(raw):
        count = int.from_bytes(raw[start : start + 2], "big")
        steps = np.frombuffer(raw[start + 2 : start + 2 + 2 * count], dtype=np.uint8)
        points += count
        if count == 0 or len(steps) < 2 * count or points > MAX_POINTS:
            raise InputError(t("the link's drawing is damaged; ask for the link again, or draw it anew"))
        stroke = np.cumsum(steps.reshape(-1, 2).astype(np.int64), axis=0) % SIDE
        strokes.append([(int(x), int(y)) for x, y in stroke])
        start += 2 + 2 * count
    return strokes


def to_text(raw: bytes) -> str:
    """Bytes, deflated, in the alphabet of URLs."""
    return base64.urlsafe_b64encode(zlib.compress(raw, 9)).rstrip(b"=").decode()


def from_text(text: str, what: str, most: int) -> bytes:
    """The bytes of ``to_text``, at most ``most`` of them. Raises InputError for anything else."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(packed, most + 1)
    except (ValueError, binascii.Error, zlib.error):
        raise InputError(t(DAMAGED, what=t(what))) from None
    if len(raw) > most or not unpacker.eof:
        raise InputError(t(TOO_LARGE, what=t(what)))
    return raw


def picture(strokes: list[Stroke]) -> NDArray[np.uint8]:
    """Black ink on white, (PICTURE, PICTURE): each pixel's distance from the nearest stroke, one pixel of soft edge."""
    scale = SIDE / PICTURE
    y, x = np.mgrid[:PICTURE, :PICTURE]
    places = (np.stack([x, y], -1) + 0.5) * scale
    nearest = np.full((PICTURE, PICTURE), np.inf)
    reach = PEN / 2 + scale  # from a stroke: farther off there is no ink
    for stroke in strokes:
        points = np.array(stroke, dtype=float)
        for start, end in zip(
            points[: max(1, len(points) - 1)], points[1:] if len(points) > 1 else points, strict=True
        ):
            left, top = np.floor((np.minimum(start, end) - reach) / scale).clip(0, PICTURE).astype(int)
            right, bottom = np.ceil((np.maximum(start, end) + reach) / scale).clip(0, PICTURE).astype(int)
            near = slice(top, bottom), slice(left, right)
            nearest[near] = np.minimum(nearest[near], _distance(places[near], start, end))
    ink = np.clip((PEN / 2 - nearest) / scale + 0.5, 0, 1)
    return np.rint(255 * (1 - ink)).astype(np.uint8)
