"""From one image to everything the page draws: plain arrays, so that results can be cached and tested."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.figures import Array, Gaussian, base_gaussian, marginal_gaussian, zoom_window
from app.theme import MASSES
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import as_pixels
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.report import describe

ZOOM_NODES = 121


@dataclass(frozen=True)
class View:
    """One image under one checkpoint. ``report`` holds the numbers, the rest what the figures need."""

    report: dict[str, Any]
    gaussians: list[Gaussian]
    reconstructions: dict[str, Array]
    box_axis: Array
    box_log_joint: Array
    zoom_first: Array
    zoom_second: Array
    zoom_log_density: Array
    levels: Array
    left_out: list[str]


@torch.no_grad()
def compute_view(checkpoint: Checkpoint, engine: PosteriorEngine, image: Array) -> View:
    """The exact posterior of ``image`` (28, 28) and both encoders on it. Raises InputError as the engine does."""
    x = as_pixels(torch.tensor(image)[None])
    exact = engine.posterior(x)
    report = describe(exact, checkpoint.model, x)
    gaussians = [base_gaussian(np.array(report["base_mean"]), np.array(report["base_std"]))]
    if report["uncertainty"] is not None:
        gaussians.append(marginal_gaussian(np.array(report["marginal_mean"]), np.array(report["marginal_std"])))
    reach = 4 * np.sqrt(np.diag(exact.covariance))
    low, high, left_out = zoom_window(exact.mean - reach, exact.mean + reach, gaussians)
    first, second = (np.linspace(low[j], high[j], ZOOM_NODES) for j in (0, 1))
    latents = {q.name: q.mean for q in gaussians} | {"exact posterior mean": exact.mean}
    return View(
        report=report,
        gaussians=gaussians,
        reconstructions={name: _decode(checkpoint, z) for name, z in latents.items()},
        box_axis=exact.grid_axis,
        box_log_joint=exact.grid_log_joint,
        zoom_first=first,
        zoom_second=second,
        zoom_log_density=exact.log_density(first, second),
        levels=exact.hdr_levels(MASSES),
        left_out=left_out,
    )


def _decode(checkpoint: Checkpoint, z: Array) -> Array:
    mean = checkpoint.model.generative.decode(torch.as_tensor(z, dtype=torch.float32)[None])
    return mean[0, 0].clamp(0, 1).numpy()
