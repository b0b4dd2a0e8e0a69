"""The second page: the paper's Figures 1 and 2 on exact posteriors, images chosen by quantiles."""

import base64
from html import escape

import streamlit as st

from app import loaders, meter, session, text
from app.compute import View
from app.figures.export import FORMATS, export
from app.figures.sheet import Sheet, figure_1, figure_2
from app.payload import alt_texts
from app.state import figures_query
from app.views import common
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.errors import InputError

MOST_IMAGES = 24  # the command draws more


def page() -> None:
    """Draw the page."""
    common.framed(text.FIGURES_TITLE, text.FIGURES_LEAD, _figures, figures_query)


def _figures() -> None:
    first, second, third = st.columns([1, 1, 1], gap="medium", vertical_alignment="bottom")
    with first:
        checkpoint = common.choose_checkpoint()
    where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
    with second:
        names = common.order_names(columns)
        by = common.choose_order(names)
    with third:
        _check_images()
        count = int(st.number_input("Images in Figure 1", 1, MOST_IMAGES, **session.bound("images")))
    data = where.data

    def view_of(index: int) -> View:
        pixels = data.test.pixels(slice(index, index + 1))[0, 0].numpy()
        return loaders.view(checkpoint.name, checkpoint.digest, loaders.to_bytes(pixels))

    shared = (checkpoint, data.name, columns, data.test.labels, view_of)
    _show(figure_1(*shared, count=count, by=by, label=names[by]), checkpoint)
    try:
        _show(figure_2(*shared), checkpoint)
    except InputError as error:
        st.info(str(error), icon=":material/info:")
    common.say_what_is_shown(checkpoint, where)


def _check_images() -> None:
    wanted = session.current().images
    if not 1 <= wanted <= MOST_IMAGES:
        session.complain(f"The link asks for {wanted} images; a figure shows 1 to {MOST_IMAGES}.")
        session.update(images=min(max(wanted, 1), MOST_IMAGES))


def _show(sheet: Sheet, checkpoint: Checkpoint) -> None:
    st.subheader(sheet.title, anchor=False)
    picture = base64.b64encode(export(sheet, "png")).decode()
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
            return export(sheet, kind, loaders.box_atlas(checkpoint.name, checkpoint.digest))

        st.download_button(
            f"Download {sheet.name}.{kind}", make, f"{sheet.name}.{kind}", FORMATS[kind][1], on_click="ignore"
        )
        st.caption(text.EXPORT)


def _format_name(kind: str) -> str:
    return FORMATS[kind][0]
