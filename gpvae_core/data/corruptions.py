"""The out-of-distribution dial: an image turned, moved, thickened, covered and made noisy, by stated amounts."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gpvae_core.errors import InputError

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Amount:
    """What one part of the dial may be set to."""

    label: str
    low: float
    high: float
    step: float
    unit: str


AMOUNTS = {
    "rotate": Amount("Rotate", -180.0, 180.0, 5.0, "degrees, counterclockwise"),
    "right": Amount("Shift right", -14.0, 14.0, 1.0, "pixels"),
    "down": Amount("Shift down", -14.0, 14.0, 1.0, "pixels"),
    "thicken": Amount("Thicken", -3.0, 3.0, 0.25, "pixels; negative thins"),
    "occlude": Amount("Occlude", 0.0, 28.0, 1.0, "pixels: the side of a square of ground over the middle"),
    "noise": Amount("Noise", 0.0, 1.0, 0.05, "pixel standard deviation"),
}


@dataclass(frozen=True)
class Corruption:
    """Amounts as in AMOUNTS; 0 leaves the image alone. ``seed`` draws the noise. Raises InputError beyond the range."""

    rotate: float = 0.0
    right: float = 0.0
    down: float = 0.0
    thicken: float = 0.0
    occlude: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, amount in AMOUNTS.items():
            value = getattr(self, name)
            if not amount.low <= value <= amount.high:
                raise InputError(
                    f"{name} = {value:g} is out of range; choose between {amount.low:g} and {amount.high:g} "
                    f"({amount.unit})"
                )

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) != 0 for field in fields(self) if field.name != "seed")

    def __call__(self, pixels: Pixels) -> Pixels:
        """Pixels (H, W) -> pixels (H, W): stroke width, turn, shift, cover, noise, in this order.

        Turning and moving interpolate linearly and let ground (0) in; noise is cut to [0, 1]. Untouched without an
        amount: the same array, bit for bit.
        """
        image = pixels
        if self.thicken:
            image = _thicken(image, self.thicken)
        if self.rotate:
            image = ndimage.rotate(image, self.rotate, reshape=False, order=1)
        if self.right or self.down:
            image = ndimage.shift(image, (self.down, self.right), order=1)
        if self.occlude:
            image = _occlude(image, round(self.occlude))
        if self.noise:
            draw = np.random.default_rng(self.seed).standard_normal(image.shape)
            image = np.clip(image + self.noise * draw, 0, 1)
        return np.asarray(image, dtype=np.float32)


def _thicken(image: Pixels, radius: float) -> Pixels:
    """Grey dilation by a disc, erosion for a negative radius; between whole radii a linear blend."""
    grow = ndimage.grey_dilation if radius > 0 else ndimage.grey_erosion
    low = int(abs(radius))
    share = abs(radius) - low
    steps = [image if r == 0 else grow(image, footprint=_disc(r)) for r in (low, low + 1)]
    blended: Pixels = (1 - share) * steps[0] + share * steps[1]
    return blended


def _disc(radius: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside: NDArray[np.bool_] = x**2 + y**2 <= radius**2
    return inside


def _occlude(image: Pixels, side: int) -> Pixels:
    covered = image.copy()
    top, left = ((length - side) // 2 for length in image.shape)
    covered[max(top, 0) : top + side, max(left, 0) : left + side] = 0
    return covered
