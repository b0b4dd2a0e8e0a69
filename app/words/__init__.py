"""Every word of the app: English stands in the code and in en.toml, any other language in one TOML file of its own.

A language's ``text`` has what ``t`` is asked for, by its English, and ``browser`` what the components' scripts say.
Where its ``decimal`` is a comma, every number on the page has one: ``written`` makes it so, here and in the scripts.
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from numbers import Number
from pathlib import Path
from string import Formatter
from typing import Any

FOLDER = Path(__file__).parent
FIRST = "en"
ENGLISH, COMMAS = ".,", ",."  # before decimals, between thousands
SWAPPED = str.maketrans(ENGLISH, COMMAS)
_spoken = ContextVar("language", default=FIRST)  # a session's script and its callbacks run in a thread of their own


@cache
def words(language: str) -> dict[str, Any]:
    """One language's tables: ``ui``, ``step`` and ``glossary`` of the lesson; but for FIRST also those of the app."""
    return tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@cache
def languages() -> dict[str, str]:
    """The languages on offer, by code, FIRST first."""
    codes = sorted((path.stem for path in FOLDER.glob("*.toml")), key=lambda code: (code != FIRST, code))
    return {code: words(code)["language"] for code in codes}


def speak(language: str) -> None:
    """Let ``t`` answer in this language from here on, in this thread; in FIRST if there is no such language."""
    _spoken.set(language if language in languages() else FIRST)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """The same within a block alone."""
    before = spoken()
    speak(language)
    try:
        yield
    finally:
        speak(before)


def spoken() -> str:
    """The code of the language that ``t`` answers in."""
    return _spoken.get()


def t(english: str, **values: Any) -> str:
    """The sentence in the language that is spoken, ``values`` put in its {places}; in English where it is missing."""
    said: str = words(_spoken.get()).get("text", {}).get(english, english)
    return filled(said, **values) if values else said


def filled(sentence: str, **values: Any) -> str:
    """The sentence with ``values`` in its {places}, numbers as the language that is spoken writes them."""
    return _Filler().vformat(sentence, (), values)


class _Filler(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return written(value, format_spec) if isinstance(value, Number) else format(value, format_spec)


def written(value: Any, form: str = "") -> str:
    """A number by ``format``, with the decimal mark of the language that is spoken."""
    said = format(value, form)
    return said if separators() == ENGLISH else said.translate(SWAPPED)


def separators() -> str:
    """What stands before the decimals in the language that is spoken, then what parts thousands, as plotly wants it."""
    return COMMAS if words(_spoken.get()).get("decimal") == "," else ENGLISH


def capital(said: str) -> str:
    """The same at the head of a sentence: only its first letter changes."""
    return said[:1].upper() + said[1:]


def browser() -> dict[str, str]:
    """What the components' scripts say, by its English; empty in English."""
    table: dict[str, str] = words(_spoken.get()).get("browser", {})
    return table
