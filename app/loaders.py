"""Every cache of the app. Keys are identities: checkpoint name and digest, data set, the image's own bytes."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from app.compute import View, compute_view
from app.figures import Array
from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.data import Dataset, load_dataset
from gpvae_core.errors import InputError
from gpvae_core.images import SIDE
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.scores import score_images

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


@st.cache_resource(show_spinner="Looking for the data set …", max_entries=8)
def source(spec: str, seed: int) -> Source:
    """Data set ``spec``, tried once per server; the offline digits where it cannot be had."""
    try:
        return Source(load_dataset(spec, data_dir(), seed=seed, timeout=NETWORK_TIMEOUT))
    except InputError as error:
        return Source(load_dataset("digits"), str(error))


@st.cache_resource(show_spinner="Opening the checkpoint …", max_entries=4)
def checkpoint(name: str) -> Checkpoint:
    """A shipped checkpoint, shared by all sessions and read only."""
    return load_checkpoint(name)


@st.cache_resource(show_spinner="Decoding the base grid, once …", max_entries=4)
def engine(name: str, digest: str) -> PosteriorEngine:
    """The exact-posterior engine of a checkpoint."""
    return PosteriorEngine(checkpoint(name).model.generative)


@st.cache_data(show_spinner="Scoring the test images, once …", max_entries=8)
def scores(name: str, digest: str, spec: str, seed: int) -> Array | None:
    """U(x) of every test image, or None for a plain VAE."""
    try:
        return score_images(checkpoint(name).model, source(spec, seed).data.test, ["uncertainty"])["uncertainty"]
    except InputError:
        return None


@st.cache_data(show_spinner="Computing the exact posterior …", max_entries=256)
def view(name: str, digest: str, index: int, pixels: bytes) -> View:
    """Everything the page draws of test image ``index``, shared by all sessions."""
    return _compute(name, digest, pixels)


@st.cache_data(show_spinner="Computing the exact posterior …", max_entries=4, scope="session")
def private_view(name: str, digest: str, pixels: bytes) -> View:
    """The same of an uploaded image: kept in the memory of its own session, and gone with it."""
    return _compute(name, digest, pixels)


def _compute(name: str, digest: str, pixels: bytes) -> View:
    image = np.frombuffer(pixels, dtype=np.uint8).reshape(SIDE, SIDE)
    return compute_view(checkpoint(name), engine(name, digest), image)
