"""The tables `epochs` and `probes` as Parquet: their columns, and how each Parquet file of a folder is written.

Training and analysis write parts of the same table `probes`, and neither needs the other for it. Loads PyArrow, no
torch.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from trainables.rows import SCHEMA_VERSION, EpochRow, ProbeRow

__all__ = ["EPOCH_SCHEMA", "METADATA", "PROBE_SCHEMA", "rows_table", "write_probes", "write_table"]

METADATA = {"schema_version": str(SCHEMA_VERSION)}
"""What every file says about itself."""

EPOCH_SCHEMA = pa.schema(
    [
        pa.field("member_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("lr", pa.float64(), nullable=False),
        *(
            pa.field(name, pa.float64())
            for name in (
                "train_loss",
                "train_error",
                "valid_loss",
                "valid_error",
                "test_loss",
                "test_error",
                "weight_norm_sq",
                "grad_norm_sq",
                "seconds",
            )
        ),
    ],
    metadata=METADATA,
)
"""Columns of the table `epochs`; the fields of `EpochRow`."""

PROBE_SCHEMA = pa.schema(
    [
        pa.field("member_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("probe", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("other_member_id", pa.string()),
    ],
    metadata=METADATA,
)
"""Columns of the table `probes`; the fields of `ProbeRow`."""


def rows_table(rows: Sequence[EpochRow] | Sequence[ProbeRow], schema: pa.Schema) -> pa.Table:
    """Rows as columns.

    Args:
        rows: of the kind the schema describes.
        schema: `EPOCH_SCHEMA` or `PROBE_SCHEMA`.

    Returns:
        A table of `len(rows)` rows.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)


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


def write_probes(path: Path, rows: Sequence[ProbeRow]) -> None:
    """Write one part of the table `probes`, whole or not at all.

    Args:
        path: `DIR/probes/<name>.parquet`, replaced where it is there; the folder exists. No rows make a part without
            rows, which tells that there was nothing to measure.
        rows: what it shall hold.
    """
    write_table(path, rows_table(rows, PROBE_SCHEMA))
