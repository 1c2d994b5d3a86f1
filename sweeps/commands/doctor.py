"""`lratlas doctor`: check this machine or cluster and say what to do."""

import json
from typing import Annotated

import typer

__all__ = ["doctor"]


def doctor(
    address: Annotated[
        str | None, typer.Option(metavar="ADDR", help="A running Ray cluster: auto, or host:port of its head.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check this machine or cluster: GPU, Ray, MLflow, disk, write access; says what to do about each fault.

    Ends with code 2 when something is missing without which no sweep can run.

    Example: lratlas doctor
    """
    from sweeps.cli import EXIT_WRONG_INPUT
    from sweeps.doctor import checks

    done = []
    for check in checks(address):
        done.append(check)
        if not as_json:
            mark = "ok   " if check.ok else "FAULT" if check.essential else "worse"
            print(f"{mark}  {check.check:14} {check.detail}", flush=True)
    if as_json:
        print(json.dumps([{"check": one.check, "ok": one.ok, "detail": one.detail} for one in done]))
    if any(one.essential and not one.ok for one in done):
        raise typer.Exit(EXIT_WRONG_INPUT)
