"""How far a results folder is, read off its files."""

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sweeps.folder import RunFolder
from sweeps.probing import asks_for_probes, jobs_on_disk
from sweeps.query import ask, connect
from sweeps.sinks import read_statuses
from trainables.rows import Status

__all__ = ["Standing", "standing"]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a sweep is.

    Attributes:
        name: the sweep's name.
        members: how many there are.
        by_status: members by status; those without a final one are running.
        rows: rows of `epochs`, each key once.
        probe_rows: rows of `probes`, each key once.
        probe_jobs: jobs of the sweep's section `probes`; None where it has none, or before training has ended.
        probe_jobs_done: those that have been done.
        probes_asked: whether it has that section.
        steps_done: member-steps trained.
        steps: member-steps of the whole sweep.
        last_row_age: seconds since the last part was written; None before the first.
        seconds_left: estimated wall time to the end; None while nothing tells, 0 when done.
    """

    name: str
    members: int
    by_status: dict[str, int]
    rows: int
    probe_rows: int
    probe_jobs: int | None
    probe_jobs_done: int | None
    probes_asked: bool
    steps_done: int
    steps: int
    last_row_age: float | None
    seconds_left: float | None

    @property
    def done(self) -> bool:
        """True when every member has ended and every probe was measured."""
        probed = not self.probes_asked or (self.probe_jobs is not None and self.probe_jobs == self.probe_jobs_done)
        return self.trained and probed

    @property
    def trained(self) -> bool:
        """True when every member has ended."""
        return Status.RUNNING.value not in self.by_status

    def as_json(self) -> dict[str, Any]:
        """The numbers for `lratlas status --json`."""
        return {
            "members": self.members,
            "by_status": self.by_status,
            "rows": self.rows,
            "done": self.done,
            "probe_rows": self.probe_rows,
            "probe_jobs": self.probe_jobs,
            "probe_jobs_done": self.probe_jobs_done,
            "member_steps_done": self.steps_done,
            "member_steps": self.steps,
            "last_row_age_seconds": self.last_row_age,
            "eta_seconds": self.seconds_left,
        }


def standing(folder: RunFolder) -> Standing:
    """Read how far a sweep is; changes nothing.

    Args:
        folder: the results folder, at work or not.

    Returns:
        The numbers of this moment.

    Raises:
        SpecError: a file cannot be read.
    """
    manifest = folder.read_manifest()
    statuses = read_statuses(folder)
    with connect(folder) as connection:
        members = ask(connection, "SELECT member_id, pack_id, steps, branch_step FROM members").rows
        reached = dict(ask(connection, "SELECT member_id, max(step) FROM epochs GROUP BY member_id").rows)
        ((rows, seconds),) = ask(connection, "SELECT count(*), sum(seconds) FROM epochs").rows
        ((probe_rows,),) = ask(connection, "SELECT count(*) FROM probes").rows
    # A member's own steps begin where it leaves its parent; one that has ended has no more to do, wherever it stopped.
    steps_done = sum(
        (steps if member_id in statuses else max(reached.get(member_id, branch), branch)) - branch
        for member_id, _, steps, branch in members
    )
    counts = Counter(status.status.value for status in statuses.values())
    counts[Status.RUNNING.value] += len(members) - len(statuses)
    steps = int(manifest["member_steps"])
    unfinished = {pack_id for member_id, pack_id, _, _ in members if member_id not in statuses}
    lanes = max(1, min(_lanes(manifest), len(unfinished)))
    # Members' seconds are their shares of their pack's time, so that together they are the time of all packs.
    left = (steps - steps_done) * seconds / steps_done / lanes if steps_done and seconds else None
    jobs, done = jobs_on_disk(folder) or (None, None)
    return Standing(
        name=str(manifest["sweep"]["name"]),
        members=len(members),
        by_status={status.value: counts[status.value] for status in Status if counts[status.value] > 0},
        rows=rows,
        probe_rows=probe_rows,
        probe_jobs=jobs,
        probe_jobs_done=done,
        probes_asked=asks_for_probes(manifest["sweep"]),
        steps_done=steps_done,
        steps=steps,
        last_row_age=_age(folder),
        seconds_left=left if unfinished else 0.0,
    )


def _lanes(manifest: dict[str, Any]) -> int:
    """Packs at work at once, on the machine the sweep was planned for."""
    per_pack = manifest["sweep"]["run"]["gpus_per_pack"]
    planned = manifest["planned_for"]
    return math.floor(planned["gpus"] / per_pack) if per_pack else int(planned["cores"])


def _age(folder: RunFolder) -> float | None:
    """Seconds since the newest part."""
    parts = [*folder.epochs.glob("*.parquet"), *folder.probes.glob("*.parquet")]
    return max(0.0, time.time() - max(path.stat().st_mtime for path in parts)) if parts else None
