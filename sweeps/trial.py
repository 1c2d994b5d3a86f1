"""What the run of one pack does, the same whoever runs it: train, make rows durable, say how far it is."""

import errno
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.executors import note_executor
from sweeps.folder import RunFolder, write_json
from sweeps.locks import held
from sweeps.runner import Ending, Progress, RunOptions
from sweeps.sinks import ParquetSink, members_of, read_pack_statuses, write_pack_statuses
from sweeps.user_errors import error_file, forget_errors, one_line, record_error
from trainables.blame import blame, place_of
from trainables.rows import EpochRow, MemberStatus, Status
from trainables.spec import Pack

if TYPE_CHECKING:
    from trainables.loop import Report

__all__ = ["PackEnd", "error_file", "is_disk_full", "last_attempt", "mark_failed", "run_pack", "stop_asked"]

REPORT_SECONDS = 1.0
"""The least time between two reports of progress."""

_STOP_POLL_SECONDS = 0.25
_LOCK_SECONDS = 60.0
_ATTEMPT = ".attempt.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackEnd:
    """How the run of one pack ended.

    Attributes:
        ending: how.
        reason: why, where it failed; one line.
    """

    ending: Ending
    reason: str = ""


def run_pack(
    pack: Pack,
    folder: RunFolder,
    *,
    attempt: int,
    options: RunOptions,
    progress: Callable[[Progress], None],
) -> PackEnd:
    """Train one pack, from its saved state if there is one.

    Args:
        pack: what to train.
        folder: where its rows, state and checkpoints go.
        attempt: number of this run of the sweep; a pack that was started in it before counts up.
        options: how to run.
        progress: called at most once a second, and at the end.

    Returns:
        How it ended. Errors of the user's code and a full disk are outcomes, not exceptions.
    """
    stop = stop_asked(folder)
    if stop():
        return PackEnd(ending=Ending.INTERRUPTED)
    try:
        # After a crash, the process that held the pack before may still be on its way out.
        with held(folder.state / f"{pack.pack_id}.lock", wait_seconds=_LOCK_SECONDS) as alone:
            if not alone:
                return PackEnd(ending=Ending.FAILED, reason="another process is training this pack")
            return _run(pack, folder, attempt, options, progress, stop)
    except Exception as error:
        if not is_disk_full(error):
            raise
        return PackEnd(ending=Ending.DISK_FULL, reason=str(error))


def mark_failed(folder: RunFolder, pack: Pack, reason: str, attempt: int) -> int:
    """Record that a pack failed: those of its members that had not ended before it.

    Args:
        folder: the results folder.
        pack: the pack; not running any more.
        reason: why, in one line.
        attempt: number of the attempt that failed.

    Returns:
        How many members failed with it.
    """
    statuses = read_pack_statuses(folder, pack.pack_id)
    for member in members_of(pack):
        if member.member_id not in statuses:
            statuses[member.member_id] = MemberStatus(
                member_id=member.member_id, attempt=attempt, status=Status.FAILED, status_reason=reason
            )
    write_pack_statuses(folder, pack.pack_id, statuses)
    return sum(status.status is Status.FAILED for status in statuses.values())


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that the disk is full.

    Args:
        error: any error.

    Returns:
        True for a full disk or a used-up quota, also where a library wrapped it in an error of its own.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # Libraries that write from native code keep only the text.
        if any(sign in str(error) for sign in ("os error 28", "No space left on device")):
            return True
        error = error.__cause__ or error.__context__
    return False


def last_attempt(folder: RunFolder) -> int:
    """Number of the last attempt of any pack.

    Args:
        folder: the results folder.

    Returns:
        From 1; 0 where nothing has run yet.
    """
    return max((_read_attempt(path) for path in folder.state.glob(f"*{_ATTEMPT}")), default=0)


def stop_asked(folder: RunFolder) -> Callable[[], bool]:
    """A cheap check of the stop file.

    Args:
        folder: the results folder.

    Returns:
        A function that may be called every step: it looks at the disk a few times a second.
    """
    looked, found = -_STOP_POLL_SECONDS, False

    def stop() -> bool:
        nonlocal looked, found
        now = time.monotonic()
        if not found and now - looked >= _STOP_POLL_SECONDS:
            looked, found = now, folder.stop_file.exists()
        return found

    return stop


def _run(
    pack: Pack,
    folder: RunFolder,
    attempt: int,
    options: RunOptions,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> PackEnd:
    """One attempt; an error of the user's code is recorded with its traceback."""
    number = _begin_attempt(folder, pack.pack_id, attempt)
    forget_errors(folder, pack.pack_id)
    try:
        done = _train(pack, folder, number, options, progress, stop)
    # Tasks and models are the user's own code and may raise anything: the other packs must go on.
    except Exception as error:
        if is_disk_full(error):
            raise
        blame(error, members_of(pack))
        reason, whole = one_line(error), traceback.format_exc()
        record_error(folder, pack, error, whole, members=mark_failed(folder, pack, reason, number))
        # Told when it happens, not when the sweep has ended; the same words from many packs are shown once.
        where = place_of(error) or "in training"
        note = f"an error ({where}): the members it struck have failed, others go on; the traceback comes at the end"
        progress(Progress(pack_id=pack.pack_id, member_steps=0, note=note))
        return PackEnd(ending=Ending.FAILED, reason=reason)
    return PackEnd(ending=Ending.FINISHED if done else Ending.INTERRUPTED)


def _train(
    pack: Pack,
    folder: RunFolder,
    attempt: int,
    options: RunOptions,
    progress: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> bool:
    """The loop itself; True when the pack came to its end."""
    from trainables.loop import train

    sink, best = ParquetSink(folder, pack.pack_id), _Best()
    told, done = -REPORT_SECONDS, False
    reports = train(
        pack,
        folder=folder.root,
        attempt=attempt,
        executor=options.executor,
        device=options.device,
        save_seconds=options.save_seconds,
        stop=stop,
    )
    for number, report in enumerate(reports):
        # A pack that had finished before reports its end and no rows: its parts stay.
        if number == 0 and (report.epochs or report.probes or not report.done):
            sink.discard_from(report.part)
            note_executor(folder, pack.pack_id, report.executor, report.seconds_per_step)
        sink.add(report.epochs, report.probes)
        best.see(report.epochs)
        if report.flush:
            sink.flush(report.part, report.statuses or {})
        done = report.done
        now = time.monotonic()
        if done or report.note or now - told >= REPORT_SECONDS:
            progress(_progress(report, best))
            told = now
    return done


class _Best:
    """The lowest error seen in rows, and whose it is."""

    def __init__(self) -> None:
        self.error: float | None = None
        self.member_id: str | None = None

    def see(self, rows: tuple[EpochRow, ...]) -> None:
        for row in rows:
            error = row.test_error if row.valid_error is None else row.valid_error
            if error is not None and (self.error is None or error < self.error):
                self.error, self.member_id = error, row.member_id


def _progress(report: "Report", best: _Best) -> Progress:
    """How far a pack is, from its latest report."""
    # Errors of earlier attempts are in the report only, without the member's name.
    earlier = report.best_error is not None and (best.error is None or report.best_error < best.error)
    return Progress(
        pack_id=report.pack_id,
        member_steps=report.member_steps,
        statuses=dict(Counter(status.status for status in (report.statuses or {}).values())),
        best_error=report.best_error if earlier else best.error,
        best_member_id=None if earlier else best.member_id,
        done=report.done,
        note=report.note,
    )


def _begin_attempt(folder: RunFolder, pack_id: str, attempt: int) -> int:
    """Count a start of the pack: `attempt`, or one more than the last where the pack was started in it before."""
    path = folder.state / f"{pack_id}{_ATTEMPT}"
    number = max(attempt, _read_attempt(path) + 1)
    write_json(path, number)
    return number


def _read_attempt(path: Path) -> int:
    """Number of a pack's last attempt; 0 before the first."""
    return int(path.read_text(encoding="utf-8")) if path.exists() else 0
