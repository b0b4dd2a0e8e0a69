"""One session's State: read from the address bar once, changed by widgets, written back to the address bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.lesson import opened
from app.state import State, followed, from_query
from app.words import speak, t
from gpvae_core.errors import InputError
from gpvae_core.fields import check_fields

STATE, PROBLEMS, PAGE = "state", "problems", "page"


def enter(page: str) -> None:
    """Note which page this run draws. Where the browser's Back or Forward asked for it, its address decides."""
    st.session_state[PAGE] = page
    context = get_script_run_ctx()
    if STATE in st.session_state and context is not None and context.is_history_navigation:
        asked, st.session_state[PROBLEMS] = from_query(st.query_params.to_dict())
        st.session_state[STATE] = followed(current(), asked, page)


def current() -> State:
    """The session's state; at its start what the address bar says. Its language is spoken from here on."""
    if STATE not in st.session_state:
        state, problems = from_query(st.query_params.to_dict())
        st.session_state[STATE], st.session_state[PROBLEMS] = opened(state), problems
    state = st.session_state[STATE]
    assert isinstance(state, State)
    speak(state.language)
    return state


def update(**changes: Any) -> State:
    """Change the state. Raises InputError where a value is of another type than it has; then nothing changes."""
    changed = replace(current(), **changes)
    check_fields(changed)
    st.session_state[STATE] = changed
    return changed


def complain(sentence: str) -> None:
    """Name something of the link that cannot be had; shown until dismissed."""
    if sentence not in st.session_state[PROBLEMS]:
        st.session_state[PROBLEMS].append(sentence)


@contextmanager
def complaints() -> Iterator[None]:
    """What is raised inside as a sentence is shown as one."""
    current()  # so that it is in the session's language
    try:
        yield
    except InputError as error:
        complain(str(error))


def show_problems() -> None:
    """What was wrong with the link, and a button that dismisses it."""
    problems = st.session_state[PROBLEMS]
    if problems:
        with st.container(border=True):
            for sentence in problems:
                st.warning(sentence, icon=":material/link_off:")
            st.button(t("Dismiss"), on_click=problems.clear)


def write_address(to_query: Callable[[State], dict[str, str]]) -> None:
    """Put the state into the address bar, if it is not there already."""
    query = to_query(current())
    if st.query_params.to_dict() != query:
        st.query_params.from_dict(query)


def bound(name: str, place: str = "", **resets: Any) -> dict[str, Any]:
    """Arguments of the widget that shows and changes the state's ``name``; ``resets`` change with it.

    ``place``: of a widget that stands now here, now there. Where it was sent to one place, the other would not show it.
    """
    return controlled(name, getattr(current(), name), lambda value: update(**{name: value, **resets}), place)


def key_of(name: str) -> str:
    """The key of this page's widget ``name``: another page's is another widget, and must not inherit its key."""
    return f"{st.session_state[PAGE]}-{name}"


def controlled(name: str, value: Any, changed: Callable[[Any], object], place: str = "") -> dict[str, Any]:
    """Arguments of a widget that holds ``value`` now and tells ``changed`` what the user makes of it."""
    key = key_of(f"{name}-{place}" if place else name)
    if key not in st.session_state or st.session_state[key] != value:
        # only then: a value that is set is sent, and would undo what the user has done since this run began
        st.session_state[key] = value

    def told() -> None:
        if key in st.session_state:  # not where the run that would have drawn it was cut short by the next one
            with complaints():
                changed(st.session_state[key])

    return {"key": key, "on_change": told}
