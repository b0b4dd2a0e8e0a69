"""Every word of the lesson and the glossary, one TOML file a language."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
FIRST = "en"


@cache
def words(language: str) -> dict[str, Any]:
    """One language's tables: ``ui``, ``step`` and ``glossary``."""
    return tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


@cache
def languages() -> dict[str, str]:
    """The languages on offer, by code, FIRST first."""
    codes = sorted((path.stem for path in FOLDER.glob("*.toml")), key=lambda code: (code != FIRST, code))
    return {code: words(code)["language"] for code in codes}
