"""`lratlas submit`: run the same sweep as a job on a Ray cluster."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

__all__ = ["submit"]


def submit(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A preset's name or a YAML file.")],
    address: Annotated[str, typer.Option(metavar="URL", help="The cluster's dashboard, e.g. http://127.0.0.1:8265.")],
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="New folder on a disk that all nodes share (default: ~/runs/NAME-TIME)."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the sweep; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON.")] = False,
) -> None:
    """Run a sweep as a job on a Ray cluster; it goes on when this command has ended.

    The sweep is checked here first. A cluster that demands a token finds it in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
    ~/.ray/auth_token, with RAY_AUTH_MODE=token set.

    Example: lratlas submit band-digits --address http://127.0.0.1:8265
    """
    from sweeps.submission import submit as send
    from sweeps.sweep import load_sweep

    job = send(load_sweep(sweep, changes or ()), address, out)
    if as_json:
        print(json.dumps({**asdict(job), "follow": job.follow, "stop": job.stop}))
        return
    print(f"The cluster has taken {sweep} as job {job.job_id}; its results go to {job.out} there.")
    print(f"Follow it: {job.follow}")
    print(f"Stop it:   {job.stop}")
