"""How every Parquet file of a results folder is written."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.folder import SCHEMA_VERSION

__all__ = ["METADATA", "write_table"]

METADATA = {"schema_version": str(SCHEMA_VERSION)}
"""What every file says about itself."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file so that it is there as a whole, or not at all, after a crash at any moment.

    Args:
        path: its final name; the folder exists.
        table: what it shall hold.
    """
    # One fixed name beside each file, which readers of *.parquet do not match: a leftover of a kill is overwritten.
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
