"""The first page: an image in, its true posterior on screen."""

import numpy as np
import streamlit as st

from app import components, loaders, meter, session, text, theme
from app.compute import Array, View
from app.payload import plane_data
from app.views.sources import Subject, choose, test_subject, turn_dial, way_control
from gpvae_core.checkpoints import Checkpoint, pretrained_names
from gpvae_core.errors import InputError
from gpvae_core.stored import Columns

LINK = "side-by-side"


def page() -> None:
    """Draw the page; whatever the user can mend is a sentence on it."""
    st.html(theme.page_style(session.current().projector))
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.title(text.TITLE, anchor=False, help=text.LEAD)
    right.toggle("Projector", help=text.PROJECTOR_HELP, **session.bound("projector"))
    try:
        _explore()
    except InputError as error:
        st.error(str(error), icon=":material/error:")
    session.write_address()


def _explore() -> None:
    problems = st.container()
    controls, shown = st.columns([1, 3], gap="medium")
    with controls:
        checkpoint = _choose_checkpoint()
        where, columns = _source_of(checkpoint), _columns_of(checkpoint)
        subject = choose(way_control(), checkpoint, where, columns)
        if subject is not None:
            subject = turn_dial(subject)
            other = _compare_with(checkpoint, subject, where)
    with shown:
        if subject is not None:
            st.write(f"{subject.sentence}.")
            _show(checkpoint, subject, columns, other)
    _say_what_is_shown(checkpoint, where)
    with problems:  # last: they are found on the way
        session.show_problems()


def _choose_checkpoint() -> Checkpoint:
    names, state = pretrained_names(), session.current()
    if state.checkpoint not in names:
        if state.checkpoint:
            session.complain(
                f"There is no checkpoint '{state.checkpoint[:40]}' here; choose one of {', '.join(names)}."
            )
        offline = loaders.source("mnist", 0).fallback is not None
        preferred = "digits-2d" if offline or "mnist-2d" not in names else "mnist-2d"
        session.update(checkpoint=preferred, weights="")
    # test images of another data set are other images: each checkpoint starts at its own
    resets = {"weights": "", "index": -1, "dataset": "", "digit": "all"}
    checkpoint = loaders.checkpoint(st.selectbox("Checkpoint", names, **session.bound("checkpoint", **resets)))
    weights = session.current().weights
    if weights and not checkpoint.digest.startswith(weights):
        session.complain(
            f"The link was made with other weights of {checkpoint.name} ({weights[:8]}) than those here "
            f"({checkpoint.digest[:8]}): its numbers will differ."
        )
    session.update(weights=checkpoint.digest[:8])
    return checkpoint


def _source_of(checkpoint: Checkpoint) -> loaders.Source:
    return loaders.source(checkpoint.training["dataset"], checkpoint.training["seed"])


def _columns_of(checkpoint: Checkpoint) -> Columns:
    training = checkpoint.training
    return loaders.scores(checkpoint.name, checkpoint.digest, training["dataset"], training["seed"])


def _view_of(checkpoint: Checkpoint, subject: Subject) -> View:
    load = loaders.private_view if subject.private else loaders.view
    return load(checkpoint.name, checkpoint.digest, loaders.to_bytes(subject.pixels), subject.truth)


def _show(checkpoint: Checkpoint, subject: Subject, columns: Columns, other: tuple[Checkpoint, Subject] | None) -> None:
    view = _view_of(checkpoint, subject)
    if other is None:
        _plane(checkpoint, subject, view, "plane", pick=subject.truth is not None)
        _numbers(checkpoint, view, columns)
        return
    against, beside = other
    second = _view_of(against, beside)
    window = _common_window(view, second) if against.digest == checkpoint.digest else None
    if window is None:
        st.caption(text.APART)
    panes = zip(st.columns(2, gap="medium"), ((checkpoint, subject, view), (against, beside, second)), strict=True)
    for place, (column, (opened, what, seen)) in enumerate(panes):
        with column:
            st.subheader(f"{what.name.capitalize()} under {opened.name}", anchor=False)
            _plane(opened, what, seen, f"plane-{place}", link=LINK, window=window)
            _numbers(opened, seen, _columns_of(opened), narrow=True)


def _plane(
    checkpoint: Checkpoint,
    subject: Subject,
    view: View,
    key: str,
    *,
    pick: bool = False,
    link: str = "",
    window: tuple[Array, Array] | None = None,
) -> None:
    data = plane_data(
        view,
        checkpoint.digest,
        subject.name,
        pick=pick,
        projector=session.current().projector,
        link=link,
        window=window,
    )
    components.plane(data, key, lambda: _take_point(key))
    components.atlas(loaders.box_atlas(checkpoint.name, checkpoint.digest), f"atlas-{key}")
    for name in view.left_out:
        st.warning(f"The {name} lies far outside the zoomed window; the whole box shows its centre.")
    if view.truth is not None:
        st.write(
            f"The true z lies on the edge of the region that holds **{view.truth_mass:.1%}** of the posterior's mass. "
            "Over many simulated images that number is uniform: 80 % of them fall below 80 %."
        )


def _take_point(key: str) -> None:
    picked = st.session_state[key].picked
    if picked is not None:
        first, second = (float(np.clip(float(f"{value:.6g}"), -8, 8)) for value in picked)
        session.update(z=(first, second))


def _numbers(checkpoint: Checkpoint, view: View, columns: Columns, *, narrow: bool = False) -> None:
    left, right = (st.container(), st.container()) if narrow else st.columns([3, 2], gap="large")
    with left:
        st.subheader("The gap, in nats", anchor=False)
        st.html(meter.gap_meter(view))
    with right:
        st.subheader("What the scores say", anchor=False)
        st.markdown(meter.scores_table(view, columns))
    with st.expander("Every number, with its numerical error", icon=":material/table:"):
        st.markdown(meter.numbers_table(view))
        st.markdown(meter.places_table(view))
        if checkpoint.config.likelihood == "gaussian":
            st.caption(text.DENSITY.format(std=float(checkpoint.model.generative.likelihood.std)))
        st.caption(text.NUMBERS)


# --- side by side -----------------------------------------------------------------------------------------------


def _compare_with(checkpoint: Checkpoint, subject: Subject, where: loaders.Source) -> tuple[Checkpoint, Subject] | None:
    """Another image under the same checkpoint, or the same image under another one."""
    state = session.current()
    kind, _, rest = state.versus.partition(":")
    options = {"": "Nothing", "image": "Another image", "checkpoint": "Another checkpoint"}
    names = [name for name in pretrained_names() if name != checkpoint.name]
    if kind == "checkpoint" and rest not in names:
        session.complain(f"There is no other checkpoint '{rest[:40]}' to compare with here.")
        kind, rest = "", ""
        session.update(versus="")
    if kind == "image" and int(rest) >= len(where.data.test):
        session.complain(
            f"There is no test image {rest} to compare with: {where.data.name} ends at {len(where.data.test) - 1}."
        )
        kind, rest = "", ""
        session.update(versus="")
    starts = {"": "", "image": "image:0", "checkpoint": f"checkpoint:{names[0]}" if names else ""}
    bound = session.controlled("versus-kind", kind, lambda value: session.update(versus=starts[value or ""]))
    st.segmented_control("Compare with", list(options), format_func=options.get, required=True, wrap=True, **bound)
    if kind == "image":
        bound = session.controlled("versus-image", int(rest), lambda i: session.update(versus=f"image:{i}"))
        index = int(st.number_input("Its number", 0, len(where.data.test) - 1, **bound))
        return checkpoint, test_subject(where, index)
    if kind == "checkpoint":
        bound = session.controlled("versus-name", rest, lambda name: session.update(versus=f"checkpoint:{name}"))
        return loaders.checkpoint(st.selectbox("Which one", names, **bound)), subject
    return None


def _common_window(one: View, two: View, most: float = 6.0) -> tuple[Array, Array] | None:
    """The square that holds both zoomed windows, unless it would be ``most`` times the larger one."""
    ends = [np.array([[view.zoom_first[e], view.zoom_second[e]] for e in (0, -1)]) for view in (one, two)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    if (high - low).max() > most * max((e[1] - e[0]).max() for e in ends):
        return None
    centre, half = (low + high) / 2, (high - low).max() / 2
    return centre - half, centre + half


# --- what this is -----------------------------------------------------------------------------------------------


def _say_what_is_shown(checkpoint: Checkpoint, where: loaders.Source) -> None:
    """Which data and weights the page shows, and why the digits where MNIST is missing."""
    method = {"gpvae": "GPVAE", "vae": "plain VAE"}[checkpoint.config.method]
    st.caption(
        f"Data: test images of **{where.data.name}**. Checkpoint: **{checkpoint.name}**, a {method} trained on "
        f"{checkpoint.training['dataset']} (weights {checkpoint.digest[:8]})."
    )
    missing = where.fallback or loaders.source("mnist", 0).fallback
    if missing:
        with st.expander(text.OFFLINE_TITLE, icon=":material/cloud_off:"):
            st.write(f"{text.OFFLINE} {missing}.")
