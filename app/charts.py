"""Plotly figures: what is turned, zoomed and lassoed. Plotly is imported when the first one is drawn."""

import base64
import io
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from app.compute import Array
from app.overlays import style_of
from app.words import separators, t, written

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# Okabe and Ito, Paul Tol: ten classes that the colour-blind tell apart on white and on black
CLASSES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933", "#AA4499", "#777777"]
MOST_CLASSES = len(CLASSES)
# beside a chart: few enough to leave its title alone on a phone
BUTTONS = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]}
PICKING = BUTTONS | {"displayModeBar": True}  # the lasso is one of them
HEIGHT, PROJECTOR_HEIGHT = 480, 720
CROWD = 2_000  # dots
PLAIN = 3  # the power of ten up to which a tick's number is written out
FEW_DECADES = 4  # on a logarithmic axis: there is room for three ticks in each
LEAST = 1e-4  # nats, on the map's scale: a KL of nothing but rounding
LEVEL = {"color": CLASSES[4], "dash": "dash", "width": 3}
EXACT, Q = CLASSES[-1], style_of("q").colour  # as on every plane; a grey that is seen on white and on black


def scatter(
    x: Array, y: Array, names: tuple[str, str], labels: Array | None, *, logs: bool = True, projector: bool = False
) -> "Figure":
    """One dot a test image, its number as ``customdata``, its class as colour.

    ``names`` are the axes' words. An axis is logarithmic where ``logs`` and all its values are positive; what is not
    finite is left out.
    """
    from plotly.graph_objects import Figure, Scattergl

    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    crowded = len(shown) > CROWD  # the class that is drawn last would hide the others
    opacity = 0.4 if crowded else 0.65
    figure = Figure()
    for name, rows, colour in _classes(labels, shown):
        figure.add_trace(
            Scattergl(
                x=x[rows].astype(np.float32),
                y=y[rows].astype(np.float32),
                customdata=rows,
                mode="markers",
                name=name,
                marker={"color": colour, "size": (7 if projector else 5) - 2 * crowded, "opacity": opacity},
                hovertemplate=f"{t('test image')} %{{customdata}}<br>{names[0]}: %{{x:.4g}}<br>{names[1]}: %{{y:.4g}}",
            )
        )
    for axis, values, title in (("xaxis", x[shown], names[0]), ("yaxis", y[shown], names[1])):
        kind = "log" if logs and len(values) and values.min() > 0 else "linear"
        ticks = decades(values) if kind == "log" else {}
        figure.update_layout({axis: {"type": kind, "title": title, "exponentformat": "power"} | ticks})
    return figure.update_layout(
        **_room(projector),
        legend={"title": f"{t('class')} ", "itemsizing": "constant", "orientation": "h", "y": 1, "yanchor": "bottom"},
        dragmode="zoom",  # with a lasso as the first tool Streamlit lets no click choose a dot
        showlegend=len(figure.data) > 1,
    )


def decades(values: Array) -> dict[str, Any]:
    """Ticks of a logarithmic axis over ``values``: whole numbers as 0.02, where Plotly's own are a lone 2.

    At powers of ten and, where these are few, at their doubles and fives.
    """
    low, high = floor(log10(values.min())), ceil(log10(values.max()))
    steps = (1, 2, 5) if high - low <= FEW_DECADES else (1,)
    places = [(step, k) for k in range(low, high + 1) for step in steps]
    said = [written(step * 10.0**k, "g") if abs(k) <= PLAIN else f"{step}·10<sup>{k}</sup>" for step, k in places]
    said = [words.removeprefix("1·") for words in said]
    return {"tickmode": "array", "tickvals": [step * 10.0**k for step, k in places], "ticktext": said}


def _room(projector: bool, height: int | None = None) -> dict[str, Any]:
    """Height, margins, type and numbers of a chart."""
    return {
        "height": height or (PROJECTOR_HEIGHT if projector else HEIGHT),
        "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
        "font": {"size": 20 if projector else 14},
        "separators": separators(),
    }


def _classes(labels: Array | None, shown: Array) -> list[tuple[str, Array, str]]:
    """Name, images and colour of each class; one for all where there are too many to tell apart, or none."""
    kinds = [] if labels is None else np.unique(labels[shown]).tolist()
    if labels is None or not 1 < len(kinds) <= MOST_CLASSES:
        return [(t("all"), shown, CLASSES[0])]
    return [(str(kind), shown[labels[shown] == kind], CLASSES[k]) for k, kind in enumerate(kinds)]


def latent_map(
    means: Array,
    labels: Array | None,
    gaps: Array | None,
    tiles: Array,
    half: float,
    *,
    by_gap: bool = False,
    projector: bool = False,
) -> "Figure":
    """Where the encoder puts each test image, over what the plane decodes to.

    ``means`` (n, 2); ``tiles`` (k, k, 28, 28) decoded over [-half, half]^2, first axis first; ``gaps`` (n,) in nats:
    ``by_gap`` they colour the ground, a median a cell, where ``tiles`` are shown else.
    """
    from plotly.graph_objects import Figure, Heatmap, Scattergl

    figure = Figure()
    if by_gap and gaps is not None:
        edges, medians = median_cells(means, gaps, half)
        middle, depth = (edges[:-1] + edges[1:]) / 2, np.log10(np.maximum(medians, LEAST))
        known = depth[np.isfinite(depth)]
        ticks = np.arange(np.floor(known.min()), np.ceil(known.max()) + 1) if known.size else []
        bar = {
            "title": {"text": t("median KL, nats"), "font": {"size": 18 if projector else 13}},
            "orientation": "h",
            "y": -0.12,
            "yanchor": "top",
            "thickness": 14,
        }
        bar |= {"tickvals": ticks, "ticktext": [written(10.0**tick, "g") for tick in ticks]}
        said = [[_of_cell(value) for value in row] for row in medians.T]
        cells = {"x": middle, "y": middle, "z": depth.T.astype(np.float32), "customdata": said}
        figure.add_trace(
            Heatmap(**cells, colorscale="Viridis", colorbar=bar, hovertemplate="%{customdata}<extra></extra>")
        )
    edge = {"color": "#fff", "width": 1} if by_gap else {}  # on a ground of colours
    shown = np.flatnonzero(np.isfinite(means).all(1) & (np.abs(means) <= half).all(1))
    for name, rows, colour in _classes(labels, shown):
        figure.add_trace(
            Scattergl(
                x=means[rows, 0].astype(np.float32),
                y=means[rows, 1].astype(np.float32),
                customdata=rows,
                mode="markers",
                name=name,
                marker={"color": colour, "size": (6 if projector else 4) + by_gap, "opacity": 0.75, "line": edge},
                hovertemplate=f"{t('test image')} %{{customdata}}<br>z = (%{{x:.2f}}, %{{y:.2f}})",
            )
        )
    if not by_gap:
        size = {"x": -half, "y": half, "sizex": 2 * half, "sizey": 2 * half}
        figure.add_layout_image(
            source=mosaic(tiles), xref="x", yref="y", **size, sizing="stretch", layer="below", opacity=0.35
        )
    axis = {"range": [-half, half], "constrain": "domain"}
    return figure.update_layout(
        xaxis=axis | {"title": "z₁"},
        yaxis=axis | {"title": "z₂", "scaleanchor": "x", "constraintoward": "top"},
        **_room(projector, 900 if projector else 680),
        legend={"title": f"{t('class')} ", "itemsizing": "constant", "orientation": "h", "y": 1, "yanchor": "bottom"},
        dragmode="zoom",  # with a lasso as the first tool Streamlit lets no click choose a dot
        showlegend=len(figure.data) > 1,
    )


def _of_cell(median: float) -> str:
    return (
        f"{t('median KL')} {written(median, '.3g')} {t('nats')}"
        if np.isfinite(median)
        else t("no test image lies here")
    )


def median_cells(means: Array, gaps: Array, half: float, count: int = 24) -> tuple[Array, Array]:
    """Edges of ``count`` cells a side of [-half, half]^2, and the median gap in each, NaN where no mean lies."""
    edges = np.linspace(-half, half, count + 1)
    place = np.floor((means + half) / (2 * half) * count).astype(int)
    medians = np.full((count, count), np.nan)
    inside = ((place >= 0) & (place < count)).all(1) & np.isfinite(gaps)
    for i, j in np.unique(place[inside], axis=0):
        medians[i, j] = np.median(gaps[inside & (place == (i, j)).all(1)])
    return edges, medians


def ink(pixels: Array) -> str:
    """One image (h, w) in [0, 1] as a picture, dark ink on white."""
    buffer = io.BytesIO()
    Image.fromarray(255 - np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)).save(buffer, "PNG")
    return _url(buffer)


def mosaic(tiles: Array) -> str:
    """Tiles (k, k, 28, 28) of bytes as one picture, dark ink on nothing: the first axis to the right, the second up."""
    k, side = len(tiles), tiles.shape[-1]
    ink = tiles[:, ::-1].transpose(1, 2, 0, 3).reshape(k * side, k * side)
    buffer = io.BytesIO()
    Image.merge("LA", [Image.new("L", ink.shape, 110), Image.fromarray(ink)]).save(buffer, "PNG")
    return _url(buffer)


def _url(png: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


CAMERA = {"eye": {"x": 1.2, "y": -1.5, "z": 0.9}, "center": {"x": 0, "y": 0, "z": -0.1}}  # the whole box is in view
DEPTH = 12.0  # nats below the peak at which the surface's floor lies


def surface(first: Array, second: Array, log_density: Array, *, projector: bool = False) -> "Figure":
    """log p(z|x) over the zoomed window, in nats below its peak, to be turned; its floor at DEPTH."""
    from plotly.graph_objects import Figure, Surface

    heights = np.maximum(log_density - log_density.max(), -DEPTH)[::2, ::2].T.astype(np.float32)
    lines = {"show": True, "start": -DEPTH, "end": 0, "size": 1, "color": "#fff", "usecolormap": False}
    figure = Figure(
        Surface(
            x=first[::2].astype(np.float32),
            y=second[::2].astype(np.float32),
            z=heights,
            colorscale="Viridis",
            contours={"z": lines},
            showscale=False,  # the upright axis says it
            hovertemplate=f"z = (%{{x:.3f}}, %{{y:.3f}})<br>%{{z:.2f}} {t('nats')}<extra></extra>",
        )
    )
    box = {"x": 1.0, "y": float(np.clip(np.ptp(second) / np.ptp(first), 0.5, 2.0)), "z": 0.7}
    return figure.update_layout(
        scene={"xaxis": {"title": "z₁"}, "yaxis": {"title": "z₂"}, "zaxis": {"title": "log p(z|x)"}}
        | {"aspectmode": "manual", "aspectratio": box, "camera": CAMERA},
        height=PROJECTOR_HEIGHT if projector else HEIGHT,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        font={"size": 18 if projector else 13},
    )


BINS = 10


def histogram(found: dict[str, Array], *, projector: bool = False) -> "Figure":
    """Masses in [0, 1] in BINS bins, a colour each, and the level at which all bins would be equally full."""
    from plotly.graph_objects import Bar, Figure

    edges = np.linspace(0, 1, BINS + 1)
    figure = Figure()
    for colour, (name, values) in zip((EXACT, *CLASSES[1::-1]), found.items(), strict=False):
        counts = np.histogram(values, edges)[0]
        figure.add_trace(Bar(x=100 * (edges[:-1] + edges[1:]) / 2, y=counts, name=t(name), marker={"color": colour}))
    level = len(next(iter(found.values()))) / BINS
    figure.add_scatter(x=[0, 100], y=[level, level], mode="lines", name=t("honest regions"), line=LEVEL)
    return figure.update_layout(
        xaxis={"title": t("mass of the region on whose edge the true z lies, %")},
        yaxis={"title": t("images")},
        **_room(projector, PROJECTOR_HEIGHT if projector else 380),
        legend={"orientation": "h", "y": 1, "yanchor": "bottom"},
    )


def learning_curves(epochs: list[dict[str, Any]], looks: list[dict[str, Any]], *, projector: bool = False) -> "Figure":
    """Objective and validation ELBO of each epoch above; below, KL(q || p(z|x)) of each image that is followed.

    ``epochs`` and ``looks`` are the records of ``app.trainer``.
    """
    from plotly.subplots import make_subplots

    titles = (t("ELBO, nats an image"), t("KL(q ‖ p(z|x)), nats, of ten test images"))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.12, subplot_titles=titles)
    number = [record["epoch"] for record in epochs]
    for name, key, colour in ((t("training"), "objective", CLASSES[0]), (t("validation"), "validation", CLASSES[5])):
        values = [record[key] for record in epochs]
        figure.add_scatter(x=number, y=values, name=name, mode="lines+markers", line={"color": colour}, row=1, col=1)
    at = [record["look"] for record in looks]
    if looks:
        gaps = np.array([record["gaps"] for record in looks])
        for k, gap in enumerate(gaps.T):
            thin = {"color": CLASSES[-1], "width": 1}
            figure.add_scatter(
                x=at, y=gap, name=f"{t('test image')} {k}", mode="lines", line=thin, showlegend=False, row=2, col=1
            )
        thick = {"color": Q, "width": 4}
        figure.add_scatter(x=at, y=gaps.mean(1), name=t("mean KL"), mode="lines+markers", line=thick, row=2, col=1)
        figure.update_yaxes(type="log", row=2, col=1, exponentformat="power")
    figure.update_xaxes(title=t("epoch"), tick0=0, dtick=max(1, len(epochs) // 8), row=2, col=1)
    return figure.update_layout(
        **_room(projector),
        legend={"orientation": "h", "y": 1.08, "x": 1, "xanchor": "right", "yanchor": "bottom"},
    )


def evolution(looks: list[dict[str, Any]], *, projector: bool = False) -> "Figure":
    """The first followed image's exact posterior and q at each look, one after another: a slider, and play."""
    from plotly.graph_objects import Figure, Frame, Scatter

    def lines(record: dict[str, Any]) -> list[Scatter]:
        found = []
        for name, key, colour, dash in (
            (t("exact"), "exact", EXACT, "solid"),
            (t("encoder's q"), "q", Q, "dash"),
        ):
            joined = [point for line in record[key] for point in (*line, (None, None))]  # one trace, broken
            x, y = zip(*joined, strict=True) if joined else ((), ())
            found.append(Scatter(x=x, y=y, mode="lines", name=name, line={"color": colour, "dash": dash, "width": 3}))
        return found

    names = [str(record["look"]) for record in looks]
    windows = [_window(record["exact"] + record["q"]) for record in looks]
    frames = [
        Frame(data=lines(record), name=name, layout={"xaxis": {"range": x}, "yaxis": {"range": y}})
        for record, name, (x, y) in zip(looks, names, windows, strict=True)
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": name, "method": "animate", "args": [[name], still]} for name in names]
    going = {"frame": {"duration": 900, "redraw": True}, "transition": {"duration": 0}}
    play = {"label": t("Play"), "method": "animate", "args": [names, going]}
    return Figure(data=lines(looks[-1]), frames=frames).update_layout(
        xaxis={"title": "z₁", "range": windows[-1][0], "constrain": "domain"},
        yaxis={"title": "z₂", "range": windows[-1][1], "scaleanchor": "x"},
        **_room(projector),
        legend={"orientation": "h", "y": 1, "yanchor": "bottom"},
        sliders=[
            {
                "steps": steps,
                "active": len(looks) - 1,
                "pad": {"t": 40},
                "currentvalue": {"prefix": f"{t('after epoch')} "},
            }
        ],
        updatemenus=[
            {"type": "buttons", "buttons": [play], "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
            | {"showactive": False, "bgcolor": CLASSES[0], "font": {"color": "white"}}
        ],
    )


def _window(outlines: list[list[list[float]]]) -> tuple[list[float], list[float]]:
    """Both ranges of the square that holds all outlines, and a little more."""
    points = np.array([point for line in outlines for point in line])
    middle, half = (points.min(0) + points.max(0)) / 2, 0.55 * float(np.ptp(points, 0).max())
    first, second = ([float(m - half), float(m + half)] for m in middle)
    return first, second
