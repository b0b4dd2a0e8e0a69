"""The user's own Gaussian on the page: whose image it was placed on, what the plane says of it, its exact ELBO."""

from typing import Any

import numpy as np
import streamlit as st

from app import loaders, messages, session
from app.compute import View, to_bytes
from app.lesson import PRIOR, hidden
from app.own import Mine, with_own
from app.payload import own_data
from app.state import NARROWEST, WIDEST
from app.views import lesson
from app.views.sources import Subject
from gpvae_core.checkpoints import Checkpoint

TURN = "turn"


def joined(checkpoint: Checkpoint, subject: Subject, view: View) -> tuple[View, dict[str, Any]]:
    """The view with the user's Gaussian in it, if there is one, and what the plane has to know of that."""
    placed, guessing = _placed(checkpoint, subject), session.current().guess
    if placed is not None:
        evidence = float(view.report["log_evidence"])
        pixels = to_bytes(subject.pixels)
        elbo = loaders.own_elbo(checkpoint, pixels, placed, evidence)
        view = with_own(view, placed, elbo, loaders.own_walk(checkpoint, pixels, placed))
    field = None if placed is None or guessing else loaders.own_field(checkpoint, view)
    return view, own_data(view, placed, field, veil=guessing, hidden=hidden(session.current()))


def _placed(checkpoint: Checkpoint, subject: Subject) -> Mine | None:
    """The user's Gaussian, if it was placed on this image under this decoder; a guess always has one."""
    image = (checkpoint.decoder_digest, to_bytes(subject.pixels))
    if session.current().guess and session.current().mine is None:
        session.update(mine=PRIOR)
    if session.current().mine is not None and st.session_state.setdefault(lesson.PLACED_ON, image) != image:
        session.update(mine=PRIOR if session.current().guess else None)
    if session.current().mine is None:
        st.session_state.pop(lesson.PLACED_ON, None)
    else:
        st.session_state[lesson.PLACED_ON] = image
    return session.current().mine  # type: ignore[return-value]


def _begun(view: View) -> list[float]:
    """Where the user's Gaussian begins: as the encoder's, or in a corner of the zoomed window if that is not in it."""
    q, ends = view.stages[0], np.array([[axis[0], axis[-1]] for axis in (view.zoom_first, view.zoom_second)])
    side = ends[:, 1] - ends[:, 0]
    away = q.label in view.left_out
    mean, std = (ends[:, 0] + side / 4, side / 12) if away else (q.mean, q.std)
    return [*np.clip(mean, -8, 8).tolist(), *np.clip(std, NARROWEST, WIDEST).tolist()]


def take(key: str, view: View) -> None:
    """What the plane says of the user's Gaussian; what is no Gaussian is named."""
    message = st.session_state[key].mine
    if message == "start":
        message = _begun(view)
    elif message == "prior":
        message = PRIOR
    if message == "walked":
        lesson.walked()
    elif message == "turn":
        st.session_state[TURN] = True
    elif message == "clear":
        session.update(mine=None)
    elif message is not None:
        with session.complaints():
            session.update(mine=messages.own(message))
