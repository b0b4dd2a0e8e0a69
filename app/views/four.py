"""Which of four images has the largest gap? One is chosen, then the four KLs are told; it counts in the session."""

from typing import Any

import numpy as np
import streamlit as st

from app import components, loaders, messages, session, text
from app.compute import Array
from app.meter import short
from app.views.gallery import thumbnail_data
from app.words import t

COUNT = 4
ASKED, TOLD, CHOICE, PICKED, OPENED = "four", "four-told", "four-choice", "four-picked", "four-opened"


def possible(gaps: Array | None) -> bool:
    """Whether there are enough test images whose gap is known."""
    return gaps is not None and int(np.isfinite(gaps).sum()) >= COUNT


def rows_of(gaps: Array, number: int) -> list[int]:
    """The test images of one round: one from each quarter of the order by gap, in no order; the same for everybody."""
    order, rng = np.argsort(gaps, kind="stable"), np.random.default_rng(number)
    known = order[np.isfinite(gaps[order])]
    edges = np.arange(COUNT + 1) * len(known) // COUNT
    places = rng.integers(edges[:-1], edges[1:])
    rows: list[int] = rng.permutation(known[places]).tolist()
    return rows


def button() -> None:
    """What opens the window of the question."""
    st.button(
        t("Which of four?"), on_click=lambda: st.session_state.update({ASKED: True}), help=t(text.FOUR), key=ASKED + "?"
    )


def window(where: loaders.Source, gaps: Array) -> None:
    """The question in a window of its own, if it was asked for."""
    if st.session_state.pop(ASKED, False):
        st.session_state.pop(CHOICE, None)
        st.dialog(t(text.FOUR))(_round)(where, gaps)


def score() -> str:
    """How often the largest gap was found; empty before the first round."""
    told = st.session_state.get(TOLD, [])
    return t("Largest gap found: **{won} of {count}**.", won=sum(told), count=len(told)) if told else ""


def forget() -> None:
    """Begin to count anew."""
    st.session_state.pop(TOLD, None)


def _round(where: loaders.Source, gaps: Array) -> None:
    session.current()  # so that its language is spoken
    if st.session_state.pop(OPENED, False):
        st.rerun()  # the page, without the window
    told: list[bool] = st.session_state.setdefault(TOLD, [])
    chosen = st.session_state.get(CHOICE)
    rows = rows_of(gaps, len(told) - (chosen is not None))
    data = thumbnail_data(
        where.data.test, np.array(rows), gaps, "KL", chosen=-1 if chosen is None else chosen, silent=chosen is None
    )
    components.gallery(data, PICKED, lambda: _take(where, gaps, rows))
    if chosen is None:
        st.caption(t(text.FOUR_LEAD))
        return
    values: dict[str, Any] = {"most": short(gaps[rows].max()), "own": short(gaps[chosen])}
    st.markdown(t(text.FOUR_RIGHT, **values) if told[-1] else t(text.FOUR_WRONG, **values))
    st.markdown(score())
    st.caption(t(text.FOUR_OPEN))
    st.button(t("Next four"), type="primary", on_click=lambda: st.session_state.pop(CHOICE), key="next-four")


def _take(where: loaders.Source, gaps: Array, rows: list[int]) -> None:
    """The first tap is the answer, a later one opens an image."""
    index = st.session_state[PICKED].chosen
    if index is None:
        return
    with session.complaints():
        index = messages.chosen(index, rows)
        if CHOICE in st.session_state:
            session.update(way="number", index=index, dataset=where.data.name, guess=False, mine=None, digit="all")
            st.session_state[OPENED] = True
        else:
            st.session_state[CHOICE] = index
            st.session_state[TOLD].append(bool(gaps[index] == gaps[rows].max()))
