"""The command line: which commands exist, and the one place where a wrong input becomes a message and an exit code.

A command is a function of the command's own name in `sweeps/commands/<name>.py`, imported when it is called and not
before, so that `lratlas --help` answers at once. It ends with another exit code than 0 by raising `typer.Exit`.
"""

import errno
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import typer

from trainables.spec import SpecError

__all__ = ["COMMANDS", "EXIT_FAILED_MEMBERS", "EXIT_INTERRUPTED", "EXIT_OK", "EXIT_WRONG_INPUT", "app", "main"]

EXIT_OK = 0
EXIT_WRONG_INPUT = 2
EXIT_FAILED_MEMBERS = 3
EXIT_INTERRUPTED = 130

COMMANDS = {
    "presets": "The shipped studies: the question each answers, its source and its cost.",
    "plan": "Dry run: members, shared prefixes, packs, estimated time, memory and disk.",
    "run": "Run a sweep: train, analyse, report.",
    "resume": "Go on after an interruption; no finished work is repeated.",
    "status": "How far a sweep is: members by status, rows, time to go.",
    "mirror": "Rebuild the MLflow view of a results folder.",
    "sql": "Query a results folder: the tables members, epochs and probes.",
    "band": "The best initial learning rate for a task of your own, within a budget.",
    "submit": "Run the same sweep as a job on a Ray cluster.",
    "doctor": "Check this machine or cluster and say what to do.",
}
"""Every command and what it does in one line, in the order of `lratlas --help`."""

_DISK_FAULTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
}

app = typer.Typer(
    name="lratlas",
    help="Which initial learning rates lead to the best final solution, how sure are we, and why?",
    epilog="Begin with: lratlas run band-digits",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command `lratlas`."""
    # A task of the user's own is a module in the folder they work in; installed commands do not look there.
    sys.path.append(str(Path.cwd()))
    app(prog_name="lratlas")


def load(name: str) -> typer.Typer:
    """Import one command.

    Args:
        name: a key of `COMMANDS`.

    Returns:
        An application that holds only this command.
    """
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(getattr(import_module(f"sweeps.commands.{name}"), name))
    return single


def invoke(name: str, arguments: Sequence[str]) -> int:
    """Run one command, turning what the user can mend into sentences on standard error.

    Args:
        name: a key of `COMMANDS`.
        arguments: what follows the name on the command line.

    Returns:
        The exit code.
    """
    try:
        code = load(name)(list(arguments), prog_name=f"lratlas {name}", standalone_mode=False)
    except SpecError as error:
        complain(error.faults)
        return EXIT_WRONG_INPUT
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        where = f" at {error.filename}" if error.filename else ""
        complain(
            [
                f"every file must be readable or writable: {_DISK_FAULTS[error.errno]}{where}; make room or give "
                "access, then run the command again (`lratlas resume DIR` for a sweep that had begun)"
            ]
        )
        return EXIT_WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK


def complain(faults: Sequence[str]) -> None:
    """Print faults to standard error, one numbered line each.

    Args:
        faults: sentences.
    """
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    print(f"lratlas: {count} in the input:", file=sys.stderr)
    for number, fault in enumerate(faults, start=1):
        print(f"  {number}. {fault}", file=sys.stderr)


def _forward(name: str) -> Callable[[typer.Context], None]:
    """A stand-in for a command: shows its line of help, and loads the real one when it is called."""

    def stand_in(context: typer.Context) -> None:
        raise typer.Exit(invoke(name, context.args))

    return stand_in


for _name, _help in COMMANDS.items():
    app.command(
        _name,
        help=_help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_forward(_name))
