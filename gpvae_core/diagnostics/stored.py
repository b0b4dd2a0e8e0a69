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
from gpvae_core.paths import ENCODERS, TABLE

OTHERS = f"{ENCODERS}/{TABLE}"  # the exact gaps of the encoders that are stored beside a checkpoint
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

    Raises InputError where the file is damaged or was computed with other weights.
    """
    path = checkpoint.folder / name
    if not path.exists():
        return {}
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a whole table ({error}); restore it or delete it") from None
    known = (table.schema.metadata or {}).items()
    origin = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in known}
    if origin.get("digest") != checkpoint.digest:
        raise InputError(
            f"{path} was computed with other weights ({origin.get('digest', 'unknown')[:8]}) than {checkpoint.name}'s "
            f"({checkpoint.digest[:8]}); delete it or compute it again"
        )
    if origin.get("dataset") != dataset or table.num_rows != count:
        return {}
    try:
        return {name: table[name].to_numpy().astype(np.float64) for name in table.column_names}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} has a column that is no numbers ({error}); restore it or delete it") from None
