"""`lratlas sql`: questions to the tables of a results folder."""

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sweeps.query import Answer

__all__ = ["sql"]

_SHOWN = 200


def sql(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="SQL as DuckDB speaks it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as a JSON list of objects.")] = False,
) -> None:
    """Query the tables members, epochs and probes. Each key stands there once, with its latest attempt.

    `SELECT * FROM members LIMIT 1` shows the columns; the column "group" of probes needs its quotes.

    Example: lratlas sql runs/band-digits-20260101-120000 "SELECT status, count(*) FROM members GROUP BY status"
    """
    from sweeps.folder import RunFolder
    from sweeps.query import ask, connect

    with connect(RunFolder.open(directory)) as connection:
        answer = ask(connection, query)
    if as_json:
        rows = [dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows]
        print(json.dumps(rows, default=str))
        return
    _show(answer)


def _show(answer: "Answer") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    numbers = [all(isinstance(row[i], int | float) for row in answer.rows) for i in range(len(answer.columns))]
    table = Table()
    for name, number in zip(answer.columns, numbers, strict=True):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    for row in answer.rows[:_SHOWN]:
        table.add_row(*(Text(_cell(value)) for value in row))
    # A pipe has no width: what is cut there is lost.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100_000)
    console.print(table)
    if len(answer.rows) > _SHOWN:
        console.print(f"{_SHOWN} of {len(answer.rows):,} rows; add LIMIT, or --json for all of them.")


def _cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """JSON knows no nan and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
