"""What the run of one probe job does, the same whoever runs it: measure, unless an end was asked for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeps.folder import RunFolder
from sweeps.runner import Ending
from sweeps.trial import is_disk_full
from sweeps.user_errors import one_line

if TYPE_CHECKING:
    from analysis.probing.jobs import Job

__all__ = ["ProbeEnd", "run_probe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeEnd:
    """How a job ended. Small, and all of plain types, because it travels between processes.

    Attributes:
        job_id: the job.
        ending: how; `FINISHED` also where its rows say that something could not be measured.
        faults: what could not be measured, one sentence each.
        reason: why, where it failed: it has written nothing and may be tried again.
    """

    job_id: str
    ending: Ending
    faults: tuple[str, ...] = ()
    reason: str = ""


def run_probe(job: "Job", folder: RunFolder) -> ProbeEnd:
    """Run one job.

    Args:
        job: of this results folder.
        folder: where its weights are and its rows go.

    Returns:
        How it ended. Errors and a full disk are outcomes, not exceptions.
    """
    from analysis.probing.jobs import run_job

    if folder.stop_file.exists():
        return ProbeEnd(job_id=job.job_id, ending=Ending.INTERRUPTED)
    try:
        end = run_job(folder.root, job)
    # Tasks and models are the user's own code and may raise anything: the other jobs must go on.
    except Exception as error:
        ending = Ending.DISK_FULL if is_disk_full(error) else Ending.FAILED
        return ProbeEnd(job_id=job.job_id, ending=ending, reason=one_line(error))
    return ProbeEnd(job_id=job.job_id, ending=Ending.FINISHED, faults=end.faults)
