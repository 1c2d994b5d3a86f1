"""What a pack must remember to go on after an interruption, as one file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from trainables.checkpoint import write_atomically
from trainables.rows import MemberStatus, Status
from trainables.spec import SpecError

__all__ = ["Progress", "load_progress", "save_progress"]

_FORMAT = 3


@dataclass
class Progress:
    """How far a pack is.

    Attributes:
        cohort: index of the current cohort; the number of cohorts when all is done.
        step: schedule step within it; its start when it has not begun.
        part: number of the table part being filled.
        member_steps: done in finished cohorts.
        reported: schedule step of the last row of `epochs`.
        traced: schedule step of the last row of norms and angles.
        seconds: wall time since the last row.
        best_error: lowest error reported.
        executor: which one trains.
        statuses: of all members that ended.
    """

    cohort: int = 0
    step: int = 0
    part: int = 0
    member_steps: int = 0
    reported: int = 0
    traced: int = 0
    seconds: float = 0.0
    best_error: float | None = None
    executor: str = ""
    statuses: dict[str, MemberStatus] = field(default_factory=dict)


def save_progress(path: Path, progress: Progress, tensors: Mapping[str, Tensor]) -> None:
    """Save progress and the population in one file, so that they cannot disagree.

    Args:
        path: `state/<pack_id>.safetensors`.
        progress: how far.
        tensors: the population of the current cohort; empty between cohorts.
    """
    metadata = {"format": str(_FORMAT), "progress": json.dumps(asdict(progress))}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata))


def load_progress(path: Path) -> tuple[Progress, dict[str, Tensor]] | None:
    """Read what `save_progress` wrote.

    Args:
        path: `state/<pack_id>.safetensors`.

    Returns:
        Progress and tensors; None when the pack never saved.

    Raises:
        SpecError: the file is damaged or of another version.
    """
    if not path.exists():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
        if int(metadata["format"]) != _FORMAT:
            raise SpecError([f"{path} has format {metadata['format']}, this version reads {_FORMAT}; start a new run"])
        content = json.loads(metadata["progress"])
        tensors = load_file(str(path))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError([f"saved state {path} cannot be read ({error}); delete it to train this pack again"]) from None
    statuses = {
        member_id: MemberStatus(**{**status, "status": Status(status["status"])})
        for member_id, status in content.pop("statuses").items()
    }
    return Progress(**content, statuses=statuses), tensors
