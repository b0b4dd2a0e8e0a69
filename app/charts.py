"""Plotly figures: what is turned, zoomed and lassoed. Plotly is imported when the first one is drawn."""

from typing import TYPE_CHECKING

import numpy as np

from app.compute import Array

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito, Paul Tol: ten classes that the colour-blind tell apart on white and on black
CLASSES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#AA4499", "#777777"]
MOST_CLASSES = len(CLASSES)
HEIGHT, PROJECTOR_HEIGHT = 480, 720


def scatter(
    x: Array, y: Array, names: tuple[str, str], labels: Array | None, *, logs: bool = True, projector: bool = False
) -> "Figure":
    """One dot a test image, its number as ``customdata``, its class as colour.

    ``names`` are the axes' words. An axis is logarithmic where ``logs`` and all its values are positive; what is not
    finite is left out.
    """
    from plotly.graph_objects import Figure, Scattergl

    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    figure = Figure()
    for name, rows, colour in _classes(labels, shown):
        figure.add_trace(
            Scattergl(
                x=x[rows].astype(np.float32),
                y=y[rows].astype(np.float32),
                customdata=rows,
                mode="markers",
                name=name,
                marker={"color": colour, "size": 7 if projector else 5, "opacity": 0.65},
                hovertemplate=f"test image %{{customdata}}<br>{names[0]}: %{{x:.4g}}<br>{names[1]}: %{{y:.4g}}",
            )
        )
    for axis, values, title in (("xaxis", x[shown], names[0]), ("yaxis", y[shown], names[1])):
        kind = "log" if logs and len(values) and values.min() > 0 else "linear"
        figure.update_layout({axis: {"type": kind, "title": title, "exponentformat": "power"}})
    return figure.update_layout(
        height=PROJECTOR_HEIGHT if projector else HEIGHT,
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        font={"size": 20 if projector else 14},
        legend={"title": "class ", "itemsizing": "constant", "orientation": "h", "y": 1, "yanchor": "bottom"},
        dragmode="lasso",
        showlegend=len(figure.data) > 1,
    )


def _classes(labels: Array | None, shown: Array) -> list[tuple[str, Array, str]]:
    """Name, images and colour of each class; one for all where there are too many to tell apart, or none."""
    kinds = [] if labels is None else np.unique(labels[shown]).tolist()
    if labels is None or not 1 < len(kinds) <= MOST_CLASSES:
        return [("all", shown, CLASSES[0])]
    return [(str(kind), shown[labels[shown] == kind], CLASSES[k]) for k, kind in enumerate(kinds)]
