"""Which walk the plane offers: the address says it, and the one from the prior is computed when it is chosen."""

from collections.abc import Collection
from dataclasses import replace

import streamlit as st

from app import loaders, messages, session
from app.compute import View, to_bytes
from app.own import KEY as MINE
from app.state import short
from app.views import guess
from app.views.sources import Subject
from app.walks import ENCODER, PRIOR
from app.words import t
from gpvae_core.checkpoints import Checkpoint


def joined(checkpoint: Checkpoint, subject: Subject, view: View) -> View:
    """The view, with the walk from the prior where that is chosen."""
    wanted = session.current().walk
    known = {"", ENCODER, PRIOR, MINE, *(q.key for q in view.overlays)}
    if wanted not in known and wanted not in checkpoint.encoders:
        session.complain(t("There is no walk from '{name}'; it begins at the encoder.", name=short(wanted)))
        session.update(walk="")
    if wanted != PRIOR or session.current().guess:
        return view
    steps = loaders.own_walk(checkpoint, to_bytes(subject.pixels), guess.PRIOR)
    return replace(view, paths=view.paths | {PRIOR: steps})


def take(key: str, offered: Collection[str]) -> None:
    """The walk that was chosen."""
    message = st.session_state[key].walk
    if message is not None:
        with session.complaints():
            chosen = messages.walk(message, offered)
            session.update(walk="" if chosen == ENCODER else chosen)
