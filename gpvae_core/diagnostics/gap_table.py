"""The gaps of a whole data set, one row per image: exact evidence, both KLs, and the gap taken apart."""

from collections.abc import Iterator
from pathlib import Path

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.diagnostics.judgement import judge
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.best_gaussian import FAMILIES
from gpvae_core.files import read_json
from gpvae_core.models import VariationalAutoencoder
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
    families = list(FAMILIES) if gaussians else []
    for first in range(start, len(images), batch_size):
        rows = slice(first, min(first + batch_size, len(images)))
        x = images.pixels(rows)
        table = [judged.row() for judged in judge(engine, x, model.infer(x), model.encoder.labels, families=families)]
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
