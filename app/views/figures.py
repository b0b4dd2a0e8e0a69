"""The second page: the paper's Figures 1 and 2 on exact posteriors, images chosen by quantiles."""

import base64
from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from app import loaders, meter, session, text
from app.compute import Encoders, View, to_bytes
from app.figures.export import FORMATS, export, file_name
from app.figures.sheet import FIGURE_2_QUANTILES, Sheet, figure_1, figure_2
from app.payload import alt_texts
from app.state import figures_query
from app.views import common
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError

MOST_IMAGES = 24  # the command draws more


def page() -> None:
    """Draw the page."""
    common.framed(text.FIGURES_TITLE, text.FIGURES_LEAD, _figures, figures_query)


def _figures() -> None:
    first, second, third = st.columns([1, 1, 1], gap="medium", vertical_alignment="bottom")
    with first:
        checkpoint = common.choose_checkpoint()
        others = common.choose_encoders(checkpoint)
    where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
    with second:
        names = common.order_names(columns)
        by = common.choose_order(names)
    with third:
        _check_images()
        count = int(st.number_input("Images in Figure 1", 1, MOST_IMAGES, **session.bound("images")))
    common.engine_of(checkpoint)

    def shared(panels: int, title: str) -> tuple[Any, ...]:
        views = _counted(checkpoint, where.data.test, panels, title, others)
        return checkpoint, where.data.name, columns, where.data.test.labels, views

    with st.container():  # each figure is shown as soon as it is there
        _show(figure_1(*shared(count, "Figure 1"), count=count, by=by, label=names[by]), checkpoint)
    try:
        _show(figure_2(*shared(len(FIGURE_2_QUANTILES), "Figure 2")), checkpoint)
    except InputError as error:
        st.info(str(error), icon=":material/info:")
    common.say_what_is_shown(checkpoint, where)


def _counted(
    checkpoint: Checkpoint, test: ImageSet, panels: int, title: str, others: Encoders
) -> Callable[[int], View]:
    """The View of a test image, with a bar that says which of ``panels`` is being computed."""
    done = 0
    bar = st.empty()

    def view_of(index: int) -> View:
        nonlocal done
        bar.progress(done / panels, text=f"{title}: exact posterior of image {done + 1} of {panels} …")
        pixels = test.pixels(slice(index, index + 1))[0, 0].numpy()
        view = loaders.view(checkpoint, to_bytes(pixels), None, others)
        done += 1
        if done == panels:
            bar.empty()
        return view

    return view_of


def _check_images() -> None:
    wanted = session.current().images
    if not 1 <= wanted <= MOST_IMAGES:
        session.complain(f"The link asks for {wanted} images; a figure shows 1 to {MOST_IMAGES}.")
        session.update(images=min(max(wanted, 1), MOST_IMAGES))


def _show(sheet: Sheet, checkpoint: Checkpoint) -> None:
    st.subheader(sheet.title, anchor=False)
    picture = base64.b64encode(loaders.picture(sheet)).decode()
    words = " ".join(alt_texts(panel.view, panel.heading.replace("\n", ", "))["zoom"] for panel in sheet.panels)
    # wider than a phone: the figure scrolls in its own box, with the keyboard as well
    st.html(
        f'<div class="figure" tabindex="0" role="region" aria-label="{escape(sheet.title)}">'
        f'<img src="data:image/png;base64,{picture}" alt="{escape(words)}" style="--columns:{len(sheet.panels)}"></div>'
    )
    st.caption(sheet.caption)
    with st.expander(f"The numbers of this figure: {sheet.title}", icon=":material/table:"):
        st.markdown(meter.sheet_table([(panel.heading, panel.view) for panel in sheet.panels]))
    downloads(sheet, checkpoint)


def downloads(sheet: Sheet, checkpoint: Checkpoint) -> None:
    """A format and a button; the file is made when it is asked for."""
    with st.popover("Export", icon=":material/download:"):
        kind = st.selectbox("Format", list(FORMATS), format_func=_format_name, key=f"format-{sheet.name}")

        def make() -> bytes:
            return export(sheet, kind, loaders.box_atlas(checkpoint))

        st.download_button(
            f"Download {file_name(sheet, kind)}", make, file_name(sheet, kind), FORMATS[kind][1], on_click="ignore"
        )
        st.caption(text.EXPORT)


def _format_name(kind: str) -> str:
    return FORMATS[kind][0]
