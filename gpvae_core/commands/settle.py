"""The Gaussian process of a trained checkpoint brought to its optimum."""

from pathlib import Path

import click
import torch
from tqdm import tqdm

from gpvae_core.checkpoints import load_checkpoint, save_checkpoint
from gpvae_core.commands import options
from gpvae_core.errors import InputError
from gpvae_core.evaluation import evaluate_elbo
from gpvae_core.paths import WEIGHTS
from gpvae_core.settling import settle as settle_model


@click.command()
@options.checkpoint
@click.option("--out", type=options.FolderPath, required=True, help="Folder for the settled checkpoint.")
@options.data_dir
@options.device
def settle(checkpoint: str, out: Path, data_dir: Path | None, device: str) -> None:
    """Set a GP's covariances to their optimum in closed form: U(x) then is what the training images leave open.

    One pass over the images that the checkpoint was trained on; means, networks and decoder stay as they are. Learned
    scores belong to the weights they were fitted to: fit them again with `calibrate`.
    """
    if (out / WEIGHTS).exists():
        raise InputError(f"{out} already holds a checkpoint; choose another --out")
    opened = load_checkpoint(checkpoint, device=options.resolve_device(device))
    model, data = opened.model, options.data_of(opened, None, data_dir)
    train, look = data.split("train"), data.validation.pixels(slice(0, 500)).to(model.device)
    with tqdm(total=len(train), unit="img") as bar, torch.no_grad():
        before = _figures(model.encoder.health(look), evaluate_elbo(model, data.validation, seed=0))
        settle_model(model, train, on_batch=bar.update)
        after = _figures(model.encoder.health(look), evaluate_elbo(model, data.validation, seed=0))
    model.gap_heads = None
    save_checkpoint(out, model, opened.config, {**opened.training, "settled_from": checkpoint})
    click.echo(f"on validation images: {before} before, {after} settled; in {out}")


def _figures(health: dict[str, float], elbos: dict[str, torch.Tensor]) -> str:
    share = health["var_f"] / health["posterior_var"] if health else 0.0
    return f"V(f) {share:.3g} of q's variance, ELBO {float(elbos['elbo'].mean()):.3f}"
