"""Errors of the user's own code, as a results folder keeps them and as they are told: each once, whomever it struck."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeps.folder import RunFolder, write_json
from trainables.blame import place_of, reason_of, struck, traceback_of
from trainables.spec import Pack, SpecError

__all__ = ["UserError", "error_file", "forget_errors", "one_line", "read_errors", "record_error"]


@dataclass(frozen=True, kw_only=True)
class UserError:
    """One mistake.

    Attributes:
        reason: kind and message, one line.
        place: where in the user's code; empty where it was raised outside of it.
        shown: the traceback from the user's first frame on.
        struck: in whose training it was raised first.
        members: members that failed by it.
        packs: the packs they were in.
        file: the whole traceback of the first.
    """

    reason: str
    place: str
    shown: str
    struck: str
    members: int
    packs: tuple[str, ...]
    file: Path

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {**asdict(self), "packs": list(self.packs), "file": str(self.file)}


def error_file(folder: RunFolder, pack_id: str) -> Path:
    """Where the traceback of a pack that failed is kept.

    Args:
        folder: the results folder.
        pack_id: the pack.

    Returns:
        The file; absent where user code raised nothing.
    """
    return folder.state / f"{pack_id}.error.txt"


def one_line(error: Exception) -> str:
    """Why a pack failed.

    Args:
        error: what was raised.

    Returns:
        Kind and message; of wrong input its first fault.
    """
    return error.faults[0] if isinstance(error, SpecError) else reason_of(error)


def record_error(folder: RunFolder, pack: Pack, error: Exception, whole: str, *, members: int) -> None:
    """Keep an error that ended a pack.

    Args:
        folder: the results folder.
        pack: the pack.
        error: what was raised.
        whole: its traceback with every frame.
        members: how many failed by it.
    """
    error_file(folder, pack.pack_id).write_text(whole, encoding="utf-8")
    content = {
        "reason": one_line(error),
        "kind": type(error).__name__,
        "place": place_of(error),
        "shown": "\n".join(error.faults) if isinstance(error, SpecError) else traceback_of(error),
        "struck": struck(error),
        "members": members,
    }
    write_json(_summary(folder, pack.pack_id), content)


def read_errors(folder: RunFolder, pack_ids: Iterable[str]) -> list[UserError]:
    """The errors behind failed packs; packs that were ended by the same line of code share one.

    Args:
        folder: the results folder.
        pack_ids: packs that failed.

    Returns:
        In the packs' order; packs that failed otherwise (a killed process) are not in any.
    """
    groups: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for pack_id in pack_ids:
        path = _summary(folder, pack_id)
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            groups.setdefault((content["kind"], content["place"] or content["reason"]), []).append((pack_id, content))
    found = []
    for same in groups.values():
        pack_id, first = same[0]
        found.append(
            UserError(
                reason=str(first["reason"]),
                place=str(first["place"]),
                shown=str(first["shown"]),
                struck=str(first["struck"]),
                members=sum(int(str(content["members"])) for _, content in same),
                packs=tuple(pack for pack, _ in same),
                file=error_file(folder, pack_id),
            )
        )
    return found


def forget_errors(folder: RunFolder, pack_id: str) -> None:
    """Remove what an earlier attempt of a pack left: it is tried again, and its cause may be mended.

    Args:
        folder: the results folder.
        pack_id: the pack.
    """
    error_file(folder, pack_id).unlink(missing_ok=True)
    _summary(folder, pack_id).unlink(missing_ok=True)


def _summary(folder: RunFolder, pack_id: str) -> Path:
    return folder.state / f"{pack_id}.error.json"
