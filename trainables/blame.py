"""Errors in a user's own code: the user's part of the traceback, where it was raised, and whose training it struck.

A traceback through a training loop begins with a dozen frames that the user neither wrote nor can change. What is shown
begins at the first frame of the user's own; what is kept on disk is the whole.
"""

import re
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from trainables.spec import Member

__all__ = ["blame", "blame_rows", "in_words", "named", "place_of", "reason_of", "struck", "traceback_of"]

_LAYERS = ("trainables", "sweeps", "analysis")
_CALLS = frozenset({"_wrapped_call_impl", "_call_impl", "functional_call", "_functional_call"})
"""How torch calls a module: three frames for each layer, and none of them says anything."""
_STRUCK = "while training "
_ROW = re.compile(r"row (\d+)")


def traceback_of(error: BaseException) -> str:
    """The traceback as its author wants it: from the first frame outside this project and torch.

    Args:
        error: what user code raised, or what was raised in calling it.

    Returns:
        Lines as Python prints them, causes and notes included.
    """
    report = traceback.TracebackException.from_exception(error)
    _trim(report)
    if struck(error) and report.__notes__:
        # The row is the executor's own bookkeeping; the member it stands for is named in its place.
        report.__notes__ = [note for note in report.__notes__ if not _ROW.fullmatch(note)]
    return "".join(report.format()).rstrip()


def place_of(error: BaseException) -> str:
    """Where in the user's code an error was raised.

    Args:
        error: any error.

    Returns:
        `broken.py, line 16, in forward`; empty where no frame is the user's.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_framework(frame)]
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}, in {own[-1].name}" if own else ""


def reason_of(error: BaseException) -> str:
    """An error in one line.

    Args:
        error: any error.

    Returns:
        Its kind and the first line of its message.
    """
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


def in_words(stage: str, error: BaseException) -> str:
    """A fault that an error in user code amounts to.

    Args:
        stage: what was being done, e.g. `the task's function`.
        error: what came of it.

    Returns:
        One sentence, and below it the user's traceback, indented.
    """
    where = place_of(error)
    found = f" at {where}" if where else ""
    lines = traceback_of(error).splitlines()
    return "\n".join([f"{stage} must run, found an error{found}; mend it:", *(f"     {line}" for line in lines)])


def named(member: Member) -> str:
    """One member in words.

    Args:
        member: any member.

    Returns:
        `member 1f2e... (pretrain_lr 0.1, finetune_lr 0.01, seed 3)`, with every axis that tells it from others.
    """
    several = len(member.phases) > 1
    facts = {f"{phase.name}_lr" if several else "lr": f"{phase.lr:g}" for phase in member.phases}
    facts["seed"] = str(member.seed)
    for name, value in member.axes.items():
        if name not in facts and not name.endswith("lr") and not (name == "data_seed" and value == member.seed):
            facts[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return f"member {member.member_id} ({', '.join(f'{name} {value}' for name, value in facts.items())})"


def blame(error: BaseException, members: Sequence[Member]) -> None:
    """Note on an error in whose training it was raised, unless that is noted already.

    Args:
        error: on its way to the user.
        members: those that may have raised it; at least one.
    """
    if any(note.startswith(_STRUCK) for note in getattr(error, "__notes__", ())):
        return
    error.add_note(f"{_STRUCK}{named(members[0]) if len(members) == 1 else _together(members)}")


def blame_rows(error: BaseException, owners: Sequence[Member]) -> None:
    """The same where an executor has added the note `row K`: then only that row's member is named.

    Args:
        error: on its way to the user.
        owners: the members of the rows in training, in row order.
    """
    rows = [int(found[1]) for note in getattr(error, "__notes__", ()) if (found := _ROW.fullmatch(note))]
    guilty = [owners[row] for row in rows if row < len(owners)]
    blame(error, guilty or owners)


def struck(error: BaseException) -> str:
    """What `blame` noted.

    Args:
        error: any error.

    Returns:
        The members in words; empty where nothing is noted.
    """
    notes = getattr(error, "__notes__", ())
    return next((note.removeprefix(_STRUCK) for note in notes if note.startswith(_STRUCK)), "")


def _together(members: Sequence[Member]) -> str:
    """Many members in a few words."""
    lrs = sorted({member.phases[0].lr for member in members})
    seeds = sorted({member.seed for member in members})
    lr = f"lr {lrs[0]:g}" if len(lrs) == 1 else f"lr {lrs[0]:g} to {lrs[-1]:g}"
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return f"{len(members)} members together ({lr}, {seed}), the first {named(members[0])}"


def _trim(report: traceback.TracebackException) -> None:
    """Leave out framework frames at the top, here and in the errors that led here."""
    frames = list(report.stack)
    own = [place for place, frame in enumerate(frames) if not _is_framework(frame)]
    # Without a frame of the user's (a syntax error, shapes that do not fit in a plain Sequential): torch's alone.
    kept = frames[own[0] :] if own else [frame for frame in frames if _is_torch(frame)]
    kept = [frame for frame in kept if not (frame.name in _CALLS and _is_torch(frame))]
    report.stack = traceback.StackSummary.from_list(kept)
    for earlier in (report.__cause__, report.__context__):
        if earlier is not None:
            _trim(earlier)


def _is_ours(frame: traceback.FrameSummary) -> bool:
    """True for this project's code."""
    project = Path(__file__).resolve().parent.parent
    return any(_within(frame.filename, project / layer) for layer in _LAYERS)


def _is_framework(frame: traceback.FrameSummary) -> bool:
    """True for code between the user and the training loop: this project, torch, Python itself, generated code."""
    if frame.filename.startswith("<"):
        return not frame.filename.startswith("<ipython")
    if _is_ours(frame) or _is_torch(frame):
        return True
    library = Path(sysconfig.get_path("stdlib"))
    return _within(frame.filename, library) and not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)


def _is_torch(frame: traceback.FrameSummary) -> bool:
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    return torch is not None and _within(frame.filename, Path(torch).parent)


def _within(filename: str, folder: Path) -> bool:
    return Path(filename).resolve().is_relative_to(folder.resolve())
