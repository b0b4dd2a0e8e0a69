"""The second page: the paper's Figures 1 and 2 on exact posteriors, images chosen by quantiles."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import streamlit as st

from app import charts, loaders, meter, session, text
from app.compute import Array, Encoders, View, to_bytes
from app.figures import panels
from app.figures.export import FORMATS, export, file_name
from app.figures.sheet import FIGURE_2_QUANTILES, Panel, Sheet, figure_1, figure_2
from app.payload import alt_texts
from app.state import figures_query
from app.views import common, picking
from app.words import capital, t
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError

MOST_IMAGES = 24  # the command draws more
PER_ROW = 3


def page() -> None:
    """Draw the page."""
    picking.leave()
    common.framed(t(text.FIGURES_TITLE), t(text.FIGURES_LEAD), _figures, figures_query)


def _figures() -> None:
    first, second, third, fourth = st.columns([3, 3, 2, 3], gap="medium", vertical_alignment="bottom")
    with first:
        checkpoint = common.choose_checkpoint()
        where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
        others = common.choose_encoders(checkpoint, columns, "stretch")
    with second:
        names = common.order_names(checkpoint, columns)
        by = common.choose_order(names)
    with third:
        _check_images()
        count = int(st.number_input(t("Images in Figure 1"), 1, MOST_IMAGES, **session.bound("images")))
    with fourth:
        _choose_window()
    common.engine_of(checkpoint)

    def shared(panels: int, title: str) -> tuple[Any, ...]:
        views = _counted(checkpoint, where.data.test, panels, title, others)
        return checkpoint, where.data.name, columns, where.data.test.labels, views

    with st.container():  # each figure is shown as soon as it is there
        _show(figure_1(*shared(count, t("Figure {number}", number=1)), count=count, by=by, label=names[by]), checkpoint)
    try:
        _show(figure_2(*shared(len(FIGURE_2_QUANTILES), t("Figure {number}", number=2))), checkpoint)
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
        far = t("exact posterior of image {number} of {count}", number=done + 1, count=panels)
        bar.progress(done / panels, text=f"{title}: {far} …")
        pixels = test.pixels(slice(index, index + 1))[0, 0].numpy()
        view = loaders.view(checkpoint, to_bytes(pixels), None, others)
        done += 1
        if done == panels:
            bar.empty()
        return view

    return view_of


def _choose_window() -> None:
    words = {False: t("The mass, enlarged"), True: t("The whole box")}
    bound = session.bound("whole")
    st.segmented_control(t("Each panel shows"), list(words), format_func=words.get, required=True, wrap=True, **bound)


def _check_images() -> None:
    wanted = session.current().images
    if not 1 <= wanted <= MOST_IMAGES:
        session.complain(t(text.TOO_MANY, asked=wanted, most=MOST_IMAGES))
        session.update(images=min(max(wanted, 1), MOST_IMAGES))


def _show(sheet: Sheet, checkpoint: Checkpoint) -> None:
    st.subheader(sheet.title, anchor=False)
    dark = st.context.theme.type == "dark"
    st.html(_legend(panels.legend(sheet, whole=session.current().whole, dark=dark)))
    places = list(range(len(sheet.panels)))
    for start in places[::PER_ROW]:
        for place, column in zip(places[start : start + PER_ROW], st.columns(PER_ROW, gap="medium"), strict=False):
            with column:
                _panel(sheet, place, dark=dark)
    st.caption(f"{sheet.rule} {t(text.READ_PANEL)}")
    with st.expander(t("The numbers of this figure: {title}", title=sheet.title), icon=":material/table:"):
        st.markdown(meter.sheet_table([(panel.heading, panel.view) for panel in sheet.panels]))
    downloads(sheet, [checkpoint])


def _panel(sheet: Sheet, place: int, *, dark: bool) -> None:
    """One image: its heading, its posterior, the image beside its reconstruction, and the way to Explore."""
    panel, state = sheet.panels[place], session.current()
    first, _, rest = panel.heading.partition("\n")
    st.markdown(f"**{capital(first)}**: {rest.replace(chr(10), ' ')}")
    figure = panels.chart(panel.view, sheet.overlays, whole=state.whole, dark=dark, projector=state.projector)
    st.plotly_chart(figure, key=f"{sheet.name}-{place}", config=charts.BUTTONS)
    st.html(_pictures(panel))
    dataset, index = str(sheet.config["dataset"]), panel.index
    assert index is not None
    st.button(
        t("Open image {index} in Explore", index=index),
        key=f"open-{sheet.name}-{place}",
        on_click=picking.to_explore,
        args=(dataset, index),
    )


def _pictures(panel: Panel) -> str:
    """The image and what it becomes; the first one's alternative text says what the whole panel shows."""
    view = panel.view
    name = t("from {the}", the=meter.the(view.stages[0].label))
    words = alt_texts(view, panel.heading.replace("\n", ", "))["zoom"]
    pair = ((t("the image x"), view.pixels, words), (name, view.pictures[view.stages[0].label], name))
    return f'<div class="figure">{"".join(_picture(*one) for one in pair)}</div>'


def _picture(label: str, pixels: Array, alt: str) -> str:
    caption = f"<figcaption>{escape(label)}</figcaption>"
    return f'<figure><img src="{charts.ink(pixels)}" alt="{escape(alt)}">{caption}</figure>'


def _legend(lines: list[tuple[str, str, str]]) -> str:
    keys = (
        f'<span><i style="border-top: 3px {border} {colour}"></i>{escape(label)}</span>'
        for label, colour, border in lines
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def downloads(sheet: Sheet, checkpoints: Sequence[Checkpoint]) -> None:
    """A format and a button; the file is made when it is asked for."""
    with st.popover(t("Export"), icon=":material/download:"):
        kind = st.selectbox(t("Format"), list(FORMATS), format_func=_format_name, key=f"format-{sheet.name}")

        def make() -> bytes:
            return export(sheet, kind, [loaders.box_atlas(checkpoint) for checkpoint in checkpoints])

        st.download_button(
            t("Download {file}", file=file_name(sheet, kind)),
            make,
            file_name(sheet, kind),
            FORMATS[kind][1],
            on_click="ignore",
        )
        st.caption(t(text.EXPORT))


def _format_name(kind: str) -> str:
    return t(FORMATS[kind][0])
