"""What every page has: its frame, the checkpoint, the data set and its scores, and where they come from."""

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Literal, TypeVar
from urllib.parse import urlencode, urlsplit

import numpy as np
import segno
import streamlit as st
from numpy.typing import NDArray

from app import loaders, session, text, theme
from app.compute import Encoders
from app.jobs import Job
from app.meter import meanings, of
from app.state import MOST_ENCODERS, State, short
from app.words import languages, t, written
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data.recipes import same_images
from gpvae_core.diagnostics.scores import SCORES
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.encoders import Offer
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.inference import METHODS

STAGES = {key: label for method in METHODS.values() for key, label in method.encoder.labels.items()}
EXACT = {f"kl_{key}": "exact KL {of}" for key in STAGES} | {
    "negentropy": "negentropy of p(z|x)",
    "gain": "gain of marginalising",
    "log_evidence": "log p(x)",
    "mass_outside_box": "mass outside the box",
    "modes": "number of modes",
}
COUNTED = ("modes", "mass_outside_box")  # exact figures that are not in nats
ORDER = "Sorted by"
GAPS = ("kl_base", "kl_start", "kl_q")  # of what one pass of the encoder says
LONGEST_CODE = 1200  # characters of a link that a phone's camera still reads from a screen
LOOK_EVERY = 0.1  # seconds between two looks at a job's progress
Result = TypeVar("Result")


def framed(
    title: str,
    lead: str,
    body: Callable[[], None],
    to_query: Callable[[State], dict[str, str]],
    more: Callable[[dict[str, str], str], None] | None = None,
) -> None:
    """Draw a page around ``body``; whatever the user can mend is a sentence on it. The address bar follows.

    ``more`` is drawn under *Share*, with the state's query and the page's address.
    """
    st.html(theme.page_style(session.current().projector, bare=session.current().locked))
    left, right = st.columns([5, 2], vertical_alignment="center")
    left.title(title, anchor=False, help=lead)
    with right.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", key="top"):
        if not session.current().locked:
            st.toggle(t("Projector"), help=t(text.PROJECTOR_HELP), width="content", **session.bound("projector"))
        share = st.popover(t("Share"), icon=":material/share:", on_change="rerun")
    problems = st.container()
    try:
        body()
    except InputError as error:
        st.error(str(error), icon=":material/error:")
    if not session.current().locked:
        _choose_language()
    with problems:  # last: they are found on the way
        session.show_problems()
    session.write_address(to_query)
    if share.open:  # its code takes a seventh of a page's time
        with share:
            _share(to_query(session.current()), more)


def _choose_language() -> None:
    """At the foot of a page, where sites have it."""
    offered, bound = languages(), session.bound("language")
    with st.container(key="language"):
        st.segmented_control(
            t("Language"), list(offered), format_func=offered.get, required=True, label_visibility="collapsed", **bound
        )


def _share(query: dict[str, str], more: Callable[[dict[str, str], str], None] | None) -> None:
    """The link to this very state, as text and as a picture for a phone's camera; below it ``more``."""
    base = urlsplit(str(st.context.url))._replace(query="", fragment="")
    base = (base._replace(path="/") if not base.path else base).geturl()
    link = f"{base}?{urlencode(query)}" if query else base
    st.caption(t(text.SHARE))
    if urlsplit(base).hostname in ("localhost", "127.0.0.1", "::1"):
        st.caption(t(text.LOCAL))
    st.code(link, language=None, wrap_lines=True)
    if len(link) <= LONGEST_CODE:
        picture = BytesIO()
        segno.make(link, error="l").save(picture, kind="png", scale=6, border=3)
        st.image(picture.getvalue(), caption=t(text.QR_TITLE), width=260)
    else:
        st.caption(t(text.TOO_LONG))
    if not session.current().step:
        st.toggle(t(text.BARE), help=t(text.BARE_HELP), **session.bound("bare"))
    if more is not None:
        with st.expander(t("Make a playlist"), icon=":material/playlist_add:"):
            more(query, base)


def default_checkpoint() -> str:
    """Of MNIST where that can be had, else of the digits; s_x = 1, whose posteriors fill the plane without a zoom."""
    offline = loaders.source("mnist", 0).fallback is not None
    return next(
        name for name in ("digits-2d-wide" if offline else "mnist-2d-wide", *loaders.names()) if name in loaders.names()
    )


def choose_checkpoint(*, labelled: bool = True) -> Checkpoint:
    """The checkpoint that is shown; a link's that is not here, or has other weights here, is named.

    ``labelled``: whether the list has its name above it, or only for those who cannot see it.
    """
    names, state = loaders.names(), session.current()
    for folder in loaders.folders():
        if not folder.is_dir():
            session.complain(t("There is no folder '{name}' to take checkpoints from.", name=short(folder.name)))
    if state.checkpoint not in names:
        if state.checkpoint:
            session.complain(t(text.NO_CHECKPOINT, name=short(state.checkpoint), names=", ".join(names)))
        session.update(checkpoint=default_checkpoint(), weights="")
    bound = session.controlled("checkpoint", session.current().checkpoint, _change_checkpoint)
    label: Literal["visible", "collapsed"] = "visible" if labelled else "collapsed"
    checkpoint = loaders.checkpoint(st.selectbox(t("Checkpoint"), names, label_visibility=label, **bound))
    weights = session.current().weights
    if weights and not checkpoint.digest.startswith(weights):
        asked, here = short(weights[:8]), checkpoint.digest[:8]
        session.complain(t(text.OTHER_WEIGHTS, name=checkpoint.name, asked=asked, here=here))
    session.update(weights=checkpoint.digest[:8])
    return checkpoint


def pixel_noise(checkpoint: Checkpoint) -> float | None:
    """s_x, the standard deviation of a pixel around the decoder's mean; None where the likelihood has none."""
    gaussian = checkpoint.config.likelihood == "gaussian"
    return float(checkpoint.model.generative.likelihood.std) if gaussian else None


def _change_checkpoint(name: str) -> None:
    """Another checkpoint, on the same test image where it has that one: other data sets start at their own."""
    before = session.current().dataset
    session.update(checkpoint=name, weights="")
    try:
        after = source_of(loaders.checkpoint(name)).data.name
    except InputError:
        return  # the page says it: the choice stands
    if same_images(before, after):
        session.update(dataset=after)
    else:
        session.update(index=-1, dataset="", digit="all")


def choose_encoders(checkpoint: Checkpoint, columns: Columns, width: Literal["stretch", "content"]) -> Encoders:
    """Other encoders on the checkpoint's decoder, drawn beside its own; a link's that are not here are named.

    ``columns``: what is stored of each test image, for the mean gaps; ``width``: of the button that opens the list.
    """
    offers = checkpoint.encoders
    for name in session.current().encoders:
        if name not in offers:
            session.complain(t(text.NO_ENCODER, name=short(name), checkpoint=checkpoint.name))
    chosen = tuple(name for name in offers if name in session.current().encoders)
    session.update(encoders=chosen)
    with st.popover(t("Encoders") + f" +{len(chosen)}" * bool(chosen), width=width):
        st.caption(f"{t(text.ENCODERS)} {_measured(offers, columns)}")
        for name, offer in offers.items():
            full = len(chosen) == MOST_ENCODERS and name not in chosen
            st.checkbox(
                _offered(offer, columns),
                disabled=full,
                **session.controlled(f"q-{name}", name in chosen, _toggle(name)),
            )
    return tuple((name, loaders.encoder(checkpoint, name)) for name in session.current().encoders)


def _toggle(name: str) -> Callable[[bool], object]:
    """What a click on an encoder's box does."""

    def changed(wanted: bool) -> object:
        others = tuple(one for one in session.current().encoders if one != name)
        return session.update(encoders=(*others, name) if wanted else others)

    return changed


def _offered(offer: Offer, columns: Columns) -> str:
    """An encoder's words, and its mean gap where that is stored."""
    gaps = columns.get(f"kl_{offer.name}")
    return t(offer.label) if gaps is None else f"{t(offer.label)}: {written(np.nanmean(gaps), '.3g')} {t('nats')}"


def encoder_gaps(columns: Columns) -> NDArray[np.float64] | None:
    """The exact KL of what one pass of the encoder says of each test image, in nats; None where it is not stored."""
    return next((columns[name] for name in GAPS if name in columns), None)


def _measured(offers: Iterable[str], columns: Columns) -> str:
    """Over how many images the offers' mean gaps were taken, and the own encoder's mean over the same ones."""
    own = encoder_gaps(columns)
    gaps = next((columns[f"kl_{name}"] for name in offers if f"kl_{name}" in columns), None)
    if own is None or gaps is None:
        return t(text.UNMEASURED)
    same = np.isfinite(gaps)
    return t(text.MEASURED, count=same.sum(), own=own[same].mean())


def source_of(checkpoint: Checkpoint) -> loaders.Source:
    """The data set that a checkpoint was trained on, or the digits where it cannot be had."""
    with st.spinner(t("Looking for the data set …")):
        return loaders.images_of(checkpoint)


def columns_of(checkpoint: Checkpoint) -> Columns:
    """Scores, and exact figures where they are stored, of each test image."""
    return awaited(loaders.scoring(checkpoint))


def engine_of(checkpoint: Checkpoint) -> PosteriorEngine:
    """The engine of a checkpoint, with its progress on the page while it is made."""
    return awaited(loaders.opening(checkpoint))


def awaited(job: Job[Result]) -> Result:
    """What ``job`` gives; while it is under way, a bar that says what is being done and how far it is."""
    if not job.done(LOOK_EVERY):
        said = job.words()
        bar = st.progress(job.share, text=f"{said} …")
        while not job.done(LOOK_EVERY):
            bar.progress(job.share, text=f"{said}: {job.share:.0%}")
        bar.empty()
    return job.result()


def say_what_is_shown(checkpoint: Checkpoint, where: loaders.Source) -> None:
    """Which data and weights the page shows, and why the digits where MNIST is missing."""
    method = METHODS[checkpoint.config.method].label
    st.caption(
        t(
            text.SHOWN,
            data=where.data.name,
            name=checkpoint.name,
            method=t(method),
            trained_on=loaders.trained_on(checkpoint),
            weights=checkpoint.digest[:8],
        )
    )
    for note in where.data.notes:
        st.caption(f"{note}.")
    missing = where.fallback or loaders.source("mnist", 0).fallback
    if missing:
        with st.expander(t(text.OFFLINE_TITLE), icon=":material/cloud_off:"):
            st.write(f"{t(text.OFFLINE)} {missing}.")


def order_names(checkpoint: Checkpoint, columns: Columns, *, some: bool = False) -> dict[str, str]:
    """What images can be sorted by: every score there is, and the exact figures where they are stored.

    ``some``: also what was computed for some of them only.
    """
    stages = {f"kl_{key}": t("exact KL {of}", of=of(label)) for key, label in STAGES.items()}
    others = {f"kl_{name}": t("exact KL of {name}", name=t(offer.label)) for name, offer in checkpoint.encoders.items()}
    labels = {name: t(score.label) for name, score in SCORES.items()} | {k: t(v) for k, v in EXACT.items()}
    labels |= stages | others
    return {
        name: label for name, label in labels.items() if name in columns and (some or not np.isnan(columns[name]).any())
    }


def with_unit(name: str, label: str) -> str:
    """The label of a score or an exact figure with its unit, for an axis."""
    if name in SCORES:
        return f"{label}, {t(SCORES[name].unit)}"
    return label if name in COUNTED else f"{label}, {t('nats')}"


def order_in_use(names: dict[str, str], words: str, first: Sequence[str] = ()) -> str:
    """The score that images are sorted by, or laid out along; a link's that is not there is named.

    Where nothing was chosen, the one of ``first`` that is there; the address does not say it then.
    """
    state = session.current()
    if state.sort and state.sort not in names:
        session.complain(t(text.NO_ORDER, name=short(state.sort), list=t(words)))
        session.update(sort="")
    usual = next((name for name in first if name in names), next(iter(names)))
    return session.current().sort or usual


def choose_order(names: dict[str, str], words: str = ORDER, first: Sequence[str] = ()) -> str:
    """The list of those scores; see ``order_in_use``."""
    used = order_in_use(names, words, first)
    bound = session.controlled("sort", used, lambda name: session.update(sort=name))
    chosen: str = st.selectbox(t(words), list(names), format_func=names.get, help=meanings(names), **bound)
    return chosen
