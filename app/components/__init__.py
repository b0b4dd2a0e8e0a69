"""Our own components: plane, drawing sheet, gallery, decoded box, the browser's history. One JavaScript file each."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent


PARTS = {"plane.js": ("plane.js", "walk.js", "own.js", "gaps.js")}  # one module to whoever loads it


def source(name: str) -> str:
    """The text of one of the components' files, or of the several that make one module."""
    return "\n".join((FOLDER / part).read_text(encoding="utf-8") for part in PARTS.get(name, (name,)))


@cache
def _registered(name: str) -> Any:
    parts = {kind: source(f"{name}.{kind}") for kind in ("js", "css", "html") if (FOLDER / f"{name}.{kind}").exists()}
    return st.components.v2.component(f"gpvae_{name}", **parts)


def plane(data: dict[str, Any], key: str, on_picked: Any, on_mine: Any = lambda: None) -> None:
    """The latent plane of ``payload.plane_data``.

    A tapped z comes as ``st.session_state[key].picked``, the user's own Gaussian as ``.mine``: four numbers, or "start"
    or "clear".
    """
    _registered("plane")(data=data, key=key, on_picked_change=on_picked, on_mine_change=on_mine)


def sheet(strokes: list[Any], version: int, key: str, on_drawn: Any) -> None:
    """A sheet to draw on; a drawing comes as ``st.session_state[key].drawn``: its version and strokes."""
    data = {"strokes": strokes, "version": version}
    _registered("canvas")(data=data, key=key, on_drawn_change=on_drawn, width="content")


def gallery(data: dict[str, Any], key: str, on_chosen: Any) -> None:
    """Thumbnails; the one chosen comes as ``st.session_state[key].chosen``: its index."""
    _registered("gallery")(data=data, key=key, on_chosen_change=on_chosen)


def history() -> None:
    """Make each deliberate change one entry of the browser's history; shows nothing."""
    _registered("history")(key="history")


def atlas(data: dict[str, Any], key: str) -> None:
    """Hand the decoded box to every plane of that checkpoint; shows nothing."""
    _registered("atlas")(data=data, key=key)
