"""Our own components: plane, drawing sheet, gallery, dock, decoded box, the browser's history, menu of pages, taps.

Streamlit sends a component's JavaScript with each of its messages. The plane's is too long for that: the browser
fetches it once, from the folder static/.
"""

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st

from app import words

FOLDER = Path(__file__).parent
STATIC = FOLDER.parent / "static"
FETCHED = {
    "plane.js": ("plane.js", "walk.js", "own.js", "gaps.js", "loupe.js")
}  # in STATIC, one module to whoever loads it
# a static file comes as plain text, whatever it is: so the module is made of the text. The server's address may lie
# below a path that only the browser knows, and the version keeps an old file from being taken from its cache.
LOADER = """const fetched = async (part) => {{
  const answer = await fetch(new URL(`app/static/${{part}}?{version}`, document.baseURI));
  if (!answer.ok) throw new Error(`${{part}} could not be fetched: ${{answer.status}}`);
  return answer.text();
}};
const loaded = Promise.all({parts}.map(fetched)).then((texts) =>
  import(URL.createObjectURL(new Blob([texts.join("\\n")], {{ type: "text/javascript" }}))));
export default function mount(component) {{
  loaded.then((module) => module.default(component));
}}
"""


def source(name: str) -> str:
    """The text of one of the components' files, or of the several that make one module."""
    files = [STATIC / part for part in FETCHED.get(name, ())] or [FOLDER / name]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@cache
def _registered(name: str) -> Any:
    parts = {kind: source(f"{name}.{kind}") for kind in ("js", "css", "html") if (FOLDER / f"{name}.{kind}").exists()}
    if f"{name}.js" in FETCHED:
        parts["js"] = _loader(f"{name}.js")
    return st.components.v2.component(f"gpvae_{name}", **parts)


def _loader(name: str) -> str:
    """JavaScript that has the browser fetch the module."""
    version = sha256(source(name).encode()).hexdigest()[:16]
    return LOADER.format(version=version, parts=json.dumps(FETCHED[name]))


def plane(
    data: dict[str, Any], key: str, on_picked: Any, on_mine: Any = lambda: None, on_walk: Any = lambda: None
) -> None:
    """The latent plane of ``payload.plane_data``.

    A tapped z comes as ``st.session_state[key].picked``, the user's own Gaussian as ``.mine``: four numbers, or
    "start", "prior" or "clear". The key of a walk that was chosen comes as ``.walk``.
    """
    changes = {"on_picked_change": on_picked, "on_mine_change": on_mine, "on_walk_change": on_walk}
    _registered("plane")(data=data, key=key, **changes)


def sheet(strokes: list[Any], version: int, key: str, on_drawn: Any) -> None:
    """A sheet to draw on; a drawing comes as ``st.session_state[key].drawn``: its version and strokes."""
    data = {"strokes": strokes, "version": version, "words": words.browser()}
    _registered("canvas")(data=data, key=key, on_drawn_change=on_drawn, width="content")


def gallery(data: dict[str, Any], key: str, on_chosen: Any) -> None:
    """Thumbnails; the one chosen comes as ``st.session_state[key].chosen``: its index."""
    _registered("gallery")(data=data, key=key, on_chosen_change=on_chosen)


def dock(said: dict[str, str], *, wanted: bool, shown: str) -> None:
    """On a narrow window: the buttons below that bring the controls and the picture.

    ``wanted``: the controls come by themselves, as there is no picture without them. ``shown``: of what the picture is;
    where that changes the controls leave it room.
    """
    _registered("dock")(data={**said, "wanted": wanted, "shown": shown}, key="dock")


def history() -> None:
    """Make each deliberate change one entry of the browser's history; shows nothing."""
    _registered("history")(key="history")


def menu() -> None:
    """On a phone, let a page chosen in the menu close it; say which language the page is in. Shows nothing."""
    _registered("menu")(data={"language": words.spoken()}, key="menu")


def taps() -> None:
    """Let a finger choose a dot of a chart, as a click does; shows nothing."""
    _registered("taps")(key="taps")


def atlas(data: dict[str, Any], key: str) -> None:
    """Hand the decoded box to every plane of that checkpoint; shows nothing."""
    _registered("atlas")(data=data, key=key)
