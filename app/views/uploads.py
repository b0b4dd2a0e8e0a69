"""An uploaded picture: taken once, shown with what was made of it, and its crop put right by the user."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from app import session, text
from app.state import pack_image, short
from app.words import t
from gpvae_core.data.images import Box, read_image
from gpvae_core.data.recipes import Recipe
from gpvae_core.errors import InputError

GIVEN, PROBLEM = "upload-given", "upload-problem"
SHOWN = 420  # pixels of the longer side on screen
FRAME = (213, 94, 0)
READER = ThreadPoolExecutor(1, "pictures")


@dataclass(frozen=True)
class Given:
    """A picture as it was read, the crop that the user set, if any, and what ``recipe`` made of it.

    ``packed``: the model input as the address bar has it; ``box``: the part it was made of; ``doubts``: sentences.
    """

    name: str
    picture: NDArray[np.uint8]
    recipe: str
    crop: Box | None
    packed: str
    box: Box | None
    doubts: tuple[str, ...]


def take(key: str, recipe: Recipe) -> None:
    """Read the file that has just been chosen: once, so that a large photo is decoded once."""
    file: Any = st.session_state[key]
    if file is not None:
        name = short(file.name)
        _attempt(lambda: _keep(_prepared(read_one_at_a_time(file.getvalue(), name), name, recipe, None)))


def read_one_at_a_time(data: bytes, name: str) -> NDArray[np.uint8]:
    """``read_image``, after whoever is reading: a class that uploads at once needs the memory of one picture.

    In one thread for all: what a thread has freed, the others cannot use.
    """
    return READER.submit(read_image, data, name).result()


def problem() -> str | None:
    """Why the last file could not be taken."""
    found: str | None = st.session_state.get(PROBLEM)
    return found


def given(recipe: Recipe) -> Given | None:
    """The picture that the image on the page was made of, prepared anew where another data set's recipe is needed."""
    found: Given | None = st.session_state.get(GIVEN)
    if found is None or found.packed != session.current().upload:
        return None  # the image came with a link, or by Back
    if found.recipe != recipe.name:
        _attempt(lambda: _keep(_prepared(found.picture, found.name, recipe, found.crop)))
        found = st.session_state[GIVEN]
    return found


def show(found: Given, recipe: Recipe) -> None:
    """What may be wrong with the picture, beside it the part that was taken, and sliders that put it right."""
    for sentence in found.doubts:
        st.warning(sentence, icon=":material/search:")
    edges = found.crop or found.box
    if edges is None:
        return
    label = t("Put the crop right") if found.doubts else t("The part that was taken")
    with st.expander(label, icon=":material/crop:", expanded=bool(found.doubts)):
        st.image(framed(found.picture, edges), caption=t(text.CROP))
        height, width = found.picture.shape
        left, top, right, bottom = edges

        def change(across: tuple[int, int], down: tuple[int, int]) -> None:
            box = (across[0], down[0], max(across[1], across[0] + 1), max(down[1], down[0] + 1))
            _attempt(lambda: _keep(_prepared(found.picture, found.name, recipe, box)))

        across = session.controlled("crop-across", (left, right), lambda ends: change(ends, (top, bottom)))
        st.slider(t("From left to right, in pixels"), 0, width, **across)
        down = session.controlled("crop-down", (top, bottom), lambda ends: change((left, right), ends))
        st.slider(t("From top to bottom, in pixels"), 0, height, **down)
        if found.crop is not None:
            st.button(
                t("Find the digit again"), on_click=lambda: _keep(_prepared(found.picture, found.name, recipe, None))
            )


def framed(picture: NDArray[np.uint8], box: Box) -> Image.Image:
    """The picture, small enough for the page, with a frame around ``box``."""
    scale = min(1.0, SHOWN / max(picture.shape))
    image = Image.fromarray(picture).convert("RGB")
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    left, top, right, bottom = (round(edge * scale) for edge in box)
    ImageDraw.Draw(image).rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), outline=FRAME, width=3)
    return image


def _prepared(picture: NDArray[np.uint8], name: str, recipe: Recipe, crop: Box | None) -> Given:
    made = recipe.prepare(picture, name, crop)
    return Given(name, picture, recipe.name, crop, pack_image(made.image), made.box, made.doubts)


def _keep(found: Given) -> None:
    st.session_state[GIVEN] = found
    session.update(upload=found.packed)


def _attempt(act: Callable[[], None]) -> None:
    """Do it; what cannot be done is a sentence on the page, and the picture before stays."""
    st.session_state.pop(PROBLEM, None)
    try:
        act()
    except InputError as error:
        st.session_state[PROBLEM] = str(error)
