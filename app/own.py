"""A Gaussian of the user's own over the posterior: its exact ELBO, and what the browser needs while it is dragged."""

from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import torch

from app.compute import Array, View, as_images
from app.meter import OWN as LABEL
from app.overlays import BEST, overlay
from gpvae_core.checkpoints import Checkpoint
from gpvae_core.distributions import DiagonalGaussian
from gpvae_core.exact import Estimate
from gpvae_core.exact.best_gaussian import Step, climb
from gpvae_core.exact.grid import grid_points
from gpvae_core.exact.joint import Decoded

KEY = "mine"
SHARE = 5e-3
NODES = 33  # a side of the lattice over the zoomed window
Mine = tuple[float, float, float, float]  # mean, then standard deviations, in latent units


def gaussian(mine: Mine) -> DiagonalGaussian:
    """The q of four numbers, in float64, without a batch."""
    numbers = torch.tensor(mine, dtype=torch.float64)
    return DiagonalGaussian(numbers[:2], numbers[2:])


def walk(checkpoint: Checkpoint, pixels: Array, mine: Mine) -> list[Step]:
    """The way uphill from the user's Gaussian, or from the prior, for an image (28, 28)."""
    model = checkpoint.model.generative
    return climb(Decoded(model, as_images([pixels])), gaussian(mine), smooth=not model.has_kinks)


def with_own(view: View, mine: Mine, elbo: Estimate, steps: list[Step]) -> View:
    """The view with the user's Gaussian as one more q, before the best one: in meter, tables and exports.

    ``steps``: the ``walk`` from there.
    """
    q, r = gaussian(mine), view.report
    kl = Estimate(r["log_evidence"] - elbo.value, r["log_evidence_error"] + elbo.error)
    reverse = _kl_to(view, mine)
    of_best = max(0.0, r["kl_best_error"] - r["log_evidence_error"])  # the KL's error has both
    amortization = Estimate(r["elbo_best"] - elbo.value, of_best + elbo.error)
    report = dict(r)
    for name, estimate in {
        f"elbo_{KEY}": elbo,
        f"kl_{KEY}": kl,
        f"kl_to_{KEY}": reverse,
        f"amortization_gap_{KEY}": amortization,
    }.items():
        report |= {name: estimate.value, f"{name}_error": estimate.error}
    report |= {f"{KEY}_mean": list(mine[:2]), f"{KEY}_std": list(mine[2:])}
    place = next(k for k, one in enumerate(view.overlays) if one.key == BEST)
    overlays = [*view.overlays[:place], overlay(KEY, LABEL, q), *view.overlays[place:]]
    paths = view.paths | {KEY: steps}
    return replace(view, report=report, overlays=overlays, others=(*view.others, KEY), paths=paths)


def _kl_to(view: View, mine: Mine) -> Estimate:
    """KL(p(z|x) || q) = -H[p] - E_p[log q]: of a Gaussian q, p's moments say it all."""
    r, mean, std = view.report, np.array(mine[:2]), np.array(mine[2:])
    apart = np.array(r["mean"]) - mean
    spread = np.diag(np.array(r["covariance"])) + apart**2
    value = -r["entropy"] + float((np.log(std) + 0.5 * np.log(2 * np.pi) + 0.5 * spread / std**2).sum())
    moved = np.diag(np.array(r["covariance_error"])) + 2 * np.abs(apart) * np.array(r["mean_error"])
    return Estimate(value, r["entropy_error"] + float((0.5 * moved / std**2).sum()))


def exact_elbo(checkpoint: Checkpoint, pixels: Array, mine: Mine, log_evidence: float) -> Estimate:
    """The ELBO of the user's Gaussian for an image (28, 28), by quadrature, in nats.

    To SHARE of its KL, or of a nat where that is less: half of what the page calls exact. A wide q over a narrow
    posterior misses by thousands of nats, and would cost thousands of decodes to a thousandth of one.
    """
    x, q = as_images([pixels]), gaussian(mine)
    rough = checkpoint.elbo(x, q, tolerance=inf)
    wanted = SHARE * max(1.0, log_evidence - rough.value)
    return rough if rough.error <= wanted else checkpoint.elbo(x, q, tolerance=wanted)


@torch.no_grad()
def field(checkpoint: Checkpoint, view: View) -> dict[str, Any]:
    """log p(x, z) on lattices over the zoomed window and the box, for the ELBO that follows a drag, in nats."""
    first, second = (np.linspace(axis[0], axis[-1], NODES) for axis in (view.zoom_first, view.zoom_second))
    x = as_images([view.pixels])
    z = torch.as_tensor(grid_points(first, second), dtype=torch.float32)
    heights = checkpoint.model.generative.log_joint(x, z[:, None])[:, 0].numpy().reshape(NODES, NODES)
    box = view.coarse_box
    half = float(view.box_axis[-1])
    top = float(max(heights.max(), box.max()))
    return {
        "top": top,
        "zoom": {"low": [float(first[0]), float(second[0])], "high": [float(first[-1]), float(second[-1])]}
        | _depths(heights, top),
        "box": {"low": [-half, -half], "high": [half, half]} | _depths(box, top),
    }


def _depths(heights: Array, top: float) -> dict[str, Any]:
    """Nats below ``top`` as bytes: log(1 + nats), in 65,535ths of the largest."""
    depth = np.log1p(top - heights)
    most = float(depth.max())
    return {"nodes": len(depth), "most": most, "depths": np.rint(65535 * depth / most).astype("<u2")}
