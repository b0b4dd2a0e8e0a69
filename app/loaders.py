"""Every cache of the app. Keys are identities: a checkpoint's folder and digest, data set, the image's own bytes."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import streamlit as st
import threadpoolctl
from sklearn.neighbors import KNeighborsClassifier
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequests, ScriptRequestType

from app import charts, compute, coverage, kept, own
from app.batching import Asked, Batcher, LeftError, always
from app.compute import Array, Encoders, View, compute_view, from_bytes
from app.jobs import Job, Report
from app.text import NO_CHECKPOINT
from app.trainer import Plan
from app.trainings import Training, Trainings
from app.trusted import trusted_views
from app.words import t
from gpvae_core.catalogue import catalogue
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, load_dataset, recipe_for
from gpvae_core.data.images import SIDE
from gpvae_core.data.recipes import BINARY, RECIPES
from gpvae_core.diagnostics.scores import score_images
from gpvae_core.diagnostics.stored import Columns, other_columns, stored_columns
from gpvae_core.errors import InputError
from gpvae_core.exact import Estimate, PosteriorEngine
from gpvae_core.exact.best_gaussian import Step
from gpvae_core.paths import CONFIG, WEIGHTS, grid_cache, own_folders

# sure of 64 % of MNIST's test images and right on 97 %; digits: 94 and 99.7 %. No neighbour shows what the image does
# on 2.3 % of MNIST's and on 0.3 % of the digits
NEIGHBOURS, SURE, READ = 9, 0.85, 3000
PRIVATE = "your archive"  # the name of images that a session has brought for a training
TRAINED, TRAINING = "trained here", "training"  # a session's own checkpoint, and where it is kept
NETWORK_TIMEOUT = 5.0  # seconds for each connection of the one try at MNIST
IDENTITY = {Checkpoint: lambda checkpoint: (str(checkpoint.folder), checkpoint.digest)}
ASKED = "asked"  # what a session waits for
PRIOR_HALF = 4.0  # of the square that is shown before there is an image


@dataclass(frozen=True)
class Source:
    """The data set on the page, and, where it is not the one wanted, why."""

    data: Dataset
    fallback: str | None = None


@dataclass(frozen=True)
class Request:
    """One image wanted under one checkpoint."""

    checkpoint: Checkpoint
    engine: PosteriorEngine
    pixels: bytes
    truth: tuple[float, float] | None
    others: Encoders = ()


class LastsError(Exception):
    """The view takes long; it is being computed, and ``is_there`` says when it is there."""


@dataclass
class Awaited:
    """A view that a session has asked for; ``dropped`` once it has asked for another one."""

    identity: tuple[Any, ...]
    asked: Asked[Request, View]
    dropped: Event

    def left(self) -> bool:
        """Whether it was given up."""
        return self.asked.future.done() and isinstance(self.asked.future.exception(), LeftError)


@st.cache_resource(show_spinner=False, max_entries=1)
def _batcher() -> Batcher[Request, View]:
    """What computes every posterior of the server."""

    def compute(requests: Sequence[Request]) -> list[View]:
        images, truths, first = [from_bytes(r.pixels) for r in requests], [r.truth for r in requests], requests[0]
        return trusted_views(first.checkpoint, first.engine, images, truths, first.others, batcher.pressed)

    # its threads wait by spinning, for matrices so small that they gain nothing: a fifth of a change's CPU time
    threadpoolctl.threadpool_limits(1, user_api="blas")
    batcher = Batcher(compute)
    return batcher


@st.cache_resource(show_spinner=False, max_entries=8)
def source(spec: str, seed: int, recipe: str | None = None) -> Source:
    """Data set ``spec``, tried once per server; the offline digits, binary as well, where it cannot be had."""
    try:
        data = load_dataset(spec, seed=seed, timeout=NETWORK_TIMEOUT, recipe=recipe and RECIPES[recipe])
        return Source(replace(data, name=PRIVATE) if _is_private(spec) else data)
    except InputError as error:
        return Source(load_dataset(f"{BINARY}digits" if spec.startswith(BINARY) else "digits"), str(error))


def images_of(checkpoint: Checkpoint) -> Source:
    """The data set that a checkpoint was trained on, prepared and split as there. Raises InputError."""
    return source(checkpoint.dataset, checkpoint.split, recipe_for(checkpoint).name)


# --- checkpoints --------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """The checkpoints on offer, searched anew: the shipped ones, one's own, and what this session has trained."""
    return list(_catalogue())


def _catalogue() -> dict[str, Path]:
    found = catalogue(folder for folder in folders() if folder.is_dir())
    own = training()
    return found if own is None or own.checkpoint is None else found | {TRAINED: own.checkpoint}


def folders() -> list[Path]:
    """The folders of one's own checkpoints: of ``-- --checkpoints FOLDER``, then of GPVAE_CHECKPOINTS."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--checkpoints", type=Path, action="extend", nargs="+", default=[])
    asked, _ = parser.parse_known_args(sys.argv[1:])
    return [*asked.checkpoints, *own_folders()]


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint of a name in ``names``, shared by all sessions and read only. Raises InputError.

    The name is all that the web can choose: it is looked up among those found, and never taken for a path.
    """
    folder = _catalogue().get(name)
    if folder is None:
        raise InputError(t(NO_CHECKPOINT, name=name, names=", ".join(names())))
    stamps = [(folder / file).stat().st_mtime_ns if (folder / file).exists() else 0 for file in (WEIGHTS, CONFIG)]
    return _opened(name, folder, *stamps)


@st.cache_resource(show_spinner=False, max_entries=6)
def _opened(name: str, folder: Path, weights_stamp: int, config_stamp: int) -> Checkpoint:
    """Opened once for each state of its files."""
    opened = replace(load_checkpoint(folder), name=name)
    config = opened.config
    if config.latent_dim != 2:
        raise InputError(
            f"'{name}' has {config.latent_dim} latent dimensions, but a plane shows 2; choose another checkpoint, or "
            "train one with --latent-dim 2"
        )
    if config.image_shape != (1, SIDE, SIDE):
        raise InputError(
            f"'{name}' takes images of {config.image_shape}, but the app shows (1, {SIDE}, {SIDE}); choose another "
            "checkpoint"
        )
    return opened


@st.cache_resource(show_spinner=False, max_entries=24, hash_funcs=IDENTITY)
def encoder(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """Another encoder on a checkpoint's decoder, one of ``checkpoint.encoders``."""
    return checkpoint.with_method(name)


def opening(checkpoint: Checkpoint) -> Job[PosteriorEngine]:
    """The engine of a checkpoint, being made: its base grid is decoded once, or read from ``grid_cache``."""
    return _retried(_opening, checkpoint)


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs=IDENTITY)
def _opening(checkpoint: Checkpoint) -> Job[PosteriorEngine]:
    def work(report: Report) -> PosteriorEngine:
        cache = None if is_private(checkpoint) else grid_cache()
        pause = _batcher().pause
        return checkpoint.engine(tolerance=compute.TOLERANCE, cache=cache, report=report, pause=pause)

    return Job(partial(t, "Decoding the latent plane of {name}, once", name=checkpoint.name), work)


def scoring(checkpoint: Checkpoint) -> Job[Columns]:
    """Every score of every test image, and the exact KLs where they are stored."""
    return _retried(_scoring, checkpoint, images_of(checkpoint).data.name)


@st.cache_resource(show_spinner=False, max_entries=8, hash_funcs=IDENTITY)
def _scoring(checkpoint: Checkpoint, name: str) -> Job[Columns]:
    """``name``: the data set whose test images are at hand, which need not be the one of the training."""
    data = images_of(checkpoint).data

    def work(report: Report) -> Columns:
        columns = stored_columns(checkpoint, data.name, len(data.test))
        if {"kl_base", "kl_marginal"} <= columns.keys():
            columns["gain"] = columns["kl_base"] - columns["kl_marginal"]
        if not columns:
            return score_images(checkpoint.model, data.test, report=report)
        return columns | other_columns(checkpoint, data.name, len(data.test))

    said = partial(t, "Scoring the {count:,} test images of {name}, once", count=len(data.test), name=data.name)
    return Job(said, work)


def mapping(checkpoint: Checkpoint) -> Job[tuple[Array, Array, float]]:
    """The encoder's means of all test images, tiles decoded over the box, and the box's half width."""
    return _retried(_mapping, checkpoint, images_of(checkpoint).data.name)


@st.cache_resource(show_spinner=False, max_entries=6, hash_funcs=IDENTITY)
def _mapping(checkpoint: Checkpoint, name: str) -> Job[tuple[Array, Array, float]]:
    test = images_of(checkpoint).data.test
    half = float(opening(checkpoint).result().grid.axis[-1])

    def work(report: Report) -> tuple[Array, Array, float]:
        return compute.means_of(checkpoint, test, report), compute.tiles_over(checkpoint, half), half

    said = partial(t, "Asking the encoder for {count:,} test images of {name}, once", count=len(test), name=name)
    return Job(said, work)


@st.cache_resource(show_spinner=False, max_entries=16, hash_funcs=IDENTITY)
def covering(checkpoint: Checkpoint, seed: int) -> Job[dict[str, Array]]:
    """The masses at the true z of images that the decoder makes from ``seed``."""
    engine = opening(checkpoint).result()
    said = partial(t, "Computing the posteriors of {count} simulated images", count=coverage.IMAGES)
    return Job(said, lambda report: coverage.masses(checkpoint, engine, seed, report))


def _retried(cached: Any, *arguments: Any) -> Any:
    """The cached job; one that failed is started again, as its cause may have been mended."""
    if cached(*arguments).failed():
        cached.clear(*arguments)
    return cached(*arguments)


@st.cache_data(show_spinner=False, max_entries=6, hash_funcs=IDENTITY)
def box_atlas(checkpoint: Checkpoint) -> dict[str, Any]:
    """The decoded box, for the planes' cursor."""
    return compute.box_atlas(checkpoint, float(opening(checkpoint).result().grid.axis[-1]))


@st.cache_data(show_spinner=False, max_entries=6, hash_funcs=IDENTITY)
def prior_picture(checkpoint: Checkpoint) -> str:
    """Where the prior has its mass, decoded, for a page that has no image yet: it need not wait for the engine."""
    return charts.mosaic(compute.tiles_over(checkpoint, PRIOR_HALF))


@st.cache_resource(show_spinner=False, max_entries=4, hash_funcs=IDENTITY)
def _reader(checkpoint: Checkpoint) -> KNeighborsClassifier | None:
    """What tells which digit a picture looks like, from training images; None where those have no digits."""
    train = images_of(checkpoint).data.train
    if train.labels is None or train.labels.max() > 9:
        return None
    known = KNeighborsClassifier(NEIGHBOURS)
    return known.fit(train.images[:READ].reshape(-1, SIDE * SIDE), train.labels[:READ])


def read_digits(checkpoint: Checkpoint, picture: Array) -> frozenset[int]:
    """The digits that a decoded picture (28, 28) may show, by its neighbours: one where they agree; none: not known."""
    return _read_digits(checkpoint, compute.grey(picture).tobytes())


@st.cache_data(show_spinner=False, max_entries=4096, hash_funcs=IDENTITY)
def _read_digits(checkpoint: Checkpoint, picture: bytes) -> frozenset[int]:
    reader = _reader(checkpoint)
    if reader is None:
        return frozenset()
    shares = reader.predict_proba(np.frombuffer(picture, dtype=np.uint8).reshape(1, -1))[0]
    return frozenset(reader.classes_[shares >= SURE if shares.max() >= SURE else shares > 0].tolist())


# --- trainings ----------------------------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def trainings() -> Trainings:
    """All trainings of this server."""
    return Trainings()


def training() -> Training | None:
    """The one that this visitor asked for; None where there is none, or it has ended with a page that was away long."""
    own: Training | None = st.session_state.get(TRAINING)
    return own if own is not None and trainings().keeps(own) else None


def train(plan: Plan, archive: bytes | None) -> None:
    """Ask for a training; the session's last one is forgotten. Raises InputError."""
    before = training()
    st.session_state[TRAINING] = trainings().ask(plan, archive, _wanted())
    if before is not None:
        trainings().drop(before)


def is_private(checkpoint: Checkpoint) -> bool:
    """Whether a session has trained it: then nothing of it outlives that session."""
    return checkpoint.folder.is_relative_to(trainings().root)


def trained_on(checkpoint: Checkpoint) -> str:
    """The data set of a checkpoint, by a name that tells nobody where things lie."""
    return PRIVATE if _is_private(checkpoint.dataset) else checkpoint.dataset


def _is_private(spec: str) -> bool:
    return str(trainings().root.resolve()) in spec


# --- images -------------------------------------------------------------------------------------------------------


@st.cache_data(show_spinner=False, max_entries=256, hash_funcs=IDENTITY)
def view(
    checkpoint: Checkpoint,
    pixels: bytes,
    truth: tuple[float, float] | None = None,
    others: Encoders = (),
    _patient: bool = True,
) -> View:
    """Everything the page draws of a test image, shared by all sessions and kept on disk.

    Who is not patient gets a LastsError where it takes long.
    """
    compute = partial(_compute, checkpoint, pixels, truth, others, _patient)
    if is_private(checkpoint):
        return compute()
    return kept.view(kept.identity(checkpoint, pixels, truth, others), compute)


@st.cache_data(show_spinner=False, max_entries=8, scope="session", hash_funcs=IDENTITY)
def private_view(
    checkpoint: Checkpoint,
    pixels: bytes,
    truth: tuple[float, float] | None = None,
    others: Encoders = (),
    _patient: bool = True,
) -> View:
    """The same of anybody's own image: kept in the memory of its own session, and gone with it."""
    return _compute(checkpoint, pixels, truth, others, _patient)


@st.cache_data(show_spinner=False, max_entries=2, scope="session", hash_funcs=IDENTITY)
def preview(checkpoint: Checkpoint, pixels: bytes, truth: tuple[float, float] | None = None) -> View:
    """A first look at either, read off the decoded grid: while the exact one takes long."""
    return compute_view(checkpoint, opening(checkpoint).result(), from_bytes(pixels), truth, preview=True)


def is_there() -> bool:
    """Whether what the session has asked for last has been answered."""
    last: Awaited | None = st.session_state.get(ASKED)
    return last is None or last.asked.future.done()


def _renews() -> bool:
    """Whether a page can be drawn anew by itself: only a real server does that."""
    return runtime.exists() and type(runtime.get_instance()) is runtime.Runtime


def forget() -> None:
    """Drop what the session has asked for: it has all that its page shows."""
    last: Awaited | None = st.session_state.pop(ASKED, None)
    if last is not None:
        last.dropped.set()


def _compute(
    checkpoint: Checkpoint, pixels: bytes, truth: tuple[float, float] | None, others: Encoders, patient: bool
) -> View:
    asked = _asked(Request(checkpoint, opening(checkpoint).result(), pixels, truth, others))
    if not patient and _renews() and not asked.soon():
        raise LastsError
    try:
        return asked.future.result()
    except LeftError:
        st.session_state.get(TRAINING)  # where Streamlit begins the run that was asked for meanwhile
        st.stop()  # else nobody looks at this run's page any more


def _asked(request: Request) -> Asked[Request, View]:
    """The session's own request where it is for the same; else a new one, and what it asked for before is dropped."""
    one, others = request.checkpoint, [other.digest for _, other in request.others]
    key = (str(one.folder), one.digest, *others)
    identity = (*key, request.pixels, request.truth)
    own: Awaited | None = st.session_state.get(ASKED)
    if own is None or own.identity != identity or own.left():
        forget()
        newest, dropped = _newest(), Event()
        own = Awaited(
            identity, _batcher().ask(key, request, lambda: newest() and not dropped.is_set(), same=identity), dropped
        )
        st.session_state[ASKED] = own
    return own.asked


def _wanted() -> Callable[[], bool]:
    """Whether the session of this run is still connected, to be asked later from another thread."""
    context = get_script_run_ctx()
    if context is None or not runtime.exists():
        return always
    return partial(runtime.get_instance().is_active_session, context.session_id)


def _newest() -> Callable[[], bool]:
    """Whether that session is connected and has not asked for anything else since."""
    context, connected = get_script_run_ctx(), _wanted()
    asked = context and context.script_requests
    return connected if asked is None else lambda: connected() and not _asks_anew(asked)


def _asks_anew(asked: ScriptRequests) -> bool:
    """Whether the whole page is to run again: Streamlit tells it only by breaking off the run that is told."""
    return getattr(asked, "_state", None) is ScriptRequestType.RERUN and not asked._rerun_data.fragment_id_queue


@st.cache_data(show_spinner=False, max_entries=512, scope="session", hash_funcs=IDENTITY)
def own_elbo(checkpoint: Checkpoint, pixels: bytes, mine: own.Mine, log_evidence: float) -> Estimate:
    """The exact ELBO of a user's Gaussian, kept in the memory of the session."""
    return own.exact_elbo(checkpoint, from_bytes(pixels), mine, log_evidence)


@st.cache_data(show_spinner=False, max_entries=512, scope="session", hash_funcs=IDENTITY)
def own_walk(checkpoint: Checkpoint, pixels: bytes, mine: own.Mine) -> list[Step]:
    """The way uphill from a user's Gaussian, kept in the memory of the session."""
    return own.walk(checkpoint, from_bytes(pixels), mine)


@st.cache_data(
    show_spinner=False, max_entries=4, scope="session", hash_funcs=IDENTITY | {View: lambda view: view.pixels.tobytes()}
)
def own_field(checkpoint: Checkpoint, view: View) -> dict[str, Any]:
    """What the browser needs while that Gaussian is dragged."""
    return own.field(checkpoint, view)
