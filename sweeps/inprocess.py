"""The runner without Ray: packs one after another in this process. For debugging, notebooks and small sweeps."""

from collections.abc import Callable, Sequence

from sweeps.folder import RunFolder
from sweeps.resources import Resources, this_machine
from sweeps.runner import Ending, Progress, RunOptions, RunOutcome
from sweeps.trial import run_pack
from trainables.spec import Pack

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
