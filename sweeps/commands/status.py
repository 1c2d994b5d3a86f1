"""`lratlas status`: how far a sweep is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sweeps.standing import Standing

__all__ = ["status"]


def status(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Show how far a sweep is: members by status, rows, age of the last row, time to go.

    Example: lratlas status runs/band-digits-20260101-120000
    """
    from sweeps.folder import RunFolder
    from sweeps.standing import standing

    found = standing(RunFolder.open(directory))
    if as_json:
        print(json.dumps(found.as_json()))
        return
    _show(found, directory)


def _show(found: "Standing", directory: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from sweeps.words import count, duration
    from trainables.rows import Status

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("members", count(found.members), "")
    for name, number in found.by_status.items():
        table.add_row(f"  {name}", count(number), Status(name).sentence)
    share = found.steps_done / found.steps if found.steps else 1.0
    table.add_row("member-steps", f"{share:.0%}", f"{count(found.steps_done)} of {count(found.steps)}")
    table.add_row("rows", count(found.rows), f"and {count(found.probe_rows)} probe values")
    if found.probe_jobs is not None:
        table.add_row("probes", f"{found.probe_jobs_done} of {found.probe_jobs}", "jobs done")
    elif found.probes_asked:
        table.add_row("probes", "not begun", "they are measured once training has ended")
    if found.last_row_age is not None:
        table.add_row("last row", f"{duration(found.last_row_age)} ago", "")
    if not found.trained:
        left = "not known yet" if found.seconds_left is None else f"about {duration(found.seconds_left)}"
        table.add_row("time to go", left, "while it is at work")
    console = Console(highlight=False)
    console.print(f"[bold]{found.name}[/bold]  {'done' if found.done else 'not finished'}")
    console.print(table)
    if not found.done:
        console.print(f"If nothing is at work on it: lratlas resume {directory}", soft_wrap=True)
