"""The lesson: what each step sets on the page, and how it is known to be done. Its words are in app/words."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.state import State

NEAR = 0.5  # nats from the best Gaussian that a step asks for
CLEARLY = 0.05  # nats by which the encoder has to be beaten, or half of what it can be beaten by at all
LAST = 0.2  # of the gallery's order
LOOKED_AT, DRAWN = 3, 3
WIDE = 1.0  # the s_x of the checkpoints that the lesson begins with


@dataclass(frozen=True)
class Seen:
    """What the page knows of the user's doings since the step began.

    ``kls``: of the user's Gaussian, of the encoder and of the best Gaussian, in nats, None without a Gaussian.
    ``images``: how many other images were shown. ``rank``: of the image in the gallery's order, 0 for its last and 1
    for its first. ``draws``: simulated images. ``guessed``, ``walked``: whether that was done. ``noise``: s_x of the
    checkpoint, None where its likelihood has none.
    """

    state: State
    kls: tuple[float, float, float] | None = None
    images: int = 0
    rank: float | None = None
    draws: int = 0
    guessed: bool = False
    walked: bool = False
    noise: float | None = None

    @property
    def beaten(self) -> bool:
        """Whether the user's Gaussian is clearly closer than the encoder."""
        if self.kls is None:
            return False
        mine, encoder, best = self.kls
        return mine < encoder - min(CLEARLY, (encoder - best) / 2)

    @property
    def near(self) -> bool:
        """Whether it is close to the best one; where the encoder is close itself, it has to be beaten, too."""
        return self.kls is not None and self.kls[0] < self.kls[2] + NEAR and self.beaten


Count = tuple[Callable[[Seen], int], int]


@dataclass(frozen=True)
class Step:
    """``changes`` of the state with which a step begins, and whether what it asks for is ``done``.

    ``count``: what it asks for several times, and how often. ``returns``: to the image that the lesson began with.
    """

    changes: dict[str, Any]
    done: Callable[[Seen], bool]
    count: Count | None = None
    returns: bool = False


def _times(changes: dict[str, Any], count: Callable[[Seen], int], wanted: int) -> Step:
    return Step(changes, lambda seen: count(seen) >= wanted, (count, wanted))


_OPEN: dict[str, Any] = {"way": "gallery", "guess": False, "versus": ""}
_TEST_IMAGE = _OPEN | {"mine": None}
STEPS = [
    Step(_TEST_IMAGE | {"guess": True}, lambda seen: seen.guessed),
    Step(_TEST_IMAGE, lambda seen: seen.images >= 1 and not seen.state.guess),
    Step(_TEST_IMAGE, lambda seen: seen.beaten, returns=True),
    Step(_OPEN, lambda seen: seen.near, returns=True),
    Step(_OPEN, lambda seen: seen.walked, returns=True),
    _times(_TEST_IMAGE, lambda seen: seen.images, LOOKED_AT),
    Step(
        _TEST_IMAGE | {"sort": "uncertainty", "digit": "all"},
        lambda seen: seen.images >= 1 and seen.rank is not None and seen.rank <= LAST,
    ),
    _times(_TEST_IMAGE | {"way": "simulate", "z": None}, lambda seen: seen.draws, DRAWN),
    Step(_TEST_IMAGE, lambda seen: seen.noise is not None and seen.noise < WIDE),
    Step(_TEST_IMAGE | {"way": "draw", "strokes": ""}, lambda seen: bool(seen.state.strokes)),
]


def opened(state: State) -> State:
    """The state of a link to a step: what the step begins with, where the link says nothing else."""
    if not 1 <= state.step <= len(STEPS):
        return state
    plain, changes = State(), STEPS[state.step - 1].changes
    return replace(state, **{k: v for k, v in changes.items() if getattr(state, k) == getattr(plain, k)})
