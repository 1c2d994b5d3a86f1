"""Geometry and features as part of a sweep: what its section `probes` asks for, measured once training has ended."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweeps.folder import RunFolder, write_json
from sweeps.interrupt import interruptible
from sweeps.probe_display import ProbeDisplay, ProbeTally
from sweeps.probe_job import ProbeEnd
from sweeps.runner import Ending, Runner, RunOptions
from sweeps.trial import is_disk_full
from trainables.spec import SpecError

if TYPE_CHECKING:
    from analysis.probing.jobs import Job

__all__ = ["Probed", "asks_for_probes", "jobs_on_disk", "measure_probes"]


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What became of a sweep's probes.

    Attributes:
        ending: how this run of them ended.
        jobs: of the whole sweep.
        left: those that are not done.
        measured: those done in this run.
        faults: what could not be measured, each sentence once: the rows of the probe `fault`.
        failures: why jobs wrote nothing, by job id; they may be tried again.
        unplanned: why there are no jobs; empty where there are.
        seconds: how long this run of them took.
    """

    ending: Ending = Ending.FINISHED
    jobs: int = 0
    left: int = 0
    measured: int = 0
    faults: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    unplanned: str = ""
    seconds: float = 0.0

    def notes(self, root: Path) -> tuple[str, ...]:
        """What the user should know of it.

        Args:
            root: the results folder.

        Returns:
            Sentences.
        """
        found = []
        if self.unplanned:
            found.append(f"no geometry and no features were measured: {self.unplanned}")
        if self.faults:
            others = f" (and {len(self.faults) - 1} more)" if len(self.faults) > 1 else ""
            query = "SELECT DISTINCT key FROM probes WHERE probe = 'fault'"
            found.append(f'not all probes could be measured: {self.faults[0]}{others}; `lratlas sql {root} "{query}"`')
        if self.failures:
            first, reason = next(iter(self.failures.items()))
            of = f"{len(self.failures)} of {self.jobs} probe jobs"
            found.append(f"{of} failed and can be tried again by `lratlas resume {root}`, such as {first}: {reason}")
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """The numbers for `--json`."""
        return {
            "jobs": self.jobs,
            "left": self.left,
            "measured": self.measured,
            "faults": list(self.faults),
            "failures": dict(self.failures),
            "seconds": round(self.seconds, 3),
        }


def asks_for_probes(sweep: Mapping[str, Any]) -> bool:
    """Whether probes are part of a sweep.

    Args:
        sweep: `manifest.json`'s `sweep`.

    Returns:
        True where it has a section `probes`.
    """
    return sweep.get("probes") is not None


def jobs_on_disk(folder: RunFolder) -> tuple[int, int] | None:
    """How many jobs there are and how many are done, read off the files.

    Args:
        folder: a results folder.

    Returns:
        (jobs, done); None before the jobs were laid out.
    """
    if not folder.probe_list.exists():
        return None
    ids = json.loads(folder.probe_list.read_text(encoding="utf-8"))
    return len(ids), sum((folder.probes / f"{job_id}.parquet").exists() for job_id in ids)


def measure_probes(folder: RunFolder, runner: Runner, options: RunOptions, *, console: Console | None) -> Probed:
    """Run the jobs that have not been done.

    Args:
        folder: the results folder of a sweep that asks for probes; its training has ended.
        runner: what runs the jobs.
        options: how.
        console: where to show progress; None shows nothing.

    Returns:
        What came out. Interruptions, jobs that fail and a full disk are results, not exceptions.
    """
    try:
        return _measure(folder, runner, options, console)
    except KeyboardInterrupt:
        # The second Ctrl-C: what is on disk is whole, whatever was going on.
        return Probed(ending=Ending.INTERRUPTED)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return Probed(ending=Ending.DISK_FULL)


def _measure(folder: RunFolder, runner: Runner, options: RunOptions, console: Console | None) -> Probed:
    from analysis.probing.jobs import pending, plan_jobs, spec_of

    began, sweep = time.monotonic(), folder.read_manifest()["sweep"]
    try:
        jobs = plan_jobs(folder.root, spec_of(sweep))
    except SpecError as error:
        write_json(folder.probe_list, [])
        return Probed(unplanned=" ".join(error.faults))
    write_json(folder.probe_list, [job.job_id for job in jobs])
    todo = pending(folder.root, jobs)
    if not todo:
        return Probed(jobs=len(jobs))
    ends: list[ProbeEnd] = []
    live = console is not None and console.is_terminal
    with interruptible(folder, announce=not live) as interrupt:
        tally = ProbeTally(len(jobs), _weights(todo), time.monotonic())
        display = ProbeDisplay(sweep["name"], tally, console, lambda: interrupt.asked)

        def ended(end: ProbeEnd) -> None:
            ends.append(end)
            display.update(end.job_id)

        with display.shown():
            ending = runner.measure(todo, folder, options=options, ended=ended)
    done = [end for end in ends if end.ending is Ending.FINISHED]
    return Probed(
        ending=ending,
        jobs=len(jobs),
        left=len(todo) - len(done),
        measured=len(done),
        faults=tuple(dict.fromkeys(fault for end in done for fault in end.faults)),
        failures={end.job_id: end.reason for end in ends if end.ending is Ending.FAILED},
        seconds=time.monotonic() - began,
    )


def _weights(jobs: Sequence["Job"]) -> dict[str, float]:
    """How long each takes, in any unit."""
    known = all(job.seconds is not None for job in jobs)
    return {job.job_id: float(job.seconds or 0) if known else 1.0 for job in jobs}
