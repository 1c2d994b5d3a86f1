"""What stays the same while a pack trains: data, model, rule, executor, and where each segment has its row."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.arena import open_arena
from trainables.cohorts import Cohort, cohorts, swa_marks
from trainables.executors.base import Block, Executor, ExecutorName, Hyper, Traits
from trainables.executors.choice import Parts, able, fastest, make
from trainables.executors.grouped import GroupedExecutor
from trainables.executors.stacked import LEAST_ROWS, StackedExecutor
from trainables.invariance import scale_invariant_parameters
from trainables.loader import Loader
from trainables.losses import training_loss
from trainables.noise import prepare
from trainables.order import batches, sample_bits, step_keys, steps_per_epoch
from trainables.population import Population, fresh, relaid, scale_rows, select
from trainables.precision import computes_in_bfloat16, master_dtype
from trainables.progress import load_progress
from trainables.rates import needs_momenta, needs_squares, rates
from trainables.solutions import Judge
from trainables.spec import Member, Pack, Segment, SpecError
from trainables.stacking import batched_form
from trainables.update import TRACED, Rule, make_rule, row_norm_sq

__all__ = ["Setting"]

REUSE = 0.8  # a cohort at least this full is padded to an already compiled width instead of compiling its own
TRIAL_STEPS = 4  # steps between two looks at the clock when executors are compared


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
        seconds_per_step: of each executor that was compared at the pack's start; empty where there was no choice.
        judge: measures and keeps weights.
        transposed: parameters held transposed.
    """

    def __init__(self, pack: Pack, folder: Path, executor: ExecutorName, device: str, earlier: str = "") -> None:
        """Build data, model and executor.

        Args:
            pack: what to train.
            folder: the results folder.
            executor: what the sweep asks for.
            device: where to train.
            earlier: the executor that trained the pack so far, kept unless the sweep asks for another.

        Raises:
            SpecError: the pack cannot be trained as specified.
            NotStackable: `stacked` was asked for and the model has no batched form.
        """
        self.pack, self.device = pack, torch.device(device)
        self._rows_folder = folder / "state" / pack.pack_id
        members = [segment.owner for segment in pack.segments]
        seeds = [member.data_seed for member in members]
        self.arena = open_arena(pack.recipe, seeds, probes=pack.measure.probes, device=device)
        self._dtype = master_dtype(pack.recipe)
        try:
            self.per_epoch = steps_per_epoch(self.arena.train.samples, pack.recipe.batch_size)
        except ValueError as error:
            raise SpecError([str(error)]) from None
        self.cohorts = cohorts(pack)
        self._place = {s: (c, row) for c, cohort in enumerate(self.cohorts) for row, s in enumerate(cohort.segments)}
        self.branching = {self._place[s.parent][0] for s in pack.segments if s.parent is not None}
        self._momenta, self._squares = needs_momenta(pack.recipe, members), needs_squares(pack.recipe)
        self._traits = Traits(
            grad_noise=any(segment.phase.grad_noise > 0 for segment in pack.segments),
            activation_noise=any(segment.phase.activation_noise > 0 for segment in pack.segments),
            windowed=any(segment.phase.curve.waits for segment in pack.segments),
            autocast=computes_in_bfloat16(pack.recipe),
            traced=any(segment.phase.name in pack.measure.trace for segment in pack.segments),
        )
        task = self.arena.task
        noisy = self._traits.activation_noise
        example = task.inputs(self.arena.train.x[0, :2].cpu(), torch.float32) if noisy else None
        module = prepare(task.model(), activation_noise=noisy, example=example)
        self._module = module.to(device=self.device, dtype=self._dtype)
        self.rule = self._decide_rule()
        self.transposed: frozenset[str] = frozenset()
        self._widths: list[int] = []
        wanted = ExecutorName(earlier) if earlier and executor is ExecutorName.AUTO else executor
        self.executor, self.seconds_per_step = self._decide_executor(wanted)
        self.transposed = self.executor.transposed
        model = self.executor.model if isinstance(self.executor, StackedExecutor) else None
        self.judge = Judge(pack.recipe, self.arena, self._module, model)
        self._least_rows = 1 if model is None else LEAST_ROWS

    def _decide_rule(self) -> Rule:
        invariant = scale_invariant_parameters(self.arena.task)
        if self.pack.recipe.sphere_radius is not None and not invariant:
            raise SpecError(
                ["sphere_radius needs scale-invariant parameters, and this network has none; set it to null"]
            )
        if self.pack.recipe.sphere_radius is not None and any(s.phase.kick != 1 for s in self.pack.segments):
            raise SpecError(["a sphere undoes every kick; set sphere_radius to null or leave kick out"])
        if not invariant and any(segment.phase.kick != 1 for segment in self.pack.segments):
            raise SpecError(["kick needs scale-invariant parameters, and this network has none; leave it out"])
        return make_rule(self.pack.recipe, self.arena.task.model(), invariant)

    def _decide_executor(self, wanted: ExecutorName) -> tuple[Executor, dict[str, float]]:
        """The one asked for, or the fastest of those that can."""
        recipe, train = self.pack.recipe, self.arena.train
        parts = Parts(
            module=self._module,
            loss=training_loss(self.arena.task.loss, recipe.label_smoothing),
            rule=self.rule,
            loader=Loader.of(self.arena, self._dtype),
            x=train.x,
            y=train.y,
            traits=self._traits,
            rows=lambda transposed: self._fresh([self.pack.segments[0].owner], transposed),
            batch_size=recipe.batch_size,
        )
        if wanted is not ExecutorName.AUTO:
            return make(wanted, parts), {}
        candidates = able(parts)
        if len(candidates) == 1:
            return make(candidates[0], parts), {}
        cohort = self.cohorts[0]
        width = max(len(cohort.segments), LEAST_ROWS)
        width += width % 2  # pairs
        seeds, hyper = self.hyper(cohort, width)
        block = self.block(cohort, seeds, width, cohort.start, cohort.start + min(TRIAL_STEPS, cohort.steps))
        owners = [segment.owner for segment in self._padded(cohort, width)]
        return fastest(
            [partial(make, name, parts) for name in candidates],
            lambda executor: self._fresh(owners, executor.transposed),
            block,
            hyper,
        )

    def _fresh(self, owners: Sequence[Member], transposed: frozenset[str]) -> Population:
        population = fresh(
            self._build,
            [owner.seed for owner in owners],
            transposed=transposed,
            momentum=self._momenta,
            squares=self._squares,
            dtype=self._dtype,
            traced=(len(TRACED), sum(self.rule.measured) + 1) if self._traits.traced else (0,),
        )
        if self.rule.radius is not None:
            scale = self.rule.radius / row_norm_sq(list(population.trained.values()), self.rule.on_sphere).sqrt()
            scale_rows(population, self.rule.on_sphere, scale)
        return Population.from_tensors({name: t.to(self.device) for name, t in population.tensors().items()})

    def _build(self) -> nn.Module:
        return self.arena.task.model()

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
        segments = self._padded(cohort, width)
        seeds = sorted({segment.owner.seed for segment in segments})

        def floats(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=self._dtype, device=self.device)

        return seeds, Hyper(
            weight_decay=floats([segment.phase.weight_decay for segment in segments]),
            momentum=floats([segment.owner.momentum for segment in segments]),
            grad_noise=floats([segment.phase.grad_noise for segment in segments]),
            activation_noise=floats([segment.phase.activation_noise for segment in segments]),
            order_row=torch.tensor([seeds.index(segment.owner.seed) for segment in segments], device=self.device),
            draw=self.draws(segments),
        )

    def block(
        self, cohort: Cohort, seeds: Sequence[int], width: int, start: int, stop: int, triggered: Tensor | None = None
    ) -> Block:
        """What a cohort's steps see.

        Args:
            cohort: one of `cohorts`.
            seeds: the distinct training seeds, from `hyper`.
            width: rows of its population.
            start: first schedule step.
            stop: one past the last.
            triggered: rows whose schedule has seen the loss it waits for, `[width]`; None where none waits.

        Returns:
            Samples, random bits and learning rates, on the device.
        """
        samples, size = self.arena.train.samples, self.pack.recipe.batch_size
        table = batches(seeds, samples, size, start, stop)
        bits = None if self.arena.task.augment is None else sample_bits(seeds, table, samples, size, start)
        rate = rates(
            self._padded(cohort, width),
            self.pack.recipe,
            start,
            stop,
            dtype=self._dtype,
            device=self.device,
            triggered=triggered,
        )
        return Block(
            samples=table.to(self.device),
            bits=None if bits is None else bits.to(self.device),
            keys=step_keys(seeds, start, stop).to(self.device),
            lr=rate.lr,
            root=rate.root,
        )

    def _padded(self, cohort: Cohort, width: int) -> list[Segment]:
        """A cohort's segments, then copies of its first."""
        segments = self.segments(cohort)
        return segments + [segments[0]] * (width - len(segments))

    def populate(self, cohort: Cohort) -> Population:
        """The networks a cohort starts from: fresh at the root, copies of the parents' rows below it.

        Args:
            cohort: one of `cohorts`; its parents' cohorts must be finished.

        Returns:
            The cohort's rows, possibly followed by copies of its first.
        """
        segments = self.segments(cohort)
        padded = self._padded(cohort, self._width(len(segments)))
        if segments[0].parent is None:
            population = self._fresh([segment.owner for segment in padded], self.transposed)
            scale_rows(population, self.rule.on_sphere, [segment.phase.kick for segment in padded])
            return population
        places = [self._place[segment.parent] for segment in padded if segment.parent is not None]
        sources = sorted({index for index, _ in places})
        parents = [self._load_rows(index) for index in sources]
        offsets = dict(zip(sources, torch.tensor([0, *map(len, parents)]).cumsum(0).tolist(), strict=False))
        population = select(Population.join(parents), [offsets[index] + row for index, row in places])
        for row, segment in enumerate(padded):
            if segment.start == segment.phase_start:
                population.window[row] = 0.0
                population.triggered[row] = False
                if segment.phase.fresh_optimizer:
                    for tensor in [*population.momenta.values(), *population.squares.values()]:
                        tensor[row] = 0.0
        kicks = [segment.phase.kick if segment.start == segment.phase_start else 1.0 for segment in padded]
        scale_rows(population, self.rule.on_sphere, kicks)
        return population

    def trace_every(self, cohort: Cohort) -> int:
        """Steps between two rows of norms and angles of a cohort's weights.

        Args:
            cohort: one of `cohorts`.

        Returns:
            0 where none are asked for.
        """
        return self.pack.measure.trace.get(self.pack.segments[cohort.segments[0]].phase.name, 0)

    @property
    def traced_groups(self) -> list[str]:
        """What norms and angles are reported of: each measured tensor, then all of them together."""
        names = sorted(name for name, parameter in self._module.named_parameters() if parameter.requires_grad)
        own = [name for name, counts in zip(names, self.rule.measured, strict=True) if counts]
        return [*own, "scale_invariant" if any(self.rule.on_sphere) else "trained"]

    def restored(self, tensors: dict[str, Tensor], executor: str) -> Population:
        """A saved population in the layout of this pack's executor.

        Args:
            tensors: what was saved.
            executor: what had trained it.

        Returns:
            The population, on the device.
        """
        population = Population.from_tensors({name: tensor.to(self.device) for name, tensor in tensors.items()})
        population = relaid(population, self.layout(executor) ^ self.transposed)
        missing = self._rows_for(len(population)) - len(population)
        return Population.join([population, select(population, [0] * missing)]) if missing else population

    def layout(self, executor: str) -> frozenset[str]:
        """Parameters that an executor holds transposed.

        Args:
            executor: its name.

        Returns:
            Their names.
        """
        form = batched_form(self._module) if executor == ExecutorName.STACKED else None
        return frozenset() if form is None else form.transposed

    def accept_width(self, width: int) -> None:
        """Note the width of a population that was restored, so that later cohorts reuse its compiled graph.

        Args:
            width: rows.
        """
        self._widths.append(width)

    def _rows_for(self, rows: int) -> int:
        """The least number of rows the executor takes."""
        rows = max(rows, self._least_rows)
        return rows + rows % 2 if isinstance(self.executor, GroupedExecutor) else rows

    def _width(self, rows: int) -> int:
        rows = self._rows_for(rows)
        fitting = [width for width in self._widths if REUSE * width <= rows <= width]
        if fitting and isinstance(self.executor, StackedExecutor):
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
        progress, tensors = loaded
        return self.restored(tensors, progress.executor)
