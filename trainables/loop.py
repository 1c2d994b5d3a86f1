"""Training a pack: yields what was measured, and can be stopped and taken up again at any moment."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainables.blame import blame_rows
from trainables.cohorts import Cohort, events, trace_events
from trainables.evaluate import Evaluation
from trainables.executors.base import ExecutorName, Hyper
from trainables.intervals import Interval
from trainables.population import Population, to_module_layout
from trainables.process import prepare_process
from trainables.progress import Progress, load_progress, save_progress
from trainables.report import Report
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status
from trainables.setting import Setting
from trainables.solutions import pick
from trainables.spec import Member, Pack, Segment
from trainables.traces import trace_rows
from trainables.triggers import checks, trigger

__all__ = ["Report", "train"]

MOST_BLOCK_STEPS = 256  # in one go: the batch table of a block is then a few MB
BLOCK_SECONDS = 0.5  # between two looks at the clock, where steps are slow
SAVE_SHARE = 0.05  # of the time may go into saving states


def _never() -> bool:
    return False


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
        executor: `auto`, `stacked`, `grouped`, `branches` or `loop`.
        device: where to train.
        save_seconds: least time between two saved states within a cohort, longer where saving takes long; 0 saves
            whenever there is something new.
        stop: asked often; when it says True, the state is saved and the iteration ends without a `done` report.

    Yields:
        Reports; see `Report.flush` for the consumer's part of the bargain.

    Raises:
        SpecError: the pack cannot be trained as specified, or its saved state is damaged.
    """
    prepare_process(device)
    state_file = folder / "state" / f"{pack.pack_id}.safetensors"
    saved = load_progress(state_file)
    earlier = saved[0].executor if saved else ""
    setting = Setting(pack, folder, ExecutorName(executor), device, earlier)
    yield from _PackRun(setting, folder, attempt, state_file).reports(saved, save_seconds, stop)


class _PackRun:
    """One execution of one pack."""

    def __init__(self, setting: Setting, folder: Path, attempt: int, state_file: Path) -> None:
        self.setting, self.attempt = setting, attempt
        self.pack, self.cohorts = setting.pack, setting.cohorts
        self.checkpoints = folder / "checkpoints"
        self.state_file = state_file
        self.progress = Progress()
        self.population: Population | None = None
        self.averages: dict[int, dict[str, Tensor]] = {}
        self.look: tuple[dict[str, Tensor], str, Evaluation] | None = None
        self.new_rows = False
        self.note = ""
        self.block_steps = 1
        self.save_cost = 0.0
        self.saved_at = time.monotonic()

    def reports(
        self, saved: tuple[Progress, dict[str, Tensor]] | None, save_seconds: float, stop: Callable[[], bool]
    ) -> Iterator[Report]:
        """Train every cohort that is not finished."""
        tensors: dict[str, Tensor] = {}
        earlier = ""
        if saved is not None:
            self.progress, tensors = saved
            earlier = self.progress.executor
        self.progress.executor = str(self.setting.executor.name)
        while self.progress.cohort < len(self.cohorts):
            cohort = self.cohorts[self.progress.cohort]
            if tensors:
                self._restore(tensors, earlier)
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
        segments = self.setting.segments(cohort)
        marks, looks_at_loss = self.setting.marks(cohort), checks(cohort, segments)
        seeds, hyper = self.setting.hyper(cohort, len(population))
        traces = trace_events(cohort, segments, self.setting.trace_every(cohort))
        looks = events(cohort, self.pack.measure, [*marks, *looks_at_loss, *traces])
        todo = [event for event in looks if event > progress.step]
        for event in todo:
            while progress.step < event:
                self._train_block(cohort, seeds, hyper, min(event, progress.step + self.block_steps))
                if progress.step == event:
                    break
                if stop():
                    yield self._report(flush=True)
                    return
                yield self._report(flush=self._save_is_due(save_seconds))
            trigger(population, segments, looks_at_loss.get(event, ()))
            for window in marks.get(event, ()):
                for name, weight in population.trained.items():
                    self.averages[window][name] += weight
            if event in self.pack.measure.keep:
                self._keep(pick(self._weights(), list(range(len(segments)))), segments, f"step@{event}", event)
            facts: list[ProbeRow] = []
            if event in traces:
                facts += self._trace(cohort)
            if self.pack.measure.labels and event in self.pack.measure.labels.steps:
                facts += self._labels(cohort)
            if facts:
                yield self._report(probes=tuple(facts))
            if event % self.pack.measure.report_every == 0 or event == cohort.stop:
                yield self._report(epochs=self._measure(cohort))
                if event < cohort.stop and (stop() or self._save_is_due(save_seconds)):
                    yield self._report(flush=True)
                    if stop():
                        return

    def _train_block(self, cohort: Cohort, seeds: list[int], hyper: Hyper, stop: int) -> None:
        """Steps up to `stop` in one go; the length of the next block follows from how long they took."""
        assert self.population is not None
        population, progress, setting = self.population, self.progress, self.setting
        begun = time.monotonic()
        block = setting.block(cohort, seeds, len(population), progress.step, stop, population.triggered)
        try:
            setting.executor.step(population, block, hyper)
        except Exception as error:
            blame_rows(error, [segment.owner for segment in setting.segments(cohort)])
            raise
        if setting.device.type == "cuda":
            torch.cuda.synchronize(setting.device)
        took = time.monotonic() - begun
        wanted = int(BLOCK_SECONDS * (stop - progress.step) / max(took, 1e-9))
        self.block_steps = max(1, min(MOST_BLOCK_STEPS, wanted, 4 * (stop - progress.step)))
        progress.step = stop
        progress.seconds += took

    def _save_is_due(self, save_seconds: float) -> bool:
        waited = time.monotonic() - self.saved_at
        return save_seconds == 0 or waited >= max(save_seconds, self.save_cost / SAVE_SHARE)

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
        self.progress.step = self.progress.reported = self.progress.traced = cohort.start
        self.progress.seconds = 0.0

    def _measure(self, cohort: Cohort) -> tuple[EpochRow, ...]:
        """Rows of the interval that ends here; the sums start anew."""
        assert self.population is not None
        population, progress, segments = self.population, self.progress, self.setting.segments(cohort)
        # Where choices can be made on a validation split, the test split is looked at once, at a member's end.
        watched = "valid" if "valid" in self.setting.arena.splits else "test"
        current = self._measurable(list(range(len(segments))), segments)
        result = self.setting.judge.evaluate(current, watched, self.setting.draws(segments))
        self.look = (current, watched, result)
        interval = Interval(progress.reported, progress.step, progress.seconds, self.setting.per_epoch, self.attempt)
        rows, died = interval.rows(population, self.setting.rule, segments, watched, result, progress.statuses)
        for owner, reason in died:
            self._died(owner, reason)
        errors = [getattr(row, f"{watched}_error") for row in rows]
        known = [error for error in (*errors, progress.best_error) if error is not None]
        progress.best_error = min(known, default=None)
        population.sums.zero_()
        progress.reported, progress.seconds = progress.step, 0.0
        return tuple(rows)

    def _trace(self, cohort: Cohort) -> list[ProbeRow]:
        """Norms and angles of the interval that ends here; its sums start anew."""
        assert self.population is not None
        progress, owners = self.progress, [segment.owner for segment in self.setting.segments(cohort)]
        rows = trace_rows(
            self.population,
            self.setting.rule,
            self.setting.traced_groups,
            [owner.member_id for owner in owners],
            step=progress.step,
            steps=progress.step - progress.traced,
            attempt=self.attempt,
        )
        self.population.trace.zero_()
        progress.traced = progress.step
        return rows

    def _labels(self, cohort: Cohort) -> list[ProbeRow]:
        """What the networks predict now."""
        assert self.population is not None
        assert self.pack.measure.labels is not None
        segments, alive = self.setting.segments(cohort), self.population.alive.tolist()
        rows = [row for row in range(len(segments)) if alive[row]]
        chosen = [segments[row] for row in rows]
        return self.setting.judge.labels(
            self._measurable(rows, chosen),
            self.setting.draws(chosen),
            [segment.owner for segment in chosen],
            self.pack.measure.labels,
            step=self.progress.step,
            attempt=self.attempt,
        )

    def _end_cohort(self, cohort: Cohort) -> Iterator[Report]:
        """Final quality, averages, checkpoints and statuses; then everything is flushed."""
        assert self.population is not None
        segments, progress = self.setting.segments(cohort), self.progress
        alive = self.population.alive.tolist()
        ends = [row for row, segment in enumerate(segments) if segment.ends and alive[row]]
        weights = self._weights()
        assert self.look is not None  # the cohort's last interval was measured at this very step
        current, watched, last = self.look
        known = {watched: Evaluation(last.loss[ends], last.error[ends], last.n)}
        probes = self._judge(pick(current, ends), [segments[row] for row in ends], "end", cohort.stop, known)
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
        progress.step = progress.reported = progress.traced = following
        self.population, self.averages, self.look = None, {}, None
        yield self._report(probes=tuple(probes), flush=True)

    def _weights(self) -> dict[str, Tensor]:
        assert self.population is not None
        return {**self.population.trained, **self.population.frozen, **self.population.buffers}

    def _measurable(self, rows: list[int], segments: list[Segment]) -> dict[str, Tensor]:
        """Copies of some rows' weights, with the norm statistics that are to be measured with."""
        weights = pick(self._weights(), rows)
        if segments and self.pack.measure.norm_statistics == "training_set":
            self.setting.judge.reestimate(weights, self.setting.draws(segments))
        return weights

    def _died(self, owner: Member, reason: str) -> None:
        self.progress.statuses[owner.member_id] = MemberStatus(
            member_id=owner.member_id, attempt=self.attempt, status=Status.NONFINITE, status_reason=reason
        )

    def _judge(
        self,
        weights: Mapping[str, Tensor],
        segments: list[Segment],
        group: str,
        step: int,
        known: Mapping[str, Evaluation] | None = None,
    ) -> list[ProbeRow]:
        """Measure finished weights, except what is known of them, and keep them."""
        if not segments:
            return []
        owners = [segment.owner for segment in segments]
        self._keep(weights, segments, group, step)
        return self.setting.judge.probe(
            weights, self.setting.draws(segments), owners, known or {}, group=group, step=step, attempt=self.attempt
        )

    def _keep(self, weights: Mapping[str, Tensor], segments: list[Segment], group: str, step: int) -> None:
        """Write to `checkpoints/` those of the rows, one for each segment, whose weights the plan keeps."""
        rows = [row for row, segment in enumerate(segments) if segment.keeps(group)]
        if not rows:
            return
        owners = [segments[row].owner for row in rows]
        self.setting.judge.keep(
            self.checkpoints / f"{self.pack.pack_id}-{self.progress.cohort:04d}-{group}",
            weights if len(rows) == len(segments) else pick(weights, rows),
            owners,
            group=group,
            step=step,
            transposed=self.setting.transposed,
            executor=str(self.setting.executor.name),
        )

    def _restore(self, tensors: dict[str, Tensor], earlier: str) -> None:
        self.population = self.setting.restored(tensors, earlier)
        self.averages = {}
        swapped = self.setting.layout(earlier) ^ self.setting.transposed
        for name, tensor in tensors.items():
            if name.startswith("average/"):
                _, window, parameter = name.split("/", 2)
                here = to_module_layout({parameter: tensor.to(self.setting.device)}, swapped)[parameter]
                extra = here[:1].repeat(len(self.population) - len(here), *[1] * (here.dim() - 1))
                self.averages.setdefault(int(window), {})[parameter] = torch.cat([here, extra])
        self.setting.accept_width(len(self.population))

    def _save(self) -> None:
        """Save the state; rows up to here are durable, so the next ones open a new part."""
        begun = time.monotonic()
        if self.new_rows:
            self.progress.part += 1
            self.new_rows = False
        tensors: dict[str, Tensor] = {}
        if self.population is not None:
            tensors = self.population.tensors()
            for window, sums in self.averages.items():
                tensors |= {f"average/{window}/{name}": total for name, total in sums.items()}
        save_progress(self.state_file, self.progress, {name: tensor.cpu() for name, tensor in tensors.items()})
        self.saved_at = time.monotonic()
        self.save_cost = self.saved_at - begun

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
            executor=progress.executor,
            seconds_per_step=self.setting.seconds_per_step,
        )
