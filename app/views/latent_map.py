"""The latent map: where the encoder puts each test image, over what the plane decodes to, or over the gap there."""

from typing import Any

import streamlit as st

from app import charts, loaders, session, text
from app.state import map_query
from app.views import common, picking
from app.words import t

GROUNDS = {False: "Decoded images", True: "Median gap"}


def page() -> None:
    """Draw the page."""
    picking.leave()
    common.framed(t(text.MAP_TITLE), t(text.MAP_LEAD), _map, map_query)


def _map() -> None:
    first, second = st.columns([2, 3], gap="medium", vertical_alignment="bottom")
    with first:
        checkpoint = common.choose_checkpoint()
    where, columns = common.source_of(checkpoint), common.columns_of(checkpoint)
    common.engine_of(checkpoint)
    gaps = common.encoder_gaps(columns)
    with second:
        if gaps is not None:
            bound = session.bound("by_gap")
            st.segmented_control(
                t("Background"), list(GROUNDS), format_func=lambda ground: t(GROUNDS[ground]), required=True, **bound
            )
    means, tiles, half = common.awaited(loaders.mapping(checkpoint))
    figure = charts.latent_map(
        means,
        where.data.test.labels,
        gaps,
        tiles,
        half,
        by_gap=session.current().by_gap,
        projector=session.current().projector,
    )
    event: Any = st.plotly_chart(figure, key=f"map-{checkpoint.digest[:8]}", on_select="rerun", config=charts.PICKING)
    values, label = (means[:, 0], "z₁") if gaps is None else (gaps, t("exact KL of the encoder"))
    picking.show(where, picking.chosen(event, len(where.data.test)), values, label)
    common.say_what_is_shown(checkpoint, where)
