"""Every cache of the app. Keys are identities: checkpoint name and digest, data set, the image's own bytes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from app import compute
from app.batching import Batcher
from app.compute import Array, View, compute_views
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import BINARY, Dataset, load_dataset
from gpvae_core.errors import InputError
from gpvae_core.images import SIDE
from gpvae_core.paths import user_cache
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.scores import score_images
from gpvae_core.stored import Columns, stored_columns

NETWORK_TIMEOUT = 5.0  # seconds for each connection of the one try at MNIST


@dataclass(frozen=True)
class Source:
    """The data set on the page, and, where it is not the one wanted, why."""

    data: Dataset
    fallback: str | None = None


def data_dir() -> Path | None:
    """GPVAE_DATA_DIR, or None for the library's default."""
    folder = os.environ.get("GPVAE_DATA_DIR")
    return Path(folder) if folder else None


def cache_dir() -> Path:
    """Where base grids are kept between starts."""
    return user_cache() / "grids"


@dataclass(frozen=True)
class Request:
    """One image wanted under one checkpoint."""

    checkpoint: Checkpoint
    engine: PosteriorEngine
    pixels: bytes
    truth: tuple[float, float] | None


@st.cache_resource(show_spinner=False, max_entries=1)
def _batcher() -> Batcher[Request, View]:
    """What computes every posterior of the server."""

    def compute(requests: Sequence[Request]) -> list[View]:
        images, truths = [from_bytes(r.pixels) for r in requests], [r.truth for r in requests]
        return compute_views(requests[0].checkpoint, requests[0].engine, images, truths)

    return Batcher(compute)


@st.cache_resource(show_spinner="Looking for the data set …", max_entries=8)
def source(spec: str, seed: int) -> Source:
    """Data set ``spec``, tried once per server; the offline digits, binary as well, where it cannot be had."""
    try:
        return Source(load_dataset(spec, data_dir(), seed=seed, timeout=NETWORK_TIMEOUT))
    except InputError as error:
        return Source(load_dataset(f"{BINARY}digits" if spec.startswith(BINARY) else "digits"), str(error))


@st.cache_resource(show_spinner="Opening the checkpoint …", max_entries=6)
def checkpoint(name: str) -> Checkpoint:
    """A shipped checkpoint, shared by all sessions and read only."""
    return load_checkpoint(name)


@st.cache_resource(show_spinner="Decoding the base grid, once …", max_entries=4)
def engine(name: str, digest: str) -> PosteriorEngine:
    """The exact-posterior engine of a checkpoint."""
    return PosteriorEngine.of(checkpoint(name), tolerance=compute.TOLERANCE, cache=cache_dir())


@st.cache_data(show_spinner=False, max_entries=6)
def box_atlas(name: str, digest: str) -> dict[str, Any]:
    """The decoded box, for the planes' cursor."""
    return compute.box_atlas(checkpoint(name), float(engine(name, digest).grid.axis[-1]))


@st.cache_resource(show_spinner="Scoring the test images, once …", max_entries=8)
def scores(name: str, digest: str, spec: str, seed: int) -> Columns:
    """Every score of every test image, and the exact KLs where they are stored."""
    opened, test = checkpoint(name), source(spec, seed).data.test
    columns = stored_columns(opened, source(spec, seed).data.name, len(test))
    return columns or score_images(opened.model, test)


@st.cache_data(show_spinner="Computing the exact posterior …", max_entries=256)
def view(name: str, digest: str, pixels: bytes, truth: tuple[float, float] | None = None) -> View:
    """Everything the page draws of a test image, shared by all sessions."""
    return _compute(name, digest, pixels, truth)


@st.cache_data(show_spinner="Computing the exact posterior …", max_entries=8, scope="session")
def private_view(name: str, digest: str, pixels: bytes, truth: tuple[float, float] | None = None) -> View:
    """The same of anybody's own image: kept in the memory of its own session, and gone with it."""
    return _compute(name, digest, pixels, truth)


def _compute(name: str, digest: str, pixels: bytes, truth: tuple[float, float] | None) -> View:
    return _batcher()(digest, Request(checkpoint(name), engine(name, digest), pixels, truth))


def to_bytes(pixels: Array) -> bytes:
    """The identity of an image: its float32 pixels."""
    return np.ascontiguousarray(pixels, dtype=np.float32).tobytes()


def from_bytes(pixels: bytes) -> Array:
    """The image of ``to_bytes``."""
    return np.frombuffer(pixels, dtype=np.float32).reshape(SIDE, SIDE)
