"""The first page: an image in, its true posterior on screen."""

import numpy as np
import streamlit as st

from app import loaders, text, theme
from app.compute import View
from app.figures import Array, box_figure, strip_figure, zoom_figure
from gpvae_core.checkpoints import Checkpoint, pretrained_names
from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError
from gpvae_core.images import FORMATS, read_image, to_model_input

STRIP = 10
BY_U, BY_NUMBER, AT_RANDOM, UPLOAD = "By uncertainty", "By number", "At random", "Upload"
CHART = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"], "scrollZoom": True}


def page() -> None:
    """Draw the page; whatever the user can mend is a sentence on it."""
    st.html(theme.COMPACT)
    st.title(text.TITLE, anchor=False)
    st.write(text.LEAD)
    try:
        _explore()
    except InputError as error:
        st.error(str(error), icon=":material/error:")


def _explore() -> None:
    model, source, digit = st.columns([2, 3, 4], gap="medium")
    with model:
        checkpoint = _choose_checkpoint()
    where = loaders.source(checkpoint.training["dataset"], checkpoint.training["seed"])
    with source:
        ways = [BY_U, BY_NUMBER, AT_RANDOM, UPLOAD]
        way = st.segmented_control("Where x comes from", ways, default=BY_U, required=True, wrap=True)
    with digit:
        test = where.data.test
        rows = _filtered(test) if way in (BY_U, AT_RANDOM) else np.arange(len(test))
    identity = (checkpoint.name, checkpoint.digest)
    if way == UPLOAD:
        image = _upload()
        view = None if image is None else loaders.private_view(*identity, image.tobytes())
    else:
        index = _choose_test_image(way, checkpoint, where, rows)
        image = where.data.test.images[index]
        view = loaders.view(*identity, index, image.tobytes())
    _say_what_is_shown(checkpoint, where)
    if view is not None:
        _show(checkpoint, image, view)
    _say_why_offline(where)


def _show(checkpoint: Checkpoint, image: Array, view: View) -> None:
    pictures, planes = st.columns([1, 4], gap="medium")
    with pictures:
        _show_pictures(image, view)
    with planes:
        _show_planes(view)
    _show_numbers(checkpoint, view)


def _choose_checkpoint() -> Checkpoint:
    names = pretrained_names()
    offline = loaders.source("mnist", 0).fallback is not None
    preferred = "digits-2d" if offline or "mnist-2d" not in names else "mnist-2d"
    return loaders.checkpoint(st.selectbox("Checkpoint", names, index=names.index(preferred)))


def _say_what_is_shown(checkpoint: Checkpoint, where: loaders.Source) -> None:
    """Which data and weights the page shows."""
    trained = checkpoint.training["dataset"]
    method = {"gpvae": "GPVAE", "vae": "plain VAE"}[checkpoint.config.method]
    st.caption(
        f"Data: test images of **{where.data.name}**. Checkpoint: **{checkpoint.name}**, a {method} trained on "
        f"{trained} (weights {checkpoint.digest[:8]})."
    )


def _say_why_offline(where: loaders.Source) -> None:
    missing = where.fallback or loaders.source("mnist", 0).fallback
    if missing:
        with st.expander(text.OFFLINE_TITLE, icon=":material/cloud_off:"):
            st.write(f"{text.OFFLINE} {missing}.")


def _choose_test_image(way: str, checkpoint: Checkpoint, where: loaders.Source, rows: Array) -> int:
    test = where.data.test
    scores = loaders.scores(checkpoint.name, checkpoint.digest, where.data.name, checkpoint.training["seed"])
    if way == BY_NUMBER:
        key = f"number-{where.data.name}"
        index = int(st.number_input("Number of the test image", 0, len(test) - 1, key=key, width=260))
    else:
        index = _at_random(rows) if way == AT_RANDOM else _by_uncertainty(test, rows, scores)
    label = "" if test.labels is None else f", a {int(test.labels[index])}"
    score = (
        "" if scores is None else f", U = {scores[index]:.3g}, above {_percentile(scores, index):.0f} % of the test set"
    )
    st.write(f"**Test image {index}**{label}{score}")
    return index


def _percentile(scores: Array, index: int) -> float:
    return 100 * float((scores < scores[index]).mean())


def _filtered(test: ImageSet) -> Array:
    """Rows of the digit class asked for."""
    if test.labels is None:
        return np.arange(len(test))
    classes = ["all", *np.unique(test.labels).tolist()]
    chosen = st.pills("Digit class", classes, default="all", required=True, wrap=True)
    return np.arange(len(test)) if chosen == "all" else np.flatnonzero(test.labels == chosen)


def _at_random(rows: Array) -> int:
    if st.button("Another one", icon=":material/casino:") or "draw" not in st.session_state:
        st.session_state["draw"] = int(np.random.default_rng().integers(2**31))
    return int(rows[st.session_state["draw"] % len(rows)])


def _by_uncertainty(test: ImageSet, rows: Array, scores: Array | None) -> int:
    if scores is None:
        st.caption(text.NO_UNCERTAINTY)
    order = rows if scores is None else rows[np.argsort(scores[rows], kind="stable")]
    ranks = np.unique(np.linspace(0, len(order) - 1, STRIP).round().astype(int))
    key = f"rank-{rows[0]}-{len(order)}"  # a digit class is known by its first image: each keeps its own position
    clicked = _clicked(f"strip-{key}")
    if clicked is not None and st.session_state.get(f"clicked-{key}") != clicked:
        st.session_state[key] = int(ranks[clicked])
    st.session_state[f"clicked-{key}"] = clicked
    strip = st.container()
    label = "Position in ascending U" if scores is not None else "Position by number"
    rank = st.slider(label, 0, len(order) - 1, key=key)
    names = [f"#{row}" for row in order[ranks]]
    hover = names if scores is None else [f"#{row}: U = {scores[row]:.3g}" for row in order[ranks]]
    chosen = int(np.flatnonzero(ranks == rank)[0]) if rank in ranks else None
    strip.plotly_chart(
        strip_figure(test.images[order[ranks]], names, hover, chosen),
        key=f"strip-{key}",
        on_select="rerun",
        selection_mode="points",
        config={"displayModeBar": False},
    )
    return int(order[rank])


def _clicked(key: str) -> int | None:
    """Position of the thumbnail that was clicked last, from the chart's selection."""
    points = st.session_state.get(key, {}).get("selection", {}).get("points", [])
    return int(points[0]["point_index"]) if points else None


def _upload() -> Array | None:
    file = st.file_uploader(
        "A photo or drawing of one digit", type=[f.lower() for f in (*FORMATS, "jpg", "tif")], help=text.UPLOAD_HELP
    )
    if file is None:
        st.caption(text.UPLOAD_HELP)
        return None
    grey = read_image(file.getvalue(), file.name)
    image = to_model_input(grey, file.name)
    given, seen, note = st.columns([1, 1, 4], vertical_alignment="center")
    given.image(grey, caption="what you gave", width=120)
    seen.image(np.kron(image, np.ones((5, 5), dtype=np.uint8)), caption="what the model sees", width=140)
    note.caption(text.PREPROCESSING)
    return image


def _show_pictures(image: Array, view: View) -> None:
    with st.container(horizontal=True, horizontal_alignment="left"):
        st.image(_enlarged(image / 255), caption="x", width=112)
        for name, mean in view.reconstructions.items():
            st.image(_enlarged(mean), caption=f"decoded from the {name}", width=112)


def _enlarged(pixels: Array) -> Array:
    """Nearest-neighbour, so that a browser does not blur the pixels."""
    return np.kron((pixels * 255).astype(np.uint8), np.ones((8, 8), dtype=np.uint8))


def _show_planes(view: View) -> None:
    box, zoom = st.columns(2)
    window = [np.array([axis[end] for axis in (view.zoom_first, view.zoom_second)]) for end in (0, -1)]
    with box:
        st.plotly_chart(box_figure(view.box_axis, view.box_log_joint, view.gaussians, *window), key="box", config=CHART)
        st.caption(text.BOX_CAPTION)
    with zoom:
        figure = zoom_figure(view.zoom_first, view.zoom_second, view.zoom_log_density, view.levels, view.gaussians)
        st.plotly_chart(figure, key="zoom", config=CHART)
        st.caption(text.ZOOM_CAPTION)
        for name in view.left_out:
            st.warning(f"The {name} lies far outside this window; the whole box shows its centre.")


def _show_numbers(checkpoint: Checkpoint, view: View) -> None:
    r = view.report
    own = r["log_evidence_error"]
    rows = [
        ("exact log p(x)", r["log_evidence"], own),
        ("ELBO of the base encoder", r["elbo_base"], r["kl_base_error"] - own),
        ("KL(base ‖ p(z\\|x))", r["kl_base"], r["kl_base_error"]),
    ]
    if r["uncertainty"] is not None:
        rows += [
            ("ELBO of the marginalised encoder", r["elbo_marginal"], r["kl_marginal_error"] - own),
            ("KL(marginalised ‖ p(z\\|x))", r["kl_marginal"], r["kl_marginal_error"]),
        ]
    lines = ["| | nats | numerical error |", "|:--|--:|--:|"]
    lines += [f"| {name} | {value:.3f} | {error:.0e} |" for name, value, error in rows]
    st.markdown("\n".join(lines))
    if r["uncertainty"] is not None:
        st.markdown(f"Uncertainty **U(x) = {r['uncertainty']:.3g}** squared latent units.")
    if checkpoint.config.likelihood == "gaussian":
        st.caption(text.DENSITY.format(std=float(checkpoint.model.generative.likelihood.std)))
    if r["uncertainty"] is not None:
        st.caption(text.UNCERTAINTY)
