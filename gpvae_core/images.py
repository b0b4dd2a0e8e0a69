"""Any picture -> one model input: 28x28, white ink on black, placed as MNIST placed its digits."""

import re
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpvae_core.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
SIDE, BOX = 28, 20  # MNIST: the digit fills a 20x20 box, its centre of mass in the middle of 28x28
_CURE = "save it as an ordinary PNG or JPEG of a digit and try again"

Grey = NDArray[np.uint8]


def read_image(source: Path | bytes, name: str) -> Grey:
    """Decode an image file to grey (H, W) uint8, orientation applied, transparency laid on white.

    Raises InputError where it is missing, empty, too large (before decoding it) or no image.
    """
    data = source if isinstance(source, bytes) else _read(source)
    if not data:
        raise InputError(f"'{name}' is empty (0 bytes); {_CURE}")
    if len(data) > MAX_BYTES:
        raise InputError(f"'{name}' has {len(data):,} bytes, more than {MAX_BYTES:,}; make it smaller and try again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning: the limit below is stricter
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"'{name}' holds {image.width * image.height:,} pixels, more than {MAX_PIXELS:,}; make it "
                        "smaller and try again"
                    )
                return _to_grey(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as bomb:  # Pillow's own limit, above ours, met before the size is known here
        count = int(re.findall(r"\d+", str(bomb))[0])
        raise InputError(
            f"'{name}' holds {count:,} pixels, more than {MAX_PIXELS:,}; make it smaller and try again"
        ) from None
    except UnidentifiedImageError:
        raise InputError(f"'{name}' is not an image that can be read ({', '.join(FORMATS)}); {_CURE}") from None
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:
        raise InputError(f"'{name}' is damaged ({error}); {_CURE}") from None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"'{path}' has {path.stat().st_size:,} bytes, more than {MAX_BYTES:,}; make it smaller and try again"
            )
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror}); check the path") from None


def _to_grey(image: Image.Image) -> Grey:
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more: stretch to 8
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return np.clip(np.rint(values / top * 255), 0, 255).astype(np.uint8)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.array(image.convert("L"))  # a copy that may be written to


def to_model_input(grey: Grey, name: str = "image") -> Grey:
    """MNIST's preprocessing: (H, W) uint8 -> (28, 28) uint8, white ink on black.

    A 28x28 image on a black ground is taken as it is. Otherwise: invert if the ground (the median of
    the border) is light, take ground and faint noise away, crop to the ink, scale it anti-aliased into a 20x20 box
    with its aspect kept, and put its centre of mass in the middle. Raises InputError where there is no ink.
    """
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = float(np.median(border))
    if grey.shape == (SIDE, SIDE) and ground == 0:
        return grey
    ink = grey.astype(np.float64) if ground < 128 else 255.0 - grey
    ink -= ground if ground < 128 else 255.0 - ground
    peak = float(ink.max(initial=0.0))
    if peak < 25:
        raise InputError(
            f"'{name}' shows no ink: every pixel is as bright as its border; use a darker pen or more light"
        )
    ink = np.clip((ink / peak - 0.15) / 0.85, 0, 1)
    rows, columns = np.flatnonzero(ink.max(1) > 0.1), np.flatnonzero(ink.max(0) > 0.1)
    crop = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _centre_by_mass(_fit_box(crop))


def _fit_box(ink: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale the ink's longer side to 20 pixels; a margin of one source pixel keeps strokes at the edge round."""
    scale = BOX / max(ink.shape)
    margin = np.pad(ink, 1)
    size = (max(1, round(margin.shape[1] * scale)), max(1, round(margin.shape[0] * scale)))
    resized = Image.fromarray(margin.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    return np.clip(np.asarray(resized, dtype=np.float64), 0, 1)


def _centre_by_mass(ink: NDArray[np.float64]) -> Grey:
    """Paste into 28x28 with the centre of mass at (14, 14), to the nearest pixel that keeps the ink inside."""
    canvas = np.zeros((SIDE, SIDE))
    mass = max(float(ink.sum()), 1e-9)
    start = []
    for axis in (0, 1):
        centre = float((ink.sum(1 - axis) * (np.arange(ink.shape[axis]) + 0.5)).sum()) / mass
        start.append(int(np.clip(round(SIDE / 2 - centre), 0, max(0, SIDE - ink.shape[axis]))))
    canvas[start[0] : start[0] + ink.shape[0], start[1] : start[1] + ink.shape[1]] = ink[:SIDE, :SIDE]
    return np.rint(canvas * 255).astype(np.uint8)
