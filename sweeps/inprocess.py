"""The runner without Ray: packs one after another in this process. For debugging, notebooks and small sweeps."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sweeps.folder import RunFolder
from sweeps.probe_job import ProbeEnd, run_probe
from sweeps.resources import Resources, this_machine
from sweeps.runner import Ending, Progress, RunOptions, RunOutcome
from sweeps.trial import run_pack
from trainables.spec import Pack

if TYPE_CHECKING:
    from analysis.probing.jobs import Job

__all__ = ["InProcessRunner"]


class InProcessRunner:
    """Trains packs one after another where it is called; see `sweeps.runner.Runner`."""

    def resources(self) -> Resources:
        """What there is to train on; see `sweeps.runner.Runner.resources`."""
        return this_machine()

    def run(
        self,
        packs: Sequence[Pack],
        folder: RunFolder,
        *,
        attempt: int,
        options: RunOptions,
        progress: Callable[[Progress], None],
    ) -> RunOutcome:
        """Train packs to their ends; see `sweeps.runner.Runner.run`."""
        failures = {}
        for pack in packs:
            end = run_pack(pack, folder, attempt=attempt, options=options, progress=progress)
            if end.ending is Ending.FAILED:
                failures[pack.pack_id] = end.reason
            elif end.ending is not Ending.FINISHED:
                return RunOutcome(ending=end.ending, failures=failures)
        return RunOutcome(ending=Ending.FINISHED, failures=failures)

    def measure(
        self,
        jobs: Sequence["Job"],
        folder: RunFolder,
        *,
        options: RunOptions,
        ended: Callable[[ProbeEnd], None],
    ) -> Ending:
        """Run probe jobs one after another where it is called; see `sweeps.runner.Runner.measure`."""
        del options
        for job in jobs:
            end = run_probe(job, folder)
            if end.ending in (Ending.INTERRUPTED, Ending.DISK_FULL):
                return end.ending
            ended(end)
        return Ending.FINISHED
