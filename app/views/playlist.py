"""The playlist on the page: from scene to scene with the speaker's notes, and how one is made."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

import streamlit as st

from app import session, text
from app.playlist import LONGEST_NOTE, MOST_SCENES, Scene, decode, encode, scene_of
from app.state import State, from_query, plain
from app.words import t

SCENES = "scenes"  # the list that is being made


def at_scene(state: State, number: int) -> State:
    """``state`` with everything on the page as scene ``number`` wants it, from 0; the list goes along.

    How it is looked at stays: projector, controls, language.
    """
    asked, problems = from_query(decode(state.playlist)[number].query)
    for problem in problems:
        session.complain(problem)
    kept = {name: getattr(state, name) for name in ("playlist", "projector", "bare", "language")}
    return replace(asked, scene=number, **kept)


def bar() -> None:
    """Where one is in the list, the ways on and back, and, unless the controls are hidden, the note."""
    state = session.current()
    if not state.playlist:
        return
    scenes, number = decode(state.playlist), state.scene
    if number >= len(scenes):
        session.complain(t(text.NO_SCENE, number=number + 1, last=len(scenes)))
        session.update(scene=len(scenes) - 1)
        number = len(scenes) - 1
    with st.container(horizontal=True, vertical_alignment="center", key="playlist"):
        _step("previous", t("Previous scene"), ":material/skip_previous:", number - 1, number > 0)
        st.markdown(t("Scene **{number}** of {count}", number=number + 1, count=len(scenes)), width="content")
        _step("next", t("Next scene"), ":material/skip_next:", number + 1, number + 1 < len(scenes))
        st.button(t("Leave the playlist"), on_click=lambda: session.update(playlist="", scene=0), key="leave-playlist")
    if scenes[number].note and not state.locked:
        st.info(plain(scenes[number].note), icon=":material/speaker_notes:")


def _step(name: str, label: str, icon: str, to: int, there: bool) -> None:
    def go() -> None:
        st.session_state[session.STATE] = at_scene(session.current(), to)

    st.button(label, icon=icon, disabled=not there, on_click=go, key=f"scene-{name}")


def builder(query: Mapping[str, str], base: str) -> None:
    """Add this state to a list, and the list's link; ``base`` is the page's address without a query."""
    scenes: list[Scene] = st.session_state.setdefault(SCENES, [])
    st.caption(t(text.PLAYLIST))
    st.text_input(t("Note to the speaker"), max_chars=LONGEST_NOTE, key="scene-note")
    with st.container(horizontal=True):
        full = len(scenes) == MOST_SCENES
        added = t("Add as scene {number}", number=len(scenes) + 1)
        st.button(added, on_click=_add, args=(query,), disabled=full, key="add-scene")
        if scenes:
            st.button(t("Empty the list"), on_click=scenes.clear, key="no-scenes")
    if scenes:
        st.markdown("\n".join(f"{k}. {plain(scene.note) or t('no note')}" for k, scene in enumerate(scenes, 1)))
        link = urlencode({**scenes[0].query, "play": encode(scenes)})
        st.code(f"{base}?{link}", language=None, wrap_lines=True)


def _add(query: Mapping[str, str]) -> None:
    st.session_state[SCENES].append(scene_of(query, st.session_state["scene-note"]))
    st.session_state["scene-note"] = ""
