"""The command line, and the only module that prints: train, evaluate, posterior, rank, gaps."""

import csv
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from gpvae_core.checkpoints import Checkpoint, load_checkpoint, read_json, save_heads, write_atomically
from gpvae_core.data import BINARY, DATASETS, Dataset, ImageSet, bernoulli_draw, load_dataset
from gpvae_core.errors import InputError
from gpvae_core.evaluation import check_shape, evaluate_elbo, evaluate_iwae
from gpvae_core.gap_heads import fit_heads
from gpvae_core.gap_table import gap_table, read_gaps, settings_file
from gpvae_core.images import read_image, to_model_input
from gpvae_core.inference import METHODS
from gpvae_core.models import LIKELIHOODS, ModelConfig, build
from gpvae_core.networks import ACTIVATIONS
from gpvae_core.paths import CONFIG, WEIGHTS
from gpvae_core.posterior import PosteriorEngine
from gpvae_core.report import encode, posterior_report
from gpvae_core.scores import SCORES, score_images
from gpvae_core.tables import Row, check_suffix, read_table, write_table
from gpvae_core.training import STATE, Progress, TrainingConfig, fit, start_from

FolderPath = click.Path(file_okay=False, path_type=Path)
FilePath = click.Path(dir_okay=False, path_type=Path)
SAVE_SECONDS = 20.0
DATASET_HELP = f"One of {', '.join(DATASETS)}, or folder:PATH, or simulated:CHECKPOINT."


def main() -> None:
    """Run the CLI; what the user can mend is one sentence on stderr and exit code 2."""
    try:
        cli(prog_name="python -m gpvae_core")
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


@click.group(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def cli() -> None:
    """GPVAE (M. Kim, CVPR 2022): train it, and compute exact 2-D posteriors p(z|x).

    \b
    First steps, offline:
      python -m gpvae_core posterior --checkpoint digits-2d --index 0
      python -m gpvae_core rank --checkpoint digits-2d --out ranking.csv
      python -m gpvae_core gaps --checkpoint digits-2d --out gaps.csv
      python -m gpvae_core train --dataset digits --method gpvae --epochs 5 --out runs/first
      python -m gpvae_core evaluate --checkpoint runs/first

    A checkpoint is a name in pretrained/ or the path of a folder that `train` wrote. All figures are in nats.
    """


def _data_dir(command: Callable[..., None]) -> Callable[..., None]:
    help_text = "Where mnist.npz and its like are kept (or GPVAE_DATA_DIR); by default the user's cache folder."
    return click.option("--data-dir", type=FolderPath, envvar="GPVAE_DATA_DIR", help=help_text)(command)


def _device(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps, ...")(command)


def _checkpoint(command: Callable[..., None]) -> Callable[..., None]:
    return click.option("--checkpoint", required=True, help="A name in pretrained/ or a folder.")(command)


def _split(command: Callable[..., None]) -> Callable[..., None]:
    choice = click.Choice(["train", "validation", "test"])
    return click.option("--split", type=choice, default="test", help="Part of the data set.")(command)


def _tolerance(command: Callable[..., None]) -> Callable[..., None]:
    positive = click.FloatRange(0, min_open=True)
    return click.option("--tolerance", type=positive, default=1e-3, help="Of log p(x), in nats.")(command)


def _dataset(command: Callable[..., None]) -> Callable[..., None]:
    text = f"By default the one the checkpoint was trained on. {DATASET_HELP}"
    return click.option("--dataset", help=text)(command)


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        usable = torch.accelerator.is_available()
        return torch.accelerator.current_accelerator() or torch.device("cpu") if usable else torch.device("cpu")
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError):
        raise InputError(f"device '{name}' is not usable here; use --device cpu or leave the option out") from None


def _data_of(checkpoint: Checkpoint, dataset: str | None, data_dir: Path | None) -> Dataset:
    spec = dataset or checkpoint.training.get("dataset", "digits")
    data = load_dataset(spec, data_dir, seed=int(checkpoint.training.get("seed", 0)))
    check_shape(checkpoint.config.image_shape, data.test)
    return data


def _limited(images: ImageSet, limit: int | None) -> ImageSet:
    return images if limit is None else images.take(np.arange(min(limit, len(images))))


@cli.command()
@click.option("--dataset", default="digits", help=DATASET_HELP)
@click.option("--method", type=click.Choice(list(METHODS)), default="gpvae")
@click.option("--latent-dim", type=int, default=2)
@click.option(
    "--likelihood", type=click.Choice(LIKELIHOODS), help="By default bernoulli on binary-mnist, else gaussian."
)
@click.option("--s-x", type=float, help="Fix the pixel noise s_x (in [0,1] pixels); by default it is trained.")
@click.option("--activation", type=click.Choice(list(ACTIVATIONS)), default="silu")
@click.option("--epochs", type=int, default=40)
@click.option("--seed", type=int, default=0, help="Of the weights, the noise and the validation split.")
@click.option("--learning-rate", type=float, default=2e-3)
@click.option("--base-lr-scale", type=float, default=1.0, help="Learning rate of b and c over the others'.")
@click.option("--psi-lr-scale", type=float, default=1.0, help="The same of the feature networks; 0 freezes them.")
@click.option("--base-weight", type=float, default=0.0, help="Weight of the base encoder's own ELBO in the objective.")
@click.option("--encoder-noise", type=float, default=0.0, help="Pixel noise on what the encoder sees in training.")
@click.option("--batch-size", type=int, default=128)
@click.option("--patience", type=int, default=20, help="Stop after this many epochs without a better validation ELBO.")
@click.option("--init", "initial", help="Start from this checkpoint's weights: a vae for gpvae is the usual recipe.")
@click.option("--out", type=FolderPath, required=True, help="Folder for the checkpoint and the training state.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; it ends as if never interrupted.")
@_data_dir
@_device
def train(
    dataset: str,
    method: str,
    latent_dim: int,
    likelihood: str | None,
    s_x: float | None,
    activation: str,
    out: Path,
    resume: bool,
    data_dir: Path | None,
    device: str,
    **options: Any,
) -> None:
    """Train a model, showing the objective and its parts; keep the best epoch on validation in --out."""
    data = load_dataset(dataset, data_dir, seed=options["seed"])
    binary = dataset.startswith(BINARY)
    config = ModelConfig(
        method=method,
        latent_dim=latent_dim,
        image_shape=(1, *data.train.images.shape[1:]),
        activation=activation,
        likelihood=likelihood or ("bernoulli" if binary else "gaussian"),
        std=ModelConfig.std if s_x is None else s_x,
        train_std=s_x is None,
    )
    if config.likelihood == "bernoulli" and not binary:
        raise InputError(
            f"--likelihood bernoulli needs binary pixels, but data set '{dataset}' is grey; use binary-mnist"
        )
    training = TrainingConfig(dataset=dataset, **options)
    _check_out(out, config, training, resume)
    model = build(config, seed=training.seed).to(_resolve_device(device))
    if training.initial:
        start_from(model, load_checkpoint(training.initial).model, data.train)
    with tqdm(total=len(data.train), unit="img", dynamic_ncols=True) as bar:
        bar.set_description("epoch 1")

        def on_step(epoch: int, images: int, objective: float) -> None:
            bar.update(images)
            bar.set_postfix_str(f"objective {objective:.2f}")

        for progress in fit(model, config, training, data, out, resume=resume, on_step=on_step):
            bar.write(_progress_line(progress))
            bar.reset()
            bar.set_description(f"epoch {progress.epoch + 1}")
    click.echo(f"best epoch kept in {out}; python -m gpvae_core evaluate --checkpoint {out}")


def _check_out(out: Path, config: ModelConfig, training: TrainingConfig, resume: bool) -> None:
    """Never overwrite a run that was not asked for, nor go on with another one's settings."""
    if not resume and ((out / STATE).exists() or (out / WEIGHTS).exists()):
        raise InputError(f"{out} already holds a run; go on with it by --resume, or choose another --out")
    if resume and not (out / STATE).exists():
        raise InputError(f"{out} holds no run to resume; leave --resume out to start one")
    if resume:
        record = read_json(out / CONFIG)
        saved = {**record.get("model", {}), **record.get("training", {})}
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


@cli.command()
@_checkpoint
@_dataset
@_split
@click.option("--samples", type=click.IntRange(1), default=100, help="K of the importance-weighted bound.")
@click.option("--limit", type=click.IntRange(1), help="Only the first images.")
@click.option("--seed", type=int, default=0, help="Of the noise.")
@_data_dir
@_device
def evaluate(
    checkpoint: str,
    dataset: str | None,
    split: str,
    samples: int,
    limit: int | None,
    seed: int,
    data_dir: Path | None,
    device: str,
) -> None:
    """Average ELBO of the encoder and of its base, and IWAE-K, as JSON in nats per image."""
    opened = load_checkpoint(checkpoint, device=_resolve_device(device))
    data = _data_of(opened, dataset, data_dir)
    images = _limited(data.split(split), limit)
    values = evaluate_elbo(opened.model, images, seed=seed)
    values[f"iwae_{samples}"] = evaluate_iwae(opened.model, images, samples=samples, seed=seed)
    report: dict[str, Any] = {"checkpoint": opened.name, "dataset": data.name, "split": split, "images": len(images)}
    for name, value in values.items():
        report[name] = float(value.double().mean())
        report[f"{name}_stderr"] = float(value.double().std() / len(value) ** 0.5) if len(value) > 1 else None
    click.echo(json.dumps(report, indent=2))


@cli.command()
@_checkpoint
@click.option("--index", type=click.IntRange(0), help="An image of the data set, by number.")
@click.option("--image", type=FilePath, help="An image file of your own.")
@_dataset
@_split
@_tolerance
@_data_dir
def posterior(
    checkpoint: str,
    index: int | None,
    image: Path | None,
    dataset: str | None,
    split: str,
    tolerance: float,
    data_dir: Path | None,
) -> None:
    """The exact posterior of one image as JSON: log p(x) with its error, both KLs and ELBOs, U, moments."""
    if (index is None) == (image is None):
        raise InputError("give one of --index I (an image of the data set) and --image FILE")
    opened = load_checkpoint(checkpoint)
    engine = PosteriorEngine.of(opened, tolerance=tolerance)
    if image is not None:
        pixels = to_model_input(read_image(image, str(image)), str(image))
        images = ImageSet(pixels[None])
        check_shape(opened.config.image_shape, images)
        source: dict[str, Any] = {"image": str(image)}
        if opened.config.likelihood == "bernoulli":
            images = bernoulli_draw(images, 0)
            source["pixels"] = "made 0 or 1 by one Bernoulli draw, seed 0"
    else:
        data = _data_of(opened, dataset, data_dir)
        images = data.split(split)
        if index is not None and index >= len(images):
            raise InputError(f"there is no image {index}: the {split} set of {data.name} ends at {len(images) - 1}")
        images = images.take(np.array([index]))
        source = {"dataset": data.name, "split": split, "index": index}
    report = posterior_report(engine, opened.model, images.pixels())
    click.echo(json.dumps({"checkpoint": opened.name, **source, **report}, indent=2))


@cli.command()
@_checkpoint
@_dataset
@_split
@click.option("--by", type=click.Choice(list(SCORES)), default="uncertainty", help="Score to rank by.")
@click.option("--limit", type=click.IntRange(1), help="Only the first images.")
@click.option("--out", type=FilePath, required=True, help="CSV file to write.")
@_data_dir
@_device
def rank(
    checkpoint: str,
    dataset: str | None,
    split: str,
    by: str,
    limit: int | None,
    out: Path,
    data_dir: Path | None,
    device: str,
) -> None:
    """Images by an ascending difficulty score, as CSV: rank, index, the score, label."""
    opened = load_checkpoint(checkpoint, device=_resolve_device(device))
    images = _limited(_data_of(opened, dataset, data_dir).split(split), limit)
    scores = score_images(opened.model, images, [by])[by]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["rank", "index", by, "label"])
    for position, row in enumerate(np.argsort(scores, kind="stable")):
        label = "" if images.labels is None else int(images.labels[row])
        writer.writerow([position, int(row), repr(float(scores[row])), label])
    write_atomically(out, table.getvalue().encode())
    click.echo(f"{len(images)} images ranked by {SCORES[by].label} in {out}")


@cli.command()
@_checkpoint
@_dataset
@_split
@click.option("--limit", type=click.IntRange(1), help="Only the first images.")
@_tolerance
@click.option("--gaussians", is_flag=True, help="Also find the best diagonal and full Gaussian of each image.")
@click.option("--batch-size", type=click.IntRange(1), default=64, help="Images at once; more for a GPU.")
@click.option("--out", type=FilePath, required=True, help="CSV or Parquet file to write, by its suffix.")
@click.option("--resume", is_flag=True, help="Go on with the table in --out.")
@_data_dir
@_device
def gaps(
    checkpoint: str,
    dataset: str | None,
    split: str,
    limit: int | None,
    tolerance: float,
    gaussians: bool,
    batch_size: int,
    out: Path,
    resume: bool,
    data_dir: Path | None,
    device: str,
) -> None:
    """Exact log p(x), KLs and gaps of a whole split, one row per image; beside it OUT.json says what was computed."""
    check_suffix(out)
    opened = load_checkpoint(checkpoint, device=_resolve_device(device))
    data = _data_of(opened, dataset, data_dir)
    images = _limited(data.split(split), limit)
    settings = {
        "checkpoint": opened.name,
        "digest": opened.digest,
        "dataset": data.name,
        "split": split,
        "tolerance": tolerance,
        "gaussians": gaussians,
    }
    rows = _rows_so_far(out, settings, resume)
    engine = PosteriorEngine.of(opened, tolerance=tolerance)
    table = gap_table(engine, opened.model, images, start=len(rows), batch_size=batch_size, gaussians=gaussians)
    write_atomically(settings_file(out), (json.dumps(settings, indent=2) + "\n").encode())
    saved = time.monotonic()
    with tqdm(total=len(images), initial=len(rows), unit="img") as bar:
        for batch in table:
            rows += batch
            bar.update(len(batch))
            if time.monotonic() - saved > SAVE_SECONDS or len(rows) == len(images):
                write_table(out, rows)
                saved = time.monotonic()
    missed = sum(row["log_evidence_error"] > tolerance for row in rows)
    means = {name: sum(row[f"kl_{name}"] for row in rows) / len(rows) for name in ("base", "marginal")}
    click.echo(
        f"{len(rows)} images in {out}: mean KL of base {means['base']:.3f}, marginalised {means['marginal']:.3f} nats; "
        f"{missed} beyond the tolerance of {tolerance:g} nats, each with its own error"
    )


def _rows_so_far(out: Path, settings: dict[str, Any], resume: bool) -> list[Row]:
    """What --out holds already. Raises InputError where it holds something else, or was not asked for."""
    if not out.exists():
        return []
    if not resume:
        raise InputError(f"{out} exists already; go on with it by --resume, or choose another --out")
    before = read_json(settings_file(out))
    for key, value in settings.items():
        if before.get(key) != value:
            raise InputError(
                f"{out} was computed with {key} = {before.get(key)}, not {value}; give that, or another --out"
            )
    return read_table(out)


@cli.command()
@_checkpoint
@click.option("--gaps", "table", type=FilePath, required=True, help="What `gaps --split validation` wrote.")
@click.option("--seed", type=int, default=0, help="Of the small networks.")
@_data_dir
def calibrate(checkpoint: str, table: Path, seed: int, data_dir: Path | None) -> None:
    """Fit the learned difficulty scores to exact gaps of validation images, and keep them beside the weights."""
    opened = load_checkpoint(checkpoint)
    data = _data_of(opened, None, data_dir)
    rows = read_gaps(table, opened, dataset=data.name, split="validation")
    x = data.validation.pixels(slice(0, len(rows)))
    kl = torch.tensor([row["kl_marginal"] for row in rows], dtype=torch.float64)
    save_heads(opened, fit_heads(opened.model, x, encode(opened.model, x), kl, seed=seed))
    click.echo(f"learned scores of {opened.name}, fitted to {len(rows)} validation images, in {opened.folder}")
