"""The lesson: what each step sets on the page, and how it is known to be done. Its words are in app/words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.state import State

NEAR = 0.5  # nats from the best Gaussian that a step asks for
LOOKED_AT, LAST, DRAWN = 3, 5, 3


@dataclass(frozen=True)
class Seen:
    """What the page knows of the user's doings since the step began.

    ``kls``: of the user's Gaussian, of the encoder and of the best Gaussian, in nats, None without a Gaussian;
    ``images``: how many other images were shown; ``rank``: of the image in the gallery's order, from its end;
    ``draws``: simulated images; ``guessed``, ``walked``: whether that was done.
    """

    state: State
    kls: tuple[float, float, float] | None = None
    images: int = 0
    rank: int | None = None
    draws: int = 0
    guessed: bool = False
    walked: bool = False


@dataclass(frozen=True)
class Step:
    """``changes`` of the state with which a step begins, and whether what it asks for is ``done``."""

    changes: dict[str, Any]
    done: Callable[[Seen], bool]


_TEST_IMAGE: dict[str, Any] = {"way": "gallery", "guess": False, "mine": None, "versus": ""}
STEPS = [
    Step(_TEST_IMAGE | {"guess": True}, lambda seen: seen.guessed),
    Step(_TEST_IMAGE, lambda seen: seen.images >= 1),
    Step(_TEST_IMAGE, lambda seen: seen.kls is not None and seen.kls[0] < seen.kls[1]),
    Step(_TEST_IMAGE, lambda seen: seen.kls is not None and seen.kls[0] < seen.kls[2] + NEAR),
    Step(_TEST_IMAGE, lambda seen: seen.walked),
    Step(_TEST_IMAGE, lambda seen: seen.images >= LOOKED_AT),
    Step(
        _TEST_IMAGE | {"sort": "uncertainty", "digit": "all"}, lambda seen: seen.rank is not None and seen.rank < LAST
    ),
    Step(_TEST_IMAGE | {"way": "simulate", "z": None}, lambda seen: seen.draws >= DRAWN),
    Step(_TEST_IMAGE, lambda seen: "wide" not in seen.state.checkpoint),
    Step(_TEST_IMAGE | {"way": "draw", "strokes": ""}, lambda seen: bool(seen.state.strokes)),
]
