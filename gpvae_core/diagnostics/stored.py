"""What was computed of a checkpoint's whole test set, kept beside its weights: difficulty scores and exact gaps."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from gpvae_core.checkpoints import Checkpoint
from gpvae_core.errors import InputError
from gpvae_core.files import write_atomically
from gpvae_core.paths import TABLE

Columns = dict[str, NDArray[np.float64]]


def gap_columns(stages: Iterable[str]) -> list[str]:
    """The exact numbers that are kept of each test image, for the stages of a method: each with its error."""
    numbers = ["log_evidence", *(f"kl_{stage}" for stage in stages), "negentropy", "mass_outside_box"]
    return ["modes", *(column for name in numbers for column in (name, f"{name}_error"))]


def write_stored(folder: Path, columns: Columns, *, digest: str, dataset: str) -> None:
    """One value of each column for each test image, in float32, with the weights' and the data set's names."""
    table = pa.table({name: values.astype(np.float32) for name, values in columns.items()})
    buffer = io.BytesIO()
    named = table.replace_schema_metadata({"digest": digest, "dataset": dataset})
    pyarrow.parquet.write_table(named, buffer, compression="zstd")
    write_atomically(folder / TABLE, buffer.getvalue())


def stored_columns(checkpoint: Checkpoint, dataset: str, count: int) -> Columns:
    """What is stored for the ``count`` test images of ``dataset``; empty where nothing is.

    Raises InputError where the file is damaged or was computed with other weights.
    """
    path = checkpoint.folder / TABLE
    if not path.exists():
        return {}
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a whole table ({error}); restore it or delete it") from None
    origin = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if origin.get("digest") != checkpoint.digest:
        raise InputError(
            f"{path} was computed with other weights ({origin.get('digest', 'unknown')[:8]}) than {checkpoint.name}'s "
            f"({checkpoint.digest[:8]}); delete it or compute it again"
        )
    if origin.get("dataset") != dataset or table.num_rows != count:
        return {}
    return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}
