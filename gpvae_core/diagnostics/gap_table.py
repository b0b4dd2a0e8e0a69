"""The gaps of a whole data set, one row per image: exact evidence, both KLs, and the gap taken apart."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.diagnostics.report import encode, gap_rows, gap_split
from gpvae_core.errors import InputError
from gpvae_core.files import read_json
from gpvae_core.inference.base import Encoding
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.posterior import ExactPosterior, PosteriorEngine
from gpvae_core.posterior.best_gaussian import best_gaussians
from gpvae_core.posterior.divergences import gap
from gpvae_core.tables import Row, read_table


def gap_table(
    engine: PosteriorEngine,
    model: VariationalAutoencoder,
    images: ImageSet,
    *,
    start: int = 0,
    batch_size: int = 64,
    gaussians: bool = False,
) -> Iterator[list[Row]]:
    """Rows of the images from number ``start`` on, a batch at a time, in nats; ``gaussians`` adds the split gaps."""
    for first in range(start, len(images), batch_size):
        rows = slice(first, min(first + batch_size, len(images)))
        table = image_rows(engine, model, images.pixels(rows), gaussians=gaussians)
        labels = [None] * len(table) if images.labels is None else images.labels[rows].tolist()
        yield [
            {"index": first + k, "label": label, **row}
            for k, (label, row) in enumerate(zip(labels, table, strict=True))
        ]


def settings_file(table: Path) -> Path:
    """Where a table of gaps says what it was computed from."""
    return table.with_name(table.name + ".json")


def read_gaps(path: Path, checkpoint: Checkpoint, *, dataset: str, split: str) -> list[Row]:
    """The rows of a table that ``gaps`` wrote. Raises InputError where it belongs to something else."""
    settings = read_json(settings_file(path))
    for key, value in {"digest": checkpoint.digest, "dataset": dataset, "split": split}.items():
        if settings.get(key) != value:
            raise InputError(
                f"{path} was computed with {key} = {settings.get(key)}, not {value}; compute it with "
                f"python -m gpvae_core gaps --checkpoint {checkpoint.name} --split {split}"
            )
    return read_table(path)


def image_rows(engine: PosteriorEngine, model: VariationalAutoencoder, x: Tensor, *, gaussians: bool) -> list[Row]:
    """One row per image of x (B, C, H, W): ``gap_rows`` with moments, modes and mass outside the prior box."""
    encoding = encode(model, x)
    posteriors = engine.posteriors(x, near=encoding.means)
    rows: list[Row] = [
        numbers
        | {
            "entropy": exact.entropy,
            "negentropy": exact.negentropy,
            "modes": len(exact.modes),
            "mass_outside_box": exact.mass_outside(float(engine.grid.axis[-1])),
            "evaluations": exact.evaluations,
        }
        for numbers, exact in zip(gap_rows(posteriors, encoding), posteriors, strict=True)
    ]
    splits = _splits(posteriors, encoding, rows) if gaussians else [{}] * len(rows)
    return [row | split for row, split in zip(rows, splits, strict=True)]


def _splits(posteriors: list[ExactPosterior], encoding: Encoding, rows: list[Row]) -> list[Row]:
    """``gap_split`` of each image, and ``approximation_gap_full``: what the best Gaussian of full covariance leaves."""
    starts = [[encoding.base[k]] for k in range(len(posteriors))]
    fits = {diagonal: best_gaussians(posteriors, starts, diagonal=diagonal) for diagonal in (True, False)}
    splits: list[Row] = []
    for k, exact in enumerate(posteriors):
        diagonal, full = fits[True][k], fits[False][k]
        left = gap(exact, full.elbo)
        splits.append(
            {"elbo_best_diagonal": diagonal.elbo.value, "elbo_best_full": full.elbo.value}
            | gap_split(exact, diagonal, rows[k])
            | {"approximation_gap_full": left.value, "approximation_gap_full_error": left.error}
        )
    return splits
