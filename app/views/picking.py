"""Images whose dots were clicked or lassoed in a chart, and the way from there to Explore."""

from typing import Any

import numpy as np
import streamlit as st

from app import components, loaders, messages, session, text
from app.compute import Array
from app.views.gallery import thumbnail_data
from app.words import t

PICKED, OPEN = "picked", "open-explore"
MOST_PICKED = 12


def leave() -> None:
    """Go to Explore, if an image was chosen in the run before."""
    if st.session_state.pop(OPEN, False):
        st.switch_page(st.session_state["explore-page"])


def chosen(event: Any, count: int) -> list[int]:
    """The images, of ``count``, whose dots a plotly event names; whatever else the browser sends is left out."""
    points = _within(_within(event, "selection"), "points")
    said = [_within(point, "customdata") for point in points] if isinstance(points, list) else []
    return [i for i in said if type(i) is int and 0 <= i < count]


def _within(message: Any, key: str) -> Any:
    return message.get(key) if isinstance(message, dict) else None


def show(where: loaders.Source, rows: list[int], values: Array, label: str) -> None:
    """The images of the dots that were clicked or lassoed, the highest first; a click opens one in Explore."""
    components.taps()
    if not rows:
        st.caption(t(text.PICK))
        return
    highest = sorted(rows, key=lambda i: -values[i])[:MOST_PICKED]
    said = text.MANY_PICKED if len(rows) > MOST_PICKED else text.PICKED
    st.caption(t(said, count=len(rows), most=MOST_PICKED, label=label))
    shown = thumbnail_data(where.data.test, np.array(highest), values, label)
    components.gallery(shown, PICKED, lambda: _open(where.data.name, highest))


def _open(dataset: str, rows: list[int]) -> None:
    index = st.session_state[PICKED].chosen
    if index is not None:
        with session.complaints():
            to_explore(dataset, messages.chosen(index, rows))


def to_explore(dataset: str, index: int) -> None:
    """Let the next run of a page that may ``leave`` show test image ``index`` in Explore."""
    session.update(way="number", index=index, dataset=dataset)
    st.session_state[OPEN] = True
