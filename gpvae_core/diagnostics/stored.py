"""What was computed of a checkpoint's whole test set, kept beside its weights: difficulty scores and exact gaps."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.errors import InputError, short
from gpvae_core.files import check_ordinary, write_atomically
from gpvae_core.paths import ENCODERS, TABLE

OTHERS = f"{ENCODERS}/{TABLE}"  # the exact gaps of the encoders that are stored beside a checkpoint
CURE = "restore it or delete it"
Columns = dict[str, NDArray[np.float64]]


def gap_columns(stages: Iterable[str]) -> list[str]:
    """The exact numbers that are kept of each test image, for the stages of a method: each with its error."""
    numbers = ["log_evidence", *(f"kl_{stage}" for stage in stages), "negentropy", "mass_outside_box"]
    return ["modes", *(column for name in numbers for column in (name, f"{name}_error"))]


def write_stored(folder: Path, columns: Columns, *, digest: str, dataset: str, name: str = TABLE) -> None:
    """The file ``name``: each test image a row, in float32; with the names of the weights and the data set."""
    table = pa.table({name: values.astype(np.float32) for name, values in columns.items()})
    buffer = io.BytesIO()
    named = table.replace_schema_metadata({"digest": digest, "dataset": dataset})
    pyarrow.parquet.write_table(named, buffer, compression="zstd")
    write_atomically(folder / name, buffer.getvalue())


def other_columns(checkpoint: Checkpoint, dataset: str, count: int) -> Columns:
    """``kl_NAME`` and its error, in nats, of every encoder on offer, see ``Checkpoint.encoders``; NaN: not computed.

    Raises InputError as ``stored_columns`` does.
    """
    return stored_columns(checkpoint, dataset, count, OTHERS)


def stored_columns(checkpoint: Checkpoint, dataset: str, count: int, name: str = TABLE) -> Columns:
    """What the file ``name`` holds of the ``count`` test images of ``dataset``; empty where nothing is.

    Raises InputError where the file is damaged, was computed with other weights, or is no table of so many numbers:
    before any of them is read.
    """
    path = checkpoint.folder / name
    if not path.exists():
        return {}
    check_ordinary(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            known = (file.schema_arrow.metadata or {}).items()
            origin = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in known}
            _check_digest(path, origin.get("digest"), checkpoint)
            if origin.get("dataset") != dataset:
                return {}
            _check_form(path, file.schema_arrow, file.metadata.num_rows, count)
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a whole table ({short(error, 80)}); {CURE}") from None
    columns = {column: table[column].to_numpy().astype(np.float64) for column in table.column_names}
    for column, values in columns.items():
        if np.isnan(values).all():
            raise InputError(f"{path} has no number in its column '{short(column)}'; {CURE}")
    return columns


def _check_digest(path: Path, digest: str | None, checkpoint: Checkpoint) -> None:
    if digest is None:
        raise InputError(f"{path} does not say which weights it was computed with; {CURE}")
    if digest != checkpoint.digest:
        raise InputError(
            f"{path} was computed with other weights ({short(digest[:8])}) than {checkpoint.name}'s "
            f"({checkpoint.digest[:8]}); delete it or compute it again"
        )


def _check_form(path: Path, schema: pa.Schema, rows: int, count: int) -> None:
    """Raise InputError unless the table has ``count`` rows, and each column once, of numbers."""
    if rows != count:
        raise InputError(f"{path} has {rows:,} rows for {count:,} test images; {CURE}")
    for column in schema:
        if schema.names.count(column.name) > 1:
            raise InputError(f"{path} has the column '{short(column.name)}' twice; {CURE}")
        if not pa.types.is_floating(column.type):
            raise InputError(
                f"{path} has a column '{short(column.name)}' of type {short(column.type)}, not of numbers; {CURE}"
            )
