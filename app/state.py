"""Everything that the Explore page shows, as one value, and its form in the address bar. Knows no Streamlit."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import drawing, playlist
from app.words import FIRST, languages, speaking, spoken, t
from gpvae_core.data.corruptions import AMOUNTS, Corruption
from gpvae_core.data.images import SIDE
from gpvae_core.errors import InputError

WAYS = {
    "gallery": "Gallery",
    "number": "By number",
    "random": "At random",
    "draw": "Draw",
    "upload": "Upload",
    "simulate": "Simulate",
}
LARGEST = 2**31 - 1
WRITTEN = re.compile(r"[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})([eE][+-]?[0-9]{1,3})?")
NARROWEST, WIDEST = 1e-4, 4  # standard deviations of the user's own Gaussian
NO_GAUSSIAN = "which is no Gaussian m1,m2,s1,s2 with a mean within 8 of the origin and widths of {least} to {most}"
MOST_ENCODERS = 6  # at once: more lines nobody tells apart


@dataclass(frozen=True)
class State:
    """What is on the page. ``weights`` and ``dataset`` say what a link was made with; empty: not said.

    ``index`` is a test image. ``strokes`` is a drawing as ``drawing.encode`` gives it, ``upload`` the model input made
    of an uploaded file, likewise. ``z`` is the latent that a simulation starts from (None: drawn from the prior by
    ``seed``). ``versus`` is what to compare with: '', 'image:NUMBER' or 'checkpoint:NAME'. The q's of ``encoders`` are
    drawn beside the checkpoint's own. ``images`` is how many Figure 1 shows. The page Difficulty holds ``sort``
    against ``against``, on ``linear`` axes or not. ``mine`` is the user's own Gaussian (``gaussian``). While ``guess``,
    everything else is hidden. ``step`` is that of the lesson, from 1. ``bare`` leaves the controls out. ``language`` is
    that of the lesson and the glossary. ``by_gap`` colours the latent map. ``whole``: the figures show the whole box.
    ``walk`` is the key of the walk on offer, see ``walks``; empty: the one from the encoder.
    ``playlist`` is a teacher's list of scenes as ``playlist.encode`` gives it, ``scene`` the one on show, from 0.
    """

    checkpoint: str = ""
    weights: str = ""
    way: str = "gallery"
    dataset: str = ""
    index: int = -1
    sort: str = ""
    descending: bool = False
    digit: str = "all"
    strokes: str = ""
    upload: str = ""
    seed: int = 0
    z: tuple[float, float] | None = None
    corruption: Corruption = field(default_factory=Corruption)
    versus: str = ""
    encoders: tuple[str, ...] = ()
    projector: bool = False
    images: int = 6
    against: str = ""
    linear: bool = False
    mine: tuple[float, ...] | None = None
    guess: bool = False
    step: int = 0
    bare: bool = False
    language: str = FIRST
    by_gap: bool = False
    whole: bool = False
    playlist: str = ""
    scene: int = 0
    walk: str = ""

    @property
    def locked(self) -> bool:
        """Whether the controls are hidden; a step of the lesson needs them."""
        return self.bare and not self.step


def pack_image(image: NDArray[np.uint8]) -> str:
    """A model input (28, 28) as text for the address bar."""
    return drawing.to_text(image.tobytes())


def unpack_image(text: str) -> NDArray[np.uint8]:
    """The model input of ``pack_image``. Raises InputError for anything else."""
    raw = drawing.from_text(text, "image", SIDE * SIDE)
    if len(raw) != SIDE * SIDE:
        raise InputError(
            t("the link's image has {count} pixels, not {wanted}; upload it anew", count=len(raw), wanted=SIDE**2)
        )
    return np.frombuffer(raw, dtype=np.uint8).reshape(SIDE, SIDE)


# --- one entry for each key of the address bar ----------------------------------------------------------------


def _choice(options: Mapping[str, Any]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in options:
            raise InputError(t("which is none of {options}", options=", ".join(options)))
        return text

    return parse


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)) and int(text) <= LARGEST):
        raise InputError(t("which is no whole number between 0 and {largest}", largest=LARGEST))
    return int(text)


def _number(text: str) -> float:
    if not WRITTEN.fullmatch(text):  # Python's own float takes other scripts' digits, spaces and 1_0
        raise InputError(t("which is no number"))
    value = float(text)
    if not math.isfinite(value):
        raise InputError(t("which is not finite"))
    return value


def place(text: str) -> tuple[float, float]:
    """A point on the plane, z1,z2. Raises InputError for anything else."""
    parts = [_number(part) for part in text.split(",")]
    if len(parts) != 2 or max(map(abs, parts)) > 8:
        raise InputError(t("which is no point z1,z2 within 8 of the origin"))
    return parts[0], parts[1]


def gaussian(text: str) -> tuple[float, ...]:
    """Mean and standard deviations of a Gaussian on the plane, m1,m2,s1,s2. Raises InputError for anything else."""
    parts = [_number(part) for part in text.split(",")]
    if len(parts) != 4 or max(map(abs, parts[:2])) > 8 or not all(NARROWEST <= part <= WIDEST for part in parts[2:]):
        raise InputError(t(NO_GAUSSIAN, least=NARROWEST, most=WIDEST))
    return tuple(parts)


def _checked(check: Callable[[str], Any]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            check(text)
        except InputError as error:
            raise InputError(t("but {error}", error=error)) from None
        return text

    return parse


def _versus(text: str) -> str:
    kind, _, rest = text.partition(":")
    if kind == "image":
        _whole(rest)
    elif kind != "checkpoint" or not rest:
        raise InputError(t("which is neither image:NUMBER nor checkpoint:NAME"))
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in text.split(",") if name))
    if len(names) > MOST_ENCODERS:
        raise InputError(t("which are more than {most} encoders at once", most=MOST_ENCODERS))
    return names


KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "c": ("checkpoint", str),
    "w": ("weights", str),
    "from": ("way", _choice(WAYS)),
    "data": ("dataset", str),
    "i": ("index", _whole),
    "sort": ("sort", str),
    "digit": ("digit", str),
    "ink": ("strokes", _checked(drawing.decode)),
    "x": ("upload", _checked(unpack_image)),
    "seed": ("seed", _whole),
    "z": ("z", place),
    "vs": ("versus", _versus),
    "q": ("encoders", _names),
    "big": ("projector", _choice({"1": True})),
    "n": ("images", _whole),
    "y": ("against", str),
    "desc": ("descending", _choice({"1": True})),
    "lin": ("linear", _choice({"1": True})),
    "me": ("mine", gaussian),
    "walk": ("walk", str),
    "guess": ("guess", _choice({"1": True})),
    "step": ("step", _whole),
    "bare": ("bare", _choice({"1": True})),
    "gap": ("by_gap", _choice({"1": True})),
    "box": ("whole", _choice({"1": True})),
    "play": ("playlist", _checked(playlist.decode)),
    "scene": ("scene", _whole),
    "lang": ("language", _choice(languages())),
}
LEFT_OUT = "The link says {key}={text}, {error}. It is left out."
SHOWN = 40  # characters of a bad value that a sentence repeats


def from_query(query: Mapping[str, str]) -> tuple[State, list[str]]:
    """The state that an address bar asks for, and a sentence for each part of it that cannot be had.

    The sentences are in the language that it asks for.
    """
    with speaking(query.get("lang", spoken())):
        return _from_query(query)


def _from_query(query: Mapping[str, str]) -> tuple[State, list[str]]:
    problems: list[str] = []
    values: dict[str, Any] = {}
    dial: dict[str, float] = {}
    for key, text in query.items():
        try:
            if key in KEYS:
                name, parse = KEYS[key]
                values[name] = parse(text)
            elif key in AMOUNTS:
                dial[key] = _number(text)
                Corruption(**{key: dial[key]})
            elif key == "noise-seed":
                dial["seed"] = _whole(text)
            else:
                raise InputError(t("a key that is not known here"))
        except InputError as error:
            dial.pop(key, None)
            problems.append(t(LEFT_OUT, key=short(key), text=short(text), error=error))
    for flag in ("projector", "descending", "linear", "guess", "bare", "by_gap", "whole"):
        values[flag] = bool(values.get(flag))
    return State(**values, corruption=Corruption(**dial)), problems  # type: ignore[arg-type]


def short(text: str) -> str:
    """Somebody's text as a sentence may repeat it: no markup, SHOWN characters at most."""
    said = plain(text)
    return said if len(said) <= SHOWN else said[:SHOWN] + "…"


def plain(text: str) -> str:
    """Somebody's text without markup."""
    shown = "".join(c if c.isprintable() and c not in "\\`*[]<>$|#~:&" else "?" for c in text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", "?", shown)  # within a word it is none


def figures_query(state: State) -> dict[str, str]:
    """The address bar of the Figures page."""
    return _of_page(state, "figures")


def difficulty_query(state: State) -> dict[str, str]:
    """The address bar of the page Difficulty."""
    return _of_page(state, "difficulty")


def lesson_query(state: State) -> dict[str, str]:
    """The address bar of the page Lesson."""
    return _of_page(state, "lesson")


def map_query(state: State) -> dict[str, str]:
    """The address bar of the page Latent map."""
    return _of_page(state, "map")


def train_query(state: State) -> dict[str, str]:
    """The address bar of the page Train."""
    return _of_page(state, "train")


def _of_page(state: State, page: str) -> dict[str, str]:
    return _query(State(**{name: getattr(state, name) for name in SHOWS[page]}))


def to_query(state: State) -> dict[str, str]:
    """The address bar of the Explore page: only what differs from the default and what the way in use needs."""
    left_out = {name: _DEFAULTS[name] for name in (*ELSEWHERE, *UNUSED[state.way])}
    return _query(replace(state, **left_out))


def followed(state: State, asked: State, page: str) -> State:
    """``state`` after Back or Forward to an address of ``page`` that asks for ``asked``.

    What that page's address never says stays: a drawing, say, while a test image is shown.
    """
    silent = (*ELSEWHERE, *UNUSED[asked.way])
    said = SHOWS[page] if page in SHOWS else [f.name for f in fields(State) if f.name not in silent]
    return replace(state, **{name: getattr(asked, name) for name in said})


def _query(wanted: State) -> dict[str, str]:
    query = {}
    for key, (name, _) in KEYS.items():
        value = getattr(wanted, name)
        if value != _DEFAULTS[name]:
            query[key] = _format(value)
    for name in AMOUNTS:
        if amount := getattr(wanted.corruption, name):
            query[name] = f"{amount:g}"
    if wanted.corruption.noise and wanted.corruption.seed:
        query["noise-seed"] = str(wanted.corruption.seed)
    return query


_DEFAULTS = {f.name: getattr(State(), f.name) for f in fields(State)}
SHOWS = {  # what the address of each page but Explore says
    "figures": ("checkpoint", "weights", "sort", "encoders", "projector", "images", "whole", "language"),
    "difficulty": ("checkpoint", "weights", "sort", "projector", "against", "linear", "language"),
    "lesson": ("projector", "language"),
    "map": ("checkpoint", "weights", "projector", "by_gap", "language"),
    "train": ("projector", "language"),
}
ELSEWHERE = ("images", "against", "linear", "by_gap", "whole")  # what Explore's never says
# what each way of choosing x does not need
UNUSED = {
    "gallery": ("strokes", "upload", "seed", "z"),
    "number": ("strokes", "upload", "seed", "z", "sort", "descending", "digit"),
    "random": ("strokes", "upload", "seed", "z", "sort", "descending"),
    "draw": ("upload", "seed", "z", "index", "sort", "descending", "digit", "dataset"),
    "upload": ("strokes", "seed", "z", "index", "sort", "descending", "digit", "dataset"),
    "simulate": ("strokes", "upload", "index", "sort", "descending", "digit", "dataset"),
}


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "1"
    if isinstance(value, tuple):
        return ",".join(part if isinstance(part, str) else f"{part:.6g}" for part in value)
    return str(value)
