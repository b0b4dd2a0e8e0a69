"""Training from the command line."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from gpvae_core.checkpoints import load_checkpoint
from gpvae_core.commands import options
from gpvae_core.commands.stopping import Asked, Stopped, listening
from gpvae_core.generative.networks import ACTIVATIONS
from gpvae_core.inference import METHODS
from gpvae_core.inference.gp import has_process
from gpvae_core.models import LIKELIHOODS
from gpvae_core.training import processes
from gpvae_core.training.fit import Progress, TrainingConfig, saved_epoch
from gpvae_core.training.growing import STEPS, before, steps
from gpvae_core.training.runs import NETWORKS, Wanted, config_for, images_for, run


@click.command()
@click.option(
    "--dataset", type=options.NAME, help=f"By default digits, or the one of --decoder. {options.DATASET_HELP}"
)
@click.option("--method", type=click.Choice(list(METHODS)), default="gpvae")
@options.of_methods
@click.option("--latent-dim", type=options.DIMENSION, help="By default 2.")
@click.option(
    "--likelihood", type=click.Choice(LIKELIHOODS), help="By default bernoulli on binary-mnist, else gaussian."
)
@click.option("--s-x", type=options.STD, help="Fix the pixel noise s_x (in [0,1] pixels); by default it is trained.")
@click.option("--activation", type=click.Choice(list(ACTIVATIONS)), help="By default silu.")
@click.option("--network", type=click.Choice(NETWORKS), help="By default conv: convolutions, then dense layers.")
@click.option("--hidden", type=options.HIDDEN, help="Width of the dense layers. By default 256, in colour 512.")
@click.option("--epochs", type=options.COUNT, default=TrainingConfig.epochs)
@click.option(
    "--seed",
    type=options.SEED,
    default=TrainingConfig.seed,
    help="Of weights, noise and validation split; with --decoder the split is its own.",
)
@click.option("--learning-rate", type=options.POSITIVE, default=TrainingConfig.learning_rate)
@click.option(
    "--base-lr-scale",
    type=options.SCALE,
    default=TrainingConfig.base_lr_scale,
    help="Learning rate of b and c over the others'.",
)
@click.option(
    "--psi-lr-scale",
    type=options.SCALE,
    default=TrainingConfig.psi_lr_scale,
    help="The same of the feature networks; 0 freezes them.",
)
@click.option(
    "--base-weight",
    type=options.WEIGHT,
    default=TrainingConfig.base_weight,
    help="Weight of the base encoder's own ELBO in the objective.",
)
@click.option(
    "--encoder-noise",
    type=options.SCALE,
    default=TrainingConfig.encoder_noise,
    help="Pixel noise on what the encoder sees in training.",
)
@click.option(
    "--augment", type=options.SCALE, default=0.0, help="With --decoder: transform training images, 1 as far as useful."
)
@click.option(
    "--dreams",
    type=options.WEIGHT,
    default=0.0,
    help="With --decoder: weight of log q(z|x) of its own images.",
)
@click.option(
    "--importance",
    type=options.IMPORTANCE,
    default=TrainingConfig.importance,
    help="Train by IWAE's bound of so many draws of z; 0 leaves the ELBO.",
)
@click.option(
    "--parts",
    type=options.COUNT,
    help="Take each batch in so many parts; by default as many as there are processes (torchrun).",
)
@click.option("--batch-size", type=options.COUNT, default=TrainingConfig.batch_size)
@click.option(
    "--patience",
    type=options.COUNT,
    default=TrainingConfig.patience,
    help="Stop after this many epochs without a better validation ELBO.",
)
@click.option(
    "--init",
    "initial",
    type=options.NAME,
    help="Start from this checkpoint's weights: a vae for gpvae is the usual recipe.",
)
@click.option(
    "--decoder", type=options.NAME, help="Train an encoder alone, on this checkpoint's decoder, which stays as it is."
)
@click.option("--out", type=options.FolderPath, required=True, help="Folder for the checkpoint and the training state.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; it ends as if never interrupted.")
@click.option("--tensorboard", is_flag=True, help="Also write every epoch's numbers as TensorBoard's events, in --out.")
@options.data_dir
@options.device
def train(
    dataset: str | None,
    method: str,
    latent_dim: int | None,
    likelihood: str | None,
    s_x: float | None,
    activation: str | None,
    network: str | None,
    hidden: int | None,
    out: Path,
    resume: bool,
    tensorboard: bool,
    data_dir: Path | None,
    device: str,
    **settings: Any,
) -> None:
    """Train a model, showing the objective and its parts; keep the best epoch on validation in --out."""
    wanted = Wanted(latent_dim, likelihood, s_x, activation, network, hidden)
    with _ending_well(out) as asked:
        given = load_checkpoint(settings["decoder"]) if settings["decoder"] else None
        data = images_for(dataset, given, seed=settings["seed"], folder=data_dir)
        options.say(data)
        own = options.taken(METHODS[method], settings)
        config = config_for(data, method, own, wanted, given)
        with processes.joined(options.resolve_device(device)) as place:
            settings["parts"] = settings["parts"] or processes.count()
            training = TrainingConfig.on(data, **settings)
            lead = steps(out, config, training)[:-1]
            if lead and processes.speaks():
                click.echo(
                    f"first come {', '.join(step.folder.name for step in lead)}, kept in {lead[0].folder.parent}"
                )
            epochs = partial(run, out, data, config, training, device=place, resume=resume, tensorboard=tensorboard)
            _shown(epochs, len(data.train), asked)
    if not processes.speaks():
        return
    click.echo(f"best epoch kept in {out}; python -m gpvae_core evaluate --checkpoint {out}")
    if has_process(load_checkpoint(out).model.encoder):
        click.echo(f"python -m gpvae_core settle --checkpoint {out} --out {out}-settled sets its covariances")


@contextmanager
def _ending_well(out: Path) -> Iterator[Asked]:
    """``listening``; where it is asked to end, one sentence says what is kept in ``out``, and the exit code why."""
    try:
        with listening() as asked:
            yield asked
    except Stopped as stopped:
        if processes.speaks():
            click.echo(f"stopped by {stopped.signal.name}: {_kept(out)}", err=True)
        sys.exit(stopped.exit_code)


def _kept(out: Path) -> str:
    epoch = saved_epoch(out)
    if epoch is None and before(out):
        return f"the runs that lead up to it are kept in {out / STEPS}, and the same command goes on from there"
    if epoch is None:
        return f"nothing was saved in {out} yet, so start it again"
    return f"epoch {epoch} is kept in {out}, and the same command with --resume goes on from there"


def _shown(epochs: Callable[..., Iterator[Progress]], images: int, asked: Asked) -> None:
    """Go through ``epochs`` of so many images, and say how far they are; end between two steps where it is asked."""
    with tqdm(total=images, unit="img", dynamic_ncols=True, disable=not processes.speaks()) as bar:

        def on_step(epoch: int, images: int, objective: float) -> None:
            asked.check()
            bar.set_description(f"epoch {epoch}", refresh=False)
            bar.update(images)
            bar.set_postfix_str(f"objective {objective:.2f}")

        with asked.patiently():
            for progress in epochs(on_step=on_step):
                asked.check()
                if processes.speaks():
                    bar.write(_progress_line(progress))
                bar.reset()


def _progress_line(progress: Progress) -> str:
    groups = {"train": progress.parts, "validation": progress.validation, "health": progress.health}
    texts = [f"{name}[{' '.join(f'{k}={v:.4g}' for k, v in group.items())}]" for name, group in groups.items() if group]
    objective = sum(progress.parts.values())
    return (
        f"epoch {progress.epoch}: objective={objective:.2f} {' '.join(texts)} best={progress.best_bound:.2f}"
        f"@{progress.best_epoch} {progress.images_per_second:.0f} images/s"
    )
