"""The tables of a results folder as DuckDB sees them: read only, each key once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from analysis.row_files import EPOCH_SCHEMA, PROBE_SCHEMA
from sweeps.folder import RunFolder
from sweeps.members import MembersFile
from trainables.spec import SpecError

__all__ = ["Answer", "ask", "connect"]

_KEYS = {
    "epochs": "member_id, step",
    "probes": 'member_id, step, probe, split, "group", key, other_member_id',
}


@dataclass(frozen=True)
class Answer:
    """What a query gives.

    Attributes:
        columns: names.
        rows: one value for each column.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def connect(folder: RunFolder) -> duckdb.DuckDBPyConnection:
    """Open a results folder's tables.

    Args:
        folder: the results folder, finished or not.

    Returns:
        A connection with the views `members`, `epochs` and `probes`, that can reach no file. Of rows with one key it
        shows that of the highest attempt; a table nothing was written to is empty.

    Raises:
        SpecError: a file cannot be read.
    """
    connection = duckdb.connect(":memory:")
    connection.register("members", _members(folder))
    for name, path, schema in (("epochs", folder.epochs, EPOCH_SCHEMA), ("probes", folder.probes, PROBE_SCHEMA)):
        connection.register(f"{name}_of_all_attempts", _parts(path, schema))
        connection.execute(
            f"CREATE VIEW {name} AS SELECT * FROM {name}_of_all_attempts "
            f"QUALIFY row_number() OVER (PARTITION BY {_KEYS[name]} ORDER BY attempt DESC) = 1"
        )
    for setting in (
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection


def ask(connection: duckdb.DuckDBPyConnection, query: str) -> Answer:
    """Run a query.

    Args:
        connection: from `connect`.
        query: SQL.

    Returns:
        What it gives.

    Raises:
        SpecError: the query is wrong.
    """
    try:
        answer = connection.execute(query)
        return Answer(tuple(column[0] for column in answer.description or ()), answer.fetchall())
    except duckdb.Error as error:
        tables = "; ".join(
            f"{name} ({', '.join(_columns(connection, name))})" for name in ("members", "epochs", "probes")
        )
        found = str(error).strip().replace("\n", " ")
        raise SpecError([f"the query must be valid SQL over these tables, found: {found}; tables: {tables}"]) from None


def _members(folder: RunFolder) -> pa.Table:
    """The table `members`, made from the plan where a sweep has not come to write it yet."""
    if folder.members.exists():
        try:
            return pq.read_table(folder.members)
        except pa.ArrowException as error:
            raise SpecError(
                [f"members.parquet must be readable, found {error} in {folder.root}; `lratlas resume` writes it again"]
            ) from error
    return MembersFile(folder, folder.plan()).table({})


def _parts(folder: Path, schema: pa.Schema) -> ds.Dataset:
    """All parts of a table as one; files that are still being written have another ending."""
    paths = sorted(folder.glob("*.parquet"))
    for path in paths:
        try:
            pq.read_metadata(path)
        except pa.ArrowException as error:
            raise SpecError(
                [f"every part must be readable, found {error} in {path}; restore it from a copy"]
            ) from error
    return ds.dataset([str(path) for path in paths], schema=schema, format="parquet")


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> Iterable[str]:
    return (row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall())
