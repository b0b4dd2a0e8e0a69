"""Any picture -> one model input: 28x28, white ink on black, placed as a data set placed its digits."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpvae_core.data.paper import Box as Box
from gpvae_core.data.paper import Grey as Grey
from gpvae_core.data.paper import surround
from gpvae_core.data.photos import find_ink
from gpvae_core.errors import InputError, short
from gpvae_core.files import check_ordinary

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".avif", ".avifs", ".heic", ".heif"),
)
GREY_APART = 12  # of 255: by which JPEG sets the channels of a grey picture apart
MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
MAX_SIDE = 20_000  # decoders hold some lines of the width, and a note of each line of the height
MAX_HELD = 59_000_000  # bytes at once: of the file, its picture, and what that is reduced to
WHOLE_FRAMES = {"WEBP": 16.5, "AVIF": 11.6}  # bytes a pixel that these decoders hold, measured
LONGEST = 1_024  # pixels a side that a picture is reduced to while it is decoded
STRIP_HEIGHT, TILE_WIDTH, TILE_HEIGHT = 278, 322, 323  # tags of a TIFF
SIDE = 28
EDGE = 0.15  # share of the darkest ink from which on a pixel counts for the size
SMOOTH_EDGE = 0.3  # the same where edges are ramps: about where a ramp crosses the pixel's own edge
LONGEST_NAME = 100  # characters of a file's name that a sentence repeats
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_CURE = "save it as an ordinary PNG or JPEG of a digit and try again"

Ink = NDArray[np.float64]


@dataclass(frozen=True)
class Placement:
    """How a data set places its ink: in a square of ``box`` pixels, its centre of mass at ``centre``.

    ``centre`` is in edge coordinates: 0 is the first pixel's outer edge. Ink below ``faint`` of the darkest is noise.
    ``margin``: pixels of the source kept around the ink; with a margin, the scale is rounded to whole pixels.
    """

    side: int = SIDE
    box: int = 20
    centre: float = 14.5
    faint: float = 0.0
    margin: int = 0


MNIST = Placement()  # centre of mass over 60,000 images: y 14.496, x 14.507
DIGITS = Placement(centre=14.0, faint=0.15, margin=1)  # what digits-2d was trained on, kept bit for bit


@dataclass(frozen=True)
class Prepared:
    """A model input (28, 28) uint8, the box of the picture it was made of, and doubts that it is one digit.

    ``box`` is None where all of the picture was taken as it is. Each doubt is one sentence with the cure.
    """

    image: Grey
    box: Box | None
    doubts: tuple[str, ...] = ()


# --- a file -> grey ---------------------------------------------------------------------------------------------


def read_image(source: Path | bytes, name: str) -> Grey:
    """Decode an image file to grey (H, W) uint8, at most 1,024 pixels a side, orientation applied.

    Transparency is laid on white, or on black where the visible ink is light.
    Raises InputError where it is missing, empty, too large (before decoding it) or no image.
    """
    data = source if isinstance(source, bytes) else _read(source)
    name = short(name, LONGEST_NAME)
    if not data:
        raise InputError(f"'{name}' is empty (0 bytes); {_CURE}")
    if len(data) > MAX_BYTES:
        raise InputError(f"'{name}' has {len(data):,} bytes, more than {MAX_BYTES:,}; make it smaller and try again")
    with _sentences(name):
        return _to_grey(_decoded(data, name), name)


def is_coloured(path: Path) -> bool:
    """Whether the channels of an image that ``read_image`` has read differ by more than what JPEG does to grey."""
    with _opened(path.read_bytes()) as image:
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return False
        whole = image.convert("RGBA") if image.mode in ("P", "PA") else image
        channels = np.asarray(whole.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX))
    return bool(np.ptp(channels, axis=2).max() > GREY_APART)


def _read(path: Path) -> bytes:
    check_ordinary(path, f"'{path}'")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"'{path}' has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}; make it smaller and try again"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror}); check the path") from None


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """What decoders raise, as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning: our limit is stricter
            yield
    except Image.DecompressionBombError as bomb:  # Pillow's own limit, above ours, met before the size is known here
        _check_size(int(re.findall(r"\d+", str(bomb))[0]), name)
    except UnidentifiedImageError:
        raise InputError(f"'{name}' is not an image that can be read ({', '.join(FORMATS)}); {_CURE}") from None
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"'{name}' is damaged ({reason}); {_CURE}") from None


def _check_size(pixels: int, name: str) -> None:
    if pixels > MAX_PIXELS:
        raise InputError(f"'{name}' holds {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller and try again")


def _check_held(image: Image.Image, file: int, name: str) -> None:
    """Phones' own formats, JPEG and HEIC, at any size that a phone takes; others as far as memory goes.

    ``file``: its bytes.
    """
    if max(image.size) > MAX_SIDE:
        raise InputError(
            f"'{name}' measures {image.width:,}x{image.height:,} pixels, more than {MAX_SIDE:,} on a side; cut out the "
            "digit and try again"
        )
    pixels = image.width * image.height
    each = _held(image) * (1 + _unpacked_at_once(image) / pixels)
    reduced = 0 if image.format in WHOLE_FRAMES else LONGEST**2  # there what was decoded is gone by then
    most = int((MAX_HELD - file) / each) - reduced
    if pixels > most:
        raise InputError(
            f"'{name}' holds {pixels:,} pixels, more than the {most:,} that a picture of its kind may have; save it as "
            "an ordinary JPEG, or make it smaller, and try again"
        )


def _unpacked_at_once(image: Image.Image) -> int:
    """Pixels that a packed TIFF's decoder holds beside the picture: a strip, which may be all of it, or a tile."""
    if "libtiff" not in _decoders(image):
        return 0
    tags = image.tag_v2  # type: ignore[attr-defined]
    if TILE_WIDTH in tags:
        return int(tags[TILE_WIDTH] * tags[TILE_HEIGHT])
    return int(image.width * min(image.height, tags.get(STRIP_HEIGHT, image.height)))


def _decoders(image: Image.Image) -> set[str]:
    return {tile[0] for tile in getattr(image, "tile", [])}


def _held(image: Image.Image) -> float:
    """Bytes a pixel of the decoded picture."""
    if image.format == "JPEG":  # line by line; a progressive one keeps 2 bytes for each coefficient
        parts = [across * down for _, across, down, _ in getattr(image, "layer", [])]
        return 2 * sum(parts) / max(parts) if parts and "progressive" in image.info else 0.1
    if image.format in ("HEIF", None):
        return 0.1
    if image.format in WHOLE_FRAMES:
        return WHOLE_FRAMES[image.format]
    least = 3 if "bmp_rle" in _decoders(image) else 2 if image.format == "GIF" else 1  # what they hold beside it
    return max(least, 2 if image.mode.startswith("I;16") else {"1": 1, "L": 1, "P": 1}.get(image.mode, 4))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image with its size known and its pixels not yet decoded."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        yield pi_heif.HeifImageFile(BytesIO(data))  # used directly: no opener is registered with Pillow
        return
    with Image.open(BytesIO(data), formats=[kind for kind in FORMATS if kind != "HEIC"]) as image:
        yield image


def _decoded(data: bytes, name: str) -> Image.Image:
    """Reduced and turned as EXIF says. What it was reduced from is gone then."""
    with _opened(data) as image:
        _check_size(image.width * image.height, name)
        _check_held(image, len(data), name)
        # the turn comes after the reduction: turning 24 megapixels would hold them twice
        return ImageOps.exif_transpose(_reduced(image))


def _reduced(image: Image.Image) -> Image.Image:
    """By a whole factor to at most LONGEST pixels a side, while decoding where the format can."""
    longest = max(image.size)
    if longest <= LONGEST:
        return image
    width, height = (max(1, side * LONGEST // longest) for side in image.size)
    image.draft("L", (width, height))  # JPEG alone
    factor = ceil(max(image.size) / LONGEST)
    image.load()
    mode = _reducible(image)
    reduced = Image.new(mode, (ceil(image.width / factor), ceil(image.height / factor)))
    # strip by strip: to change the mode, and to weigh colours by their alpha, Pillow makes a copy of all that it gets
    for row in range(reduced.height):
        strip = image.crop((0, row * factor, image.width, min((row + 1) * factor, image.height)))
        reduced.paste((strip if strip.mode == mode else strip.convert(mode)).reduce(factor), (0, row))
    reduced.info.update(image.info)  # the turn
    return reduced


def _reducible(image: Image.Image) -> str:
    """The mode to reduce it in, where Pillow cannot in its own."""
    if image.mode in ("1", "P", "PA"):
        return "RGBA" if _transparent(image) else "L"
    return "F" if image.mode.startswith("I;") else image.mode


def _transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _to_grey(image: Image.Image, name: str) -> Grey:
    if image.mode.startswith("I") or image.mode == "F":
        return _to_8_bits(np.asarray(image, dtype=np.float64), name)
    if _transparent(image):
        return _on_ground(image.convert("RGBA"))
    return np.array(image.convert("L"))  # a copy that may be written to


def _to_8_bits(values: Ink, name: str) -> Grey:
    """Stretch from the range that the values were written in: 0..1, 0..255, or 10 to 16 bits, or a hundredth more."""
    if not np.isfinite(values).all():
        raise InputError(f"'{name}' holds pixels that are no finite numbers (NaN or infinity); {_CURE}")
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    known = [top for top in (1, 255, 1023, 4095, 16383, 65535) if high <= 1.01 * top]
    top = known[0] if known and low >= 0 else high
    return np.clip(np.rint((values - low) / max(top - low, 1e-9) * 255), 0, 255).astype(np.uint8)


def _on_ground(rgba: Image.Image) -> Grey:
    """Light ink on a transparent ground is laid on black, dark ink on white, most of a picture on its own ground."""
    grey = np.array(rgba.convert("L"), dtype=np.float64)
    alpha = np.array(rgba.getchannel("A"), dtype=np.float64) / 255
    if alpha.sum() == 0:
        return np.full(grey.shape, 255, np.uint8)
    ink = float((grey * alpha).sum() / alpha.sum())
    ground = float(np.median(grey[alpha > 0.5])) if alpha.mean() > 0.5 else (0.0 if ink > 128 else 255.0)
    return np.rint(grey * alpha + ground * (1 - alpha)).astype(np.uint8)


# --- grey -> model input ----------------------------------------------------------------------------------------


def to_model_input(grey: Grey, name: str = "image", *, placement: Placement = MNIST) -> Grey:
    """(H, W) uint8 -> (28, 28) uint8, white ink on black: ``prepare`` without box and doubts."""
    return prepare(grey, name, placement=placement).image


def prepare(grey: Grey, name: str = "image", *, crop: Box | None = None, placement: Placement = MNIST) -> Prepared:
    """Find the digit in a picture (H, W) uint8, or in its ``crop``, and place it as the data set placed its digits.

    A 28x28 picture that already stands so is taken as it is. Raises InputError where there is no ink.
    """
    name = short(name, LONGEST_NAME)
    if crop is None and (own := _as_it_is(grey, placement)) is not None:
        return Prepared(own, None)
    found = find_ink(grey, name, crop)
    ink = np.clip((found.ink - placement.faint) / (1 - placement.faint), 0, 1)
    fit = _rounded_fit if placement.margin else _fit
    return Prepared(fit(ink, placement), found.box, found.doubts)


def _as_it_is(grey: Grey, placement: Placement) -> Grey | None:
    """A picture of the model's size: on black as it is, on a flat light ground inverted if placed as the data set's."""
    if grey.shape != (placement.side, placement.side):
        return None
    ground = float(np.median(surround(grey)))
    if ground == 0:
        return grey
    ink = np.clip(1 - grey / ground, 0, 1)
    flat = np.mean(np.abs(surround(grey) - ground) <= 8) > 0.5
    if ground < 128 or not flat or not ink.any() or not _stands(ink, placement):
        return None
    return _levels(ink)


def _stands(ink: Ink, placement: Placement) -> bool:
    """Its centre of mass within a pixel of the centre, and the margin, and not larger than the box and a margin."""
    extent = max(_trimmed(ink, EDGE).shape)
    off = max(abs(_mass_centre(ink, axis) - placement.centre) for axis in (0, 1))
    return placement.box // 2 <= extent <= placement.box + 2 and off <= 1 + placement.margin


def _trimmed(ink: Ink, edge: float) -> Ink:
    rows, columns = np.flatnonzero(ink.max(1) > edge), np.flatnonzero(ink.max(0) > edge)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _mass_centre(ink: Ink, axis: int) -> float:
    """In edge coordinates along ``axis``."""
    places = np.arange(ink.shape[axis]) + 0.5
    return float((ink.sum(1 - axis) * places).sum()) / max(float(ink.sum()), 1e-9)


def _fit(ink: Ink, placement: Placement) -> Grey:
    """The ink's longer side becomes exactly ``box`` pixels, its centre of mass goes near ``centre``."""
    pixelated = _pixelated(_trimmed(ink, EDGE), placement)
    ink = _trimmed(ink, EDGE if pixelated else SMOOTH_EDGE)
    scale = max(ink.shape) / placement.box  # source pixels to one pixel
    rounded = round if pixelated else _softly_rounded
    wanted = (rounded(placement.centre - _mass_centre(ink, axis) / scale) for axis in (0, 1))
    top, left = (_inside(at, length / scale, placement) for at, length in zip(wanted, ink.shape, strict=True))
    pad, window = ceil(placement.side * scale), placement.side * scale
    x, y = pad - left * scale, pad - top * scale
    source = Image.fromarray(np.pad(ink, pad).astype(np.float32))
    by = Image.Resampling.BOX if scale >= 2 else Image.Resampling.LANCZOS  # the mean of a pixel's area; else smooth
    placed = source.resize((placement.side, placement.side), by, box=(x, y, x + window, y + window))
    return _levels(np.asarray(placed, dtype=np.float64))


def _softly_rounded(value: float) -> float:
    """Toward the nearest whole number, as MNIST's box stands on whole pixels.

    Continuous, on a straight line in the middle three fifths: else a grain of noise could move the image by a pixel.
    """
    whole = np.floor(value)
    return float(whole + np.clip((value - whole - 0.2) / 0.6, 0, 1))


def _levels(ink: Ink) -> Grey:
    return np.rint(255 * np.clip(ink, 0, 1)).astype(np.uint8)


def _pixelated(ink: Ink, placement: Placement) -> bool:
    """Whether the ink is an image of the model's size enlarged: squares of one grey each. It comes back as it was."""
    step = max(ink.shape) // placement.box
    if step * placement.box != max(ink.shape) or any(length % step for length in ink.shape):
        return False
    squares = ink[step // 2 :: step, step // 2 :: step].repeat(step, 0).repeat(step, 1)
    return bool(np.abs(ink - squares).mean() < 0.02)


def _inside(start: float, length: float, placement: Placement) -> float:
    """Pixels before the ink, so that all of it is inside."""
    return float(np.clip(start, 0, max(0.0, placement.side - length)))


def _rounded_fit(ink: Ink, placement: Placement) -> Grey:
    """The scale rounded to whole pixels, the margin scaled with the ink: how the digits of digits-2d were made."""
    ink = _trimmed(ink, 0.1)
    scale = placement.box / max(ink.shape)
    margin = np.pad(ink, placement.margin)
    size = (max(1, round(margin.shape[1] * scale)), max(1, round(margin.shape[0] * scale)))
    resized = Image.fromarray(margin.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    small = np.clip(np.asarray(resized, dtype=np.float64), 0, 1)
    top, left = (
        int(_inside(round(placement.centre - _mass_centre(small, axis)), small.shape[axis], placement))
        for axis in (0, 1)
    )
    canvas = np.zeros((placement.side, placement.side))
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small[: placement.side, : placement.side]
    return _levels(canvas)
