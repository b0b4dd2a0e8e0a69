"""A Sheet -> a Matplotlib figure for print."""

from itertools import chain

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from app.compute import View
from app.figures.sheet import Panel, Sheet
from app.meter import the
from app.overlays import Overlay
from app.payload import mass_contours
from app.theme import COLOURS
from app.words import t, written

PER_ROW = 6
WIDTH = 2.7  # inches of one panel
PICTURES = 1.05  # inches of the row of pictures
NATS = (3, 10, 30, 100, 300, 1000, 3000)
INSET = 0.44  # of the panel's side
DASH = {"-": "solid", "--": (0, (3, 1.6)), ":": (0, (1, 1.3))}


def draw(sheet: Sheet) -> Figure:
    """Panels in rows of PER_ROW: the whole box with the mass enlarged, input and reconstruction below."""
    per_row = min(PER_ROW, len(sheet.panels))
    rows = -(-len(sheet.panels) // per_row)
    scale = max(1.0, 3.2 / per_row) if per_row < 3 else 1.0
    height = rows * (scale * WIDTH + PICTURES + 0.65) + 0.75
    figure = Figure(figsize=(max(per_row * scale * WIDTH, 5.5), height), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.0)
    ratios = [scale * WIDTH, PICTURES] * rows
    grid = figure.add_gridspec(2 * rows, per_row, height_ratios=ratios)
    for place, panel in enumerate(sheet.panels):
        row, column = divmod(place, per_row)
        _plane(figure.add_subplot(grid[2 * row, column]), panel, sheet.overlays)
        _pictures(figure.add_subplot(grid[2 * row + 1, column]), panel.view)
    looks = [
        (t("exact p(z|x)"), COLOURS["exact"], "-"),
        *((t(q.label), q.style.colour, q.style.dash) for q in sheet.drawn),
    ]
    handles = [Line2D([], [], color=colour, linestyle=DASH[dash], linewidth=1.8) for _, colour, dash in looks]
    names = [name for name, _, _ in looks]
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def _plane(axes: Axes, panel: Panel, overlays: tuple[str, ...]) -> None:
    view = panel.view
    axis = view.box_axis
    below = float(view.box_log_joint.max()) - view.box_log_joint
    # as far as the paper's log scale goes: each ring ten times as deep as the one before but one
    levels = [0, *(n for n in NATS if n < below.max()), float(below.max())]
    shades = axes.contourf(axis, axis, np.log10(1 + below).T, np.log10(1 + np.array(levels)), cmap="Greys_r")
    shades.set_rasterized(True)  # a hundred thousand vertices would make the PDF useless
    axes.contour(axis, axis, below.T, levels[1:-1], colors="#777777", linewidths=0.5)
    drawn = [q for q in view.overlays if q.key in overlays]
    for q in drawn:
        axes.plot(*q.mean, marker="o", color=q.style.colour, markersize=4, markeredgecolor="white", markeredgewidth=0.6)
    axes.set(xlim=axis[[0, -1]], ylim=axis[[0, -1]], aspect="equal")
    axes.set_title(panel.heading, fontsize=9)
    axes.tick_params(labelsize=8)
    _inset(axes, view, drawn)


def _inset(axes: Axes, view: View, drawn: list[Overlay]) -> None:
    """The mass enlarged, in the corner farthest from it."""
    mean = np.array(view.report["mean"])
    left, bottom = (0.02 if mean[k] > 0 else 0.98 - INSET for k in (0, 1))
    inset = axes.inset_axes((left, bottom, INSET, INSET))
    _density(inset, view)
    for q in drawn:
        above = 2 if q.style.dash == "-" else 3  # through the gaps of dashes what is below them stays visible
        look = {"zorder": above, "color": q.style.colour, "linestyle": DASH[q.style.dash], "linewidth": 1.0}
        for line in chain(*q.outlines.values()):
            inset.plot(line[:, 0], line[:, 1], **look)
        inset.plot(*q.mean, marker="o", color=q.style.colour, markersize=2.5)
    if view.truth is not None:
        inset.plot(*view.truth, marker="*", color=COLOURS["truth"], markersize=8, markeredgecolor="white")
    for line in inset.spines.values():
        line.set_color("#A3397C")
    inset.set(xlim=view.zoom_first[[0, -1]], ylim=view.zoom_second[[0, -1]], xticks=[], yticks=[], aspect="equal")
    side = view.zoom_first[-1] - view.zoom_first[0]
    inset.text(0.03, 0.03, f"side {written(side, '.2g')}", transform=inset.transAxes, fontsize=8)
    axes.indicate_inset_zoom(inset, edgecolor="#A3397C", alpha=1)


def _density(inset: Axes, view: View) -> None:
    inset.set_facecolor("white")
    density = np.exp(view.zoom_log_density - view.zoom_log_density.max())
    extent = (view.zoom_first[0], view.zoom_first[-1], view.zoom_second[0], view.zoom_second[-1])
    inset.imshow(density.T, extent=extent, origin="lower", cmap="Greys", vmin=0, vmax=1.6, interpolation="bilinear")
    for lines in mass_contours(view).values():
        for line in lines:
            inset.plot(line[:, 0], line[:, 1], color=COLOURS["exact"], linewidth=1.0)


def _pictures(axes: Axes, view: View) -> None:
    """The input, and its reconstruction from the mean of the first q."""
    gap = np.ones((28, 3))
    pair = np.concatenate([1 - np.clip(view.pixels, 0, 1), gap, 1 - view.pictures[view.stages[0].label]], 1)
    axes.imshow(pair, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(f"x        {t('from {the}', the=the(view.stages[0].label))}", fontsize=9, pad=2)
