"""The runner on Ray Tune: one trial per pack, on this machine or on a running cluster.

Few and large trials make Ray's own cost small: actors are reused, Tune's per-trial loggers are off, and a trial reports
a handful of numbers once a second. Rows never travel through Ray: each trial writes its own part files, so on a cluster
the results folder must lie on a file system that all nodes share.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from sweeps.folder import RunFolder
from sweeps.probe_job import ProbeEnd
from sweeps.ray_probes import measure_with_ray
from sweeps.ray_session import (
    DRIVER_ENVIRONMENT,
    cluster_resources,
    connected,
    environment,
    missing_here,
    own_modules,
)
from sweeps.resources import Resources, this_machine
from sweeps.runner import Ending, Progress, RunOptions, RunOutcome
from sweeps.trial import PackEnd, is_disk_full, mark_failed, run_pack, stop_asked
from trainables.spec import Pack

if TYPE_CHECKING:
    from analysis.probing.jobs import Job

__all__ = ["RayRunner"]

_GRACE_SECONDS = 20.0


class RayRunner:
    """Trains each pack as one trial of Ray Tune; see `sweeps.runner.Runner`.

    Args:
        address: a running cluster (`auto` or host:port); None starts Ray here and stops it at the end.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    def resources(self) -> Resources:
        """What there is to train on; see `sweeps.runner.Runner.resources`."""
        return this_machine() if self._address is None else cluster_resources(self._address)

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
        if not packs:
            return RunOutcome(ending=Ending.FINISHED)
        modules = own_modules(pack.recipe.task for pack in packs)
        with environment(DRIVER_ENVIRONMENT), connected(self._address, cores=options.cores, modules=modules):
            watch = _Watch(packs, folder, attempt, progress)
            if options.gpus_per_pack > 0 and not ray.cluster_resources().get("GPU"):
                watch.say("the cluster has no GPU yet: packs wait until a node with one has joined it")
            tuner = _tuner(packs, folder, attempt, options, watch)
            try:
                tuner.fit()
            except OSError as error:
                # Tune keeps books of its own in the same folder.
                if not is_disk_full(error):
                    raise
                return RunOutcome(ending=Ending.DISK_FULL, failures=watch.failures)
        return watch.outcome()

    def measure(
        self,
        jobs: Sequence["Job"],
        folder: RunFolder,
        *,
        options: RunOptions,
        ended: Callable[[ProbeEnd], None],
    ) -> Ending:
        """Run probe jobs; see `sweeps.runner.Runner.measure`."""
        modules = own_modules(recipe["task"] for recipe in folder.read_manifest()["recipes"].values())
        with environment(DRIVER_ENVIRONMENT), connected(self._address, cores=options.cores, modules=modules):
            return measure_with_ray(jobs, folder, options=options, ended=ended)


def _tuner(packs: Sequence[Pack], folder: RunFolder, attempt: int, options: RunOptions, watch: "_Watch") -> tune.Tuner:
    """The experiment: a grid over the packs, which are shipped once through the object store."""
    trainable = tune.with_parameters(
        _trial,
        references=[ray.put(pack) for pack in packs],
        root=folder.root.resolve(),
        attempt=attempt,
        options=options,
    )
    name = partial(_trial_name, tuple(pack.pack_id for pack in packs))
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "gpu": options.gpus_per_pack}),
        param_space={"pack": tune.grid_search(list(range(len(packs))))},
        tune_config=tune.TuneConfig(reuse_actors=True, trial_name_creator=name, trial_dirname_creator=name),
        run_config=tune.RunConfig(
            name=f"attempt-{attempt}",
            storage_path=str(folder.ray.resolve()),
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
            callbacks=[watch],
            stop=_StopLate(folder),
            verbose=0,
        ),
    )


def _trial_name(pack_ids: Sequence[str], trial: Any) -> str:
    """A trial is called as its pack."""
    return str(pack_ids[trial.config["pack"]])


def _trial(
    config: Mapping[str, Any],
    references: Sequence[Any],
    root: Path,
    attempt: int,
    options: RunOptions,
) -> None:
    """One trial, in a worker: its pack, as in every other runner."""
    if not (reason := missing_here(root)):
        pack: Pack = ray.get(references[config["pack"]])
        end = run_pack(pack, RunFolder(root), attempt=attempt, options=options, progress=_report)
    else:
        end = PackEnd(ending=Ending.FAILED, reason=reason)
    tune.report({"ending": end.ending.value, "reason": end.reason})


def _report(progress: Progress) -> None:
    """Send progress from a worker to the driver."""
    tune.report({"progress": asdict(progress)})


class _Watch(tune.Callback):  # type: ignore[misc]
    """What the driver hears of its trials."""

    def __init__(
        self, packs: Sequence[Pack], folder: RunFolder, attempt: int, progress: Callable[[Progress], None]
    ) -> None:
        self._packs = packs
        self._folder = folder
        self._attempt = attempt
        self._progress = progress
        self._endings: dict[str, Ending] = {}
        self.failures: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks for a restore of its own. Sweeps resume from their own states, and a display holds
        # locks that cannot be pickled.
        return {}

    def say(self, note: str) -> None:
        """Tell the user something that is not about one pack."""
        self._progress(Progress(pack_id=self._packs[0].pack_id, member_steps=0, note=note))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A report of `_trial` has come in; Tune repeats the last one when the trial completes."""
        del iteration, trials, info
        if "ending" in result:
            self._end(self._packs[trial.config["pack"]], Ending(result["ending"]), result["reason"])
        elif "progress" in result:
            self._progress(Progress(**result["progress"]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process died once more than `max_failures` allows."""
        del iteration, trials, info
        self._end(
            self._packs[trial.config["pack"]],
            Ending.FAILED,
            f"its worker process died {trial.num_failures} times (out of memory, or killed from outside)",
        )

    def outcome(self) -> RunOutcome:
        """How all trials together ended; a trial that never said so was stopped."""
        endings = {self._endings.get(pack.pack_id, Ending.INTERRUPTED) for pack in self._packs}
        order = (Ending.DISK_FULL, Ending.INTERRUPTED)
        ending = next((ending for ending in order if ending in endings), Ending.FINISHED)
        return RunOutcome(ending=ending, failures=self.failures)

    def _end(self, pack: Pack, ending: Ending, reason: str) -> None:
        if pack.pack_id in self._endings:
            return
        self._endings[pack.pack_id] = ending
        if ending is Ending.FAILED:
            self.failures[pack.pack_id] = reason
            mark_failed(self._folder, pack, reason, self._attempt)
        elif ending is Ending.DISK_FULL:
            # An empty file needs no room: the other packs end in good order instead of one error each.
            self._folder.stop_file.touch()


class _StopLate(tune.Stopper):  # type: ignore[misc]
    """Ends the experiment when packs that were asked to stop have not done so in time (a long compilation, say)."""

    def __init__(self, folder: RunFolder) -> None:
        self._stop = stop_asked(folder)
        self._asked: float | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Trials end by themselves."""
        del trial_id, result
        return False

    def stop_all(self) -> bool:
        """True once the time is over; what a pack saved last is on disk whatever it is doing."""
        if self._asked is None and self._stop():
            self._asked = time.monotonic()
        return self._asked is not None and time.monotonic() - self._asked > _GRACE_SECONDS
