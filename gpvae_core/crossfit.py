"""Cross-fitting: what base encoders say of images that they were not trained on.

On its own training images an encoder errs less than on new ones, so a Gaussian process fitted there learns the wrong
error. Fitted to out-of-fold answers it sees the error that it will meet (Chernozhukov et al. 2018 use the same device).
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gpvae_core.data import Dataset
from gpvae_core.evaluation import encode_images
from gpvae_core.gaussian import DiagonalGaussian
from gpvae_core.models import ModelConfig, VariationalAutoencoder, build
from gpvae_core.training import STATE, TrainingConfig, fit


def folds(images: int, count: int, seed: int) -> list[NDArray[np.intp]]:
    """The numbers of the images in each of ``count`` parts, by ``seed``."""
    order = np.random.default_rng(seed).permutation(images)
    return [np.sort(part) for part in np.array_split(order, count)]


def out_of_fold(
    trained: VariationalAutoencoder,
    model_config: ModelConfig,
    config: TrainingConfig,
    dataset: Dataset,
    folder: Path,
) -> Iterator[str | DiagonalGaussian]:
    """Train ``config.cross_fit`` plain encoders under ``trained``'s frozen decoder, each without a part of the images.

    Yields a line after each epoch and at last the q's (N, d): for each training image what the encoder that has not
    seen it says. ``folder`` keeps each encoder's run, which is resumed if there is one.
    """
    size, dim, count = len(dataset.train), model_config.latent_dim, config.cross_fit
    mean, std = torch.empty(size, dim), torch.empty(size, dim)
    plain = replace(model_config, method="vae")
    alone = TrainingConfig(
        config.dataset, config.seed, config.cross_fit_epochs, decoder_lr_scale=0.0, encoder_noise=config.encoder_noise
    )
    for number, held in enumerate(folds(size, count, config.seed)):
        model = build(plain, seed=config.seed + 1 + number).to(trained.device)
        model.generative.load_state_dict(trained.generative.state_dict())
        rest = replace(dataset, train=dataset.train.take(np.setdiff1d(np.arange(size), held)))
        own = folder / f"fold-{number}"
        for progress in fit(model, plain, alone, rest, own, resume=(own / STATE).exists()):
            elbo = progress.validation["elbo"]
            yield f"fold {number + 1} of {count}, epoch {progress.epoch}: validation ELBO {elbo:.2f}"
        q = encode_images(model, dataset.train.take(held))
        mean[held], std[held] = q.mean, q.std
    yield DiagonalGaussian(mean, std)
