"""The third page: is uncertainty difficulty? Any score against any exact figure, over all test images."""

from typing import Any

import numpy as np
import streamlit as st

from app import charts, session, text
from app.state import difficulty_query, short
from app.views import common, picking
from app.words import t
from gpvae_core.diagnostics.statistics import partial_spearman, rank_interval, spearman
from gpvae_core.diagnostics.stored import Columns

GIVEN, UPWARDS = "log_width", "Against, upwards"


def page() -> None:
    """Draw the page."""
    picking.leave()
    common.framed(t(text.DIFFICULTY_TITLE), t(text.DIFFICULTY_LEAD), _difficulty, difficulty_query)


def _difficulty() -> None:
    first, second, third, fourth = st.columns([3, 3, 3, 2], gap="medium", vertical_alignment="bottom")
    with first:
        checkpoint = common.choose_checkpoint()
    where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
    names = common.order_names(checkpoint, columns, some=True)
    with second:
        across = common.choose_order(names, "Score, from left to right")
    with third:
        up = _choose_target({name: label for name, label in names.items() if name != across}, across)
    with fourth:
        st.toggle(t("Linear axes"), **session.bound("linear"))
    if not any(name in common.EXACT for name in names):
        st.info(t(text.NO_EXACT, name=checkpoint.name), icon=":material/info:")
    st.markdown(finding(columns, names, across, up))
    figure = charts.scatter(
        columns[across],
        columns[up],
        (common.with_unit(across, names[across]), common.with_unit(up, names[up])),
        where.data.test.labels,
        logs=not session.current().linear,
        projector=session.current().projector,
    )
    event: Any = st.plotly_chart(
        figure, key=f"scatter-{checkpoint.digest[:8]}-{across}-{up}", on_select="rerun", config=charts.PICKING
    )
    picking.show(where, picking.chosen(event, len(where.data.test)), columns[up], names[up])
    common.say_what_is_shown(checkpoint, where)


def _choose_target(names: dict[str, str], across: str) -> str:
    """The figure on the upright axis, another than ``across``; a link's that is not there is named."""
    state = session.current()
    if state.against not in names:
        if state.against and state.against != across:
            session.complain(t(text.NO_FIGURE, name=short(state.against), list=t(UPWARDS)))
        exact = [name for name in names if name in common.EXACT]
        session.update(against=(exact or list(names))[0])
    return str(st.selectbox(t(UPWARDS), list(names), format_func=names.get, **session.bound("against")))


def finding(columns: Columns, names: dict[str, str], across: str, up: str) -> str:
    """What the cloud says, in words: the rank correlation, its interval, and what is left of it at given width."""
    finite = np.isfinite(columns[across]) & np.isfinite(columns[up])
    x, y = columns[across][finite], columns[up][finite]
    rho = spearman(x, y)
    low, high = rank_interval(rho, len(x))
    said = [t(text.RANKS, across=names[across], up=names[up], count=len(x), rho=rho, low=low, high=high)]
    within = partial_spearman(x, y, columns[GIVEN][finite]) if GIVEN in columns and GIVEN not in (across, up) else None
    if within is not None:
        said.append(t(text.WITHIN, within=within))
    if across == "uncertainty":
        said.append(t(text.CLAIM))
    return " ".join(said)
