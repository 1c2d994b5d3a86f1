"""Training a pack: yields what was measured, and can be stopped and taken up again at any moment."""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainables.cohorts import Cohort, events
from trainables.executors import ExecutorName
from trainables.order import batches
from trainables.population import Population
from trainables.progress import Progress, load_progress, save_progress
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status
from trainables.setting import Setting
from trainables.solutions import pick
from trainables.spec import Member, Pack, Segment
from trainables.update import row_norm_sq

__all__ = ["Report", "train"]

BLOCK_STEPS = 256  # steps between two looks at the clock; the batch table of a block is a few MB


@dataclass(frozen=True)
class Report:
    """News from a pack.

    Attributes:
        pack_id: which pack.
        part: number of the table part that these rows belong to.
        epochs: new rows.
        probes: new rows.
        statuses: every member of the pack that ended, earlier attempts included.
        member_steps: done so far, of `pack.member_steps`.
        best_error: lowest error reported so far, on `valid` where there is one, else on `test`.
        flush: the consumer must make all rows so far durable before it asks for the next report.
        done: the pack is finished.
        note: something to tell the user once.
    """

    pack_id: str
    part: int
    epochs: tuple[EpochRow, ...] = ()
    probes: tuple[ProbeRow, ...] = ()
    statuses: Mapping[str, MemberStatus] | None = None
    member_steps: int = 0
    best_error: float | None = None
    flush: bool = False
    done: bool = False
    note: str = ""


def _never() -> bool:
    return False


def _keep_freed_memory() -> None:
    """Let glibc reuse freed tensors instead of returning their pages at every step.

    Temporaries of a stacked step are a few MB, above glibc's threshold for handing memory straight back to the system:
    each step then pays for fresh zeroed pages (measured: the step of 96 MLPs of width 64 took 2.2 times as long).
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            trim_threshold, top_pad, mmap_threshold = -1, -2, -3
            libc.mallopt(mmap_threshold, 1 << 25)  # glibc's largest; anything above is refused
            libc.mallopt(trim_threshold, 1 << 30)
            libc.mallopt(top_pad, 1 << 26)


def train(
    pack: Pack,
    *,
    folder: Path,
    attempt: int,
    executor: str = "auto",
    device: str = "cpu",
    save_seconds: float = 10.0,
    stop: Callable[[], bool] = _never,
) -> Iterator[Report]:
    """Train a pack, or go on where an earlier attempt stopped.

    Sets torch to one thread: on tensors this small a second one only costs.

    Args:
        pack: what to train.
        folder: the results folder; `state/` and `checkpoints/` in it are written.
        attempt: which execution of the pack this is; written into every row, and the highest counts.
        executor: `auto`, `stacked` or `loop`.
        device: where to train.
        save_seconds: least time between two saved states within a cohort.
        stop: asked often; when it says True, the state is saved and the iteration ends without a `done` report.

    Yields:
        Reports; see `Report.flush` for the consumer's part of the bargain.

    Raises:
        SpecError: the pack cannot be trained as specified, or its saved state is damaged.
    """
    torch.set_num_threads(1)
    _keep_freed_memory()
    setting = Setting(pack, folder, ExecutorName(executor), device)
    yield from _PackRun(setting, folder, attempt).reports(save_seconds, stop)


class _PackRun:
    """One execution of one pack."""

    def __init__(self, setting: Setting, folder: Path, attempt: int) -> None:
        self.setting, self.attempt = setting, attempt
        self.pack, self.cohorts = setting.pack, setting.cohorts
        self.checkpoints = folder / "checkpoints"
        self.state_file = folder / "state" / f"{self.pack.pack_id}.safetensors"
        self.progress = Progress()
        self.population: Population | None = None
        self.averages: dict[int, dict[str, Tensor]] = {}
        self.new_rows = False
        self.note = ""

    def reports(self, save_seconds: float, stop: Callable[[], bool]) -> Iterator[Report]:
        """Train every cohort that is not finished."""
        saved = load_progress(self.state_file)
        tensors: dict[str, Tensor] = {}
        if saved is not None:
            self.progress, tensors = saved
        self.progress.executor = str(self.setting.executor.name)
        while self.progress.cohort < len(self.cohorts):
            cohort = self.cohorts[self.progress.cohort]
            if tensors:
                self._restore(tensors)
                tensors = {}
                yield self._report()  # how far it already is, before the first new row
            else:
                self._begin(cohort)
            for report in self._train_cohort(cohort, save_seconds, stop):
                yield report
                if report.flush:
                    self._save()
            if self.progress.step < cohort.stop:
                return  # stopped on request
            yield from self._end_cohort(cohort)
            self._save()
        yield self._report(flush=True, done=True)
        for index in self.setting.branching:
            self.setting.rows_file(index).unlink(missing_ok=True)

    def _train_cohort(self, cohort: Cohort, save_seconds: float, stop: Callable[[], bool]) -> Iterator[Report]:
        assert self.population is not None
        population, progress = self.population, self.progress
        marks = self.setting.marks(cohort)
        seeds, hyper = self.setting.hyper(cohort, len(population))
        last_saved = clock = time.monotonic()
        todo = [event for event in events(cohort, self.pack.measure, marks) if event > progress.step]
        for event in todo:
            while progress.step < event:
                block = min(event, progress.step + BLOCK_STEPS)
                samples, size = self.setting.arena.train.samples, self.pack.recipe.batch_size
                table = batches(seeds, samples, size, progress.step, block).to(self.setting.device)
                self.setting.executor.step(
                    population, self.setting.arena.train.x, self.setting.arena.train.y, table, hyper
                )
                progress.step = block
                now = time.monotonic()
                progress.seconds, clock = progress.seconds + now - clock, now
                if stop() and block < cohort.stop and block < event:
                    yield self._report(flush=True)
                    return
            for window in marks.get(event, ()):
                for name, weight in population.trained.items():
                    self.averages[window][name] += weight
            if event in self.pack.measure.keep:
                owners = [segment.owner for segment in self.setting.segments(cohort)]
                self._keep(pick(self._weights(), list(range(len(owners)))), owners, f"step@{event}", event)
            if event % self.pack.measure.report_every == 0 or event == cohort.stop:
                rows = self._measure(cohort)
                clock = time.monotonic()
                yield self._report(epochs=rows)
                if event < cohort.stop and (stop() or clock - last_saved >= save_seconds):
                    last_saved = clock
                    yield self._report(flush=True)
                    if stop():
                        return

    def _begin(self, cohort: Cohort) -> None:
        population = self.setting.populate(cohort)
        for segment, alive in zip(self.setting.segments(cohort), population.alive.tolist(), strict=False):
            if not alive and segment.owner.member_id not in self.progress.statuses:
                self._died(segment.owner, f"its parent {segment.owner.parent_id} was not finite any more")
        windows = sorted({window for windows in self.setting.marks(cohort).values() for window in windows})
        self.averages = {
            window: {name: torch.zeros_like(weight) for name, weight in population.trained.items()}
            for window in windows
        }
        self.population = population
        self.progress.step = self.progress.reported = cohort.start
        self.progress.seconds = 0.0

    def _measure(self, cohort: Cohort) -> tuple[EpochRow, ...]:
        """Rows of the interval that ends here; the sums start anew."""
        assert self.population is not None
        population, progress, segments = self.population, self.progress, self.setting.segments(cohort)
        count = len(segments)
        steps = progress.step - progress.reported
        loss, error, grad = (population.sums / steps).tolist()
        norm = row_norm_sq(list(population.trained.values()), self.setting.rule.measured).tolist()
        alive = population.alive.tolist()
        splits: dict[str, tuple[list[float | None], list[float | None]]] = {}
        for split in ("valid", "test"):
            if split in self.setting.arena.splits:
                result = self.setting.judge.evaluate(
                    pick(self._weights(), list(range(count))), split, self.setting.draws(segments)
                )
                splits[split] = (result.loss.tolist(), result.error.tolist())
        none: list[float | None] = [None] * count
        rows = []
        for row, segment in enumerate(segments):
            owner = segment.owner
            if owner.member_id in progress.statuses:
                continue  # it died earlier
            blank = EpochRow(
                member_id=owner.member_id,
                attempt=self.attempt,
                epoch=progress.step // self.setting.per_epoch,
                step=progress.step,
                lr=segment.phase.lr,
                seconds=progress.seconds / count,
            )
            if not alive[row]:
                between = f"between steps {progress.reported} and {progress.step}, at lr {segment.phase.lr:g}"
                self._died(owner, f"loss or weights were not finite {between}")
                rows.append(blank)
                continue
            valid, test = (splits.get(split, (none, none)) for split in ("valid", "test"))
            rows.append(
                replace(
                    blank,
                    train_loss=loss[row],
                    train_error=error[row],
                    valid_loss=valid[0][row],
                    valid_error=valid[1][row],
                    test_loss=test[0][row],
                    test_error=test[1][row],
                    weight_norm_sq=norm[row],
                    grad_norm_sq=grad[row],
                )
            )
            here = test[1][row] if valid[1][row] is None else valid[1][row]
            if here is not None:
                progress.best_error = here if progress.best_error is None else min(here, progress.best_error)
        population.sums.zero_()
        progress.reported, progress.seconds = progress.step, 0.0
        return tuple(rows)

    def _end_cohort(self, cohort: Cohort) -> Iterator[Report]:
        """Final quality, averages, checkpoints and statuses; then everything is flushed."""
        assert self.population is not None
        segments, progress = self.setting.segments(cohort), self.progress
        alive = self.population.alive.tolist()
        ends = [row for row, segment in enumerate(segments) if segment.ends and alive[row]]
        weights = self._weights()
        probes = self._judge(pick(weights, ends), [segments[row] for row in ends], "end", cohort.stop)
        for window, sums in self.averages.items():
            rows = [row for row, segment in enumerate(segments) if segment.phase_end and alive[row]]
            chosen = [segments[row] for row in rows]
            average = pick({**weights, **{name: total / window for name, total in sums.items()}}, rows)
            self.setting.judge.reestimate(average, self.setting.draws(chosen))
            probes += self._judge(average, chosen, f"swa@{window}", cohort.stop)
        for row in ends:
            member_id = segments[row].owner.member_id
            progress.statuses[member_id] = MemberStatus(
                member_id=member_id, attempt=self.attempt, status=Status.COMPLETED
            )
        if progress.cohort in self.setting.branching:
            path = self.setting.rows_file(progress.cohort)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_progress(path, progress, self.population.tensors())
        progress.member_steps += len(segments) * cohort.steps
        progress.cohort += 1
        following = self.cohorts[progress.cohort].start if progress.cohort < len(self.cohorts) else cohort.stop
        progress.step = progress.reported = following
        self.population, self.averages = None, {}
        yield self._report(probes=tuple(probes), flush=True)

    def _weights(self) -> dict[str, Tensor]:
        assert self.population is not None
        return {**self.population.trained, **self.population.frozen, **self.population.buffers}

    def _died(self, owner: Member, reason: str) -> None:
        self.progress.statuses[owner.member_id] = MemberStatus(
            member_id=owner.member_id, attempt=self.attempt, status=Status.NONFINITE, status_reason=reason
        )

    def _judge(self, weights: Mapping[str, Tensor], segments: list[Segment], group: str, step: int) -> list[ProbeRow]:
        """Measure finished weights and keep them."""
        if not segments:
            return []
        owners = [segment.owner for segment in segments]
        self._keep(weights, owners, group, step)
        return self.setting.judge.probe(
            weights, self.setting.draws(segments), owners, group=group, step=step, attempt=self.attempt
        )

    def _keep(self, weights: Mapping[str, Tensor], owners: list[Member], group: str, step: int) -> None:
        self.setting.judge.keep(
            self.checkpoints / f"{self.pack.pack_id}-{self.progress.cohort:04d}-{group}",
            weights,
            owners,
            group=group,
            step=step,
            transposed=self.setting.transposed,
            executor=str(self.setting.executor.name),
        )

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        here = {name: tensor.to(self.setting.device) for name, tensor in tensors.items()}
        self.population = Population.from_tensors(here)
        self.averages = {}
        for name, tensor in here.items():
            if name.startswith("average/"):
                _, window, parameter = name.split("/", 2)
                self.averages.setdefault(int(window), {})[parameter] = tensor
        self.setting.accept_width(len(self.population))

    def _save(self) -> None:
        """Save the state; rows up to here are durable, so the next ones open a new part."""
        if self.new_rows:
            self.progress.part += 1
            self.new_rows = False
        tensors: dict[str, Tensor] = {}
        if self.population is not None:
            tensors = self.population.tensors()
            for window, sums in self.averages.items():
                tensors |= {f"average/{window}/{name}": total for name, total in sums.items()}
        save_progress(self.state_file, self.progress, {name: tensor.cpu() for name, tensor in tensors.items()})

    def _report(
        self,
        *,
        epochs: tuple[EpochRow, ...] = (),
        probes: tuple[ProbeRow, ...] = (),
        flush: bool = False,
        done: bool = False,
    ) -> Report:
        progress = self.progress
        self.new_rows = self.new_rows or bool(epochs or probes)
        steps = progress.member_steps
        if self.population is not None:
            cohort = self.cohorts[progress.cohort]
            steps += len(cohort.segments) * (progress.step - cohort.start)
        note = self.setting.executor.note if self.setting.executor.note != self.note else ""
        self.note = self.setting.executor.note
        return Report(
            pack_id=self.pack.pack_id,
            part=progress.part,
            epochs=epochs,
            probes=probes,
            statuses=dict(progress.statuses),
            member_steps=steps,
            best_error=progress.best_error,
            flush=flush,
            done=done,
            note=note,
        )
