"""The first page: an image in, its true posterior on screen."""

from hashlib import sha256
from math import log, pi
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from app import charts, components, coverage, first_paint, loaders, messages, meter, session, text
from app.compute import Array, Encoders, View, to_bytes
from app.figures.sheet import single
from app.headline import headline
from app.payload import plane_data, veiled
from app.state import short, to_query
from app.views import common, guess, lesson, mine, playlist
from app.views.figures import downloads
from app.views.sources import Subject, admissible, choose, test_subject, turn_dial, way_control
from app.words import capital, t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.errors import InputError
from gpvae_core.files import read_bytes
from gpvae_core.paths import WEIGHTS
from gpvae_core.shipped import is_shipped

LINK = "side-by-side"


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
    controls, shown = st.columns([2, 7], gap="medium")
    view = None
    with controls, st.container(key="controls"):
        with st.container(horizontal=True):
            checkpoint = common.choose_checkpoint(labelled=False)
            where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
            others = common.choose_encoders(checkpoint, columns, "content")
        subject = choose(way_control(), checkpoint, where, columns)
        if subject is not None:
            subject = admissible(checkpoint, turn_dial(subject))
            other = _compare_with(checkpoint, subject, where)
    if not session.current().bare:
        components.dock({name: t(said) for name, said in text.DOCK.items()}, wanted=subject is None)
    with shown:
        if subject is None:
            _empty_plane(checkpoint)
        else:
            common.engine_of(checkpoint)
            if other is None:
                view = _one(checkpoint, subject, columns, others)
            else:
                view = _two((checkpoint, subject), other, others)
    if session.current().step:
        with led:
            lesson.panel(view, columns)
    common.say_what_is_shown(checkpoint, where)


def _empty_plane(checkpoint: Checkpoint) -> None:
    """What the plane decodes to, while there is no image to place on it."""
    st.write(t(text.WAITING))
    st.html(f'<img class="empty-plane" src="{loaders.prior_picture(checkpoint)}" alt="{t(text.WAITING_ALT)}">')


def _view_of(checkpoint: Checkpoint, subject: Subject, others: Encoders = ()) -> View:
    load = loaders.private_view if subject.private else loaders.view
    with st.spinner(t("Computing the exact posterior …")):
        return load(checkpoint, to_bytes(subject.pixels), subject.truth, others)


def _one(checkpoint: Checkpoint, subject: Subject, columns: Columns, others: Encoders) -> View:
    """Draw all of one image; what is said of it."""
    guessing, projector = session.current().guess, session.current().projector
    view, own = mine.joined(checkpoint, subject, _view_of(checkpoint, subject, others))
    if not guessing:
        read = loaders.read_digit(checkpoint, view.pictures[view.stages[0].label])
        st.html(headline(view, subject.label, read))
    guess.bar(subject, view, None if subject.index is None else len(loaders.images_of(checkpoint).data.test))
    _plane(checkpoint, subject, view, "plane", pick=subject.truth is not None, own=own)
    if guessing:
        return view
    _numbers(checkpoint, view, columns, narrow=projector)
    if subject.truth is not None:
        _coverage(checkpoint)
    if not subject.private and is_shipped(checkpoint.folder):
        _keep_for_next_start(checkpoint, subject, view)
    downloads(single(checkpoint, view, subject.name, subject.index, _made_of(checkpoint, subject)), checkpoint)
    if st.session_state.pop(mine.TURN, False):
        _turned(view)
    return view


def _two(one: tuple[Checkpoint, Subject], two: tuple[Checkpoint, Subject], others: Encoders) -> View:
    """Draw two images side by side; what is said of the first."""
    (checkpoint, subject), (against, beside) = one, two
    view = _view_of(checkpoint, subject, others)
    st.write(f"{subject.sentence}.")
    common.engine_of(against)
    second = _view_of(against, beside, others if against.digest == checkpoint.digest else ())
    one_plane = against.decoder_digest == checkpoint.decoder_digest
    window = _common_window(view, second) if one_plane else None
    if window is None:
        st.caption(t(text.APART if one_plane else text.TWO_PLANES))
    scale = max(meter.longest(view), meter.longest(second))  # one for both: columns are there to be compared
    panes = zip(st.columns(2, gap="medium"), ((checkpoint, subject, view), (against, beside, second)), strict=True)
    for number, (column, (opened, what, seen)) in enumerate(panes):
        with column:
            name = capital(what.name)
            st.subheader(t("{image} under {checkpoint}", image=name, checkpoint=opened.name), anchor=False)
            _plane(opened, what, seen, f"plane-{number}", link=LINK * one_plane, window=window, scale=scale)
            _numbers(opened, seen, common.columns_of(opened), narrow=True, scale=scale)
    with st.expander(t("How they differ"), icon=":material/difference:"):
        st.markdown(meter.difference_table(view, second))
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


def _made_of(checkpoint: Checkpoint, subject: Subject) -> dict[str, Any]:
    """What an export says of the image: its place in the data set, or the address bar that made it."""
    query = {"link": urlencode(to_query(session.current()))}
    if subject.index is None:
        return query
    return query | {
        "dataset": loaders.images_of(checkpoint).data.name,
        "split": "test",
        "seed": checkpoint.split,
        "indices": [subject.index],
    }


def _plane(
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
) -> None:
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
    )
    components.plane(veiled(data) if guessing else data, key, lambda: _take_point(key), lambda: mine.take(key, view))
    components.atlas(loaders.box_atlas(checkpoint), f"atlas-{key}")
    if guessing:
        return
    for name in view.left_out:
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


def _numbers(checkpoint: Checkpoint, view: View, columns: Columns, *, narrow: bool = False, scale: float = 0.0) -> None:
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
        if checkpoint.config.likelihood == "gaussian":
            st.caption(density(view.pixels.size, float(checkpoint.model.generative.likelihood.std)))
        st.caption(t(text.NUMBERS))


def density(pixels: int, std: float) -> str:
    """What log p(x) is, and what it cannot exceed: ``pixels`` times the log of a normal density's top."""
    return t(text.DENSITY, pixels=pixels, std=std, most=-pixels * (log(std) + 0.5 * log(2 * pi)))


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


# --- side by side -----------------------------------------------------------------------------------------------


def _compare_with(checkpoint: Checkpoint, subject: Subject, where: loaders.Source) -> tuple[Checkpoint, Subject] | None:
    """Another image under the same checkpoint, or the same image under another one."""
    state = session.current()
    kind, _, rest = state.versus.partition(":")
    options = {"": t("Nothing"), "image": t("Another image"), "checkpoint": t("Another checkpoint")}
    names = [name for name in loaders.names() if name != checkpoint.name]
    if kind == "checkpoint" and rest not in names:
        session.complain(t("There is no other checkpoint '{name}' to compare with here.", name=short(rest)))
        kind, rest = "", ""
        session.update(versus="")
    if kind == "image" and int(rest) >= len(where.data.test):
        last = len(where.data.test) - 1
        session.complain(t(text.NO_IMAGE_BESIDE, image=rest, data=where.data.name, last=last))
        kind, rest = "", ""
        session.update(versus="")
    starts = {"": "", "image": "image:0", "checkpoint": f"checkpoint:{names[0]}" if names else ""}
    said = {
        "": t("Compare"),
        "image": t("Compared with image {image}", image=rest),
        "checkpoint": t("Compared with {name}", name=rest),
    }
    with st.popover(said[kind], icon=":material/compare:", width="stretch"):
        bound = session.controlled("versus-kind", kind, lambda value: session.update(versus=starts[value or ""]))
        st.segmented_control(
            t("Compare with"), list(options), format_func=options.get, required=True, wrap=True, **bound
        )
        if kind == "image":
            bound = session.controlled("versus-image", int(rest), lambda i: session.update(versus=f"image:{i}"))
            index = int(st.number_input(t("Its number"), 0, len(where.data.test) - 1, **bound))
            return checkpoint, test_subject(where, index)
        if kind == "checkpoint":
            bound = session.controlled("versus-name", rest, lambda name: session.update(versus=f"checkpoint:{name}"))
            opened = loaders.checkpoint(st.selectbox(t("Which one"), names, **bound))
            return opened, admissible(opened, subject)
    return None


def _common_window(one: View, two: View, most: float = 6.0) -> tuple[Array, Array] | None:
    """The square that holds both zoomed windows, unless it would be ``most`` times the larger one."""
    ends = [np.array([[view.zoom_first[e], view.zoom_second[e]] for e in (0, -1)]) for view in (one, two)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    if (high - low).max() > most * max((e[1] - e[0]).max() for e in ends):
        return None
    centre, half = (low + high) / 2, (high - low).max() / 2
    return centre - half, centre + half
