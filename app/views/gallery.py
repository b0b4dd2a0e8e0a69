"""Test images as thumbnails in an order that is chosen, and which of them a page begins with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app import components, lesson, messages, session
from app.compute import Array, grey
from app.meter import brief, percentile
from app.payload import packed
from app.views.common import COUNTED, EXACT, GAPS, ORDER, choose_order, encoder_gaps, order_in_use, order_names
from app.words import t, written
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.diagnostics.stored import Columns

THUMBNAILS = 12
# share of images whose gap is smaller than that of the one shown first; among those near 98 % the one at which the
# numbers of both wide models are trusted, and the encoders' pictures are clearly of another digit
TELLING = 0.9805
MOST_PILLS = 12  # more classes than these are chosen from a list
GALLERY = "gallery"


def labels(test: ImageSet) -> Array:
    """The class of each image, (n,); 0 where the data set has none."""
    found: Array = np.zeros(len(test), int) if test.labels is None else test.labels
    return found


def classes(test: ImageSet) -> list[str]:
    """What the choice of a class offers: "all", and each class."""
    return ["all"] if test.labels is None else ["all", *map(str, np.unique(test.labels).tolist())]


def rows_of_class(test: ImageSet) -> Array:
    """Rows of the digit class asked for."""
    offered = classes(test)
    # a class shows its own first image: the one before need not be of it
    bound = session.bound("digit", place=session.current().way, index=-1)
    if len(offered) > MOST_PILLS:
        chosen = st.selectbox(t("Class"), offered, format_func=t, **bound)
    else:
        chosen = st.pills(t("Digit class"), offered, format_func=t, required=True, wrap=True, **bound)
    return np.arange(len(test)) if chosen == "all" else np.flatnonzero(labels(test).astype(str) == chosen)


@dataclass(frozen=True)
class Order:
    """Test images, ``rows``, by ascending or descending ``values`` of the score ``key``, which a page calls ``name``.

    ``values`` are those of the whole test set.
    """

    rows: Array
    values: Array
    key: str
    name: str


def pick(checkpoint: Checkpoint, test: ImageSet, columns: Columns) -> int:
    """The test image chosen from the gallery, whose order is chosen, too."""
    names = order_names(checkpoint, columns)
    with st.popover(_order_said(names), width="stretch"):
        chosen = choose_order(names, first=GAPS)
        st.toggle(t("Largest first"), **session.bound("descending"))
        rows = rows_of_class(test)
    order = _ordered(rows, columns, chosen, names)
    places = np.flatnonzero(order.rows == session.current().index)
    index = session.current().index if len(places) else _first(rows, columns)
    rank = int(np.flatnonzero(order.rows == index)[0])
    _thumbnails(test, order, rank, GALLERY, lambda chosen: session.update(index=chosen))
    bound = session.controlled("rank", rank, lambda value: session.update(index=int(order.rows[value])))
    if len(order.rows) > 1:
        st.slider(t("Position in this order"), 0, len(order.rows) - 1, **bound)
    return index


def offer(
    checkpoint: Checkpoint, test: ImageSet, columns: Columns, index: int, key: str, take: Callable[[int], object]
) -> None:
    """Thumbnails of all test images in the gallery's order, ``index`` framed; ``take`` is told which one is tapped."""
    names = order_names(checkpoint, columns)
    order = _ordered(np.arange(len(test)), columns, order_in_use(names, ORDER, GAPS), names)
    st.caption(t("{order}: tap one.", order=_order_said(names, whole=True)))
    _thumbnails(test, order, int(np.flatnonzero(order.rows == index)[0]), key, take)


def _ordered(rows: Array, columns: Columns, key: str, names: dict[str, str]) -> Order:
    values = columns[key]
    ranks = np.argsort(-values[rows] if session.current().descending else values[rows], kind="stable")
    return Order(rows[ranks], values, key, names[key])


def _order_said(names: dict[str, str], *, whole: bool = False) -> str:
    """What the gallery is sorted by, and in which unit; what else was chosen, unless ``whole``: all test images."""
    state, chosen = session.current(), order_in_use(names, ORDER, GAPS)
    parts = [t("By {score}", score=names[chosen])]
    if chosen not in COUNTED:
        parts.append(t("in nats") if chosen in EXACT else t("as percentile"))
    if state.descending:
        parts.append(t("largest first"))
    if state.digit != "all" and not whole:
        parts.append(t("of class {digit}", digit=state.digit))
    return ", ".join(parts)


def _first(rows: Array, columns: Columns) -> int:
    """The test image, of ``rows``, that the page begins with, or a step of the lesson that wants another."""
    step = lesson.step_of(session.current())
    if step is None or step.clear is None or "log_evidence" not in columns:
        return telling(rows, columns)
    return int(rows[np.argsort(columns["log_evidence"][rows], kind="stable")][int(step.clear * (len(rows) - 1))])


def telling(rows: Array, columns: Columns) -> int:
    """The test image, of ``rows``, that a page begins with: 98 of 100 have a smaller gap; without gaps the first."""
    gaps = encoder_gaps(columns)
    if gaps is None:
        return int(rows[0])
    return int(rows[np.argsort(gaps[rows], kind="stable")][int(TELLING * (len(rows) - 1))])


def _thumbnails(test: ImageSet, order: Order, rank: int, key: str, take: Callable[[int], object]) -> None:
    """Images evenly spread over the order, the one at ``rank`` among them and framed."""
    ranks = np.linspace(0, len(order.rows) - 1, THUMBNAILS).round().astype(int)
    if rank not in ranks:
        ranks[1 + np.abs(ranks[1:-1] - rank).argmin()] = rank  # the ends stay
    rows, values = order.rows[np.unique(ranks)], order.values
    captions = None if order.key in EXACT else [f"{written(percentile(values, values[i]), '.3g')} %" for i in rows]
    silent = session.current().guess  # what is to be guessed is not told
    data = thumbnail_data(
        test, rows, values, order.name, chosen=int(order.rows[rank]), captions=captions, silent=silent
    )
    components.gallery(data, key, lambda: _take_choice(order.rows, key, take))


def thumbnail_data(
    test: ImageSet,
    rows: Array,
    values: Array,
    label: str,
    *,
    chosen: int = -1,
    captions: Sequence[str] | None = None,
    silent: bool = False,
) -> dict[str, Any]:
    """What the gallery component shows: test images ``rows``, each with its value or caption; ``chosen``: framed.

    ``silent``: nothing but their numbers.
    """
    items = [
        {"index": int(i), "caption": caption, "title": f"{_said(i)}: {label} {written(values[i], '.4g')}"}
        for i, caption in zip(rows, captions or [brief(values[i]) for i in rows], strict=True)
    ]
    if silent:
        items = [one | {"caption": "", "title": _said(one["index"])} for one in items]
    return {"tiles": packed(grey(test.pixels(rows)[:, 0].numpy())), "items": items, "chosen": chosen}


def _said(index: int) -> str:
    return t("test image {index}", index=index)


def _take_choice(rows: Array, key: str, take: Callable[[int], object]) -> None:
    chosen = st.session_state[key].chosen
    if chosen is not None:
        with session.complaints():
            take(messages.chosen(chosen, rows.tolist()))
