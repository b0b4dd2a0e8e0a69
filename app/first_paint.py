"""The first picture of a freshly started server: shown from disk while torch is still loading.

What is kept is what the page last showed of a test image: never anybody's own image. Imports nothing of torch.
"""

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import components, theme
from app.text import FROM_LAST_TIME, STARTING
from app.words import FIRST, speak, t
from gpvae_core.files import thin_out, write_if_possible
from gpvae_core.paths import PRETRAINED, WEIGHTS, data_folder, user_cache

MOST = 64  # pictures kept
HEAD_START = 0.3  # seconds for the browser to fetch the plane's script: loading torch holds the server up
BARE = "first-query"


def folder() -> Path:
    """Where the pictures are."""
    return user_cache() / "first"


def wanted() -> bool:
    """Whether this run of the script is the one that loads torch."""
    st.session_state.setdefault(BARE, st.query_params.to_dict())
    return "torch" not in sys.modules


def show(place: DeltaGenerator, others: Collection[str]) -> bool:
    """Draw the picture of this address into ``place``; whether there is one, of the weights that are here now.

    Where there is none, say what is being waited for. ``others``: the paths of the pages that have none.
    """
    speak(st.query_params.get("lang", FIRST))
    page = str(st.context.url).rstrip("/").rpartition("/")[2]
    record = None if page in others else _read(_path(st.query_params.to_dict()))
    if record is None:
        place.info(t(STARTING), icon=":material/hourglass_top:")
        return False
    with place.container():
        st.html(theme.page_style(bool(record["projector"])))
        st.title(record["title"], anchor=False)
        st.caption(t(FROM_LAST_TIME))
        st.write(record["sentence"])
        components.plane(record["plane"], "first-plane", lambda: None)
        st.html(record["meter"])
    time.sleep(HEAD_START)
    return True


def keep(query: Mapping[str, str], record: Callable[[], dict[str, Any]]) -> None:
    """Keep a picture for the next start, under this address and the one that the session began with, if it can be."""
    for address in (dict(query), st.session_state.get(BARE)):
        if address is not None and not _is_there(path := _path(address)):
            if not write_if_possible(path, json.dumps(record()).encode()):
                return  # a disk that is full or read only: the next start paints later, nothing else is lost
            thin_out(path.parent, "*.json", MOST)
    st.session_state[BARE] = None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be looked into
        return False


def _path(query: Mapping[str, str]) -> Path:
    """One file for each address, data folder and version of the plane."""
    identity = json.dumps([sorted(query.items()), str(data_folder()), components.source("plane.js")])
    return folder() / f"{sha256(identity.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        weights = (PRETRAINED / record["checkpoint"] / WEIGHTS).read_bytes()
        return record if sha256(weights).hexdigest() == record["weights"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing kept, or nothing that can be used: the page paints when it is ready
