"""What a browser sends, before anything sees it; and what is said where something was not foreseen all the same."""

import logging
from typing import Any

import streamlit as st
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.state.session_state import SessionState, unpack_widget_state_value

from app import session, text
from app.words import t

LOG = logging.getLogger(__name__)


class Guarded(SessionState):
    """Streamlit's state of a session, which drops what cannot be read and what a callback fails at.

    Streamlit itself answers both with a red box, and the first with one at each later run.
    """

    __slots__ = ()

    def on_script_will_rerun(self, fresh_widget_states: WidgetStates | None, **rest: Any) -> None:
        """Take what the browser sent, and call the callbacks."""
        readable = None if fresh_widget_states is None else self._readable(fresh_widget_states)
        try:
            super().on_script_will_rerun(readable, **rest)
        except Exception:  # of a callback: nothing of what it was told is kept
            LOG.exception("a message of the browser was dropped")
            session.complain(t(text.UNREADABLE))

    def _readable(self, sent: WidgetStates) -> WidgetStates:
        """What of it the page's widgets can read, as far as they are known."""
        known, kept = self._new_widget_state.widget_metadata, WidgetStates()
        for widget in sent.widgets:
            try:
                if widget.id in known:
                    known[widget.id].deserializer(unpack_widget_state_value(widget))
            except Exception:  # whatever a forged value makes of Streamlit's own code
                session.complain(t(text.UNREADABLE))
                continue
            kept.widgets.append(widget)
        return kept


def guard() -> None:
    """Make the state of whoever is connected ``Guarded``; once is enough."""
    context = get_script_run_ctx()
    state = context and context.session_state._state
    if type(state) is SessionState:
        state.__class__ = Guarded


def unforeseen() -> None:
    """Say so where the script itself failed, with a way back; the log has the rest."""
    LOG.exception("a page failed")
    st.error(t(text.UNFORESEEN), icon=":material/error:")
    st.button(t("Start again"), key="start-again", on_click=_start_again)


def _start_again() -> None:
    st.session_state.clear()
    st.query_params.clear()
