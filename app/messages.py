"""The gate for what components send: anybody can send anything, and only what this returns changes the page."""

import reprlib
from collections.abc import Collection
from math import isfinite
from typing import Any

from app.drawing import Stroke, simplified
from app.state import LARGEST, gaussian, place, short
from gpvae_core.errors import InputError

MOST_NUMBERS = 4  # of a Gaussian
REACH = 8.0  # a tap beyond it is on the edge


def point(message: Any) -> tuple[float, float]:
    """A tapped z. Raises InputError."""
    try:
        return place(_written([min(max(value, -REACH), REACH) for value in _numbers(message)]))
    except InputError as error:
        raise _refused("plane", message, str(error)) from None


def own(message: Any) -> tuple[float, ...]:
    """A Gaussian of the user's own, mean and standard deviations. Raises InputError."""
    try:
        return gaussian(_written(_numbers(message)))
    except InputError as error:
        raise _refused("plane", message, str(error)) from None


def chosen(message: Any, offered: Collection[int]) -> int:
    """The number of an image that the gallery shows. Raises InputError."""
    if type(message) is not int or message not in offered:
        raise _refused("gallery", message, "which is none of its images")
    return message


def walk(message: Any, offered: Collection[str]) -> str:
    """The key of a walk on offer. Raises InputError."""
    if not isinstance(message, str) or message not in offered:
        raise _refused("plane", message, "which is none of its walks")
    return message


def drawing(message: Any) -> tuple[int, list[Stroke]]:
    """The sheet's version, and the strokes on it. Raises InputError."""
    said = message if isinstance(message, dict) else {}
    version, strokes = said.get("version"), said.get("strokes")
    if type(version) is not int or not 0 <= version <= LARGEST or not isinstance(strokes, list):
        raise _refused("sheet", message, "which is no drawing; draw it again")
    return version, simplified(strokes)


def _numbers(message: Any) -> list[float]:
    if not isinstance(message, list | tuple) or len(message) > MOST_NUMBERS:
        raise InputError("which is no list of numbers")
    if not all(type(value) in (int, float) and isfinite(_float(value)) for value in message):
        raise InputError("which is not finite numbers alone")
    return [_float(value) for value in message]


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer may have any length
        return float("inf")


def _written(values: list[float]) -> str:
    return ",".join(f"{value:.6g}" for value in values)


def _refused(sender: str, message: Any, reason: str) -> InputError:
    try:
        said = reprlib.repr(message)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        said = "something very long"
    return InputError(f"The {sender} sent '{short(said)}', {reason}.")
