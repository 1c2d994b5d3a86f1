"""`lratlas run`: train, analyse, report."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trainables.spec import SpecError

__all__ = ["run"]


def run(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A preset's name or a YAML file.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for results (default: runs/NAME-TIME).")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the sweep; repeatable.")
    ] = None,
    runner: Annotated[
        str, typer.Option(metavar="NAME", help="ray, or inprocess: one pack after another, here.")
    ] = "ray",
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="A running Ray cluster: auto, or host:port of its head.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer and the paths as JSON, nothing else.")
    ] = False,
) -> None:
    """Run a sweep: train every member, then make the report.

    Press Ctrl-C once to save the state and stop; `lratlas resume DIR` goes on.

    Example: lratlas run band-digits --set axes.seed.range=2 --out runs/first
    """
    from sweeps.execute import execute
    from sweeps.folder import RunFolder
    from sweeps.outcome import conclude, console_for
    from sweeps.own_name import check_own_tasks
    from sweeps.plan import plan
    from sweeps.provenance import images_of
    from sweeps.resources import check_resources
    from sweeps.runner import RUNNERS, RunOptions, make_runner
    from sweeps.sweep import load_sweep

    faults: list[str] = []
    chosen = spec = None
    try:
        chosen = make_runner(runner, address)
    except SpecError as error:
        faults += error.faults
    try:
        spec = load_sweep(sweep, changes or ())
        if address is None:
            check_resources(spec)
    except SpecError as error:
        faults += error.faults
    if chosen is None or spec is None or faults:
        raise SpecError(faults)
    resources = chosen.resources()
    planned = plan(spec, **asdict(resources))
    if address is None:
        check_own_tasks(planned.recipes, keep=runner != RUNNERS[0])
    images = images_of(planned.recipes)
    folder = RunFolder.create(out or RunFolder.default_root(spec.name), spec, planned, sys.argv, images)
    console = console_for(as_json)
    result = execute(folder, planned, chosen, RunOptions.of(spec.run, cores=resources.cores), console=console)
    raise typer.Exit(conclude(result, console, runner=runner, address=address))
