"""The covariances of the Gaussian process at their optimum, in closed form: what the training images leave open."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError
from gpvae_core.exact.expectations import hermite
from gpvae_core.inference.gaussian import GaussianEncoder
from gpvae_core.inference.gp import process_of
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.training.fit import start_from

METHOD = "gpvae-unit"
BATCH = 250
ORDER = 6  # of Gauss-Hermite for the curvature: 36 decodes an image


def on_top_of(
    trained: VariationalAutoencoder, config: ModelConfig, images: ImageSet
) -> tuple[VariationalAutoencoder, ModelConfig]:
    """A GPVAE on the unit features of a plain VAE's own trunks, all of the VAE kept, and its config; unsettled.

    ``images`` are those that the VAE was trained on. Raises InputError where ``trained`` is no plain VAE.
    """
    plain = trained.encoder
    if not isinstance(plain, GaussianEncoder):
        raise InputError(
            f"a GP is put on a plain VAE, but this model's method is {config.method}; give a vae or a vae-3"
        )
    trunks = 1 + len(plain.others)
    config = replace(config, method=METHOD, options={"trunks": trunks} if trunks > 1 else {})
    model = build(config, seed=0).to(trained.device)
    start_from(model, trained, images)
    return model, config


@torch.no_grad()
def settle(model: VariationalAutoencoder, images: ImageSet, *, on_batch: Callable[[int], None] | None = None) -> None:
    """Set Sigma and Gamma to what maximises (14) over ``images`` if the decoder's curvature were 1 / a^2.

    All else in the model is held. With a_nj = c_j + eta_j'psi_s, the standard deviation the encoder gives image n,

        Sigma_j = (I + sum_n psi_m psi_m' / a_nj^2)^-1,    Gamma_j = (I + 2 sum_n psi_s psi_s' / a_nj^2)^-1,

    For a variance V(f) of z_j costs h V(f) / 2 nats, h the mean curvature of -log p(x_n, z) under q. At an encoder that
    maximises the ELBO h is 1 / a_nj^2; ``curvature_ratio`` says how far from it a model is. The weights' own KL is that
    to N(0, I). V(h) besides takes E log X^2 of (15) down by V(h) / a_nj^2, to second order. What adaptive steps from a
    poor start do not reach, one pass over the images does. The mean of V(f_j) / a_nj^2 over them is then below p / N,
    their number and that of the features.

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


@torch.no_grad()
def curvature_ratio(model: VariationalAutoencoder, images: ImageSet) -> float:
    """sum_n h_nj over sum_n 1 / a_nj^2, averaged over the dimensions j: 1 where ``settle`` maximises (14).

    a is the standard deviation of the method's q, h the mean of -d^2 log p(x, z) / dz_j^2 under it. By Stein's identity
    a_j^2 h_j = -E[(u_j^2 - 1) log p(x, m + a u)] for u ~ N(0, I): no derivative is needed. Raises InputError unless the
    latent space is a plane.
    """
    dim = model.generative.latent_dim
    if dim != 2:
        raise InputError(f"the curvature is taken on a rule for a plane, not for {dim} latent dimensions")
    nodes, weights = (torch.tensor(part) for part in hermite(ORDER))
    curved, wanted = torch.zeros(dim, dtype=torch.float64), torch.zeros(dim, dtype=torch.float64)
    for start in range(0, len(images), BATCH):
        x = images.pixels(slice(start, start + BATCH)).to(model.device)
        mean, std = model.encoder.infer(x, model.generative).q.mean_and_std()
        fits = torch.stack([model.generative.log_joint(x, mean + std * u) for u in nodes.to(mean)]).cpu().double()
        scaled = -torch.einsum("s,sj,sb->bj", weights, nodes**2 - 1, fits - fits.mean(0))
        precision = std.cpu().double() ** -2
        curved, wanted = curved + (scaled * precision).sum(0), wanted + precision.sum(0)
    return float((curved / wanted).mean())


def _prior_precision(mean: Tensor) -> Tensor:
    """One identity matrix for each latent dimension, (d, p, p), of N(0, I) over the weights."""
    latent_dim, features = mean.shape
    return torch.eye(features, dtype=torch.float64).repeat(latent_dim, 1, 1)


def _weighted_squares(psi: Tensor, weight: Tensor) -> Tensor:
    """sum_n weight_nj psi_n psi_n' for psi (B, p) and weights (B, d), (d, p, p), on the CPU: MPS has no float64."""
    psi, weight = psi.cpu().double(), weight.cpu().double()
    return torch.stack([(psi * column[:, None]).T @ psi for column in weight.T])
