"""`lratlas mirror`: rebuild the MLflow view of a results folder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from sweeps.folder import RunFolder
from trainables.spec import SpecError

__all__ = ["mirror"]


def mirror(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")],
    tracking_uri: Annotated[
        str | None, typer.Option(help="An MLflow store; a SQLite file in DIR where not given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most members to show.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Rebuild the MLflow view of a results folder from its Parquet files.

    Doing it twice is doing it once: only what is missing or changed is written.

    Example: lratlas mirror runs/band-digits-20260101-120000
    """
    from sweeps.mirror import MirrorError
    from sweeps.mirror import mirror as bring_up_to_date

    try:
        summary = bring_up_to_date(RunFolder.open(directory), tracking_uri, limit=limit)
    except MirrorError as error:
        raise SpecError([str(error)]) from error
    if as_json:
        print(json.dumps(asdict(summary)))
        return
    print(summary.sentence)
    ui = f"mlflow ui --backend-store-uri {summary.tracking_uri}"
    print(f"Look at it: {summary.tracking_uri if summary.tracking_uri.startswith('http') else ui}")
