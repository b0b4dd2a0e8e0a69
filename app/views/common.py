"""What every page has: its frame, the checkpoint, the data set and its scores, and where they come from."""

from collections.abc import Callable

import streamlit as st

from app import loaders, session, text, theme
from app.state import State, short
from gpvae_core.checkpoints import Checkpoint, pretrained_names
from gpvae_core.errors import InputError
from gpvae_core.scores import SCORES
from gpvae_core.stored import Columns

EXACT = {
    "kl_base": "exact KL of the base encoder",
    "kl_marginal": "exact KL of the marginalised encoder",
    "negentropy": "negentropy of p(z|x)",
}


def framed(title: str, lead: str, body: Callable[[], None], to_query: Callable[[State], dict[str, str]]) -> None:
    """Draw a page around ``body``; whatever the user can mend is a sentence on it. The address bar follows."""
    st.html(theme.page_style(session.current().projector))
    left, right = st.columns([6, 1], vertical_alignment="center")
    left.title(title, anchor=False, help=lead)
    right.toggle("Projector", help=text.PROJECTOR_HELP, **session.bound("projector"))
    problems = st.container()
    try:
        body()
    except InputError as error:
        st.error(str(error), icon=":material/error:")
    with problems:  # last: they are found on the way
        session.show_problems()
    session.write_address(to_query)


def default_checkpoint() -> str:
    """MNIST's where MNIST can be had, else the digits'."""
    offline = loaders.source("mnist", 0).fallback is not None
    return "digits-2d" if offline or "mnist-2d" not in pretrained_names() else "mnist-2d"


def choose_checkpoint() -> Checkpoint:
    """The checkpoint that is shown; a link's that is not here, or has other weights here, is named."""
    names, state = pretrained_names(), session.current()
    if state.checkpoint not in names:
        if state.checkpoint:
            session.complain(
                f"There is no checkpoint '{short(state.checkpoint)}' here; choose one of {', '.join(names)}."
            )
        session.update(checkpoint=default_checkpoint(), weights="")
    # test images of another data set are other images: each checkpoint starts at its own
    resets = {"weights": "", "index": -1, "dataset": "", "digit": "all"}
    checkpoint = loaders.checkpoint(st.selectbox("Checkpoint", names, **session.bound("checkpoint", **resets)))
    weights = session.current().weights
    if weights and not checkpoint.digest.startswith(weights):
        session.complain(
            f"The link was made with other weights of {checkpoint.name} ({short(weights[:8])}) than those here "
            f"({checkpoint.digest[:8]}): its numbers will differ."
        )
    session.update(weights=checkpoint.digest[:8])
    return checkpoint


def source_of(checkpoint: Checkpoint) -> loaders.Source:
    """The data set that a checkpoint was trained on, or the digits where it cannot be had."""
    return loaders.source(checkpoint.training["dataset"], checkpoint.training["seed"])


def columns_of(checkpoint: Checkpoint) -> Columns:
    """Scores, and exact figures where they are stored, of each test image."""
    training = checkpoint.training
    return loaders.scores(checkpoint.name, checkpoint.digest, training["dataset"], training["seed"])


def say_what_is_shown(checkpoint: Checkpoint, where: loaders.Source) -> None:
    """Which data and weights the page shows, and why the digits where MNIST is missing."""
    method = "GPVAE" if checkpoint.config.method.startswith("gpvae") else "plain VAE"
    st.caption(
        f"Data: test images of **{where.data.name}**. Checkpoint: **{checkpoint.name}**, a {method} trained on "
        f"{checkpoint.training['dataset']} (weights {checkpoint.digest[:8]})."
    )
    missing = where.fallback or loaders.source("mnist", 0).fallback
    if missing:
        with st.expander(text.OFFLINE_TITLE, icon=":material/cloud_off:"):
            st.write(f"{text.OFFLINE} {missing}.")


def order_names(columns: Columns) -> dict[str, str]:
    """What images can be sorted by: every score there is, and the exact figures where they are stored."""
    scores = {name: score.label for name, score in SCORES.items() if name in columns}
    return scores | {name: label for name, label in EXACT.items() if name in columns}


def choose_order(names: dict[str, str]) -> str:
    """The score that images are sorted by; a link's that is not there is named."""
    state = session.current()
    if state.sort not in names:
        if state.sort:
            session.complain(
                f"Images cannot be sorted by '{short(state.sort)}' here; choose one of {', '.join(names.values())}."
            )
        session.update(sort=next(iter(names)))
    chosen: str = st.selectbox("Sorted by", list(names), format_func=names.get, **session.bound("sort"))
    return chosen
