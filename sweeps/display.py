"""What the user sees while a sweep runs, drawn from the numbers of `sweeps.tally`."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweeps.runner import Progress
from sweeps.tally import Snapshot, Tally, Totals

__all__ = ["Display", "LiveDisplay", "LogDisplay", "Silent", "clock", "count", "draw", "line"]

_LOG_SECONDS = 10.0


def clock(seconds: float | None) -> str:
    """A length of time as people read it.

    Args:
        seconds: a length; None where unknown.

    Returns:
        `0:42`, `1:02:03`, or `-:--`.
    """
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def count(number: float) -> str:
    """A large number as people read it.

    Args:
        number: at least 0.

    Returns:
        Three digits and a unit: `950`, `12.3k`, `28.8M`, `1.24G`.
    """
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * factor:
            scaled = number / factor
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.0f}"


def _percent(snapshot: Snapshot) -> float:
    return 100.0 * snapshot.steps_done / max(snapshot.steps, 1)


def _statuses(snapshot: Snapshot) -> str:
    return " · ".join(f"{number:,} {status}" for status, number in snapshot.by_status.items())


def _best(snapshot: Snapshot, lr_name: str) -> str:
    if snapshot.best_error is None:
        return "not measured yet"
    where = f" at {lr_name} {snapshot.best_lr:.3g}" if snapshot.best_lr is not None else ""
    return f"error {100 * snapshot.best_error:.1f} %{where}"


def line(snapshot: Snapshot, lr_name: str) -> str:
    """The numbers as one line of a log.

    Args:
        snapshot: the numbers.
        lr_name: what the first learning rate is called.

    Returns:
        One line.
    """
    rate = f"{count(snapshot.rate)}/s" if snapshot.rate else "-/s"
    return (
        f"{clock(snapshot.elapsed):>7}  {_percent(snapshot):5.1f} %  {rate:>7}  {clock(snapshot.seconds_left)} left  "
        f"packs {snapshot.packs_done}/{snapshot.packs}  {_statuses(snapshot)}  best: {_best(snapshot, lr_name)}"
    )


def draw(snapshot: Snapshot, totals: Totals, stopping: bool) -> RenderableType:
    """The numbers as a live display.

    Args:
        snapshot: the numbers.
        totals: what the run set out to do.
        stopping: True once the user has asked for an end.

    Returns:
        Something Rich can print.
    """
    rate = f"{count(snapshot.rate)} member-steps/s" if snapshot.rate else "starting"
    left = "saving the state, then stopping" if stopping else f"{clock(snapshot.seconds_left)} left"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(snapshot.steps, 1), completed=snapshot.steps_done, width=32),
        Text(f"{_percent(snapshot):.0f} %", style="bold"),
        Text(f"{count(snapshot.steps_done)} of {count(snapshot.steps)} · {rate}"),
        Text(left, style="yellow" if stopping else "bold"),
    )
    facts = Table.grid(padding=(0, 1))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_row("members", _statuses(snapshot))
    facts.add_row("packs", f"{snapshot.packs_done} of {snapshot.packs} done")
    facts.add_row("best", _best(snapshot, totals.lr_name))
    facts.add_row("elapsed", clock(snapshot.elapsed))
    title = Text.assemble((totals.name, "bold"), " · ", totals.place, overflow="ellipsis", no_wrap=True)
    return Group(title, bar, facts)


class Display(Protocol):
    """Shows a run: entered when it begins, told of every report, left when it ends."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        ...

    def update(self, progress: Progress) -> None:
        """Take a report of a pack."""
        ...


class Silent:
    """Shows nothing: for `--json`, and for tests."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def update(self, progress: Progress) -> None:
        """Take a report of a pack."""


class LogDisplay(Silent):
    """One line every ten seconds, for files and pipes.

    Args:
        totals: what the run sets out to do.
        console: where to print.
    """

    def __init__(self, totals: Totals, console: Console) -> None:
        self._tally = Tally(totals, time.monotonic())
        self._console = console
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        """The first line."""
        totals = self._tally.totals
        steps = count(totals.member_steps)
        self._print(
            f"{totals.name}: {totals.members:,} members in {totals.packs} packs, {steps} member-steps, {totals.place}"
        )
        return self

    def update(self, progress: Progress) -> None:
        """Take a report of a pack."""
        now = time.monotonic()
        note = self._tally.see(progress, now)
        if note:
            self._print(f"note: {note}")
        if now - self._told >= _LOG_SECONDS:
            self._told = now
            self._print(line(self._tally.snapshot(now), self._tally.totals.lr_name))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last line."""
        self._print(line(self._tally.snapshot(time.monotonic()), self._tally.totals.lr_name))

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class LiveDisplay:
    """A display that is redrawn in place, for terminals.

    Args:
        totals: what the run sets out to do.
        console: a terminal.
        stopping: tells whether the user has asked for an end.
    """

    def __init__(self, totals: Totals, console: Console, stopping: Callable[[], bool]) -> None:
        self._tally = Tally(totals, time.monotonic())
        self._console = console
        self._live = Live(
            console=console,
            refresh_per_second=2,
            get_renderable=lambda: draw(self._tally.snapshot(time.monotonic()), totals, stopping()),
        )

    def __enter__(self) -> Self:
        """Begin."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Draw a last time and leave it standing."""
        self._live.__exit__(kind, error, trace)

    def update(self, progress: Progress) -> None:
        """Take a report of a pack."""
        note = self._tally.see(progress, time.monotonic())
        if note:
            self._console.print(Text(f"note: {note}", style="yellow"))
