"""The first page: an image in, its true posterior on screen."""

from hashlib import sha256
from typing import Any

import streamlit as st

from app import charts, components, coverage, first_paint, loaders, meter, session, text
from app.compute import Encoders, View, to_bytes
from app.headline import headline
from app.lesson import hidden
from app.payload import plane_data
from app.state import to_query
from app.views import beside, common, four, guess, lesson, mine, playlist, shown, walking
from app.views.figures import downloads
from app.views.sources import Subject, admissible, choose, turn_dial, way_control
from app.words import t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.errors import InputError
from gpvae_core.files import read_bytes
from gpvae_core.paths import WEIGHTS
from gpvae_core.shipped import is_shipped


def warm_up() -> None:
    """Load what the page needs, so that it replaces the first picture in one go."""
    name = session.current().checkpoint
    try:
        checkpoint = loaders.checkpoint(name if name in loaders.names() else common.default_checkpoint())
        common.columns_of(checkpoint)
        common.engine_of(checkpoint)
    except InputError:
        return  # the page comes to it again, and says it there


def page() -> None:
    """Draw the page; whatever the user can mend is a sentence on it."""
    common.framed(t(text.TITLE), t(text.LEAD), _explore, to_query, playlist.builder)


def _explore() -> None:
    playlist.bar()
    led = st.container()
    controls, picture = st.columns([2, 7], gap="medium")
    view = None
    with controls, st.container(key="controls"):
        with st.container(horizontal=True):
            checkpoint = common.choose_checkpoint(labelled=False)
            where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
            others = common.choose_encoders(checkpoint, columns, "content")
        subject = choose(way_control(), checkpoint, where, columns)
        if subject is not None:
            subject = admissible(checkpoint, turn_dial(subject))
            other = beside.choose(checkpoint, subject, where, columns)
    if not session.current().locked:
        words = {name: t(said) for name, said in text.DOCK.items()}
        components.dock(words, wanted=subject is None, shown=_identity(checkpoint, subject))
    with picture:
        if subject is None:
            _empty_plane(checkpoint)
        else:
            common.engine_of(checkpoint)
            if other is None:
                view = _one(checkpoint, subject, columns, others)
            else:
                view = beside.show((checkpoint, subject), other, others)
    if session.current().step:
        with led:
            lesson.panel(checkpoint, view, columns)
    common.say_what_is_shown(checkpoint, where)


def _identity(checkpoint: Checkpoint, subject: Subject | None) -> str:
    """Of what the picture shows."""
    state = session.current()
    pixels = b"" if subject is None else to_bytes(subject.pixels)
    return sha256(f"{checkpoint.digest} {state.encoders} {state.versus}".encode() + pixels).hexdigest()[:16]


def _empty_plane(checkpoint: Checkpoint) -> None:
    """What the plane decodes to, while there is no image to place on it."""
    st.write(t(text.WAITING))
    st.html(f'<img class="empty-plane" src="{loaders.prior_picture(checkpoint)}" alt="{t(text.WAITING_ALT)}">')


def _one(checkpoint: Checkpoint, subject: Subject, columns: Columns, others: Encoders) -> View | None:
    """Draw all of one image; what is said of it, None while that is a preview only."""
    guessing, projector = session.current().guess, session.current().projector
    try:
        exact = shown.view_of(checkpoint, subject, others, patient=guessing)
    except loaders.LastsError:
        shown.preview(checkpoint, subject)
        return None
    view, own = mine.joined(checkpoint, subject, walking.joined(checkpoint, subject, exact))
    if not guessing:
        read = loaders.read_digits(checkpoint, view.pictures[view.stages[0].label])
        st.html(headline(view, subject.label, read, why="best" not in hidden(session.current())))
    where, gaps = loaders.images_of(checkpoint), common.encoder_gaps(columns)
    asks = subject.index is not None and four.possible(gaps)
    guess.bar(subject, view, None if subject.index is None else len(where.data.test), fours=asks)
    if asks and gaps is not None:
        four.window(where, gaps)
    shown.plane(checkpoint, subject, view, "plane", pick=subject.truth is not None, own=own)
    if guessing:
        return view
    if not (session.current().step or session.current().locked):
        lesson.invitation()
    if not hidden(session.current()):
        shown.numbers(checkpoint, view, columns, narrow=projector)
    if subject.truth is not None:
        _coverage(checkpoint)
    if not subject.private and is_shipped(checkpoint.folder):
        _keep_for_next_start(checkpoint, subject, view)
    downloads(shown.sheet_of(checkpoint, subject, view, where.data), [checkpoint])
    if st.session_state.pop(mine.TURN, False):
        _turned(view)
    return view


def _keep_for_next_start(checkpoint: Checkpoint, subject: Subject, view: View) -> None:
    def record() -> dict[str, Any]:
        projector = session.current().projector
        return {
            "checkpoint": checkpoint.name,
            "weights": sha256(read_bytes(checkpoint.folder / WEIGHTS)).hexdigest(),
            "title": t(text.TITLE),
            "sentence": subject.sentence,
            "projector": projector,
            "plane": plane_data(view, checkpoint.digest, subject.name, projector=projector),
            "meter": meter.gap_meter(view),
        }

    first_paint.keep(to_query(session.current()), record)


def _turned(view: View) -> None:
    """The posterior as a surface, for whoever wants to turn it."""
    st.dialog(t(text.TURN), width="large")(_surface)(view)


def _surface(view: View) -> None:
    projector = session.current().projector
    figure = charts.surface(view.zoom_first, view.zoom_second, view.zoom_log_density, projector=projector)
    st.plotly_chart(figure, key="surface")
    st.caption(t(text.TURNED))


def _coverage(checkpoint: Checkpoint) -> None:
    """Over a hundred simulated images: whether the true z lies in each region as often as it should."""
    with st.expander(t(text.COVER), icon=":material/bar_chart:"):
        st.write(t(text.COVER_LEAD))
        key = ("covered", checkpoint.digest, session.current().seed)
        if st.button(t(text.COVER_BUTTON), key="cover"):
            st.session_state["covered"] = key
        if st.session_state.get("covered") == key:
            found = common.awaited(loaders.covering(checkpoint, session.current().seed))
            st.markdown(coverage.sentence(found))
            st.plotly_chart(charts.histogram(found, projector=session.current().projector), key="coverage")
