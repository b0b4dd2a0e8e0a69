"""One image under one checkpoint, as Explore and its comparison show it: its View, its plane, its numbers."""

from contextlib import suppress
from math import log, pi
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from app import components, loaders, messages, meter, session, text
from app.compute import Array, Encoders, View, to_bytes
from app.figures.sheet import Sheet, single
from app.lesson import hidden
from app.payload import near, plane_data, veiled, without
from app.state import to_query
from app.views import common, mine, walking
from app.views.sources import Subject
from app.words import t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import Dataset
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.errors import InputError

LOOK_EVERY = 0.3  # seconds between two looks for the exact posterior


def view_of(checkpoint: Checkpoint, subject: Subject, others: Encoders = (), *, patient: bool = True) -> View:
    """Its View, computed or kept. Raises LastsError for who is not patient, where it takes long."""
    load = loaders.private_view if subject.private else loaders.view
    with st.spinner(t("Computing the exact posterior …")):
        view = load(checkpoint, to_bytes(subject.pixels), subject.truth, others, patient)
    loaders.forget()
    return view


def preview(checkpoint: Checkpoint, subject: Subject) -> None:
    """A first look, labelled as one; the page is drawn anew when the exact posterior is there."""
    st.info(t(text.PREVIEW), icon=":material/hourglass_top:")
    with suppress(InputError):  # whatever that is, the exact one says it
        view = loaders.preview(checkpoint, to_bytes(subject.pixels), subject.truth)
        plane(checkpoint, subject, view, "plane", pick=subject.truth is not None, rough=True)
    _until_it_is_there()


@st.fragment(run_every=LOOK_EVERY)
def _until_it_is_there() -> None:
    """Draw the page anew then."""
    session.current()  # as every fragment: it runs without the page
    if loaders.is_there():
        st.rerun()


def plane(
    checkpoint: Checkpoint,
    subject: Subject,
    view: View,
    key: str,
    *,
    pick: bool = False,
    link: str = "",
    window: tuple[Array, Array] | None = None,
    own: dict[str, Any] | None = None,
    scale: float = 0.0,
    rough: bool = False,
) -> None:
    """Its plane, and what has to be said below; see ``payload.plane_data``. ``pick``: a tap on it chooses z.

    ``rough``: its posterior is a preview, and is called so.
    """
    guessing = bool(own and own["veil"])
    data = plane_data(
        view,
        checkpoint.digest,
        subject.name,
        pick=pick,
        projector=session.current().projector,
        link=link,
        window=window,
        own=own,
        listens=bool(session.current().step),
        turns=own is not None,
        scale=scale,
        walk="" if own is None else session.current().walk,  # Compare has but the encoder's
    )
    if rough:
        data["words"] = data["words"] | {"true posterior": t("preview"), "exact p(z|x)": t("preview of p(z|x)")}
    data = veiled(data) if guessing else without(data, view, subject.name, hidden(session.current()))
    offered = [one["key"] for one in data["walks"]]
    takers = (lambda: _take_point(key), lambda: mine.take(key, view), lambda: walking.take(key, offered))
    components.plane(data, key, *takers)
    components.atlas(loaders.box_atlas(checkpoint), f"atlas-{key}")
    if guessing:
        return
    held = [] if link else [q.label for q in near(view)]
    for name in view.left_out:
        if name not in held:
            st.caption(t(text.FAR, q=meter.subject(name)))
    if view.truth is not None:
        drawn = session.current().z is None and not session.current().corruption
        st.write(t(text.ON_EDGE, share=view.truth_mass) + f" {t(text.UNIFORM)}" * drawn)


def _take_point(key: str) -> None:
    """A tapped z, or a sentence on what came instead."""
    picked = st.session_state[key].picked
    if picked is not None:
        with session.complaints():
            session.update(z=messages.point(picked))


def numbers(checkpoint: Checkpoint, view: View, columns: Columns, *, narrow: bool = False, scale: float = 0.0) -> None:
    """Its gap, its scores, and a table of everything; ``narrow``: one below the other."""
    left, right = (st.container(), st.container()) if narrow else st.columns([6, 5], gap="large")
    with left:
        st.subheader(t("The gap, taken apart"), anchor=False)
        st.html(meter.gap_meter(view, scale))
    with right:
        st.subheader(t("What the scores say"), anchor=False, help=meter.meanings(view.scores))
        st.markdown(meter.scores_table(view, columns))
    with st.expander(t("Every number, with its numerical error"), icon=":material/table:"):
        st.markdown(meter.numbers_table(view))
        st.markdown(meter.places_table(view))
        if (noise := common.pixel_noise(checkpoint)) is not None:
            st.caption(density(view.pixels.size, noise))
        st.caption(t(text.NUMBERS))


def density(pixels: int, std: float) -> str:
    """What log p(x) is, and what it cannot exceed: ``pixels`` times the log of a normal density's top."""
    return t(text.DENSITY, pixels=pixels, std=std, most=-pixels * (log(std) + 0.5 * log(2 * pi)))


def sheet_of(checkpoint: Checkpoint, subject: Subject, view: View, data: Dataset) -> Sheet:
    """What is exported of it; a test image is one of ``data``."""
    return single(checkpoint, view, subject.name, subject.index, _made_of(checkpoint, subject, data))


def _made_of(checkpoint: Checkpoint, subject: Subject, data: Dataset) -> dict[str, Any]:
    """What an export says of the image: its place in the data set, or the address bar that made it."""
    query = {"link": urlencode(to_query(session.current()))}
    if subject.index is None:
        return query
    return query | {"dataset": data.name, "split": "test", "seed": data.seed, "indices": [subject.index]}
