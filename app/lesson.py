"""The lesson: what each step sets on the page, and how it is known to be done. Its words are in app/words."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.state import State

NEAR = 0.2  # nats from the best Gaussian that a step asks for
CLEARLY = 0.2  # nats by which the encoder has to be beaten, or half of what it can be beaten by at all
LEAST = 0.02  # nats above the best Gaussian that a hand is given at least
END = 0.2  # of the gallery's order, at either side
LOOKED_AT, DRAWN = 3, 3
WIDE = 1.0  # the s_x of the checkpoints that the lesson begins with
PLAIN = 0.8  # share of images that the decoder makes less well than the one to guess first: it is seen on the plane
INTRODUCED = {"best": 4, "walk": 5, "marginalised": 6}  # with which step each of them is explained, and shown
PRIOR = (0.0, 0.0, 1.0, 1.0)  # where a Gaussian of one's own begins that is not begun elsewhere


@dataclass(frozen=True)
class Seen:
    """What the page knows of the user's doings since the step began.

    ``kls``: of the user's Gaussian, of the encoder and of the best Gaussian, in nats, None without a Gaussian.
    ``images``: how many other images were shown. ``ranks``: of each image shown its place in the gallery's order, from
    0 for its last to 1 for its first. ``draws``: simulated images. ``guessed``, ``walked``: whether that was done.
    ``noise``: s_x of the checkpoint, None where its likelihood has none.
    """

    state: State
    kls: tuple[float, float, float] | None = None
    images: int = 0
    ranks: tuple[float, ...] = ()
    draws: int = 0
    guessed: bool = False
    walked: bool = False
    noise: float | None = None

    @property
    def both_ends(self) -> bool:
        """Whether one of the gallery's first images was shown and one of its last."""
        return bool(self.ranks) and min(self.ranks) <= END and max(self.ranks) >= 1 - END


def _beating(kls: tuple[float, float, float]) -> float:
    """The KL below which the encoder is clearly beaten, in nats; never what no Gaussian of one's own can have."""
    _, encoder, best = kls
    return max(encoder - min(CLEARLY, (encoder - best) / 2), best + LEAST)


def _near(kls: tuple[float, float, float]) -> float:
    """The KL below which one is close to the best Gaussian; where the encoder is close itself, it has to be beaten."""
    return max(min(kls[2] + NEAR, _beating(kls)), kls[2] + LEAST)


Count = tuple[Callable[[Seen], int], int]
Limit = Callable[[tuple[float, float, float]], float]


@dataclass(frozen=True)
class Step:
    """``changes`` of the state with which a step begins, and whether what it asks for is ``done``.

    ``count``: what it asks for several times, and how often. ``limit``: what the user's KL has to fall below.
    ``home``: whether it is about the model that the lesson began with. ``noise``: whether it asks for another s_x.
    ``clear``: share of the images with a smaller log p(x) than the one that it begins with; None: as every page.
    """

    changes: dict[str, Any]
    done: Callable[[Seen], bool]
    count: Count | None = None
    limit: Limit | None = None
    clear: float | None = None
    home: bool = True
    noise: bool = False


def _times(changes: dict[str, Any], count: Callable[[Seen], int], wanted: int) -> Step:
    return Step(changes, lambda seen: count(seen) >= wanted, (count, wanted))


def _below(changes: dict[str, Any], limit: Limit) -> Step:
    return Step(changes, lambda seen: seen.kls is not None and seen.kls[0] < limit(seen.kls), limit=limit)


_OPEN: dict[str, Any] = {"way": "gallery", "guess": False, "versus": "", "mine": None}
_TELLING = _OPEN | {"index": -1, "digit": "all"}  # the image with which every page begins
STEPS = [
    Step(_TELLING | {"guess": True, "mine": PRIOR}, lambda seen: seen.guessed, clear=PLAIN),
    Step(_OPEN, lambda seen: seen.images >= 1 and not seen.state.guess),
    _below(_TELLING, _beating),
    _below(_TELLING | {"mine": PRIOR}, _near),
    Step(_TELLING, lambda seen: seen.walked),
    _times(_OPEN, lambda seen: seen.images, LOOKED_AT),
    Step(_OPEN | {"sort": "uncertainty", "digit": "all"}, lambda seen: seen.both_ends),
    _times(_OPEN | {"way": "simulate", "z": None}, lambda seen: seen.draws, DRAWN),
    Step(_OPEN, lambda seen: seen.noise is not None and seen.noise < WIDE, noise=True),
    Step(_OPEN | {"way": "draw", "strokes": ""}, lambda seen: bool(seen.state.strokes), home=False),
]


def step_of(state: State) -> Step | None:
    """The step that the state is at; None where it is at none."""
    return STEPS[state.step - 1] if 1 <= state.step <= len(STEPS) else None


def hidden(state: State) -> frozenset[str]:
    """What is not shown yet, of INTRODUCED: a step shows what it or one before it explains."""
    return frozenset(name for name, at in INTRODUCED.items() if 0 < state.step < at)


def opened(state: State) -> State:
    """The state of a link to a step: what the step begins with, where the link says nothing else."""
    if (step := step_of(state)) is None:
        return state
    plain = State()
    return replace(state, **{k: v for k, v in step.changes.items() if getattr(state, k) == getattr(plain, k)})
