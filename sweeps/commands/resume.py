"""`lratlas resume`: go on after any interruption."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["resume"]


def resume(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
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
    """Go on with a sweep after an interruption, a crash or a failure.

    Finished work is not repeated; failed members are tried again. A finished sweep is left alone, but for a report or
    an MLflow view that is missing.

    Example: lratlas resume runs/band-digits-20260101-120000
    """
    from sweeps.execute import execute
    from sweeps.folder import RunFolder
    from sweeps.outcome import conclude, console_for
    from sweeps.resources import check_resources
    from sweeps.runner import RunOptions, make_runner

    chosen = make_runner(runner, address)
    folder = RunFolder.open(directory)
    spec = folder.sweep()
    if address is None:
        check_resources(spec)
    console = console_for(as_json)
    options = RunOptions.of(spec.run, cores=chosen.resources().cores)
    result = execute(folder, folder.plan(), chosen, options, console=console)
    raise typer.Exit(conclude(result, console, runner=runner, address=address))
