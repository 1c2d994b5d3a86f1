"""Running a sweep from its plan to its answer: train, keep `members.parquet` up to date, probe, report, mirror."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweeps.display import Display, LiveDisplay, LogDisplay, Silent
from sweeps.executors import executors_used
from sweeps.folder import RunFolder
from sweeps.interrupt import Interrupt, interruptible
from sweeps.locks import held
from sweeps.members import MembersFile
from sweeps.probing import Probed, asks_for_probes, measure_probes
from sweeps.runner import Ending, Progress, Runner, RunOptions, RunOutcome
from sweeps.sinks import forget_failures, members_of, read_statuses
from sweeps.tally import Totals
from sweeps.trial import is_disk_full, last_attempt
from sweeps.user_errors import UserError, read_errors
from trainables.rows import MemberStatus, Status
from trainables.spec import Pack, SpecError

if TYPE_CHECKING:
    from sweeps.plan import Plan

__all__ = ["Result", "execute", "finish"]

_MEMBERS_SECONDS = 10.0
_MEMBERS_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out of a run.

    Attributes:
        folder: the results folder.
        ending: how the training ended.
        by_status: members by status.
        failures: why packs failed, by pack id.
        errors: the mistakes in the user's code behind these, each once.
        changed: False when nothing had been left to train or to measure.
        seconds: how long the training took.
        probed: what became of the probes; None where the sweep asks for none, or training has not ended.
        answer: content of answer.json; None where the sweep was not finished, or no report could be made.
        sentence: the answer in words, or why there is none.
        notes: what else the user should know.
    """

    folder: RunFolder
    ending: Ending
    by_status: Mapping[Status, int]
    failures: Mapping[str, str] = field(default_factory=dict)
    errors: Sequence[UserError] = ()
    changed: bool = True
    seconds: float = 0.0
    probed: Probed | None = None
    answer: Mapping[str, Any] | None = None
    sentence: str = ""
    notes: Sequence[str] = ()


class _Books:
    """Keeps `members.parquet` in step with what the packs have written, at little cost."""

    def __init__(self, folder: RunFolder, plan: "Plan") -> None:
        self._folder = folder
        self._file = MembersFile(folder, plan)
        self._due = 0.0

    def write(self) -> dict[str, MemberStatus]:
        """Write now."""
        began = time.monotonic()
        statuses = read_statuses(self._folder)
        self._file.write(statuses)
        now = time.monotonic()
        # With very many members the file itself would become work: never more than a hundredth of the time.
        self._due = now + max(_MEMBERS_SECONDS, (now - began) / _MEMBERS_SHARE)
        return statuses

    def keep(self) -> None:
        """Write if it is time."""
        if time.monotonic() >= self._due:
            self.write()


def execute(
    folder: RunFolder,
    plan: "Plan",
    runner: Runner,
    options: RunOptions,
    *,
    console: Console | None,
) -> Result:
    """Train what is not finished, measure the probes, then analyse.

    Args:
        folder: the results folder, new or begun.
        plan: its plan.
        runner: what trains the packs.
        options: how.
        console: where to show progress; None shows nothing.

    Returns:
        What came out. Interruptions, failed members and a full disk are results, not exceptions.
    """
    with held(folder.state / "LOCK") as alone:
        if not alone:
            raise SpecError(
                [f"one process at a time may run a sweep, found another in {folder.root}; wait for it or stop it"]
            )
        result = _run(folder, plan, runner, options, console)
        if result.ending is Ending.FINISHED and asks_for_probes(folder.read_manifest()["sweep"]):
            result = _with_probes(result, measure_probes(folder, runner, options, console=console))
        if result.ending is not Ending.FINISHED:
            return result
        try:
            return finish(result)
        except KeyboardInterrupt:
            return replace(result, ending=Ending.INTERRUPTED)


def _run(folder: RunFolder, plan: "Plan", runner: Runner, options: RunOptions, console: Console | None) -> Result:
    """Train what is not finished."""
    began = time.monotonic()
    attempt = last_attempt(folder) + 1
    outcome, todo = RunOutcome(ending=Ending.FINISHED), list(plan.packs)
    try:
        forget_failures(folder)
        books = _Books(folder, plan)
        statuses = books.write()
        todo = unfinished(plan, statuses)
        if todo:
            live = console is not None and console.is_terminal
            with interruptible(folder, announce=not live) as interrupt:
                display = _display(console, _totals(folder, plan, todo, statuses, attempt), interrupt)
                outcome = _train(todo, folder, runner, attempt, options, books, display)
            statuses = books.write()
            folder.update_manifest(executors=executors_used(folder))
    except OSError as error:
        if not is_disk_full(error):
            raise
        outcome, statuses = RunOutcome(ending=Ending.DISK_FULL), read_statuses(folder)
    return Result(
        folder=folder,
        ending=outcome.ending,
        by_status=_count(plan, statuses),
        failures=outcome.failures,
        errors=read_errors(folder, outcome.failures),
        changed=bool(todo),
        seconds=time.monotonic() - began,
    )


def _with_probes(result: Result, probed: Probed) -> Result:
    """A training's result once the probes were measured too."""
    return replace(
        result,
        ending=probed.ending,
        changed=result.changed or probed.measured > 0,
        probed=probed,
        notes=probed.notes(result.folder.root),
    )


def unfinished(plan: "Plan", statuses: Mapping[str, MemberStatus]) -> list[Pack]:
    """Packs with members that have not ended.

    Args:
        plan: the plan.
        statuses: final statuses by member id.

    Returns:
        In the plan's order.
    """
    return [pack for pack in plan.packs if any(member.member_id not in statuses for member in members_of(pack))]


def finish(result: Result) -> Result:
    """Make the report and the mirror of a sweep that has been trained.

    Args:
        result: of training and probes.

    Returns:
        The same with answer and notes.
    """
    from analysis.report import write_report
    from sweeps.mirror import MirrorError, mirror, store_made_meanwhile

    folder, notes = result.folder, list(result.notes)
    if set(result.by_status) == {Status.FAILED}:
        return replace(result, sentence="No answer: every member failed.")
    if not result.changed and folder.answer.exists() and folder.mlflow.exists():
        answer = json.loads(folder.answer.read_text(encoding="utf-8"))
        notes.append("the sweep had finished before; nothing was left to do")
        return replace(result, answer=answer, sentence=answer.get("sentence", ""), notes=tuple(notes))
    data, sentence = None, ""
    try:
        with store_made_meanwhile(folder):
            written = write_report(folder.root)
        data, sentence = written.data, written.sentence
    except SpecError as error:
        sentence = "No answer: " + " ".join(error.faults)
    try:
        notes.append(mirror(folder).sentence.replace("DIR", str(folder.root)))
    except MirrorError as error:
        notes.append(f"{error} The results are complete without it; `lratlas mirror {folder.root}` makes it again.")
    return replace(result, answer=data, sentence=sentence, notes=tuple(notes))


def _train(
    todo: Sequence[Pack],
    folder: RunFolder,
    runner: Runner,
    attempt: int,
    options: RunOptions,
    books: _Books,
    display: Display,
) -> RunOutcome:
    """The training itself, shown while it runs."""

    def progress(news: Progress) -> None:
        display.update(news)
        books.keep()

    with display:
        try:
            return runner.run(todo, folder, attempt=attempt, options=options, progress=progress)
        except KeyboardInterrupt:
            # The second Ctrl-C: what was saved last is exact, whatever was going on.
            return RunOutcome(ending=Ending.INTERRUPTED)


def _display(console: Console | None, totals: Totals, interrupt: Interrupt) -> Display:
    """The kind of display that suits where it is shown."""
    if console is None:
        return Silent()
    if console.is_terminal:
        return LiveDisplay(totals, console, lambda: interrupt.asked)
    return LogDisplay(totals, console)


def _totals(
    folder: RunFolder, plan: "Plan", todo: Sequence[Pack], statuses: Mapping[str, MemberStatus], attempt: int
) -> Totals:
    """What the display needs to know beforehand."""
    left = {pack.pack_id for pack in todo}
    ended = {
        member.member_id: statuses[member.member_id].status
        for pack in plan.packs
        if pack.pack_id not in left
        for member in members_of(pack)
    }
    first = plan.members[0].phases[0].name
    several = any(len(member.phases) > 1 for member in plan.members)
    return Totals(
        name=folder.read_manifest()["sweep"]["name"],
        place=str(folder.root),
        members=len(plan.members),
        packs=len(plan.packs),
        member_steps=plan.member_steps,
        ended=Counter(ended.values()),
        packs_done=len(plan.packs) - len(todo),
        steps_done=sum(pack.member_steps for pack in plan.packs if pack.pack_id not in left),
        resumed=attempt > 1,
        lr_of={member.member_id: member.phases[0].lr for member in plan.members},
        lr_name=f"{first}_lr" if several else "lr",
    )


def _count(plan: "Plan", statuses: Mapping[str, MemberStatus]) -> dict[Status, int]:
    """Members by status, in the order of the statuses."""
    found = Counter(
        statuses[member.member_id].status if member.member_id in statuses else Status.RUNNING for member in plan.members
    )
    return {status: found[status] for status in Status if found[status]}
