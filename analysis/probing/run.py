"""Running jobs one after the other in this process: for the command line, and for as long as a report may wait."""

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from analysis.probing.jobs import Job, pending, run_job
from analysis.probing.solutions import SOLUTIONS

__all__ = ["first_guess", "run_jobs", "run_within"]

_TELL_SECONDS = 10.0
_TELLING = 3
"""Parts from which on their time tells that of the others."""


def run_jobs(directory: Path, jobs: Sequence[Job], tell: Callable[[str], None]) -> int:
    """Do what has not been done yet.

    Args:
        directory: the results folder.
        jobs: of that folder.
        tell: takes a line now and then: how far it is and how long it will take.

    Returns:
        How many jobs were done. A job that breaks (the user's own task may raise anything) is told of and left for the
        next time; the others go on.
    """
    todo = pending(directory, jobs)
    if todo:
        done = f", {len(jobs) - len(todo)} of them done before" if len(todo) < len(jobs) else ""
        tell(f"measuring {len(jobs)} parts{done}; interrupt at any time, the same command goes on")
    begun = told = time.monotonic()
    failed = 0
    for number, job in enumerate(todo):
        try:
            run_job(directory, job)
        except Exception as error:
            failed += 1
            tell(f"{job.what} {job.measure} of {len(job.starts)} networks broke: {_one_line(error)}")
        now = time.monotonic()
        if now - told >= _TELL_SECONDS and number + 1 < len(todo):
            left = (now - begun) / (number + 1) * (len(todo) - number - 1)
            known = number + 1 >= _TELLING  # loading and compiling make the first ones no measure of the others
            tell(f"{number + 1} of {len(todo)} measured{f', about {_words(left)} left' if known else ''}")
            told = now
    if failed:
        tell(f"{failed} of {len(todo)} parts could not be measured; the same command tries them again")
    return len(todo) - failed


def first_guess(directory: Path) -> Callable[[Job], float]:
    """About how long a job of barriers takes, before one was run.

    Args:
        directory: the results folder.

    Returns:
        A function of the job that gives seconds; 0 for networks of which hundreds are measured at once.
    """

    def guess(job: Job) -> float:
        from trainables.checkpoint import Checkpoints
        from trainables.evaluate import Evaluator

        checkpoints, one = Checkpoints(directory / "checkpoints"), job.starts[0].solutions[0]
        evaluator = Evaluator(checkpoints.recipe(one.key), [one.data_seed])
        points = getattr(job.spec, "points", 1) * len(job.starts) * len(job.pairs)
        return points * evaluator.seconds_per_solution(checkpoints.weights([one.key]), one.data_seed)

    return guess


def run_within(directory: Path, jobs: Sequence[Job], seconds: float, first_guess: Callable[[Job], float]) -> str:
    """Do whole rounds of jobs, one seed and pair at all learning rates each, as long as the next one fits in the time.

    Args:
        directory: the results folder.
        jobs: of one measure, in the order of `plan_jobs`.
        seconds: what there is.
        first_guess: about how long a job takes, asked once; later rounds are guessed from those before.

    Returns:
        A sentence on what was left out; empty where nothing was.
    """
    todo = [job for job in pending(directory, jobs) if all(name in SOLUTIONS for pair in job.pairs for name in pair)]
    rounds = [list(each) for _, each in groupby(todo, key=lambda job: (job.starts[0].unit, job.pairs))]
    begun, each = time.monotonic(), None
    for number, own in enumerate(rounds):
        each = first_guess(own[0]) if each is None else each
        left = seconds - (time.monotonic() - begun)
        if each * len(own) > left:
            if number:
                return ""
            return (
                f"Angles and barriers of one seed take about {_words(each * len(own))} here, more than a report waits "
                f"for; `python -m analysis geometry {directory}` measures them."
            )
        start = time.monotonic()
        for job in own:
            run_job(directory, job)
        each = (time.monotonic() - start) / len(own)
    return ""


def _one_line(error: Exception) -> str:
    """An error's last line, with its kind."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else 'without a word'}"


def _words(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
