"""A second image beside the first, or the same one under another checkpoint."""

import numpy as np
import streamlit as st

from app import loaders, meter, session, text
from app.compute import Array, Encoders, View
from app.figures.sheet import pair
from app.headline import misses
from app.state import short
from app.views import common, gallery, shown
from app.views.figures import downloads
from app.views.sources import Subject, admissible, test_subject
from app.words import capital, t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.diagnostics.stored import Columns

LINK = "side-by-side"
GALLERY = "gallery-beside"
Shown = tuple[Checkpoint, Subject]


def choose(checkpoint: Checkpoint, subject: Subject, where: loaders.Source, columns: Columns) -> Shown | None:
    """Another image under the same checkpoint, or the same image under another one; None: nothing is compared."""
    kind, rest = _asked(checkpoint, where)
    names = _other_names(checkpoint)
    options = {"": t("Nothing"), "image": t("Another image"), "checkpoint": t("Another checkpoint")}
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
            return checkpoint, test_subject(where, _index(checkpoint, where, columns, int(rest)))
        if kind == "checkpoint":
            bound = session.controlled("versus-name", rest, lambda name: session.update(versus=f"checkpoint:{name}"))
            opened = loaders.checkpoint(st.selectbox(t("Which one"), names, **bound))
            return opened, admissible(opened, subject)
    return None


def _asked(checkpoint: Checkpoint, where: loaders.Source) -> tuple[str, str]:
    """What the state compares with: a kind and its number or name; what cannot be had is named and forgotten."""
    kind, _, rest = session.current().versus.partition(":")
    if kind == "checkpoint" and rest not in _other_names(checkpoint):
        problem = t("There is no other checkpoint '{name}' to compare with here.", name=short(rest))
    elif kind == "image" and int(rest) >= len(where.data.test):
        problem = t(text.NO_IMAGE_BESIDE, image=rest, data=where.data.name, last=len(where.data.test) - 1)
    else:
        return kind, rest
    session.complain(problem)
    session.update(versus="")
    return "", ""


def _other_names(checkpoint: Checkpoint) -> list[str]:
    return [name for name in loaders.names() if name != checkpoint.name]


def _index(checkpoint: Checkpoint, where: loaders.Source, columns: Columns, index: int) -> int:
    """The second test image, by its number or from the gallery."""

    def take(chosen: int) -> None:
        session.update(versus=f"image:{chosen}")

    test = where.data.test
    chosen = int(st.number_input(t("Its number"), 0, len(test) - 1, **session.controlled("versus-image", index, take)))
    gallery.offer(checkpoint, test, columns, chosen, GALLERY, take)
    return chosen


def show(one: Shown, two: Shown, others: Encoders) -> View:
    """Draw two images side by side; what is said of the first."""
    (checkpoint, subject), (against, beside) = one, two
    view = shown.view_of(checkpoint, subject, others)
    st.write(f"{subject.sentence}.")
    common.engine_of(against)
    second = shown.view_of(against, beside, others if against.digest == checkpoint.digest else ())
    one_plane = against.decoder_digest == checkpoint.decoder_digest
    window = _common_window(view, second) if one_plane else None
    if window is None:
        st.caption(t(text.APART if one_plane else text.TWO_PLANES))
    scale = max(meter.longest(view), meter.longest(second))  # one for both: columns are there to be compared
    panes = ((checkpoint, subject, view), (against, beside, second))
    for number, (column, (opened, what, seen)) in enumerate(zip(st.columns(2, gap="medium"), panes, strict=True)):
        with column:
            name = capital(what.name)
            st.subheader(t("{image} under {checkpoint}", image=name, checkpoint=opened.name), anchor=False)
            st.html(f"<p>{misses(seen)}</p>")
            shown.plane(opened, what, seen, f"plane-{number}", link=LINK * one_plane, window=window, scale=scale)
            shown.numbers(opened, seen, common.columns_of(opened), narrow=True, scale=scale)
    with st.expander(t("How they differ"), icon=":material/difference:"):
        st.markdown(meter.difference_table(view, second))
    where = loaders.images_of(checkpoint).data
    left, right = (shown.sheet_of(opened, what, seen, where) for opened, what, seen in panes)
    downloads(pair(left, right), [checkpoint, against])
    return view


def _common_window(one: View, two: View, most: float = 6.0) -> tuple[Array, Array] | None:
    """The square that holds both zoomed windows, unless it would be ``most`` times the larger one."""
    ends = [np.array([[view.zoom_first[e], view.zoom_second[e]] for e in (0, -1)]) for view in (one, two)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    if (high - low).max() > most * max((e[1] - e[0]).max() for e in ends):
        return None
    centre, half = (low + high) / 2, (high - low).max() / 2
    return centre - half, centre + half
