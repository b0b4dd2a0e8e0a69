"""One image of a Sheet as a Plotly chart: pointed at, enlarged and dragged, in the colours of the page."""

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from app.compute import Array, View
from app.figures.sheet import Sheet
from app.overlays import Overlay
from app.payload import BOX_LEVELS, box_contours, mass_contours
from app.theme import COLOURS, MASSES
from app.words import separators, t, written

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HEIGHT, PROJECTOR_HEIGHT = 340, 500
GREY, BRIGHT = "110,110,110", "190,190,190"  # of the heat on a light page and on a dark one
SHADES = 13  # of the density: one a nat below the peak
WINDOW, RING = "#A3397C", "#888888"
DASH, BORDER = {"-": "solid", "--": "dash", ":": "dot"}, {"-": "solid", "--": "dashed", ":": "dotted"}
EVERY = 2  # of the lattice's nodes: smoothed in the browser


def chart(view: View, drawn: tuple[str, ...], *, whole: bool, dark: bool, projector: bool) -> "Figure":
    """p(z|x) with its regions of MASSES, and the q's whose keys are ``drawn``, over the mass or the ``whole`` box."""
    from plotly.graph_objects import Figure

    figure = Figure((_depths_of_box if whole else _density)(view, BRIGHT if dark else GREY))
    if whole:
        figure.add_trace(_lines(chain(*box_contours(view).values()), RING, "solid", 1))
        figure.add_shape(type="rect", **_corners(view), line={"color": WINDOW, "width": 2})
    else:
        figure.add_trace(_lines(chain(*mass_contours(view).values()), _exact(dark), "solid", 2))
    for q in reversed(view.overlays):  # the first one, dashed, on top: where both agree, both show
        if q.key in drawn:
            colour = _colour(q, dark)
            if not whole:
                figure.add_trace(_lines(chain(*q.outlines.values()), colour, DASH[q.style.dash], 2))
            figure.add_trace(_centre(q, colour, view))
    if view.truth is not None:
        figure.add_trace(_mark(view.truth, t("the true z"), COLOURS["truth"], "star", ""))
    axes = (view.box_axis, view.box_axis) if whole else (view.zoom_first, view.zoom_second)
    first, second = (ends[[0, -1]].tolist() for ends in axes)
    size = {"size": 18 if projector else 12}
    axis = {"showgrid": False, "zeroline": False, "nticks": 5, "constrain": "domain", "tickfont": size}
    axis |= {"showline": True, "mirror": True, "linecolor": RING, "title": {"standoff": 4, "font": size}}
    return figure.update_layout(
        xaxis=axis | {"range": first, "title.text": "z₁"},
        yaxis=axis | {"range": second, "title.text": "z₂", "scaleanchor": "x"},
        height=PROJECTOR_HEIGHT if projector else HEIGHT,
        margin={"l": 4, "r": 10, "t": 10, "b": 4},
        separators=separators(),
        showlegend=False,
    )


def legend(sheet: Sheet, *, whole: bool, dark: bool) -> list[tuple[str, str, str]]:
    """What each kind of line is: words, colour and CSS's border style, the exact posterior's first."""
    rest = [(t(q.label), _colour(q, dark), BORDER[q.style.dash]) for q in sheet.drawn]
    if whole:
        depths = t("log p(x, z), {levels} nats below its maximum", levels=_listed(BOX_LEVELS))
        return [(depths, RING, "solid"), (t("the part that holds the mass"), WINDOW, "solid"), *rest]
    masses = t("exact p(z|x): regions of {masses} % of its mass", masses=_listed([100 * mass for mass in MASSES]))
    return [(masses, _exact(dark), "solid"), *rest]


def _listed(values: Sequence[float]) -> str:
    *first, last = (f"{value:g}" for value in values)
    return t("{first} and {last}", first=", ".join(first), last=last)


def _colour(q: Overlay, dark: bool) -> str:
    return q.style.dark if dark else q.style.colour


def _exact(dark: bool) -> str:
    return "#bbbbbb" if dark else COLOURS["exact"]


def _density(view: View, grey: str) -> Any:
    """log p(z|x) in nats below its peak; what is drawn is its density."""
    from plotly.graph_objects import Heatmap

    below = (float(view.zoom_log_density.max()) - view.zoom_log_density)[::EVERY, ::EVERY]
    shades = [
        [k / (SHADES - 1), f"rgba({grey},{0.85 * np.exp(-k) if k < SHADES - 1 else 0:.4f})"] for k in range(SHADES)
    ]
    return Heatmap(
        x=view.zoom_first[::EVERY].astype(np.float32),
        y=view.zoom_second[::EVERY].astype(np.float32),
        z=np.where(np.isfinite(below), below, 1e4).T.astype(np.float32),
        zmin=0,
        zmax=SHADES - 1,
        colorscale=shades,
        showscale=False,
        zsmooth="best",
        hovertemplate=f"z = (%{{x:.3f}}, %{{y:.3f}})<br>%{{z:.2f}} {t('nats below the peak')}<extra></extra>",
    )


def _depths_of_box(view: View, grey: str) -> Any:
    """log p(x, z) over the whole box, in nats below its maximum, on the paper's scale."""
    from plotly.graph_objects import Heatmap

    below = float(view.box_log_joint.max()) - view.coarse_box
    axis = np.linspace(view.box_axis[0], view.box_axis[-1], len(below)).astype(np.float32)
    below_top = t("nats below the maximum")
    return Heatmap(
        x=axis,
        y=axis,
        z=np.log10(1 + below).T.astype(np.float32),
        customdata=below.T.astype(np.float32),
        colorscale=[[0, f"rgba({grey},0.85)"], [1, f"rgba({grey},0)"]],
        showscale=False,
        zsmooth="best",
        hovertemplate=f"z = (%{{x:.2f}}, %{{y:.2f}})<br>%{{customdata:.4g}} {below_top}<extra></extra>",
    )


def _lines(lines: Any, colour: str, dash: str, width: float) -> Any:
    """Lines (n, 2) as one trace, broken between them."""
    from plotly.graph_objects import Scatter

    gap = np.full((1, 2), np.nan)
    joined: Array = np.concatenate([gap, *(part for line in lines for part in (line, gap))]).astype(np.float32)
    look = {"color": colour, "dash": dash, "width": width}
    return Scatter(x=joined[:, 0], y=joined[:, 1], mode="lines", line=look, hoverinfo="skip")


def _centre(q: Overlay, colour: str, view: View) -> Any:
    kl = view.report[f"kl_{q.key}"]
    return _mark(q.mean, t(q.label), colour, "circle", f"<br>KL(q ‖ p(z|x)) = {written(kl, '.4g')} {t('nats')}")


def _mark(place: Array, name: str, colour: str, symbol: str, more: str) -> Any:
    from plotly.graph_objects import Scatter

    look = {"color": colour, "size": 13 if symbol == "star" else 9, "symbol": symbol}
    look["line"] = {"color": "white", "width": 1}
    words = f"{name}<br>z = (%{{x:.3f}}, %{{y:.3f}}){more}<extra></extra>"
    return Scatter(x=place[:1], y=place[1:], mode="markers", marker=look, hovertemplate=words)


def _corners(view: View) -> dict[str, float]:
    """Of the window that holds the mass."""
    (x0, x1), (y0, y1) = view.zoom_first[[0, -1]].tolist(), view.zoom_second[[0, -1]].tolist()
    return {"x0": x0, "x1": x1, "y0": y0, "y1": y1}
