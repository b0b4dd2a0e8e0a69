"""Synthetic photographs of a handwritten digit with known ink: light, shadow, desk, lines, dirt, tilt, noise, JPEG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]

# Strokes of each digit through points (x, y) of the unit square, y downwards.
GLYPHS: dict[str, list[list[tuple[float, float]]]] = {
    "0": [[(0.5, 0), (0.2, 0.2), (0.15, 0.55), (0.3, 0.95), (0.6, 0.97), (0.8, 0.6), (0.75, 0.2), (0.5, 0)]],
    "1": [[(0.35, 0.2), (0.55, 0), (0.5, 0.5), (0.48, 1)]],
    "2": [[(0.2, 0.2), (0.45, 0), (0.75, 0.2), (0.55, 0.55), (0.2, 0.95), (0.5, 0.93), (0.85, 0.97)]],
    "3": [[(0.2, 0.1), (0.55, 0), (0.75, 0.2), (0.45, 0.46), (0.8, 0.7), (0.55, 1), (0.15, 0.9)]],
    "4": [[(0.45, 0), (0.15, 0.6), (0.85, 0.58)], [(0.65, 0.3), (0.62, 0.65), (0.6, 1)]],
    "5": [[(0.3, 0.05), (0.25, 0.45), (0.6, 0.45), (0.78, 0.7), (0.5, 1), (0.18, 0.9)], [(0.3, 0.05), (0.8, 0.02)]],
    "6": [[(0.65, 0), (0.3, 0.35), (0.25, 0.75), (0.5, 1), (0.75, 0.75), (0.5, 0.55), (0.27, 0.75)]],
    "7": [[(0.15, 0.03), (0.8, 0.03), (0.55, 0.5), (0.4, 1)]],
    "8": [[(0.7, 0.15), (0.4, 0), (0.3, 0.25), (0.7, 0.65), (0.5, 1), (0.25, 0.8), (0.6, 0.4), (0.7, 0.15)]],
    "9": [[(0.75, 0.25), (0.5, 0.45), (0.25, 0.25), (0.5, 0), (0.75, 0.2), (0.7, 0.6), (0.6, 1)]],
    "5 in two": [
        [(0.3, 0.2), (0.25, 0.48), (0.6, 0.47), (0.78, 0.7), (0.5, 1), (0.18, 0.9)],
        [(0.35, 0.02), (0.85, 0)],
    ],
    "4 in two": [[(0.35, 0), (0.12, 0.55), (0.6, 0.57)], [(0.75, 0.2), (0.72, 0.6), (0.7, 1)]],
    "7 barred": [[(0.15, 0.03), (0.8, 0.03), (0.55, 0.5), (0.4, 1)], [(0.3, 0.5), (0.75, 0.48)]],
}


def _smooth(points: Sequence[tuple[float, float]]) -> Array:
    """120 points on a smooth curve through the given ones."""
    given = np.array(points)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(given, axis=0), axis=1))]
    curve: Array = PchipInterpolator(along, given)(np.linspace(0, along[-1], 120))
    return curve


def drawn(digit: str, height: int, pen: float) -> Array:
    """Ink (height + margins, same) in [0,1]: the digit ``height`` pixels high, its pen ``pen`` heights wide."""
    fine = 4
    margin = round(height * (pen + 0.05))
    side = fine * (height + 2 * margin)
    sheet = Image.new("L", (side, side))
    pencil = ImageDraw.Draw(sheet)
    radius = max(1.0, fine * height * pen / 2)
    for stroke in GLYPHS[digit]:
        for x, y in fine * (margin + height * _smooth(stroke)):
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(sheet.resize((side // fine, side // fine), Image.Resampling.BOX)) / 255.0


def enlarged(image: NDArray[np.uint8], height: int) -> Array:
    """A model input (28, 28) white on black as smooth ink (height, height) in [0,1]."""
    return np.asarray(Image.fromarray(image).resize((height, height), Image.Resampling.BICUBIC)) / 255.0


Effect = Callable[[Array, np.random.Generator], Array]


@dataclass(frozen=True)
class Scene:
    """A sheet with ink on it, light on the sheet, and a camera. Lengths are shares of the picture's shorter side."""

    digit: str = "3"
    shape: tuple[int, int] = (480, 640)
    height: float = 0.5
    pen: float = 0.09  # of the digit's height
    at: tuple[float, float] = (0.5, 0.5)
    ink: float = 0.12
    paper: float = 0.92
    more: tuple[tuple[str, float, float], ...] = ()  # further digits, each with its centre
    effects: tuple[Effect, ...] = ()  # in order; on the sheet's reflectance, then light, then camera
    seed: int = 0
    figure: Array | None = field(default=None, compare=False)  # ink to use in place of ``digit``


def clean(scene: Scene) -> NDArray[np.uint8]:
    """The digit alone, black on white, as a drawing program would save it."""
    return np.rint(255 * (1 - np.pad(_figure(scene), 10))).astype(np.uint8)


def photograph(scene: Scene) -> NDArray[np.uint8]:
    """The picture (H, W) uint8 that a camera makes of the scene."""
    rng = np.random.default_rng(scene.seed)
    ink = np.zeros(scene.shape)
    if scene.digit or scene.figure is not None:
        _paste(ink, _figure(scene), *scene.at)
    for digit, x, y in scene.more:
        _paste(ink, drawn(digit, round(scene.height * min(scene.shape)), scene.pen), x, y)
    picture = scene.paper * (1 - ink) + scene.ink * ink
    for effect in scene.effects:
        picture = effect(picture, rng)
    return np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)


def _figure(scene: Scene) -> Array:
    if scene.figure is not None:
        return scene.figure
    return drawn(scene.digit, round(scene.height * min(scene.shape)), scene.pen)


def _paste(sheet: Array, ink: Array, x: float, y: float) -> None:
    """Centre of ``ink`` at (x, y) of the sheet; what lies beyond the sheet is lost."""
    top, left = round(y * sheet.shape[0] - ink.shape[0] / 2), round(x * sheet.shape[1] - ink.shape[1] / 2)
    rows = slice(max(0, top), min(sheet.shape[0], top + ink.shape[0]))
    columns = slice(max(0, left), min(sheet.shape[1], left + ink.shape[1]))
    part = ink[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    sheet[rows, columns] = np.maximum(sheet[rows, columns], part)


def _grid(picture: Array) -> tuple[Array, Array]:
    """x and y of each pixel, in shares of the width and of the height."""
    rows, columns = np.indices(picture.shape)
    return columns / picture.shape[1], rows / picture.shape[0]


# --- what is on the sheet ---------------------------------------------------------------------------------------


def lines(
    step: float = 0.13, dark: float = 0.35, tilt: float = 0.0, width: float = 0.005, *, upright: bool = False
) -> Effect:
    """Printed lines, ``dark`` of the light taken away, turned by ``tilt`` degrees."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        unit = min(picture.shape)
        rows, columns = np.indices(picture.shape)
        turn = np.deg2rad(tilt)
        across = (
            columns * np.cos(turn) + rows * np.sin(turn) if upright else rows * np.cos(turn) - columns * np.sin(turn)
        )
        offset = rng.uniform(0, step * unit)
        distance = np.abs((across + offset + step * unit / 2) % (step * unit) - step * unit / 2)
        line = np.clip(width * unit / 2 + 0.5 - distance, 0, 1)
        return picture * (1 - dark * line)

    return effect


def specks(count: int = 1, size: float = 0.012, dark: float = 0.8) -> Effect:
    """Round dirt of ``size`` (radius), anywhere on the outer parts of the sheet."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        rows, columns = np.indices(picture.shape)
        for _ in range(count):
            x, y = rng.uniform(0.06, 0.94), rng.choice([rng.uniform(0.06, 0.16), rng.uniform(0.84, 0.94)])
            distance = np.hypot(columns - x * picture.shape[1], rows - y * picture.shape[0])
            picture = picture * (1 - dark * np.clip(size * min(picture.shape) + 0.5 - distance, 0, 1))
        return picture

    return effect


def grain(amount: float = 0.04, scale: float = 0.004) -> Effect:
    """Rough paper: reflectance that varies over ``scale``."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        rough = gaussian_filter(rng.standard_normal(picture.shape), scale * min(picture.shape))
        return picture * (1 + amount * rough / rough.std())

    return effect


# --- light ------------------------------------------------------------------------------------------------------


def falling(to: float = 0.65, angle: float = 20.0) -> Effect:
    """Light that falls to ``to`` across the sheet, along ``angle`` degrees."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        x, y = _grid(picture)
        along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
        along = (along - along.min()) / np.ptp(along)
        return picture * (1 + (to - 1) * along)

    return effect


def corner_shadow(dark: float = 0.5, reach: float = 0.6, soft: float = 0.03) -> Effect:
    """A hand's shadow over one corner; ``reach`` along both edges, its border ``soft`` wide."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        x, y = _grid(picture)
        depth = (reach - x - y) / soft
        return picture * (1 - dark / (1 + np.exp(-depth)))

    return effect


# --- the desk and the camera ------------------------------------------------------------------------------------


def desk(tone: float = 0.2, border: float = 0.12, turn: float = 0.0, texture: float = 0.0) -> Effect:
    """The sheet lies turned by ``turn`` degrees on a desk of ``tone``, whose streaks vary by ``texture``."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        grain = gaussian_filter(rng.standard_normal(picture.shape), (1, 25))
        top = tone * (1 + texture * grain / grain.std())
        inset = border * min(picture.shape)
        rows, columns = np.indices(picture.shape)
        y, x = rows - picture.shape[0] / 2, columns - picture.shape[1] / 2
        a = np.deg2rad(turn)
        u, v = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
        inside = np.minimum(picture.shape[1] / 2 - inset - np.abs(u), picture.shape[0] / 2 - inset - np.abs(v))
        sheet = np.clip(inside + 0.5, 0, 1)
        return picture * sheet + top * (1 - sheet)

    return effect


def perspective(degrees: float = 5.0, toward: float = 0.0) -> Effect:
    """The camera held ``degrees`` off the normal, at twice the picture's width; ``toward``: direction in degrees."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        height, width = picture.shape
        a, b = np.deg2rad(degrees), np.deg2rad(toward)
        axis = np.array([np.cos(b), np.sin(b)])
        far = 2.0 * width
        # picture point p -> sheet point: intersect the ray with the turned sheet
        nx, ny = axis * np.tan(a) / far
        cx, cy = width / 2, height / 2
        to_sheet = np.array([[1, 0, 0], [0, 1, 0], [nx, ny, 1]])
        centre = np.array([[1, 0, -cx], [0, 1, -cy], [0, 0, 1.0]])
        back = np.array([[1, 0, cx], [0, 1, cy], [0, 0, 1.0]])
        stretch = np.eye(3)
        stretch[:2, :2] += np.outer(axis, axis) * (1 / np.cos(a) - 1)
        matrix = back @ stretch @ to_sheet @ centre
        matrix /= matrix[2, 2]
        image = Image.fromarray(picture.astype(np.float32))
        edge = float(np.median(picture[[0, -1]]))
        turned = image.transform(
            image.size, Image.Transform.PERSPECTIVE, tuple(matrix.ravel()[:8]), Image.Resampling.BICUBIC, fillcolor=edge
        )
        return np.asarray(turned, dtype=np.float64)

    return effect


def turned(degrees: float) -> Effect:
    """The camera turned about its axis."""

    def effect(picture: Array, rng: np.random.Generator) -> Array:
        image = Image.fromarray(picture.astype(np.float32))
        edge = float(np.median(picture[[0, -1]]))
        return np.asarray(image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=edge), dtype=np.float64)

    return effect


def blur(width: float = 0.004) -> Effect:
    return lambda picture, rng: gaussian_filter(picture, width * min(picture.shape))


def noise(std: float = 0.03) -> Effect:
    return lambda picture, rng: picture + rng.normal(0, std, picture.shape)


def jpeg(quality: int = 40) -> Effect:
    def effect(picture: Array, rng: np.random.Generator) -> Array:
        buffer = BytesIO()
        Image.fromarray(np.clip(np.rint(255 * picture), 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer), dtype=np.float64) / 255

    return effect


def negative() -> Effect:
    """Chalk on a board: what was dark is light."""
    return lambda picture, rng: 1.03 - picture


# --- photographs ------------------------------------------------------------------------------------------------

CAMERA = (blur(0.002), noise(0.012), jpeg(85))

ONE_DIGIT: dict[str, Scene] = {
    "even light": Scene("2", effects=CAMERA),
    "light falling to 65 %": Scene("5", effects=(falling(0.65), *CAMERA)),
    "light falling to 50 % down": Scene("8", effects=(falling(0.5, 90), *CAMERA)),
    "corner shadow": Scene("3", effects=(corner_shadow(), *CAMERA)),
    "corner shadow over the digit": Scene("6", effects=(corner_shadow(0.4, 0.95, 0.06), *CAMERA)),
    "sheet on a dark desk": Scene("4", height=0.4, effects=(desk(), *CAMERA)),
    "sheet turned on a dark desk": Scene("7", height=0.4, effects=(desk(0.15, 0.14, 7), *CAMERA)),
    "sheet on a wooden desk": Scene("9", height=0.4, effects=(desk(0.3, 0.14, -4, 0.2), *CAMERA)),
    "desk and falling light": Scene("2", height=0.4, effects=(desk(0.2, 0.12, 3), falling(0.65, 30), *CAMERA)),
    "ruled": Scene("5", effects=(lines(), *CAMERA)),
    "ruled and tilted": Scene("3", effects=(lines(tilt=4), *CAMERA)),
    "ruled in blue": Scene("6", effects=(lines(dark=0.22, width=0.008), *CAMERA)),
    "ruled dark": Scene("2", effects=(lines(0.2, dark=0.6), *CAMERA)),
    "squared": Scene("8", effects=(lines(0.08, 0.25), lines(0.08, 0.25, upright=True), *CAMERA)),
    "squared and turned": Scene("4", effects=(lines(0.1, 0.25, -3), lines(0.1, 0.25, -3, upright=True), *CAMERA)),
    "ruled on a desk in falling light": Scene(
        "3", height=0.4, effects=(lines(0.1, 0.3, 2), desk(0.2, 0.12, 2), falling(0.7, 45), *CAMERA)
    ),
    "one speck": Scene("1", effects=(specks(), *CAMERA)),
    "several specks": Scene("9", effects=(specks(8), *CAMERA)),
    "perspective 5 degrees": Scene("8", effects=(perspective(5, 40), *CAMERA)),
    "perspective 10 degrees": Scene("2", effects=(perspective(10, 90), *CAMERA)),
    "blue ink on grey paper": Scene("4", ink=0.38, paper=0.7, effects=CAMERA),
    "pencil": Scene("5", ink=0.6, pen=0.04, effects=(grain(0.015), *CAMERA)),
    "felt pen": Scene("3", pen=0.2, height=0.6, effects=(falling(0.8), *CAMERA)),
    "thin pen": Scene("7", pen=0.025, effects=CAMERA),
    "coarse JPEG": Scene("6", effects=(falling(0.8), blur(0.002), jpeg(15))),
    "noise of a dark room": Scene("0", effects=(falling(0.6, 60), noise(0.06))),
    "out of focus": Scene("9", effects=(blur(0.012), noise(0.01))),
    "small on a large sheet": Scene("2", shape=(720, 960), height=0.12, at=(0.3, 0.6), effects=CAMERA),
    "five in two strokes": Scene("5 in two", pen=0.07, effects=(falling(0.75), *CAMERA)),
    "four in two strokes": Scene("4 in two", pen=0.07, effects=CAMERA),
    "chalk on a board": Scene("3", ink=0.25, effects=(grain(0.03), negative(), falling(0.7), *CAMERA)),
    "upright phone": Scene("7 barred", shape=(960, 720), height=0.35, effects=(falling(0.7, 70), *CAMERA)),
}

NOT_ONE_DIGIT: dict[str, Scene] = {
    "three digits": Scene("2", height=0.35, at=(0.2, 0.5), more=(("5", 0.5, 0.5), ("8", 0.8, 0.5)), effects=CAMERA),
    "two digits": Scene("4", height=0.45, at=(0.3, 0.5), more=(("7", 0.7, 0.52),), effects=(falling(0.7), *CAMERA)),
    "blank": Scene("", effects=CAMERA),
    "blank in falling light": Scene("", effects=(falling(0.5), *CAMERA)),
    "blank and noisy": Scene("", effects=(noise(0.06),)),
    "blank with a shadow": Scene("", effects=(corner_shadow(0.5, 0.7, 0.02), *CAMERA)),
    "blank on a desk": Scene("", effects=(desk(0.2, 0.12, 4, 0.2), *CAMERA)),
    "blank and ruled": Scene("", effects=(lines(0.12, 0.5, 2), falling(0.7), *CAMERA)),
    "blank and squared": Scene("", effects=(lines(0.08, 0.3), lines(0.08, 0.3, upright=True), *CAMERA)),
    "blank with specks": Scene("", effects=(specks(3), *CAMERA)),
    "pure noise": Scene("", paper=0.5, effects=(noise(0.25),)),
    "texture": Scene("", paper=0.5, effects=(grain(0.35, 0.02), *CAMERA)),
    "coarse texture": Scene("", paper=0.5, effects=(grain(0.35, 0.06), *CAMERA)),
    "cut by the edge": Scene("3", at=(0.5, 0.95), effects=CAMERA),
    "a desk alone": Scene("", paper=0.3, effects=(grain(0.1, 0.01), falling(0.5), *CAMERA)),
}
