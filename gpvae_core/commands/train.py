"""Training from the command line."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from gpvae_core.checkpoints import Checkpoint, load_checkpoint
from gpvae_core.commands import options
from gpvae_core.data import Dataset, check_shape, lasting_name, load_dataset
from gpvae_core.data.recipes import BINARY, recipe_of
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.generative.networks import ACTIVATIONS
from gpvae_core.inference import METHODS
from gpvae_core.inference.gp import has_process
from gpvae_core.models import LIKELIHOODS, ModelConfig, build
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.training.fit import STATE, Progress, TrainingConfig, fit, start_from


@click.command()
@click.option("--dataset", help=f"By default digits, or the one of --decoder. {options.DATASET_HELP}")
@click.option("--method", type=click.Choice(list(METHODS)), default="gpvae")
@options.of_methods
@click.option("--latent-dim", type=int, help="By default 2.")
@click.option(
    "--likelihood", type=click.Choice(LIKELIHOODS), help="By default bernoulli on binary-mnist, else gaussian."
)
@click.option("--s-x", type=float, help="Fix the pixel noise s_x (in [0,1] pixels); by default it is trained.")
@click.option("--activation", type=click.Choice(list(ACTIVATIONS)), help="By default silu.")
@click.option("--epochs", type=int, default=TrainingConfig.epochs)
@click.option(
    "--seed", type=int, default=TrainingConfig.seed, help="Of the weights, the noise and the validation split."
)
@click.option("--learning-rate", type=float, default=TrainingConfig.learning_rate)
@click.option(
    "--base-lr-scale",
    type=float,
    default=TrainingConfig.base_lr_scale,
    help="Learning rate of b and c over the others'.",
)
@click.option(
    "--psi-lr-scale",
    type=float,
    default=TrainingConfig.psi_lr_scale,
    help="The same of the feature networks; 0 freezes them.",
)
@click.option(
    "--base-weight",
    type=float,
    default=TrainingConfig.base_weight,
    help="Weight of the base encoder's own ELBO in the objective.",
)
@click.option(
    "--encoder-noise",
    type=float,
    default=TrainingConfig.encoder_noise,
    help="Pixel noise on what the encoder sees in training.",
)
@click.option("--batch-size", type=int, default=TrainingConfig.batch_size)
@click.option(
    "--patience",
    type=int,
    default=TrainingConfig.patience,
    help="Stop after this many epochs without a better validation ELBO.",
)
@click.option("--init", "initial", help="Start from this checkpoint's weights: a vae for gpvae is the usual recipe.")
@click.option("--decoder", help="Train an encoder alone, on this checkpoint's decoder, which stays as it is.")
@click.option("--out", type=options.FolderPath, required=True, help="Folder for the checkpoint and the training state.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; it ends as if never interrupted.")
@options.data_dir
@options.device
def train(
    dataset: str | None,
    method: str,
    latent_dim: int | None,
    likelihood: str | None,
    s_x: float | None,
    activation: str | None,
    out: Path,
    resume: bool,
    data_dir: Path | None,
    device: str,
    **settings: Any,
) -> None:
    """Train a model, showing the objective and its parts; keep the best epoch on validation in --out."""
    given = load_checkpoint(settings["decoder"]) if settings["decoder"] else None
    named = dataset or (given.dataset if given else "digits")
    data = load_dataset(named, data_dir, seed=settings["seed"], recipe=recipe_of(given.dataset) if given else None)
    options.say(data)
    own = options.taken(METHODS[method], settings)
    asked: dict[str, Any] = {"latent_dim": latent_dim, "likelihood": likelihood, "s_x": s_x, "activation": activation}
    if given:
        config = _on_decoder(given, method, own, asked)
        check_shape(config.image_shape, data.train)
    else:
        config = _fresh(data, method, own, **asked)
    training = TrainingConfig(dataset=data.name, **settings)
    _check_out(out, config, training, resume)
    model = build(config, seed=training.seed).to(options.resolve_device(device))
    if training.initial:
        start_from(model, load_checkpoint(training.initial).model, data.train)
    if given:
        model.generative.load_state_dict(given.model.generative.state_dict())
    with tqdm(total=len(data.train), unit="img", dynamic_ncols=True) as bar:

        def on_step(epoch: int, images: int, objective: float) -> None:
            bar.set_description(f"epoch {epoch}", refresh=False)
            bar.update(images)
            bar.set_postfix_str(f"objective {objective:.2f}")

        for progress in fit(model, config, training, data, out, resume=resume, on_step=on_step):
            bar.write(_progress_line(progress))
            bar.reset()
    click.echo(f"best epoch kept in {out}; python -m gpvae_core evaluate --checkpoint {out}")
    if has_process(model.encoder):
        click.echo(f"python -m gpvae_core settle --checkpoint {out} --out {out}-settled sets its covariances")


def _fresh(
    data: Dataset,
    method: str,
    own: dict[str, Any],
    *,
    latent_dim: int | None,
    likelihood: str | None,
    s_x: float | None,
    activation: str | None,
) -> ModelConfig:
    """Of a model whose decoder is trained too."""
    binary = data.name.startswith(BINARY)
    config = ModelConfig(
        method=method,
        latent_dim=ModelConfig.latent_dim if latent_dim is None else latent_dim,
        image_shape=(1, *data.train.images.shape[1:]),
        activation=activation or ModelConfig.activation,
        likelihood=likelihood or ("bernoulli" if binary else "gaussian"),
        std=ModelConfig.std if s_x is None else s_x,
        train_std=s_x is None,
        options=own,
    )
    if config.likelihood == "bernoulli" and not binary:
        raise InputError(
            f"--likelihood bernoulli needs binary pixels, but data set '{data.name}' is grey; use binary-mnist"
        )
    return config


def _on_decoder(given: Checkpoint, method: str, own: dict[str, Any], asked: dict[str, Any]) -> ModelConfig:
    """Of an encoder on the decoder of ``given``. Raises InputError where something else is asked of that decoder."""
    clash = next((name for name, value in asked.items() if value is not None), None)
    if clash:
        raise InputError(
            f"--{clash.replace('_', '-')} belongs to the decoder, and --decoder {given.name} has its own; leave it out"
        )
    return replace(given.config, method=method, options=own)


def _check_out(out: Path, config: ModelConfig, training: TrainingConfig, resume: bool) -> None:
    """Never overwrite a run that was not asked for, nor go on with another one's settings."""
    if not resume and ((out / STATE).exists() or (out / WEIGHTS).exists()):
        raise InputError(f"{out} already holds a run; go on with it by --resume, or choose another --out")
    if resume and not (out / STATE).exists():
        raise InputError(f"{out} holds no run to resume; leave --resume out to start one")
    if resume:
        record = read_json(out / CONFIG)
        saved = {**record.get("model", {}), **record.get("training", {})}
        saved["dataset"] = lasting_name(str(saved.get("dataset")))  # written before names were lasting, it may not be
        for key, value in json.loads(json.dumps({**asdict(config), **asdict(training)})).items():
            if saved.get(key) != value:
                raise InputError(f"the run in {out} was started with {key} = {saved.get(key)}, not {value}; give that")


def _progress_line(progress: Progress) -> str:
    groups = {"train": progress.parts, "validation": progress.validation, "health": progress.health}
    texts = [f"{name}[{' '.join(f'{k}={v:.4g}' for k, v in group.items())}]" for name, group in groups.items() if group]
    objective = sum(progress.parts.values())
    return (
        f"epoch {progress.epoch}: objective={objective:.2f} {' '.join(texts)} best={progress.best_elbo:.2f}"
        f"@{progress.best_epoch} {progress.images_per_second:.0f} images/s"
    )
