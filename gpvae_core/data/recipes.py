"""How a picture becomes an x: each data set made its images in its own way, and what is uploaded goes the same way."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gpvae_core.data.images import DIGITS, MNIST, SIDE, Box, Grey, Placement, Prepared, prepare

OMNIGLOT_SIDE = 105  # pixels of an original
OMNIGLOT = Placement(box=19, centre=13.5)  # median extent and mean centre of its 19,280 training images at 28x28
FAINT = 25  # grey levels between ink and ground below which there is no ink
BINARY, FIXED = "binary-", "-fixed"  # around the name of a data set whose pixels are drawn as 0 or 1


@dataclass(frozen=True)
class Recipe:
    """How a data set makes x of a grey picture: ``prepare(picture, name, crop)``; ``words`` say it on screen."""

    name: str
    words: str
    prepare: Callable[[Grey, str, Box | None], Prepared]


def base_name(spec: str) -> str:
    """The data set that ``spec`` has its images from: binary ones have those of the grey one, drawn."""
    return spec.removeprefix(BINARY).removesuffix(FIXED)


def same_images(one: str, other: str) -> bool:
    """Whether image k of the one data set is image k of the other, apart from a draw of its pixels."""
    return base_name(one) == base_name(other)


def recipe_of(spec: str) -> Recipe:
    """The recipe of a data set; folders of images are prepared as MNIST was."""
    return RECIPES.get(base_name(spec), RECIPES["mnist"])


def _placed(placement: Placement) -> Callable[[Grey, str, Box | None], Prepared]:
    def by_mass(grey: Grey, name: str, crop: Box | None) -> Prepared:
        return prepare(grey, name, crop=crop, placement=placement)

    return by_mass


def _as_omniglot(grey: Grey, name: str, crop: Box | None) -> Prepared:
    """Originals, larger or smaller ones too, whole and by area; other pictures by their ink."""
    height, width = grey.shape
    original = height == width and (height == SIDE or height % OMNIGLOT_SIDE == 0)
    if crop is None and original and np.ptp(grey) > FAINT:
        return Prepared(shrunk_original(grey if np.median(grey) > 127 else 255 - grey), None)
    return prepare(grey, name, crop=crop, placement=OMNIGLOT)


def shrunk_original(page: Grey) -> Grey:
    """An OMNIGLOT page, black ink on white (H, H) -> white ink on black (28, 28), averaged over areas.

    A page that was enlarged by a whole factor is brought back to 105x105 first.
    """
    own = Image.fromarray(page).reduce(max(1, len(page) // OMNIGLOT_SIDE))
    small = own.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels: Grey = 255 - np.asarray(small)
    return pixels


RECIPES = {
    "mnist": Recipe(
        "mnist",
        "As MNIST was made: inverted if the ground is light, cropped to the ink, scaled into 20x20 pixels, centred by "
        "mass.",
        _placed(MNIST),
    ),
    "digits": Recipe(
        "digits",
        "As this model's digits were made: inverted if the ground is light, cropped to the ink, scaled into 20x20 "
        "pixels, centred by mass half a pixel up and left of MNIST's.",
        _placed(DIGITS),
    ),
    "omniglot": Recipe(
        "omniglot",
        "As OMNIGLOT's 105x105 drawings were made small: averaged over areas, whole. Another picture is cropped to its "
        "ink and brought to the usual size and place of a character.",
        _as_omniglot,
    ),
}
