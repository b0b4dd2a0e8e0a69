"""The covariances of the Gaussian process at their optimum, in closed form: what the training images leave open."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gpvae_core.data import ImageSet
from gpvae_core.inference.gp import process_of
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.training.fit import start_from

METHOD = "gpvae-unit"
BATCH = 250


def on_top_of(
    trained: VariationalAutoencoder, config: ModelConfig, images: ImageSet
) -> tuple[VariationalAutoencoder, ModelConfig]:
    """A GPVAE on the unit features of a plain VAE's own trunk, everything of the VAE kept, and its config; unsettled.

    ``images`` are those that the VAE was trained on. Raises InputError where the VAE has several trunks.
    """
    config = replace(config, method=METHOD)
    model = build(config, seed=0).to(trained.device)
    start_from(model, trained, images)
    return model, config


@torch.no_grad()
def settle(model: VariationalAutoencoder, images: ImageSet, *, on_batch: Callable[[int], None] | None = None) -> None:
    """Set Sigma and Gamma where the objective (14) over ``images`` is largest, all else in the model held.

    With a_nj = c_j + eta_j'psi_s, the standard deviation that the encoder gives image n,

        Sigma_j = (I + sum_n psi_m psi_m' / a_nj^2)^-1,    Gamma_j = (I + 2 sum_n psi_s psi_s' / a_nj^2)^-1,

    for a variance V(f) of z_j costs h V(f) / 2 nats, h the mean curvature of -log p(x_n, z) under q, which is
    1 / a_nj^2 where the ELBO is largest, and the weights' own KL is that to N(0, I); V(h) besides takes E log X^2 of
    (15) down by V(h) / a_nj^2, to second order. What adaptive steps from a poor start do not reach, one pass over the
    images does. The mean of V(f_j) / a_nj^2 over them is then below p / N, their number and that of the features.

    ``on_batch(n)`` is called after every n images. Raises InputError where the model has no Gaussian process.
    """
    encoder = process_of(model.encoder)
    precisions = {w: _prior_precision(w.mean) for w in (encoder.weights_mean, encoder.weights_std)}
    for start in range(0, len(images), BATCH):
        x = images.pixels(slice(start, start + BATCH)).to(model.device)
        psi_mean, psi_std, base = encoder.features(x)
        weight = (base.std + encoder.weights_std.project(psi_std)[0]) ** -2
        precisions[encoder.weights_mean] += _weighted_squares(psi_mean, weight)
        precisions[encoder.weights_std] += _weighted_squares(psi_std, 2 * weight)
        if on_batch:
            on_batch(len(x))
    for weights, precision in precisions.items():
        weights.set_covariance(torch.cholesky_inverse(torch.linalg.cholesky(precision)))


def _prior_precision(mean: Tensor) -> Tensor:
    """One identity matrix for each latent dimension, (d, p, p), of N(0, I) over the weights."""
    latent_dim, features = mean.shape
    return torch.eye(features, dtype=torch.float64).repeat(latent_dim, 1, 1)


def _weighted_squares(psi: Tensor, weight: Tensor) -> Tensor:
    """sum_n weight_nj psi_n psi_n' for psi (B, p) and weights (B, d), (d, p, p), on the CPU: MPS has no float64."""
    psi, weight = psi.cpu().double(), weight.cpu().double()
    return torch.stack([(psi * column[:, None]).T @ psi for column in weight.T])
