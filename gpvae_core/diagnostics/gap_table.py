"""The gaps of a whole data set, one row per image: exact evidence, both KLs, and the gap taken apart."""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from math import isinf, isnan
from pathlib import Path
from typing import Any

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.data import ImageSet
from gpvae_core.diagnostics.judgement import judge
from gpvae_core.errors import InputError
from gpvae_core.exact import PosteriorEngine
from gpvae_core.exact.best_gaussian import FAMILIES
from gpvae_core.files import json_bytes, read_bytes, read_json, write_atomically
from gpvae_core.models import VariationalAutoencoder
from gpvae_core.tables import Row, read_table, table_bytes

CHECKSUMS = "tables"  # in a table's settings: of the file before the last save, and of the one after it


def gap_table(
    engine: PosteriorEngine, model: VariationalAutoencoder, images: ImageSet, *, batch_size: int = 64
) -> Iterator[list[Row]]:
    """``gap_rows`` of all images, a batch at a time."""
    for first in range(0, len(images), batch_size):
        yield gap_rows(engine, model, images, range(first, min(first + batch_size, len(images))))


def gap_rows(
    engine: PosteriorEngine, model: VariationalAutoencoder, images: ImageSet, rows: range, *, gaussians: bool = False
) -> list[Row]:
    """A row each of the images of numbers ``rows``, all at once, in nats; ``gaussians`` adds the split gaps."""
    families = list(FAMILIES) if gaussians else []
    part = slice(rows.start, rows.stop)
    x = images.pixels(part)
    table = [judged.row() for judged in judge(engine, x, model.infer(x), model.encoder.labels, families=families)]
    labels = [None] * len(table) if images.labels is None else images.labels[part].tolist()
    return [{"index": index, "label": label, **row} for index, label, row in zip(rows, labels, table, strict=True)]


def settings_file(table: Path) -> Path:
    """Where a table of gaps says what it was computed from."""
    return table.with_name(table.name + ".json")


def save_gaps(path: Path, settings: Mapping[str, Any], rows: list[Row]) -> None:
    """The rows, and beside them ``settings`` with checksums: a save that is cut off leaves one of two known files."""
    data = table_bytes(path, rows)
    before = sha256(read_bytes(path)).hexdigest() if path.exists() else None
    checksums = {CHECKSUMS: [before, sha256(data).hexdigest()]}
    write_atomically(settings_file(path), json_bytes({**settings, **checksums}))
    write_atomically(path, data)


def read_rows(path: Path, settings: Mapping[str, Any]) -> list[Row]:
    """The rows that were saved with ``settings``. Raises InputError where the file is another one."""
    known = settings.get(CHECKSUMS)
    if known is not None and sha256(read_bytes(path)).hexdigest() not in known:
        raise InputError(f"{path} is damaged or changed: its checksum is not the one beside it; remove it, start again")
    return read_table(path)


def numbers(rows: list[Row], name: str, path: Path, *, finite: bool = True) -> list[float]:
    """Column ``name`` of the rows read from ``path``. Raises InputError where a row has no such number."""
    found = [_number(row.get(name), finite) for row in rows]
    if None in found:
        row = found.index(None)
        raise InputError(
            f"{path} has no number in column '{name}' of row {row + 1} ({rows[row].get(name)!r}); compute it anew"
        )
    return [value for value in found if value is not None]


def _number(value: Any, finite: bool) -> float | None:
    """A number, written or not: one cell of text makes a whole column of a CSV text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if isnan(number) or (finite and isinf(number)) else number


def read_gaps(path: Path, checkpoint: Checkpoint, *, dataset: str, split: str) -> list[Row]:
    """The rows of a table that ``gaps`` wrote. Raises InputError where there is none, or it is another's."""
    cure = f"python -m gpvae_core gaps --checkpoint {checkpoint.name} --split {split}"
    if not path.exists():
        raise InputError(f"there is no table {path}; compute it with {cure} --out {path}")
    settings = read_json(settings_file(path))
    for key, value in {"digest": checkpoint.digest, "dataset": dataset, "split": split}.items():
        if settings.get(key) != value:
            raise InputError(
                f"{path} was computed with {key} = {settings.get(key)}, not {value}; compute it with {cure}"
            )
    return read_rows(path, settings)
