"""What stays the same while a pack trains: data, model, rule, executor, and where each segment has its row."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from trainables.arena import open_arena
from trainables.cohorts import Cohort, cohorts, swa_marks
from trainables.executors import Executor, ExecutorName, Hyper, LoopExecutor, StackedExecutor, choose_executor
from trainables.invariance import scale_invariant_parameters
from trainables.order import steps_per_epoch
from trainables.population import Population, fresh, select
from trainables.progress import load_progress
from trainables.solutions import Judge
from trainables.spec import Member, Pack, Segment, SpecError
from trainables.update import Rule, row_norm_sq

__all__ = ["Setting"]

REUSE = 0.8  # a cohort at least this full is padded to an already compiled width instead of compiling its own


class Setting:
    """One pack, made ready to train on one device.

    Attributes:
        pack: what is trained.
        arena: the data.
        per_epoch: steps in one pass.
        cohorts: what trains side by side, in order.
        branching: indices of cohorts whose rows later cohorts continue.
        rule: the optimiser's fixed part.
        executor: takes the steps.
        judge: measures and keeps weights.
        transposed: parameters held transposed.
    """

    def __init__(self, pack: Pack, folder: Path, executor: ExecutorName, device: str) -> None:
        """Build data, model and executor.

        Args:
            pack: what to train.
            folder: the results folder.
            executor: what the sweep asks for.
            device: where to train.

        Raises:
            SpecError: the pack cannot be trained as specified.
        """
        self.pack, self.device = pack, torch.device(device)
        self._rows_folder = folder / "state" / pack.pack_id
        members = [segment.owner for segment in pack.segments]
        seeds = [member.data_seed for member in members]
        self.arena = open_arena(pack.recipe, seeds, probes=bool(pack.measure.probes), device=device)
        self._dtype = getattr(torch, pack.recipe.dtype)
        try:
            self.per_epoch = steps_per_epoch(self.arena.train.samples, pack.recipe.batch_size)
        except ValueError as error:
            raise SpecError([str(error)]) from None
        self.cohorts = cohorts(pack)
        self._place = {s: (c, row) for c, cohort in enumerate(self.cohorts) for row, s in enumerate(cohort.segments)}
        self.branching = {self._place[s.parent][0] for s in pack.segments if s.parent is not None}
        self._momentum = any(member.momentum > 0 for member in members)
        self.rule = self._decide_rule()
        task = self.arena.task
        module = task.model().to(device=self.device, dtype=self._dtype)
        model = choose_executor(executor, module)
        self.transposed: frozenset[str] = frozenset() if model is None else model.transposed
        self.judge = Judge(pack.recipe, self.arena, module, model)
        self.executor: Executor
        if model is None:
            self.executor = LoopExecutor(module, task.loss, self.rule)
        else:
            self.executor = StackedExecutor(model, task.loss, self.rule, self._fresh(members[:1]))
        self._least_rows = 1 if model is None else 2  # one matrix alone takes another kernel, with other rounding
        self._widths: list[int] = []

    def _decide_rule(self) -> Rule:
        invariant = set(scale_invariant_parameters(self.arena.task))
        named = dict(self.arena.task.model().named_parameters())
        trained = sorted(name for name, parameter in named.items() if parameter.requires_grad)  # as in a population
        recipe = self.pack.recipe
        if recipe.sphere_radius is not None and not invariant:
            raise SpecError(
                ["sphere_radius needs scale-invariant parameters, and this network has none; set it to null"]
            )
        on_sphere = tuple(name in invariant for name in trained)
        return Rule(on_sphere=on_sphere, radius=recipe.sphere_radius, decoupled=recipe.decoupled)

    def _fresh(self, owners: Sequence[Member]) -> Population:
        population = fresh(
            self.arena.task.model,
            [owner.seed for owner in owners],
            transposed=self.transposed,
            momentum=self._momentum,
            dtype=self._dtype,
        )
        if self.rule.radius is not None:
            weights = list(population.trained.values())
            scale = self.rule.radius / row_norm_sq(weights, self.rule.on_sphere).sqrt()
            for weight, on in zip(weights, self.rule.on_sphere, strict=True):
                if on:
                    weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))
        return Population.from_tensors({name: t.to(self.device) for name, t in population.tensors().items()})

    def segments(self, cohort: Cohort) -> list[Segment]:
        """A cohort's segments, in row order.

        Args:
            cohort: one of `cohorts`.

        Returns:
            One for each row.
        """
        return [self.pack.segments[index] for index in cohort.segments]

    def marks(self, cohort: Cohort) -> dict[int, list[int]]:
        """At which steps of a cohort weights enter which averages.

        Args:
            cohort: one of `cohorts`.

        Returns:
            Schedule step to windows.
        """
        segment = self.pack.segments[cohort.segments[0]]
        swa = self.pack.measure.swa.get(segment.phase.name)
        return swa_marks(segment, swa) if swa is not None and segment.phase_end else {}

    def draws(self, segments: Sequence[Segment]) -> Tensor:
        """Which draw of the data each row learns.

        Args:
            segments: one for each row.

        Returns:
            Indices, `[N]`.
        """
        draws = [self.arena.draws[segment.owner.data_seed] for segment in segments]
        return torch.tensor(draws, dtype=torch.long, device=self.device)

    def hyper(self, cohort: Cohort, width: int) -> tuple[list[int], Hyper]:
        """Hyperparameters of a cohort's rows; rows beyond the cohort repeat its first.

        Args:
            cohort: one of `cohorts`.
            width: rows of its population.

        Returns:
            The distinct training seeds, and the rows' values.
        """
        segments = self.segments(cohort)
        segments += [segments[0]] * (width - len(segments))
        seeds = sorted({segment.owner.seed for segment in segments})

        def floats(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=self._dtype, device=self.device)

        return seeds, Hyper(
            lr=floats([segment.phase.lr for segment in segments]),
            weight_decay=floats([segment.phase.weight_decay for segment in segments]),
            momentum=floats([segment.owner.momentum for segment in segments]),
            order_row=torch.tensor([seeds.index(segment.owner.seed) for segment in segments], device=self.device),
            draw=self.draws(segments),
        )

    def populate(self, cohort: Cohort) -> Population:
        """The networks a cohort starts from: fresh at the root, copies of the parents' rows below it.

        Args:
            cohort: one of `cohorts`; its parents' cohorts must be finished.

        Returns:
            The cohort's rows, possibly followed by copies of its first.
        """
        segments = self.segments(cohort)
        width = self._width(len(segments))
        padded = segments + [segments[0]] * (width - len(segments))
        if segments[0].parent is None:
            return self._fresh([segment.owner for segment in padded])
        places = [self._place[segment.parent] for segment in padded if segment.parent is not None]
        sources = sorted({index for index, _ in places})
        parents = [self._load_rows(index) for index in sources]
        offsets = dict(zip(sources, torch.tensor([0, *map(len, parents)]).cumsum(0).tolist(), strict=False))
        return select(Population.join(parents), [offsets[index] + row for index, row in places])

    def accept_width(self, width: int) -> None:
        """Note the width of a population that was restored, so that later cohorts reuse its compiled graph.

        Args:
            width: rows.
        """
        self._widths.append(width)

    def _width(self, rows: int) -> int:
        rows = max(rows, self._least_rows)
        fitting = [width for width in self._widths if REUSE * width <= rows <= width]
        if fitting and self._least_rows > 1:
            return min(fitting)
        self._widths.append(rows)
        return rows

    def rows_file(self, index: int) -> Path:
        """Where the final rows of a branching cohort are kept until the pack is done.

        Args:
            index: of the cohort.

        Returns:
            The path; its folder may not exist yet.
        """
        return self._rows_folder / f"cohort-{index:04d}.safetensors"

    def _load_rows(self, index: int) -> Population:
        loaded = load_progress(self.rows_file(index))
        if loaded is None:
            raise SpecError([f"saved weights {self.rows_file(index)} are gone; start a new run"])
        return Population.from_tensors({name: tensor.to(self.device) for name, tensor in loaded[1].items()})
