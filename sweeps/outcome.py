"""What the user is told when a run ends: in words or as JSON, and the exit code."""

import json
import shlex
from typing import Any

from rich.console import Console

from sweeps.cli import EXIT_FAILED_MEMBERS, EXIT_INTERRUPTED, EXIT_OK, EXIT_WRONG_INPUT
from sweeps.display import clock
from sweeps.execute import Result
from sweeps.runner import RUNNERS, Ending
from trainables.rows import Status

__all__ = ["as_json", "conclude", "console_for", "exit_code", "mlflow_command", "resume_command", "say"]


def exit_code(result: Result) -> int:
    """The exit code of `run` and `resume`.

    Args:
        result: what came out.

    Returns:
        0, 2 (disk full), 3 (some members failed) or 130.
    """
    if result.ending is Ending.INTERRUPTED:
        return EXIT_INTERRUPTED
    if result.ending is Ending.DISK_FULL:
        return EXIT_WRONG_INPUT
    return EXIT_FAILED_MEMBERS if result.by_status.get(Status.FAILED) else EXIT_OK


def mlflow_command(result: Result) -> str:
    """The command that shows the runs in a browser.

    Args:
        result: what came out.

    Returns:
        A line for the shell.
    """
    return f"mlflow ui --backend-store-uri {shlex.quote(result.folder.tracking_uri)}"


def as_json(result: Result, resume: str) -> str:
    """What came out, for programs.

    Args:
        result: what came out.
        resume: the command that goes on with it.

    Returns:
        One JSON object.
    """
    folder = result.folder
    finished = result.ending is Ending.FINISHED
    content: dict[str, Any] = {
        "directory": str(folder.root),
        "ending": result.ending.value,
        "exit_code": exit_code(result),
        "by_status": {status.value: number for status, number in result.by_status.items()},
        "failures": dict(result.failures),
        "errors": [error.as_json() for error in result.errors],
        "seconds": round(result.seconds, 3),
        "probes": result.probed.as_json() if result.probed else None,
        "sentence": result.sentence,
        "answer": result.answer,
        "report": str(folder.report / "index.html") if finished and result.answer is not None else None,
        "answer_file": str(folder.answer) if finished and result.answer is not None else None,
        "mlflow": mlflow_command(result) if finished else None,
        "resume": None if exit_code(result) == EXIT_OK else resume,
        "notes": list(result.notes),
    }
    return json.dumps(content, indent=2, default=str)


def say(result: Result, resume: str, console: Console) -> None:
    """Tell the user what came out.

    Args:
        result: what came out.
        resume: the command that goes on with it.
        console: where to.
    """

    def tell(text: str = "", style: str = "") -> None:
        # Paths and commands are for copying: never wrapped, coloured inside, or read as markup.
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    tell()
    if result.sentence:
        tell(result.sentence, style="bold")
        tell()
    members = " · ".join(f"{number:,} {status}" for status, number in result.by_status.items())
    tell(f"members  {members}  (in {clock(result.seconds)})")
    if result.probed is not None and result.probed.jobs:
        done = result.probed.jobs - result.probed.left
        tell(f"probes   {done:,} of {result.probed.jobs:,} jobs done  (in {clock(result.probed.seconds)})")
    explained = {pack_id for error in result.errors for pack_id in error.packs}
    for error in result.errors:
        packs = f"{len(error.packs)} packs" if len(error.packs) > 1 else f"pack {error.packs[0]}"
        whose = "an error in your code" if error.place else "this error"
        tell(f"failed   {error.members:,} members of {packs}, by {whose}:", style="red")
        tell("\n".join(f"         {text}" for text in error.shown.splitlines()))
        tell(f"         in full: {error.file}")
    for pack_id, reason in result.failures.items():
        if pack_id not in explained:
            tell(f"failed   pack {pack_id}: {reason}", style="red")
    if result.answer is not None:
        tell(f"report   {result.folder.report / 'index.html'}")
    else:
        tell(f"results  {result.folder.root}")
    for note in result.notes:
        tell(f"note     {note}")
    if result.ending is Ending.FINISHED and result.folder.mlflow.exists():
        tell(f"mlflow   {mlflow_command(result)}")
    if result.ending is Ending.DISK_FULL:
        tell(
            f"The disk that holds {result.folder.root} is full. Nothing that was saved is lost. Make room, then:", "red"
        )
        tell(f"  {resume}")
    elif result.ending is Ending.INTERRUPTED:
        tell("Interrupted. The state is saved; go on with:", style="yellow")
        tell(f"  {resume}")
    elif result.by_status.get(Status.FAILED):
        tell("Some members failed; once the cause is mended, train them again with:", style="yellow")
        tell(f"  {resume}")


def console_for(as_json: bool) -> Console | None:
    """Where progress is shown.

    Args:
        as_json: True when standard output is for a program.

    Returns:
        None in that case.
    """
    return None if as_json else Console()


def resume_command(result: Result, *, runner: str, address: str | None = None) -> str:
    """The command that goes on with a run.

    Args:
        result: what came out.
        runner: name of the runner that was used.
        address: cluster that was used.

    Returns:
        A line for the shell.
    """
    words = ["lratlas", "resume", str(result.folder.root)]
    words += [] if runner == RUNNERS[0] else ["--runner", runner]
    words += [] if address is None else ["--address", address]
    return shlex.join(words)


def conclude(result: Result, console: Console | None, *, runner: str, address: str | None) -> int:
    """Tell what came out, on the console or, without one, as JSON.

    Args:
        result: what came out.
        console: where progress was shown.
        runner: name of the runner that was used.
        address: cluster that was used.

    Returns:
        The exit code.
    """
    resume = resume_command(result, runner=runner, address=address)
    if console is None:
        print(as_json(result, resume))
    else:
        say(result, resume, console)
    return exit_code(result)
