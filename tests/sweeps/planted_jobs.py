"""Probe jobs that do as they are told, in worker processes too: unpickling one puts them in place of the real ones."""

import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import analysis.probing.jobs
from analysis.probing.jobs import JobEnd
from analysis.row_files import write_probes
from sweeps.folder import RunFolder
from trainables.rows import ProbeRow


@dataclass
class PlantedJob:
    """A job with an act: `measure`, `tell` (of a fault), `fail`, `fill` (the disk), `die`, `die once`, `wait`, `stop`
    (all jobs), or `stop waiting` (once there is one that waits)."""

    job_id: str
    act: str = "measure"
    seconds: float | None = None

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        analysis.probing.jobs.run_job = measure  # type: ignore[assignment]


def measure(directory: Path, job: PlantedJob) -> JobEnd:
    """In place of `analysis.probing.jobs.run_job`: one row, and one line in a log when it begins."""
    begun = ran(directory).count(job.job_id)
    with (directory / "ran").open("a") as log:
        log.write(f"{job.job_id}\n")
    if job.act == "fail":
        raise ValueError("odd weights")
    if job.act == "fill":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if job.act == "die" or (job.act == "die once" and not begun):
        os.kill(os.getpid(), signal.SIGKILL)
    while job.act == "stop waiting" and len(ran(directory)) < 2:
        time.sleep(0.05)
    if job.act.startswith("stop"):
        RunFolder(directory).stop_file.touch()
    if job.act == "wait":
        time.sleep(60)
    row = ProbeRow(
        member_id="m", attempt=1, step=1, probe="p", split="train", group="end", key=job.job_id, value=1.0, n=1
    )
    write_probes(directory / "probes" / f"{job.job_id}.parquet", [row])
    return JobEnd(rows=1, faults=("NaN weights",) if job.act == "tell" else (), seconds=0.0)


def ran(directory: Path) -> list[str]:
    """Ids of the jobs that were begun, in order."""
    log = directory / "ran"
    return log.read_text().split() if log.exists() else []
