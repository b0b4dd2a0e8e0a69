"""Where x comes from: one function for each way, each returning the image to show, or None while there is none."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
import torch

from app import components, drawing, loaders, messages, session, text
from app.compute import Array, grey
from app.state import LARGEST, WAYS, State, short, unpack_image
from app.views import gallery, uploads
from app.words import capital, t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet, bernoulli_draw, recipe_for
from gpvae_core.data.corruptions import AMOUNTS, Corruption
from gpvae_core.data.images import FORMATS
from gpvae_core.data.recipes import Recipe
from gpvae_core.diagnostics.stored import Columns
from gpvae_core.errors import InputError

SHEET, UPLOAD = "sheet", "upload"
INKED = "sheet-inked"  # the strokes on the sheet, and the picture of them


@dataclass(frozen=True)
class Subject:
    """An image to show: float pixels (28, 28), a name and a sentence, the z that made it if known.

    ``given``: the picture before preprocessing; ``index``: the test image it is; ``label``: its class, where that is a
    digit; ``private``: somebody's own.
    """

    pixels: Array
    name: str
    sentence: str
    truth: tuple[float, float] | None = None
    given: Array | None = None
    index: int | None = None
    label: int | None = None
    private: bool = True


def choose(way: str, checkpoint: Checkpoint, where: loaders.Source, columns: Columns) -> Subject | None:
    """The image of the way in use."""
    recipe = recipe_for(checkpoint)
    if way == "draw":
        return _drawn(recipe)
    if way == "upload":
        return _uploaded(recipe)
    if way == "simulate":
        return _simulated(checkpoint)
    return _test_image(way, checkpoint, where, columns)


# --- test images ----------------------------------------------------------------------------------------------


def _test_image(way: str, checkpoint: Checkpoint, where: loaders.Source, columns: Columns) -> Subject:
    test, state = where.data.test, session.current()
    _check_link(state, where)
    pick = {"gallery": gallery.pick, "random": _random, "number": _number}[way]
    index = pick(checkpoint, test, columns)
    if session.current().index != index or session.current().dataset != where.data.name:
        session.update(index=index, dataset=where.data.name)
    return test_subject(where, index)


def test_subject(where: loaders.Source, index: int) -> Subject:
    """Test image ``index``."""
    test = where.data.test
    number = None if test.labels is None else int(test.labels[index])
    said = text.TEST_IMAGE if number is None else text.TEST_DIGIT if number <= 9 else text.TEST_CLASS
    return Subject(
        test.pixels(slice(index, index + 1))[0, 0].numpy(),
        t("test image {index}", index=index),
        t(said, index=index, data=where.data.name, label=number),
        index=index,
        label=number if number is not None and number <= 9 else None,
        private=where.data.name == loaders.PRIVATE,  # nothing of it may be kept, whichever checkpoint looks at it
    )


def _check_link(state: State, where: loaders.Source) -> None:
    """Name what the link asks for and this server or data set does not have."""
    test = where.data.test
    if state.dataset and state.dataset != where.data.name and state.index >= 0:
        asked = short(state.dataset)
        session.complain(t(text.OTHER_DATA, index=state.index, asked=asked, here=where.data.name))
        session.update(dataset=where.data.name)
    if state.index >= len(test):
        session.complain(t(text.NO_IMAGE, index=state.index, data=where.data.name, last=len(test) - 1))
        session.update(index=-1)
    classes = gallery.classes(test)
    if state.digit not in classes:
        session.complain(t(text.NO_CLASS, digit=short(state.digit), data=where.data.name))
        session.update(digit="all")
    elif (
        state.digit != "all"
        and state.index in range(len(test))
        and str(gallery.labels(test)[state.index]) != state.digit
    ):
        if state.way == "gallery":
            session.complain(t(text.OTHER_CLASS, index=state.index, digit=state.digit))
        session.update(digit="all")


def _number(checkpoint: Checkpoint, test: ImageSet, columns: Columns) -> int:
    bound = session.controlled("index", max(session.current().index, 0), lambda value: session.update(index=int(value)))
    return int(st.number_input(t("Number of the test image"), 0, len(test) - 1, width=260, **bound))


def _random(checkpoint: Checkpoint, test: ImageSet, columns: Columns) -> int:
    rows = gallery.rows_of_class(test)
    state = session.current()
    if st.button(t("Another one"), icon=":material/casino:") or state.index < 0:
        return int(np.random.default_rng().choice(rows))
    return state.index


# --- drawn, uploaded, simulated -------------------------------------------------------------------------------


def _drawn(recipe: Recipe) -> Subject | None:
    written = session.current().strokes
    strokes = drawing.decode(written) if written else []
    components.sheet(strokes, st.session_state.setdefault("sheet-version", 0), SHEET, _take_drawing)
    if problem := st.session_state.get("sheet-problem"):
        st.error(problem, icon=":material/error:")
    if not strokes:
        st.info(t(text.DRAW), icon=":material/draw:")
        return None
    if st.session_state.get(INKED, ("",))[0] != written:  # the same at every other control's change
        st.session_state[INKED] = written, drawing.picture(strokes)
    given = st.session_state[INKED][1]
    prepared = recipe.prepare(given, "the drawing", None)
    _strip(given, prepared.image / 255, t(recipe.words))
    return _own(given, prepared.image, t("your drawing"), recipe)


def _take_drawing() -> None:
    message: Any = st.session_state[SHEET].drawn
    if message is None:
        return
    try:
        st.session_state["sheet-version"], strokes = messages.drawing(message)
        session.update(strokes=drawing.encode(strokes) if strokes else "")
        st.session_state.pop("sheet-problem", None)
    except InputError as error:
        st.session_state["sheet-problem"] = str(error)


def _own(given: Array, image: Array, name: str, recipe: Recipe) -> Subject:
    pixels = image.astype(np.float32) / 255
    said = t("**{name}**, prepared as the images of {recipe}", name=capital(name), recipe=recipe.name)
    return Subject(pixels, name, said, given=given)


def _uploaded(recipe: Recipe) -> Subject | None:
    st.file_uploader(
        t("A photo or drawing of one digit"),
        type=[suffix.lower() for suffix in (*FORMATS, "jpg", "tif", "heif")],
        help=t(text.UPLOAD_HELP),
        key=UPLOAD,
        on_change=uploads.take,
        args=(UPLOAD, recipe),
    )
    if problem := uploads.problem():
        st.error(problem, icon=":material/error:")
    packed_image = session.current().upload
    if not packed_image:
        st.caption(t(text.UPLOAD_HELP))
        return None
    name = t("your image")
    if problem:
        st.caption(t(text.UPLOAD_BEFORE))
        name = t("your image before this file")
    given = uploads.given(recipe)
    image = unpack_image(session.current().upload)
    if given is None:
        if not problem:
            st.caption(t(text.UPLOAD_LINKED))
        return _own(image, image, name, recipe)
    uploads.show(given, recipe)
    _strip(given.picture, image / 255, t(recipe.words))
    return _own(given.picture, image, name, recipe)


def _simulated(checkpoint: Checkpoint) -> Subject:
    state = session.current()
    st.number_input(t("Seed"), 0, LARGEST, **session.bound("seed"))
    with st.container(horizontal=True):
        st.button(t("Another draw"), icon=":material/casino:", on_click=draw_again)
        if state.z is not None:
            st.button(t("z from the prior"), icon=":material/undo:", on_click=lambda: session.update(z=None))
    st.caption(t(text.SIMULATE))
    pixels, z = simulate(checkpoint, state.seed, state.z)
    said = text.CHOSEN if state.z is not None else text.DRAWN
    sentence = t(said, first=z[0], second=z[1], seed=state.seed, name=checkpoint.name)
    return Subject(pixels, t("a simulated image (seed {seed})", seed=state.seed), sentence, truth=z)


def draw_again() -> None:
    """Simulate with the next seed, from a z of its own."""
    session.update(seed=(session.current().seed + 1) % LARGEST, z=None)


def simulate(checkpoint: Checkpoint, seed: int, z: tuple[float, float] | None) -> tuple[Array, tuple[float, float]]:
    """An image x ~ p(x|z) and its z, ``z`` or a draw from the prior; pixels unclipped, every draw from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, generator=generator, dtype=torch.float64)
    latent = (float(drawn[0]), float(drawn[1])) if z is None else z
    model = checkpoint.model.generative
    with torch.no_grad():
        mean = model.decode(torch.tensor([latent], dtype=torch.float32))
        pixels: Array = model.likelihood.sample(mean, generator=generator)[0, 0].numpy()
    return pixels, latent


# --- the strip and the dial -----------------------------------------------------------------------------------


def _strip(given: Array, seen: Array, caption: str) -> None:
    """What you gave -> what the model saw."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.image(given, caption=t("what you gave"), width=112)
        st.image(enlarged(seen), caption=t("what the model saw"), width=112)
    st.caption(caption)


def enlarged(pixels: Array) -> Array:
    """Pixels in [0, 1] as a larger picture, nearest neighbour, so that a browser does not blur them."""
    return np.kron(grey(pixels), np.ones((8, 8), dtype=np.uint8))


def is_empty(corruption: Corruption, pixels: Array) -> bool:
    """Whether the dial takes the ink away: its noise set aside, less than a twentieth is left."""
    before, left = (float(grey(p).sum()) for p in (pixels, replace(corruption, noise=0.0)(pixels)))
    return left < 0.05 * before


def turn_dial(subject: Subject) -> Subject:
    """The out-of-distribution dial: the subject with the corruption that is set."""
    state = session.current()
    dial = t("Out-of-distribution dial — changed") if state.corruption else t("Out-of-distribution dial")
    with st.expander(dial, icon=":material/tune:", expanded=bool(state.corruption)):
        for name, amount in AMOUNTS.items():
            value = float(getattr(state.corruption, name))
            st.slider(
                f"{t(amount.label)} ({t(amount.unit).split(';')[0].split(':')[0]})",
                amount.low,
                amount.high,
                step=amount.step,
                help=t(amount.unit),
                **session.controlled(name, value, lambda value, name=name: _set_amount(**{name: value})),
            )
        if state.corruption.noise:
            bound = session.controlled("noise-seed", state.corruption.seed, lambda value: _set_amount(seed=int(value)))
            st.number_input(t("Seed of the noise"), 0, LARGEST, **bound)
        st.button(t("All back to zero"), on_click=lambda: session.update(corruption=Corruption()))
        if not state.corruption:
            return subject
        pixels = state.corruption(subject.pixels)
        _strip(enlarged(subject.pixels), pixels, t(text.DIAL))
        if is_empty(state.corruption, subject.pixels):
            st.warning(t(text.EMPTY), icon=":material/ink_eraser:")
    name, sentence = f"{subject.name}, {t('changed')}", f"{subject.sentence}, {t('changed by the dial')}"
    return Subject(pixels, name, sentence, subject.truth, subject.given)


def admissible(checkpoint: Checkpoint, subject: Subject) -> Subject:
    """The subject as the checkpoint's likelihood allows it: a Bernoulli one knows pixels of 0 and 1 only."""
    if checkpoint.config.likelihood != "bernoulli":
        return subject
    drawn = bernoulli_draw(ImageSet(subject.pixels[None]), 0).pixels()[0, 0].numpy()
    if np.array_equal(drawn, subject.pixels):
        return subject
    return replace(subject, pixels=drawn, index=None, sentence=f"{subject.sentence}, {t(text.BINARY)}")


def _set_amount(**amounts: Any) -> None:
    corruption = session.current().corruption
    session.update(corruption=Corruption(**{**vars(corruption), **amounts}))


def way_control() -> str:
    """The choice between the ways."""
    way: str = st.segmented_control(
        t("Where x comes from"),
        list(WAYS),
        format_func=lambda way: t(WAYS[way]),
        required=True,
        wrap=True,
        label_visibility="collapsed",
        **session.bound("way"),
    )
    return way
