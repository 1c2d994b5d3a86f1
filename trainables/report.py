"""What a pack tells while it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainables.rows import EpochRow, MemberStatus, ProbeRow

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """News from a pack.

    Attributes:
        pack_id: which pack.
        part: number of the table part that these rows belong to.
        epochs: new rows.
        probes: new rows.
        statuses: every member of the pack that ended, earlier attempts included.
        member_steps: done so far, of `pack.member_steps`.
        best_error: lowest error reported so far, on `valid` where there is one, else on `test`.
        flush: the consumer must make all rows so far durable before it asks for the next report.
        done: the pack is finished.
        note: something to tell the user once.
        executor: which one trains.
        seconds_per_step: of each executor that was compared at the pack's start; empty where there was no choice.
    """

    pack_id: str
    part: int
    epochs: tuple[EpochRow, ...] = ()
    probes: tuple[ProbeRow, ...] = ()
    statuses: Mapping[str, MemberStatus] | None = None
    member_steps: int = 0
    best_error: float | None = None
    flush: bool = False
    done: bool = False
    note: str = ""
    executor: str = ""
    seconds_per_step: Mapping[str, float] = field(default_factory=dict)
