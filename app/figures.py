"""Arrays -> Plotly figures. Knows neither streamlit nor torch."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from contourpy import contour_generator
from numpy.typing import NDArray

from app.theme import (
    BASE_COLOUR,
    BASE_DASH,
    FONT_SIZE,
    MARGINAL_COLOUR,
    MARGINAL_DASH,
    MASSES,
    POSTERIOR_COLOUR,
)

Array = NDArray[np.floating]
PLANE_HEIGHT = 470


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian to draw: mean and std (2,), name, colour and dash."""

    mean: Array
    std: Array
    name: str
    colour: str
    dash: str


def base_gaussian(mean: Array, std: Array) -> Gaussian:
    """The base encoder, red and dashed."""
    return Gaussian(mean, std, "base encoder", BASE_COLOUR, BASE_DASH)


def marginal_gaussian(mean: Array, std: Array) -> Gaussian:
    """The marginalised encoder, blue and solid."""
    return Gaussian(mean, std, "marginalised q(z|x)", MARGINAL_COLOUR, MARGINAL_DASH)


def ellipse(gaussian: Gaussian, mass: float, points: int = 90) -> tuple[Array, Array]:
    """The outline of the region that holds ``mass`` of a 2-D Gaussian: radius sqrt(-2 log(1 - mass)) std."""
    angle = np.linspace(0, 2 * np.pi, points)
    radius = np.sqrt(-2 * np.log1p(-mass))
    first, second = radius * gaussian.std[:, None] * np.stack([np.cos(angle), np.sin(angle)]) + gaussian.mean[:, None]
    return first, second


def zoom_window(posterior_low: Array, posterior_high: Array, gaussians: list[Gaussian], most: float = 12.0):
    """A square window over the posterior's mass, widened to hold each q's 95 % region where that costs less than
    ``most`` times the side; returns (low, high, names left out)."""
    low, high = posterior_low.copy(), posterior_high.copy()
    side = float((high - low).max())
    left_out = []
    for q in gaussians:
        reach = 2.6 * q.std
        wide_low, wide_high = np.minimum(low, q.mean - reach), np.maximum(high, q.mean + reach)
        if (wide_high - wide_low).max() > most * side:
            left_out.append(q.name)
        else:
            low, high = wide_low, wide_high
    centre, half = (low + high) / 2, 0.54 * float((high - low).max())
    return centre - half, centre + half, left_out


def box_figure(axis: Array, log_joint: Array, gaussians: list[Gaussian], low: Array, high: Array) -> go.Figure:
    """log p(z|x) over the whole prior box, in nats below its maximum, on a log scale."""
    below = float(log_joint.max()) - log_joint
    colour = np.log10(1 + below).astype(np.float32)
    ticks = np.array([0, 1, 10, 100, 1000, 10_000])
    figure = go.Figure(
        go.Heatmap(
            x=axis[::2],
            y=axis[::2],
            z=colour[::2, ::2].T,
            zmin=0,
            colorscale="Viridis",
            reversescale=True,
            zsmooth="best",
            hovertemplate="z = (%{x:.2f}, %{y:.2f})<extra></extra>",
            colorbar={
                "title": {"text": "nats below the maximum", "side": "right", "font": {"size": 13}},
                "tickvals": np.log10(1 + ticks),
                "ticktext": [f"{t:,}" for t in ticks],
                "thickness": 12,
                "tickfont": {"size": 12},
            },
        )
    )
    lines = contour_generator(axis, axis, below.T).lines
    for level in (3.0, 30.0, 300.0):
        figure.add_trace(_polylines(lines(level), f"{level:.0f} nats below", "white", "solid", 1.0))
    for q in gaussians:
        figure.add_trace(_centre(q))
    figure.add_shape(type="rect", x0=low[0], x1=high[0], y0=low[1], y1=high[1], line={"color": "#CC79A7", "width": 3})
    edge = float(axis[-1])
    return _as_plane(figure, [-edge, edge], [-edge, edge], "The whole prior box")


def zoom_figure(first: Array, second: Array, log_density: Array, levels: Array, gaussians: list[Gaussian]) -> go.Figure:
    """p(z|x) where its mass is, with regions of 50, 80 and 95 % of each density."""
    density = np.exp(log_density - np.nanmax(log_density)).astype(np.float32)
    figure = go.Figure(
        go.Heatmap(
            x=first,
            y=second,
            z=density.T,
            colorscale=[[0, "rgba(255,255,255,1)"], [1, "rgba(120,120,120,1)"]],
            showscale=False,
            zsmooth="best",
            hovertemplate="z = (%{x:.4f}, %{y:.4f})<extra></extra>",
        )
    )
    floor = np.nan_to_num(log_density, neginf=-1e4)
    lines = contour_generator(first, second, floor.T).lines
    for position, (mass, level) in enumerate(zip(MASSES, levels, strict=True)):
        trace = _polylines(lines(float(level)), "exact p(z|x)", POSTERIOR_COLOUR, "solid", 1.4 + 0.5 * position)
        figure.add_trace(trace.update(legendgroup="exact", showlegend=position == 0, meta={"mass": mass}))
        _label_mass(figure, trace, mass)
    for q in reversed(gaussians):  # the dashed base on top: where both agree, both show
        for position, mass in enumerate(MASSES):
            x, y = ellipse(q, mass)
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="lines",
                    name=q.name,
                    legendgroup=q.name,
                    showlegend=position == 0,
                    line={"color": q.colour, "dash": q.dash, "width": 2.5},
                    hovertemplate=f"{q.name}: {mass:.0%} of its mass<extra></extra>",
                    meta={"mass": mass},
                )
            )
        figure.add_trace(_centre(q).update(showlegend=False, legendgroup=q.name))
    title = "Zoomed to the mass: regions of 50, 80, 95 %"
    return _as_plane(figure, [first[0], first[-1]], [second[0], second[-1]], title)


def strip_figure(images: Array, names: list[str], hover: list[str], chosen: int | None) -> go.Figure:
    """Thumbnails (n, H, W) in a row with its name under each; invisible markers take the clicks."""
    gap = 3
    n, height, width = images.shape
    canvas = np.full((height, n * (width + gap) - gap), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        canvas[:, i * (width + gap) : i * (width + gap) + width] = 255 - image
    centres = np.arange(n) * (width + gap) + width / 2 - 0.5
    figure = go.Figure(
        go.Heatmap(
            z=canvas[::-1], colorscale="Greys", reversescale=True, zmin=0, zmax=255, showscale=False, hoverinfo="skip"
        )
    )
    figure.add_trace(
        go.Scatter(
            x=centres,
            y=np.full(n, height / 2),
            mode="markers",
            marker={"size": 44, "symbol": "square", "opacity": 0},
            hovertext=hover,
            hoverinfo="text",
            customdata=np.arange(n),
            showlegend=False,
        )
    )
    if chosen is not None:
        x = chosen * (width + gap) - 0.5
        figure.add_shape(
            type="rect", x0=x, x1=x + width, y0=-0.5, y1=height - 0.5, line={"color": MARGINAL_COLOUR, "width": 4}
        )
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 24}, height=125, dragmode=False, clickmode="event+select")
    figure.update_xaxes(
        tickvals=centres, ticktext=names, tickangle=0, fixedrange=True, showgrid=False, tickfont={"size": 11}
    )
    figure.update_yaxes(visible=False, fixedrange=True, scaleanchor="x")
    return figure


def _polylines(lines: list[Array], name: str, colour: str, dash: str, width: float) -> go.Scatter:
    gap = np.full((1, 2), np.nan)
    joined = np.concatenate([part for line in lines for part in (line, gap)]) if lines else gap
    return go.Scatter(
        x=joined[:, 0],
        y=joined[:, 1],
        mode="lines",
        name=name,
        showlegend=False,
        line={"color": colour, "dash": dash, "width": width},
        hoverinfo="skip",
    )


def _label_mass(figure: go.Figure, trace: go.Scatter, mass: float) -> None:
    """The mass beside its contour: each at another side, so that narrow regions do not stack their labels."""
    x, y = (np.asarray(values, dtype=float) for values in (trace.x, trace.y))
    if not np.isfinite(y).any():
        return
    index, x_shift, y_shift = {
        MASSES[0]: (np.nanargmax(x), 16, 0),
        MASSES[1]: (np.nanargmin(y), 0, -9),
        MASSES[2]: (np.nanargmax(y), 0, 9),
    }[mass]
    figure.add_annotation(
        x=x[index],
        y=y[index],
        text=f"{mass:.0%}",
        showarrow=False,
        xshift=x_shift,
        yshift=y_shift,
        font={"size": 13, "color": "#222"},
    )


def _centre(q: Gaussian) -> go.Scatter:
    symbol = "x" if q.dash == BASE_DASH else "cross"
    return go.Scatter(
        x=[q.mean[0]],
        y=[q.mean[1]],
        mode="markers",
        name=q.name,
        marker={"color": q.colour, "symbol": symbol, "size": 11, "line": {"color": "white", "width": 1}},
        hovertemplate=f"mean of the {q.name}: (%{{x:.4f}}, %{{y:.4f}})<extra></extra>",
    )


def _as_plane(figure: go.Figure, x_range: list[float], y_range: list[float], title: str) -> go.Figure:
    figure.update_layout(
        title={"text": title, "font": {"size": FONT_SIZE + 1}, "x": 0.02, "xanchor": "left"},
        height=PLANE_HEIGHT,
        margin={"l": 50, "r": 10, "t": 40, "b": 84},
        font={"size": FONT_SIZE},
        legend={"orientation": "h", "yanchor": "top", "y": -0.16, "x": 0, "font": {"size": 13}},
        plot_bgcolor="white",
        dragmode="pan",
    )
    figure.update_xaxes(
        range=x_range, title={"text": "z₁", "standoff": 2}, nticks=6, showgrid=False, zeroline=False, constrain="domain"
    )
    figure.update_yaxes(
        range=y_range,
        title={"text": "z₂", "standoff": 2},
        nticks=8,
        showgrid=False,
        zeroline=False,
        scaleanchor="x",
        constrain="domain",
    )
    return figure
