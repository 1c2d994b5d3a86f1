"""What the user sees while probes are measured: how many jobs have ended, and how long the others will take."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.display import clock
from sweeps.words import duration

__all__ = ["ProbeCount", "ProbeDisplay", "ProbeTally"]

_LOG_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCount:
    """How far the probes are.

    Attributes:
        done: jobs that have ended, in earlier runs too.
        jobs: of the whole sweep.
        seconds_left: None while nothing tells.
        elapsed: seconds since this run of them began.
    """

    done: int
    jobs: int
    seconds_left: float | None
    elapsed: float

    @property
    def sentence(self) -> str:
        """`probes 12/80, about 2 min left`."""
        left = "" if self.seconds_left is None else f", about {duration(self.seconds_left)} left"
        return f"probes {self.done}/{self.jobs}{left}"


TELLING = 3
"""Jobs from which on their time tells that of the others: the first ones load, compile and start processes."""


class ProbeTally:
    """Counts jobs.

    Args:
        jobs: of the whole sweep.
        weights: for each job to be run now, by id, its estimated seconds, or 1 where nothing is known of any.
        now: the time it begins, in seconds of a monotonic clock.
    """

    def __init__(self, jobs: int, weights: Mapping[str, float], now: float) -> None:
        self._jobs = jobs
        self._left = dict(weights)
        self._all, self._count = sum(weights.values()), len(weights)
        self._began = now

    def see(self, job_id: str) -> None:
        """A job has ended.

        Args:
            job_id: which.
        """
        self._left.pop(job_id, None)

    def count(self, now: float) -> ProbeCount:
        """How far they are.

        Args:
            now: the time.

        Returns:
            The numbers; what is left is taken to go at the pace of what this run has done.
        """
        left, elapsed = sum(self._left.copy().values()), now - self._began
        done = self._all - left
        return ProbeCount(
            done=self._jobs - len(self._left),
            jobs=self._jobs,
            seconds_left=left * elapsed / done if self._count - len(self._left) >= TELLING else None,
            elapsed=elapsed,
        )


class ProbeDisplay:
    """Shows probes being measured: in place on a terminal, as a line every ten seconds elsewhere.

    Args:
        name: the sweep's name.
        tally: counts the jobs.
        console: where to; None shows nothing.
        stopping: tells whether the user has asked for an end.
    """

    def __init__(self, name: str, tally: ProbeTally, console: Console | None, stopping: Callable[[], bool]) -> None:
        self._name, self._tally, self._console, self._stopping = name, tally, console, stopping
        self._told = time.monotonic()
        self._log = console if console is not None and not console.is_terminal else None

    def shown(self) -> AbstractContextManager[object]:
        """For the length of a block."""
        if self._console is None or self._log is not None:
            self._say()
            return nullcontext()
        return Live(console=self._console, refresh_per_second=2, get_renderable=self._draw)

    def update(self, job_id: str) -> None:
        """A job has ended.

        Args:
            job_id: which.
        """
        self._tally.see(job_id)
        last = self._count().done == self._count().jobs
        if last or time.monotonic() - self._told >= _LOG_SECONDS:
            self._told = time.monotonic()
            self._say()

    def _count(self) -> ProbeCount:
        return self._tally.count(time.monotonic())

    def _say(self) -> None:
        if self._log is not None:
            found = self._count()
            text = f"{clock(found.elapsed):>7}  {found.sentence}"
            self._log.print(text, highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        found = self._count()
        stopping = "finishing the jobs at work, then stopping" if self._stopping() else ""
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(found.jobs, 1), completed=found.done, width=32),
            Text(found.sentence, style="bold"),
            Text(stopping or clock(found.elapsed), style="yellow" if stopping else "dim"),
        )
        return Group(Text(f"{self._name} · geometry and features of the kept weights", style="bold"), bar)
