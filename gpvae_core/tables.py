"""Tables of one row per image: CSV or Parquet by the file's suffix, written whole or not at all."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from gpvae_core.errors import InputError
from gpvae_core.files import check_ordinary, write_atomically

Row = dict[str, Any]
SUFFIXES = (".csv", ".parquet")


def check_suffix(path: Path) -> None:
    """Raise InputError unless the file's name says which format it has."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path} names no table format; let it end in {' or '.join(SUFFIXES)}")


def write_table(path: Path, rows: list[Row]) -> None:
    """One row per dict, all with the same keys."""
    write_atomically(path, table_bytes(path, rows))


def table_bytes(path: Path, rows: list[Row]) -> bytes:
    """What ``write_table`` writes to a file of this name."""
    check_suffix(path)
    buffer, table = io.BytesIO(), pa.Table.from_pylist(rows)
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, buffer)
    else:
        pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def read_table(path: Path) -> list[Row]:
    """The rows of a table that ``write_table`` wrote. Raises InputError naming a damaged file."""
    check_suffix(path)
    check_ordinary(path)
    try:
        table = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} is not a whole table ({error}); remove it and start again") from None
    rows: list[Row] = table.to_pylist()
    return rows
