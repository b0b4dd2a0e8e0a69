"""A View as the plane component wants it: small numbers, packed, JSON-ready."""

import base64
from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray

from app.compute import Array, View, grey
from app.meter import EVIDENCE, PARTS, gap_parts, number, said_numbers, short, subject, the
from app.overlays import BEST, BEST_LABEL, Overlay
from app.own import KEY as MINE
from app.own import Mine
from app.theme import MASSES
from app.walks import walks
from app.words import browser, separators, spoken, t
from gpvae_core.data.images import SIDE
from gpvae_core.exact.joint import FARTHEST

HEAT_NODES = 81
UNKNOWN = 255
TENTHS = 10  # the zoomed heat is in tenths of a nat below the peak
BOX_LEVELS = (3.0, 30.0, 300.0)
ZOOM_LEVELS = (1.0, 3.0, 10.0)
DASH_ARRAYS = {"-": "none", "--": "9 5", ":": "1.5 5"}
HINT = (
    "Move over a plane, drag a finger along it, or use the arrow keys: the point is decoded here, without the server."
)
FIELDS = ("zoom", "box")
AT_REST = "move over the plane"
WINDOW = 6.0  # latent units from the middle: no window reaches farther
ALIKE = 0.005  # of a KL: below it nobody has beaten anybody
SOLE = 0.995  # of the mass: then there is nothing else to speak of
INVITATION = (
    "Place a Gaussian yourself: its KL and ELBO follow while you drag, and are computed exactly when you let go."
)
POSTERIOR_ALT = (
    "The true posterior of {title} has {modes}, its mean at ({mean[0]:.3f}, {mean[1]:.3f}) and standard deviations "
    "{std[0]:.4f} and {std[1]:.4f}."
)
Q_ALT = "{q} lies at ({mean[0]:.3f}, {mean[1]:.3f}), {nats} nats away in KL."
TRUTH_ALT = "The true z lies on the edge of the region that holds {share:.0%} of the mass."
BOX_ALT = "The whole plane, from -{half:g} to {half:g} in both latent dimensions, coloured by log p(z|x)."
VEILED = "The latent plane with what it decodes to. The posterior is hidden until you reveal it."
HINT_PICK = "Tap the plane, or press Enter, to make an image from that point."


def plane_data(
    view: View,
    digest: str,
    title: str,
    *,
    pick: bool = False,
    projector: bool = False,
    link: str = "",
    window: tuple[Array, Array] | None = None,
    own: dict[str, Any] | None = None,
    listens: bool = False,
    turns: bool = False,
    scale: float = 0.0,
    walk: str | None = None,
) -> dict[str, Any]:
    """Everything the component draws of ``view``, about 90 kB.

    ``digest`` names the atlas of the whole box. ``pick`` lets a tap choose z. Planes of one ``link`` move together.
    ``window`` (low, high) replaces the zoomed plane's own. ``own`` is ``own_data``.
    ``scale``: see ``gaps_data``.
    ``walk``: the key of the one to be offered, if it is there; None where there is nobody to ask for another one.
    ``listens``: whether the page wants to know when the walk has arrived. ``turns``: whether it has a surface to turn.
    """
    return {
        "own": own,
        "listens": listens,
        "turns": turns,
        "veil": False,
        "digest": digest,
        "pick": pick,
        "projector": projector,
        "link": link,
        "hint": f"{t(HINT_PICK)} {t(HINT)}" if pick else t(HINT),
        "language": spoken(),
        "words": browser(),
        "decimal": separators()[0],
        "mean": view.report["mean"],
        "box": _box_heat(view),
        "zoom": _zoom_heat(view),
        "held": [q.key for q in near(view)] if not link else [],
        "home": None if window is None else [end.tolist() for end in window],
        "edges": (float(view.zoom_log_density.max()) - view.levels).tolist(),
        "lines": [*_box_lines(view), *_mass_lines(view), *_log_lines(view)],
        "overlays": [overlay_data(q) for q in view.overlays if own is None or q.key != MINE],
        "truth": None if view.truth is None else view.truth.tolist(),
        "atlas": {"nodes": len(view.tiles), "tiles": packed(view.tiles)},
        "pictures": [_picture(t("the image x"), view.pixels)]
        + [_picture(t("from {the}", the=the(name)), pixels) for name, pixels in view.pictures.items()],
        "hills": [_picture(hill_words(share), pixels) for share, pixels in view.hills],
        "gaps": gaps_data(view, None if own is None else MINE, scale),
        "walks": [one.data() for one in walks(view, asked=walk is not None)],
        "walk": walk,
        "alt": alt_texts(view, title),
    }


def near(view: View) -> list[Overlay]:
    """The q's whose outermost region a window on the plane can hold, however small the posterior is in it then."""
    outer = [(q, q.outlines[MASSES[-1]]) for q in view.overlays]
    return [q for q, lines in outer if lines and all(np.abs(line).max() <= WINDOW for line in lines)]


def _picture(name: str, pixels: Array) -> dict[str, str]:
    return {"name": name, "pixels": packed(grey(pixels))}


def hill_words(share: float) -> str:
    """What a picture at the top of a hill is called: by its share of the posterior's mass."""
    if share > SOLE:
        return t("at the posterior's peak")
    return t("a hill of {share:.2g} % of the posterior", share=100 * share)


def gaps_data(view: View, left_out: str | None, scale: float = 0.0) -> dict[str, Any]:
    """The gaps as columns that hang from log p(x): of each q its KL and the parts of it, as nats and as text; its ELBO.

    The deepest column is ``scale`` nats or longer. ``plain``: none is taken apart, see ``without``.
    """
    shown = said_numbers(view)
    columns = [
        {
            "key": q.key,
            "label": t(q.label),
            "kl": float(view.report[f"kl_{q.key}"]),
            "text": short(float(view.report[f"kl_{q.key}"])),
            "elbo": number(view.report[f"elbo_{q.key}"], max(0.01, view.report[f"kl_{q.key}_error"])),
            "parts": [
                {"name": name, "said": t(PARTS[name]), "nats": max(nats, 0.0), "text": short(nats)}
                for name, nats, _ in gap_parts(view, q, shown)
            ],
        }
        for q in view.overlays
        if q.key != left_out
    ]
    return {
        "evidence": view.report["log_evidence"],
        "top": shown[EVIDENCE],
        "columns": columns,
        "scale": scale,
        "plain": False,
    }


def veiled(data: dict[str, Any]) -> dict[str, Any]:
    """The same plane before the answer is told: the image, the decoded plane, and the user's own Gaussian."""
    x = data["pictures"][0]
    nothing = {"low": [0.0, 0.0], "high": [1.0, 1.0], "nodes": 1, "heat": packed(np.array([UNKNOWN], np.uint8))}
    return data | {
        "veil": True,
        "turns": False,
        "mean": [0.0, 0.0],
        "zoom": nothing,
        "box": data["box"] | {"nodes": 1, "top": 1.0, "heat": nothing["heat"]},
        "atlas": {"nodes": 1, "tiles": packed(np.zeros(SIDE * SIDE, np.uint8))},
        "lines": [],
        "overlays": [],
        "truth": None,
        "walks": [],
        "pictures": [x],
        "hills": [{"name": t(AT_REST), "pixels": packed(np.zeros(SIDE * SIDE, np.uint8))}],
        "gaps": None,
        "alt": dict.fromkeys(data["alt"], t(VEILED)),
    }


def without(data: dict[str, Any], view: View, title: str, hidden: Collection[str]) -> dict[str, Any]:
    """The same plane without what is ``hidden``, of "best", "walk" and "marginalised": what is explained later.

    Without the best Gaussian a gap is not taken apart.
    """
    later = view.stages[1:] if "marginalised" in hidden else []
    gone = {q.key for q in later} | ({BEST} if "best" in hidden else set())
    names = {t("from {the}", the=the(q.label)) for q in later}
    plain = "best" in hidden
    columns = [
        column | ({"parts": []} if plain else {}) for column in data["gaps"]["columns"] if column["key"] not in gone
    ]
    return data | {
        "overlays": [q for q in data["overlays"] if q["key"] not in gone],
        "pictures": [picture for picture in data["pictures"] if picture["name"] not in names],
        "gaps": data["gaps"] | {"columns": columns, "plain": plain},
        "walks": [] if "walk" in hidden else data["walks"],
        "alt": alt_texts(replace(view, overlays=[q for q in view.overlays if q.key not in gone]), title),
    }


def own_data(
    view: View,
    mine: Mine | None,
    field: dict[str, Any] | None,
    *,
    veil: bool = False,
    hidden: Collection[str] = (),
) -> dict[str, Any]:
    """What the browser needs of the user's Gaussian, and of its rivals; ``field``: ``own.field``."""
    r = view.report
    key = view.stages[0].key
    rivals = {the(view.stages[0].label): r[f"kl_{key}"], the(BEST_LABEL): r["kl_best"]}
    if "best" in hidden:
        rivals.pop(the(BEST_LABEL))
    words = ", ".join(f"{name} {short(value)}" for name, value in rivals.items())
    kl = r.get(f"kl_{MINE}")
    known = kl is not None and not veil
    return {
        "q": None if mine is None else list(mine),
        "image": sha256(view.pixels.tobytes()).hexdigest()[:16],
        "field": None
        if field is None or veil
        else {"top": field["top"]} | {k: _packed_field(field[k]) for k in FIELDS},
        "evidence": None if veil else r["log_evidence"],
        "kl": kl if known else None,
        "text": own_text(view, words) if known else None,
        "elbo": number(r[f"elbo_{MINE}"], max(0.01, r[f"kl_{MINE}_error"])) if known else None,
        "rivals": "" if veil else t("For comparison: {rivals}.", rivals=words),
        "invitation": t(INVITATION),
        "veil": veil,
        "locked": veil,
    }


def _packed_field(part: dict[str, Any]) -> dict[str, Any]:
    return part | {"depths": packed(part["depths"])}


def own_text(view: View, rivals: str) -> str:
    """The user's KL and ELBO, exact now, and what they beat."""
    r, encoder = view.report, view.stages[0]
    kl, error, other = r[f"kl_{MINE}"], r[f"kl_{MINE}_error"], r[f"kl_{encoder.key}"]
    if abs(kl - other) <= ALIKE * other:
        beaten = t("{encoder} is as close.", encoder=subject(encoder.label))
    elif kl < other:
        beaten = t("You beat {encoder}.", encoder=the(encoder.label))
    else:
        beaten = t("{encoder} is closer.", encoder=subject(encoder.label))
    known = t("Your KL: {nats} nats, exact.", nats=number(kl, error))
    elbo = t("Your ELBO: {nats} nats.", nats=number(r[f"elbo_{MINE}"], r[f"elbo_{MINE}_error"]))
    return f"{known} {elbo} {beaten} {t('For comparison: {rivals}.', rivals=rivals)}"


def overlay_data(q: Overlay) -> dict[str, Any]:
    """One q: its words and style, its mean, and the edges of its regions in the packing of all lines."""
    style = {"colour": q.style.colour, "dark": q.style.dark, "bright": q.style.bright}
    return {
        "key": q.key,
        "label": t(q.label),
        **style,
        "dash": DASH_ARRAYS[q.style.dash],
        "marker": q.style.marker,
        "mean": np.nan_to_num(q.mean, nan=FARTHEST).clip(-FARTHEST, FARTHEST).tolist(),  # JSON has no NaN
        "lines": [_outline(q.key, mass, lines) for mass, lines in q.outlines.items()],
    }


def packed(values: NDArray[Any]) -> str:
    """Base64 of an array's bytes."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _nats_below(view: View) -> Array:
    below: Array = float(view.box_log_joint.max()) - view.box_log_joint
    return below


def _box_heat(view: View) -> dict[str, Any]:
    """log10(1 + nats below the maximum), 255 the deepest."""
    depth = np.log10(1 + float(view.box_log_joint.max()) - view.coarse_box)
    top = float(depth.max())
    return {
        "half": float(view.box_axis[-1]),
        "nodes": len(depth),
        "top": top,
        "heat": packed(np.rint(255 * depth / top).astype(np.uint8)),
    }


def _zoom_heat(view: View) -> dict[str, Any]:
    rows = np.linspace(0, len(view.zoom_first) - 1, HEAT_NODES).round().astype(int)
    below = float(view.zoom_log_density.max()) - view.zoom_log_density[np.ix_(rows, rows)]
    tenths = np.where(below * TENTHS < UNKNOWN, np.rint(below * TENTHS), UNKNOWN)
    ends = [[float(axis[end]) for axis in (view.zoom_first, view.zoom_second)] for end in (0, -1)]
    return {"low": ends[0], "high": ends[1], "nodes": HEAT_NODES, "heat": packed(tenths.astype(np.uint8))}


def box_contours(view: View) -> dict[float, list[Array]]:
    """Lines of log p(x, z) over the whole box, at BOX_LEVELS nats below its maximum."""
    lines = contour_generator(view.box_axis, view.box_axis, _nats_below(view).T).lines
    return {nats: lines(nats) for nats in BOX_LEVELS}


def _box_lines(view: View) -> list[dict[str, Any]]:
    axis = view.box_axis
    return [
        _line("box", "logs", t("{nats:g} nats below", nats=nats), None, lines, axis, axis)
        for nats, lines in box_contours(view).items()
    ]


def mass_contours(view: View) -> dict[float, list[Array]]:
    """The edges of the regions of 50, 80 and 95 % of p(z|x), as lines (n, 2)."""
    floor = np.nan_to_num(view.zoom_log_density, neginf=-1e4)
    lines = contour_generator(view.zoom_first, view.zoom_second, floor.T).lines
    return {mass: lines(float(level)) for mass, level in zip(MASSES, view.levels, strict=True)}


def log_contours(view: View) -> dict[float, list[Array]]:
    """Lines of log p(z|x) at ZOOM_LEVELS nats below its peak; they end where the density was not computed."""
    field = np.ma.masked_invalid(view.zoom_log_density)
    lines = contour_generator(view.zoom_first, view.zoom_second, field.T).lines
    return {nats: lines(float(field.max()) - nats) for nats in ZOOM_LEVELS}


def _mass_lines(view: View) -> list[dict[str, Any]]:
    window = view.zoom_first, view.zoom_second
    return [_line("zoom", "exact", f"{m:.0%}", m, lines, *window) for m, lines in mass_contours(view).items()]


def _log_lines(view: View) -> list[dict[str, Any]]:
    window = view.zoom_first, view.zoom_second
    return [
        _line("zoom", "logs", f"{n:g} {t('nats')}", None, lines, *window) for n, lines in log_contours(view).items()
    ]


def _line(
    panel: str, layer: str, label: str, mass: float | None, lines: list[Array], first: Array, second: Array
) -> dict[str, Any]:
    """Points as uint16 within the window: to 1/65535 of its side."""
    low, high = (np.array([axis[end] for axis in (first, second)]) for end in (0, -1))
    joined = np.concatenate([np.empty((0, 2)), *lines])
    points = np.rint((joined - low) / (high - low) * 65535).clip(0, 65535).astype("<u2")
    return {
        "panel": panel,
        "layer": layer,
        "label": label,
        "mass": mass,
        "runs": [len(line) for line in lines],
        "low": low.tolist(),
        "high": high.tolist(),
        "points": packed(points),
    }


def _outline(key: str, mass: float, lines: list[Array]) -> dict[str, Any]:
    """Lines of a q, which may lie anywhere: packed within their own extent."""
    joined = np.concatenate([np.zeros((0, 2)), *lines])
    ends = np.stack([joined.min(0), joined.max(0)]) if len(joined) else np.array([[0.0, 0.0], [1.0, 1.0]])
    first, second = np.where(np.ptp(ends, 0) > 0, ends, ends[0] + np.array([[0.0], [1.0]])).T
    return _line("zoom", key, f"{mass:.0%}", mass, lines, first, second)


def alt_texts(view: View, title: str) -> dict[str, str]:
    """What a figure shows, in words made from its numbers."""
    r = view.report
    std = np.sqrt(np.diag(np.array(r["covariance"])))
    count = len(r["modes"])
    modes = t("one mode") if count == 1 else t("{count} modes", count=count)
    mass = t(POSTERIOR_ALT, title=title, modes=modes, mean=r["mean"], std=std.tolist())
    places = " ".join(
        t(Q_ALT, q=subject(q.label), mean=q.mean.tolist(), nats=_kl_text(view, q.key)) for q in view.overlays
    )
    truth = [] if view.truth is None else [t(TRUTH_ALT, share=view.truth_mass)]
    box = t(BOX_ALT, half=float(view.box_axis[-1]))
    return {"zoom": " ".join([mass, places, *truth]), "box": f"{box} {mass} {places}"}


def _kl_text(view: View, key: str) -> str:
    """In words two decimals are enough."""
    return number(view.report[f"kl_{key}"], max(0.01, view.report[f"kl_{key}_error"]))
