"""Probe jobs as Ray tasks: a bounded number at once, each writing its own part of the table `probes`."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from sweeps.folder import RunFolder
from sweeps.probe_job import ProbeEnd, run_probe
from sweeps.ray_session import missing_here
from sweeps.runner import Ending, RunOptions
from sweeps.trial import stop_asked

if TYPE_CHECKING:
    from analysis.probing.jobs import Job

__all__ = ["measure_with_ray"]

_LEAST_AT_ONCE = 64
"""Jobs handed to Ray ahead: those that wait make a cluster grow."""
_WAIT_SECONDS = 0.25
_GRACE_SECONDS = 20.0


def measure_with_ray(
    jobs: Sequence["Job"], folder: RunFolder, *, options: RunOptions, ended: Callable[[ProbeEnd], None]
) -> Ending:
    """Run jobs on the Ray this process is connected to.

    Args:
        jobs: independent of each other.
        folder: the results folder, on a disk that all nodes share.
        options: a job takes a core and a pack's share of a GPU, and is started again as often as a pack.
        ended: called in this process with the end of each job that was run, in the order in which they end.

    Returns:
        How it ended; `FINISHED` also where single jobs failed.
    """
    task = ray.remote(num_cpus=1, num_gpus=options.gpus_per_pack, max_retries=options.max_failures)(_task)
    root, at_once = folder.root.resolve(), max(_LEAST_AT_ONCE, 2 * options.cores)
    waiting, running = deque(jobs), dict[Any, "Job"]()
    stop, ending, give_up = stop_asked(folder), Ending.FINISHED, float("inf")
    try:
        while waiting or running:
            if ending is Ending.FINISHED and stop():
                ending = Ending.INTERRUPTED
            if ending is not Ending.FINISHED:
                waiting.clear()
                give_up = min(give_up, time.monotonic() + _GRACE_SECONDS)
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running[task.remote(root, job)] = job
            done, _ = ray.wait(list(running), timeout=_WAIT_SECONDS) if running else ([], [])
            for reference in done:
                end = _end(reference, running.pop(reference), options)
                if end.ending is Ending.DISK_FULL:
                    ending = Ending.DISK_FULL
                    # An empty file needs no room: the other jobs end in good order instead of one error each.
                    folder.stop_file.touch()
                elif end.ending is Ending.INTERRUPTED:
                    # A worker may see the stop file before this process does.
                    ending = Ending.INTERRUPTED if ending is Ending.FINISHED else ending
                else:
                    ended(end)
            if time.monotonic() > give_up:
                break
    finally:
        # A job that is cut off has written nothing and is run again.
        for reference in running:
            ray.cancel(reference, force=True)
    return ending


def _task(root: Path, job: "Job") -> ProbeEnd:
    """One job, in a worker."""
    if reason := missing_here(root):
        return ProbeEnd(job_id=job.job_id, ending=Ending.FAILED, reason=reason)
    return run_probe(job, RunFolder(root))


def _end(reference: Any, job: "Job", options: RunOptions) -> ProbeEnd:
    """What a task that has ended returned, or why it returned nothing."""
    try:
        end: ProbeEnd = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return ProbeEnd(job_id=job.job_id, ending=Ending.FAILED, reason=str(error.cause).strip().splitlines()[-1])
    except ray.exceptions.RayError:
        reason = f"its worker process died {options.max_failures + 1} times (out of memory, or killed from outside)"
        return ProbeEnd(job_id=job.job_id, ending=Ending.FAILED, reason=reason)
    return end
