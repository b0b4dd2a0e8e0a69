"""SCORES is the only list of difficulty scores: what each says of an image before its exact posterior is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpvae_core.data import ImageSet
from gpvae_core.diagnostics.gap_heads import Look, corrected_gap, predicted_gap
from gpvae_core.distributions import DiagonalGaussian, FullGaussian, Posterior, standard_normal_log_prob
from gpvae_core.errors import InputError
from gpvae_core.exact.expectations import hermite
from gpvae_core.inference import Inference
from gpvae_core.models import VariationalAutoencoder

BATCH = 250
GAUSSIANS = (DiagonalGaussian, FullGaussian)
RESIDUAL_ORDER = 4  # Gauss-Hermite: 16 decoded points for each image


@dataclass(frozen=True)
class Score:
    """A number for each image, larger for harder ones.

    ``needs_gp``: undefined for a plain VAE; ``planar``: defined here for two latent dimensions; ``needs_heads``: only
    where ``gap_heads`` were fitted. ``of``: the kinds of q that it is defined for; any where it names none.
    """

    label: str
    unit: str
    meaning: str
    value: Callable[[Look], Tensor]
    needs_gp: bool = False
    planar: bool = False
    needs_heads: bool = False
    of: tuple[type[Posterior], ...] = ()


def _gp_variance(inference: Inference) -> Tensor:
    if "gp_variance" not in inference.extras:
        raise InputError(
            "this method has no uncertainty U(x), which is a GPVAE's; choose another score, or put a GP on a plain VAE "
            "with `python -m gpvae_core settle`"
        )
    return inference.extras["gp_variance"]


def _uncertainty(look: Look) -> Tensor:
    """U(x) = sum_j V(f_j) + V(h_j)."""
    return _gp_variance(look.inference).sum(-1)


def _relative_uncertainty(look: Look) -> Tensor:
    """sum_j (V(f_j) + V(h_j)) / v_j."""
    return (_gp_variance(look.inference) / look.q.std**2).sum(-1)


def _log_width(look: Look) -> Tensor:
    """log det of q's covariance: of independent coordinates 2 sum_j log s_j."""
    return 2 * torch.log(look.factor.diagonal(dim1=-2, dim2=-1)).sum(-1)


def _reconstruction_error(look: Look) -> Tensor:
    """|x - g(m)|^2, summed over the pixels."""
    mean = look.model.generative.decode(look.q.mean.to(look.x))
    return ((look.x - mean) ** 2).flatten(1).sum(1)


def _residual(look: Look) -> Tensor:
    dim = look.model.generative.latent_dim
    if dim != 2:
        raise InputError(
            f"the residual is taken on a rule for two latent dimensions, but this model has "
            f"{dim}; call natural_gradient_residual with draws of your own"
        )
    nodes, weights = hermite(RESIDUAL_ORDER)
    return natural_gradient_residual(look.model, look.x, look.q, torch.tensor(nodes), torch.tensor(weights))


def natural_gradient_residual(
    model: VariationalAutoencoder, x: Tensor, q: DiagonalGaussian, noise: Tensor, weights: Tensor
) -> Tensor:
    """How far q is from where the ELBO L would take it: (B,), in nats.

    r = sum_j [s_j^2 (dL/dm_j)^2 / 2 + (dL/dlog s_j)^2 / 4], half the squared length of the natural gradient, for q =
    N(m, Diag(s)^2) with mean and std (B, d). The expectation over q is taken at m + s * ``noise`` (S, d) with
    ``weights`` (S,): one backward pass through S decodes.
    """
    model_device, samples = model.device, len(noise)
    mean, std, noise = (t.detach().to(model_device, torch.float32) for t in (q.mean, q.std, noise))
    with torch.enable_grad():
        z = (mean + std * noise[:, None]).requires_grad_()  # (S, B, d)
        flat = x.repeat(samples, *([1] * (x.dim() - 1)))
        log_joint = model.generative.log_likelihood(flat, z.reshape(-1, z.shape[-1])).reshape(samples, -1)
        (slope,) = torch.autograd.grad((log_joint + standard_normal_log_prob(z)).sum(), z)
    weighted = slope * weights.to(slope)[:, None, None]
    by_mean = weighted.sum(0)
    by_log_std = (weighted * noise[:, None] * std).sum(0) + 1  # the entropy's share is 1
    return (std**2 * by_mean**2 / 2 + by_log_std**2 / 4).sum(-1).double()


def _laplace_gap(look: Look) -> Tensor:
    return look.laplace_gap


SCORES: dict[str, Score] = {
    "uncertainty": Score(
        "U(x)",
        "squared latent units",
        "the paper's score: what the Gaussian process leaves open in the encoder's mean and scale",
        _uncertainty,
        needs_gp=True,
    ),
    "relative_uncertainty": Score(
        "U(x) relative to q's width",
        "share",
        "the same, each dimension divided by q's own variance",
        _relative_uncertainty,
        needs_gp=True,
    ),
    "log_width": Score(
        "q's width", "nats", "log det of q's covariance: a wide q counts as unsure", _log_width, of=GAUSSIANS
    ),
    "reconstruction_error": Score(
        "reconstruction error", "squared pixels", "|x - g(m)|² at q's mean m", _reconstruction_error
    ),
    "residual": Score(
        "natural-gradient residual",
        "nats",
        "how strongly the ELBO still pulls at q's mean and scale, over 16 decoded points",
        _residual,
        planar=True,
        of=(DiagonalGaussian,),
    ),
    "laplace_gap": Score(
        "Laplace gap",
        "nats",
        "KL(q ‖ p(z|x)) if the posterior were the Gaussian that one decode and its slope at q's mean suggest",
        _laplace_gap,
        of=GAUSSIANS,
    ),
    "predicted_gap": Score(
        "gap predicted by the encoder",
        "nats",
        "KL(q ‖ p(z|x)) as a small network reads it off the encoder's features; fitted on validation images",
        predicted_gap,
        needs_heads=True,
    ),
    "corrected_gap": Score(
        "corrected Laplace gap",
        "nats",
        "the Laplace gap times a factor that a small network fitted on validation images",
        corrected_gap,
        needs_heads=True,
    ),
}


def _fits(score: Score, inference: Inference) -> bool:
    return not score.of or isinstance(inference.q, score.of)


def _asked(names: Sequence[str], inference: Inference) -> Sequence[str]:
    """``names``. Raises InputError where one is of another kind of q than this method's."""
    for name in names:
        if not _fits(SCORES[name], inference):
            kinds, own = " or ".join(kind.__name__ for kind in SCORES[name].of), type(inference.q).__name__
            raise InputError(
                f"{name} is a score of a {kinds}, but this method's q is a {own}; choose another one, for example "
                "reconstruction_error"
            )
    return names


def _available(model: VariationalAutoencoder, inference: Inference) -> list[str]:
    """The scores that are defined for this model."""
    gp, planar = "gp_variance" in inference.extras, inference.q.dim == 2
    heads = model.gap_heads is not None
    return [
        name
        for name, score in SCORES.items()
        if gp >= score.needs_gp and planar >= score.planar and heads >= score.needs_heads and _fits(score, inference)
    ]


@torch.no_grad()
def score_images(
    model: VariationalAutoencoder,
    images: ImageSet,
    names: Sequence[str] | None = None,
    *,
    report: Callable[[float], None] = lambda share: None,
) -> dict[str, NDArray[np.float64]]:
    """Each score of each image, (N,): those of ``names``, or all that the encoder defines.

    ``report`` is told the share of the images that is done.

    Raises InputError for an unknown name, and for one that needs a Gaussian process where there is none.
    """
    for name in names or []:
        if name not in SCORES:
            raise InputError(f"there is no score '{name}'; choose among {', '.join(SCORES)}")
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for start in range(0, len(images), BATCH):
        x = images.pixels(slice(start, start + BATCH))
        model.generative.likelihood.check(x)
        for name, values in score_inferred(model, x, model.infer(x), names).items():
            parts.setdefault(name, []).append(values)
        report(min(start + BATCH, len(images)) / len(images))
    return {name: np.concatenate(values) for name, values in parts.items()}


def score_inferred(
    model: VariationalAutoencoder, x: Tensor, inference: Inference, names: Sequence[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """``score_images`` of x (B, C, H, W) whose inference is there already."""
    look = Look(model, x.to(model.device), inference)
    asked = _asked(names, inference) if names else _available(model, inference)
    return {n: SCORES[n].value(look).double().cpu().numpy() for n in asked}
