"""The numbers of a sweep that is running: what its packs report, added up."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from sweeps.runner import Progress
from trainables.rows import Status

__all__ = ["Snapshot", "Tally", "Totals"]

_WINDOW_SECONDS = 30.0
# Compilation and the choice of an executor come with the first few steps, at no rate that lasts.
_TELLING_SHARE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What a run sets out to do.

    Attributes:
        name: the sweep's name.
        place: the results folder.
        members: of the whole sweep.
        packs: of the whole sweep.
        member_steps: of the whole sweep.
        ended: members that had ended before, by status.
        packs_done: packs that had finished before.
        steps_done: member-steps of those packs.
        resumed: True when packs may go on from a saved state.
        lr_of: a member's first learning rate, by member id.
        lr_name: what that learning rate is called in the sweep.
    """

    name: str
    place: str
    members: int
    packs: int
    member_steps: int
    ended: Mapping[Status, int] = field(default_factory=dict)
    packs_done: int = 0
    steps_done: int = 0
    resumed: bool = False
    lr_of: Mapping[str, float] = field(default_factory=dict)
    lr_name: str = "lr"


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """How far a sweep is, in numbers.

    Attributes:
        steps_done: member-steps, finished ones of earlier runs included.
        steps: member-steps of the whole sweep.
        rate: member-steps per second over the last half minute; None before it is known.
        seconds_left: None while the rate is not known, or so little is trained that it tells of the start only.
        by_status: members by status; together all members.
        packs_done: packs that have come to their end.
        packs: of the whole sweep.
        best_error: lowest test error so far, a fraction.
        best_lr: first learning rate of the member that reached it, where known.
        elapsed: seconds since this run began.
    """

    steps_done: int
    steps: int
    rate: float | None
    seconds_left: float | None
    by_status: Mapping[Status, int]
    packs_done: int
    packs: int
    best_error: float | None
    best_lr: float | None
    elapsed: float


class Tally:
    """Adds up what the packs report.

    Args:
        totals: what the run sets out to do.
        now: the time it begins, in seconds of a monotonic clock.
    """

    def __init__(self, totals: Totals, now: float) -> None:
        self.totals = totals
        self._began = now
        self._latest: dict[str, Progress] = {}
        self._first: dict[str, int] = {}
        self._trained: deque[tuple[float, int]] = deque([(now, 0)])
        self._notes: set[str] = set()

    def see(self, progress: Progress, now: float) -> str | None:
        """Take one report.

        Args:
            progress: how far one pack is.
            now: the time.

        Returns:
            A note to tell the user, the first time it comes.
        """
        known = self._latest.get(progress.pack_id)
        # Messages of two attempts of a pack may cross; a pack does not go backwards.
        if known is None or progress.member_steps >= known.member_steps:
            self._latest[progress.pack_id] = progress
        # What a pack brings along from an earlier run was not trained in this one.
        self._first.setdefault(progress.pack_id, progress.member_steps if self.totals.resumed else 0)
        trained = sum(latest.member_steps - self._first[pack_id] for pack_id, latest in self._latest.items())
        self._trained.append((now, trained))
        while len(self._trained) > 2 and self._trained[1][0] <= now - _WINDOW_SECONDS:
            self._trained.popleft()
        if not progress.note or progress.note in self._notes:
            return None
        self._notes.add(progress.note)
        return progress.note

    def snapshot(self, now: float) -> Snapshot:
        """How far the sweep is.

        Args:
            now: the time.

        Returns:
            The numbers.
        """
        # A copy: a display may ask from a thread of its own.
        totals, packs = self.totals, tuple(self._latest.values())
        steps = totals.steps_done + sum(pack.member_steps for pack in packs)
        (since, before), (_, after) = self._trained[0], self._trained[-1]
        rate = (after - before) / (now - since) if after > before and now > since else None
        enough = _TELLING_SHARE * totals.member_steps
        counts = Counter(totals.ended)
        for pack in packs:
            counts.update(pack.statuses)
        running = totals.members - counts.total()
        best = min((pack for pack in packs if pack.best_error is not None), key=_error, default=None)
        return Snapshot(
            steps_done=steps,
            steps=totals.member_steps,
            rate=rate,
            seconds_left=(totals.member_steps - steps) / rate if rate and after >= enough else None,
            by_status={
                status: number for status in Status if (number := {**counts, Status.RUNNING: running}.get(status))
            },
            packs_done=totals.packs_done + sum(pack.done for pack in packs),
            packs=totals.packs,
            best_error=best.best_error if best else None,
            best_lr=totals.lr_of.get(best.best_member_id) if best and best.best_member_id else None,
            elapsed=now - self._began,
        )


def _error(progress: Progress) -> float:
    assert progress.best_error is not None
    return progress.best_error
