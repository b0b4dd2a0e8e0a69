"""The covariances of a trained checkpoint's Gaussian process, set in closed form."""

from pathlib import Path

import click
import numpy as np
import torch
from tqdm import tqdm

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.commands import options
from gpvae_core.data import ImageSet
from gpvae_core.errors import InputError
from gpvae_core.identity import STATE
from gpvae_core.inference.gp import has_process
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.training.evaluation import evaluate_elbo
from gpvae_core.training.settling import curvature_ratio, on_top_of
from gpvae_core.training.settling import settle as settle_model

CURVED = 1000  # validation images on which the curvature is measured


@click.command()
@options.checkpoint
@click.option("--out", type=options.FolderPath, required=True, help="Folder for the settled checkpoint.")
@options.data_dir
@options.device
def settle(checkpoint: str, out: Path, data_dir: Path | None, device: str) -> None:
    """Set a GP's covariances in closed form, or put such a GP on a plain VAE.

    One pass over the images that the checkpoint was trained on; means, networks and decoder stay as they are, and U(x)
    then is what those images leave open. Learned scores belong to the weights they were fitted to: fit them anew with
    `calibrate`.
    """
    if any((out / file).exists() for file in (WEIGHTS, CONFIG, STATE)):
        raise InputError(f"{out} already holds a checkpoint or a training; choose another --out")
    options.check_out(out)
    opened = load_checkpoint(checkpoint, device=options.resolve_device(device))
    data = options.data_of(opened, None, data_dir)
    train, (model, config) = data.split("train"), (opened.model, opened.config)
    if not has_process(model.encoder):
        model, config = on_top_of(model, config, train)
    before = _figures(model, data.validation)
    with tqdm(total=len(train), unit="img") as bar:
        settle_model(model, train, on_batch=bar.update)
    save_checkpoint(out, model, config, {**opened.training, "settled_from": checkpoint})
    if model.generative.latent_dim == 2:
        ratio = curvature_ratio(model, data.validation.take(np.arange(min(CURVED, len(data.validation)))))
        click.echo(f"the decoder's curvature under q is {ratio:.2f} of 1/a^2, at which settling would be the optimum")
    click.echo(f"on validation images: {before} before, {_figures(model, data.validation)} settled; in {out}")


@torch.no_grad()
def _figures(model: VariationalAutoencoder, images: ImageSet) -> str:
    share = model.encoder.health(images.pixels(slice(0, 500)).to(model.device))["share_of_f"]
    bound = float(evaluate_elbo(model, images, seed=0)["elbo"].mean())
    return f"V(f) {share:.3g} of q's variance, ELBO {bound:.3f}"
