"""Train a model and watch its exact gap: the training runs in a program of its own, this page looks at its log."""

from io import BytesIO
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import streamlit as st

from app import charts, loaders, session, text
from app.state import LARGEST, train_query
from app.trainer import FOLLOWED, MOST_IMAGES, Plan
from app.trainings import Training
from app.views import common
from app.words import t
from gpvae_core.errors import InputError
from gpvae_core.inference import METHODS
from gpvae_core.paths import CONFIG, WEIGHTS

FROM_SCRATCH = ("vae", "vae-3", "fullcov", "hf", "iaf", "me", "gpvae")
DIGITS, MNIST, OWN = "Digits (offline)", "MNIST (its first {count:,} images)", "A zip file of images"
EPOCHS = {DIGITS: 15, MNIST: 4, OWN: 15}
MOST_EPOCHS, MOST_MB = 60, 30  # of an archive, as it is sent
NOISES = {"learned": None, "0.3": 0.3, "1": 1.0}
EVERY = 1.5  # seconds between two looks at the log
WORDS = {
    "running": "Training",
    "waiting": "In the line: {place} before it",
    "stopped": "Stopped; it can go on",
    "finished": "Finished",
    "failed": "It failed",
}


def page() -> None:
    """Draw the page."""
    common.framed(t(text.TRAIN_TITLE), t(text.TRAIN_LEAD), _train, train_query)


def _train() -> None:
    left, right = st.columns([2, 5], gap="large")
    with left:
        _ask()
    training = loaders.training()
    with right:
        if training is None:
            st.info(t(text.TRAIN_FIRST), icon=":material/model_training:")
        elif training.state in ("running", "waiting"):
            _watched()
        else:
            _shown(training)


def _ask() -> None:
    """What shall be trained, and the button that begins."""
    offline = loaders.source("mnist", 0).fallback is not None
    data = st.selectbox(
        t("Images"),
        [DIGITS, OWN] if offline else [DIGITS, MNIST, OWN],
        format_func=lambda name: t(name, count=MOST_IMAGES),
        key="train-data",
    )
    file = None
    if data == OWN:
        file = st.file_uploader(t("Zip file"), "zip", help=t(text.ZIP_HELP), key="train-zip", max_upload_size=MOST_MB)
    method = st.selectbox(
        t("Method"), FROM_SCRATCH, format_func=lambda name: t(METHODS[name].label), key="train-method"
    )
    noise = st.segmented_control(
        t("Pixel noise s_x"),
        list(NOISES),
        default="learned",
        format_func=t,
        required=True,
        help=t(text.NOISE_HELP),
        key="train-noise",
    )
    epochs = st.slider(t("Epochs"), 1, MOST_EPOCHS, EPOCHS[data], key=f"train-epochs-{data}")
    seed = int(st.number_input(t("Seed"), 0, LARGEST, 0, key="train-seed"))
    before = loaders.training()
    going = before is not None and before.state in ("running", "waiting")
    if st.button(
        t("Train"), type="primary", icon=":material/play_arrow:", disabled=going or (data == OWN and file is None)
    ):
        spec = {DIGITS: "digits", MNIST: "mnist", OWN: ""}[data]
        plan = Plan(spec, method, int(epochs), seed, NOISES[str(noise)])
        try:
            loaders.train(plan, None if file is None else file.getvalue())
        except InputError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.rerun()
    st.caption(t(text.TRAIN_KEPT))


@st.fragment(run_every=EVERY)
def _watched() -> None:
    """The training under way, drawn anew each second; the whole page when it ends."""
    session.current()  # whose language is spoken: a fragment runs without the page
    training = loaders.training()
    if training is None or training.state not in ("running", "waiting"):
        st.rerun()
    else:
        _shown(training)


def _shown(training: Training) -> None:
    """How far it is, what can be done with it, and its curves."""
    records, state = training.records(), training.state
    epochs = [record for record in records if "epoch" in record]
    looks = [record for record in records if "look" in record]
    done, said = len(epochs), t(WORDS[state], place=loaders.trainings().place(training))
    images = next((record["images"] for record in records if "images" in record), None)
    far = t("epoch {done} of {all}", done=done, all=training.plan.epochs)
    on = "" if images is None else f" {t('on {count:,} images', count=images)}"
    st.progress(done / training.plan.epochs, text=f"{said}: {far}{on}")
    _buttons(training, state)
    if state == "failed":
        st.error(training.why() or t(text.TRAIN_DIED), icon=":material/error:")
    for note in next((record["notes"] for record in records if "notes" in record), []):
        st.caption(f"{note}.")
    if not epochs:
        return
    if looks:
        last = looks[-1]
        mean = sum(last["gaps"]) / len(last["gaps"])
        error = max(last["errors"])
        st.markdown(t(text.TRAIN_GAP, epoch=last["look"], gap=mean, count=FOLLOWED, error=error))
        if state == "finished":
            st.markdown(outcome(looks))
    projector = session.current().projector
    curves, picture = st.columns([5, 4])
    with curves:
        st.plotly_chart(charts.learning_curves(epochs, looks, projector=projector), key="train-curves")
        st.caption(t(text.CURVES))
    with picture:
        if looks:
            st.plotly_chart(charts.evolution(looks, projector=projector), key="train-evolution")
            st.caption(t(text.EVOLUTION))


def outcome(looks: list[dict[str, Any]]) -> str:
    """What became of the gap, from the look before the first epoch to the last one."""
    means = [sum(look["gaps"]) / len(look["gaps"]) for look in looks]
    top = max(range(len(means)), key=means.__getitem__)
    said = t(text.TRAIN_OUTCOME, first=means[0], epoch=looks[top]["look"], most=means[top], last=means[-1])
    return f"{said} {t(text.TRAIN_ROSE)}" if top else said


def _buttons(training: Training, state: str) -> None:
    """Stop, go on, open, take away: what the state allows."""
    with st.container(horizontal=True):
        if state in ("running", "waiting"):
            st.button(t("Stop"), icon=":material/stop:", on_click=loaders.trainings().stop, args=(training,))
        if state in ("stopped", "failed"):
            st.button(t("Go on"), icon=":material/resume:", on_click=loaders.trainings().resume, args=(training,))
        if state not in ("running", "waiting") and training.checkpoint is not None:
            if st.button(t("Open in Explore"), type="primary", icon=":material/open_in_new:"):
                session.update(checkpoint=loaders.TRAINED, weights="", dataset="", index=-1, sort="", encoders=())
                st.switch_page(st.session_state["explore-page"])
            name = f"{training.plan.method}-seed-{training.plan.seed}.zip"
            st.download_button(
                t("Download the checkpoint"), lambda: _zipped(training), name, icon=":material/download:"
            )


def _zipped(training: Training) -> bytes:
    """The checkpoint as an archive: unpacked, ``--checkpoints`` and the command line take the folder."""
    packed: Any = BytesIO()
    folder = training.checkpoint
    assert folder is not None
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name in (CONFIG, WEIGHTS):
            archive.write(folder / name, name)
    return bytes(packed.getvalue())
