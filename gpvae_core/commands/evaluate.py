"""One checkpoint looked at: its ELBOs, the posterior of an image, a ranking of many."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.commands import options
from gpvae_core.data import ImageSet, bernoulli_draw, check_shape, recipe_for
from gpvae_core.data.images import read_image
from gpvae_core.diagnostics.judgement import posterior_report
from gpvae_core.diagnostics.scores import SCORES, score_images
from gpvae_core.errors import InputError
from gpvae_core.files import finite, write_atomically
from gpvae_core.paths import grid_cache
from gpvae_core.training.evaluation import evaluate_bounds, iwae_bound


@click.command()
@options.checkpoint
@options.method
@options.dataset
@options.split
@click.option("--samples", type=click.IntRange(1, 100_000), default=100, help="K of the importance-weighted bound.")
@options.limit
@click.option("--seed", type=options.SEED, default=0, help="Of the noise.")
@options.data_dir
@options.device
def evaluate(
    checkpoint: str,
    dataset: str | None,
    split: str,
    samples: int,
    limit: int | None,
    seed: int,
    data_dir: Path | None,
    device: str,
    method: str | None,
    **settings: Any,
) -> None:
    """Average ELBO of the encoder and of its base, and IWAE-K, as JSON in nats per image.

    NAME_error is what the computation leaves open for these images: a numerical error where elbo_method is exact
    quadrature (two latent dimensions), else one standard error over draws. NAME_stderr is the standard error over
    images.
    """
    opened = options.opened(checkpoint, method, settings, device)
    data = options.data_of(opened, dataset, data_dir)
    images = options.limited(data.split(split), limit)
    opened.model.generative.likelihood.check(images.pixels())
    with tqdm(total=2 * len(images), unit="img") as bar:
        bounds = evaluate_bounds(opened.model, images, seed=seed, on_batch=bar.update)
        iwae = iwae_bound(opened.model, images, samples=samples, seed=seed, on_batch=bar.update)
    report: dict[str, Any] = {
        "checkpoint": opened.name,
        "method": opened.config.method,
        "dataset": data.name,
        "split": split,
        "images": len(images),
    }
    report["elbo_method"] = bounds["elbo"].method
    for name, bound in {**bounds, f"iwae_{samples}": iwae}.items():
        _check_finite(bound.values, name, opened)
        report |= {name: float(bound.values.mean()), f"{name}_error": bound.error, f"{name}_stderr": bound.stderr}
    click.echo(json.dumps(finite(report), indent=2))


@click.command()
@options.checkpoint
@options.method
@click.option("--index", type=click.IntRange(0), help="An image of the data set, by number.")
@click.option("--image", type=options.FilePath, help="An image file of your own.")
@options.dataset
@options.split
@options.tolerance
@options.data_dir
def posterior(
    checkpoint: str,
    index: int | None,
    image: Path | None,
    dataset: str | None,
    split: str,
    tolerance: float,
    data_dir: Path | None,
    method: str | None,
    **settings: Any,
) -> None:
    """The exact posterior of one image as JSON: log p(x) with its error, both KLs and ELBOs, U, moments."""
    if (index is None) == (image is None):
        raise InputError("give one of --index I (an image of the data set) and --image FILE")
    if image is not None and dataset is not None:
        raise InputError(f"--image {image} is of no data set; leave out --dataset {dataset}")
    opened = options.opened(checkpoint, method, settings)
    engine = opened.engine(tolerance=tolerance, cache=grid_cache())
    if image is not None:
        made = recipe_for(opened).prepare(read_image(image, str(image)), str(image), None)
        for doubt in made.doubts:
            click.echo(f"{image}: {doubt}", err=True)
        images = ImageSet(made.image[None])
        check_shape(opened.config.image_shape, images)
        source: dict[str, Any] = {"image": str(image), "doubts": made.doubts}
        if opened.config.likelihood == "bernoulli":
            images = bernoulli_draw(images, 0)
            source["pixels"] = "made 0 or 1 by one Bernoulli draw, seed 0"
    else:
        data = options.data_of(opened, dataset, data_dir)
        images = data.split(split)
        if index is not None and index >= len(images):
            raise InputError(f"there is no image {index}: the {split} set of {data.name} ends at {len(images) - 1}")
        images = images.take(np.array([index]))
        source = {"dataset": data.name, "split": split, "index": index}
    report = posterior_report(engine, opened.model, images.pixels())
    for sentence in report.get("without_elbo", []):
        click.echo(sentence, err=True)
    click.echo(
        json.dumps(finite({"checkpoint": opened.name, "method": opened.config.method, **source, **report}), indent=2)
    )


def _check_finite(values: Any, name: str, checkpoint: Checkpoint) -> None:
    """Raise InputError where one of a number for each image is none."""
    wrong = np.flatnonzero(~np.isfinite(np.asarray(values)))
    if len(wrong):
        raise InputError(
            f"{checkpoint.name} has no finite {name} for {len(wrong)} of {len(values)} images (the first is image "
            f"{wrong[0]}); its weights are damaged or its training failed: restore the checkpoint or train it again"
        )


@click.command()
@options.checkpoint
@options.method
@options.dataset
@options.split
@click.option(
    "--by",
    type=click.Choice(list(SCORES)),
    help="Score to rank by. By default the first that the method has: uncertainty where it has a Gaussian process.",
)
@options.limit
@click.option("--out", type=options.FilePath, required=True, help="CSV file to write.")
@options.data_dir
@options.device
def rank(
    checkpoint: str,
    dataset: str | None,
    split: str,
    by: str | None,
    limit: int | None,
    out: Path,
    data_dir: Path | None,
    device: str,
    method: str | None,
    **settings: Any,
) -> None:
    """Images by an ascending difficulty score, as CSV: rank, index, the score, label."""
    opened = options.opened(checkpoint, method, settings, device)
    images = options.limited(options.data_of(opened, dataset, data_dir).split(split), limit)
    by = by or next(iter(score_images(opened.model, images.take(np.arange(1)))))
    scores = score_images(opened.model, images, [by])[by]
    _check_finite(scores, by, opened)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["rank", "index", by, "label"])
    for position, row in enumerate(np.argsort(scores, kind="stable")):
        label = "" if images.labels is None else int(images.labels[row])
        writer.writerow([position, int(row), repr(float(scores[row])), label])
    write_atomically(out, table.getvalue().encode())
    click.echo(f"{len(images)} images ranked by {SCORES[by].label} in {out}")
