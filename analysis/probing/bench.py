"""Kept solutions brought back to life: networks, data and evaluators of a results folder's checkpoints."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from analysis.landscape.policy import Norms
from analysis.probing.jobs import Job, fault_row
from analysis.probing.kept import architecture, load
from analysis.probing.solutions import Solution
from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.evaluate import Evaluator
from trainables.precision import master_dtype
from trainables.rows import ProbeRow
from trainables.spec import Recipe, SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from analysis.landscape.objective import Objective
    from trainables.update import Rule

__all__ = ["Bench"]


class Bench:
    """What a job needs of a results folder.

    Args:
        checkpoints: the kept weights.
        job: what shall be measured; all its solutions are of one recipe.
    """

    def __init__(self, checkpoints: Checkpoints, job: Job) -> None:
        self.checkpoints = checkpoints
        self._job = job
        self._samples = job.spec.samples

    @cached_property
    def recipe(self) -> Recipe:
        """What most of the solutions were trained by: a foreign one among them must not decide."""
        keys = [solution.key for start in self._job.starts for solution in start.solutions]
        counts = Counter(architecture(self.checkpoints, key) for key in keys)
        usual = counts.most_common(1)[0][0]
        return self.checkpoints.recipe(next(key for key in keys if architecture(self.checkpoints, key) == usual))

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates stacked weights on whole splits."""
        draws = {solution.data_seed for start in self._job.starts for solution in start.solutions}
        return Evaluator(self.recipe, sorted(draws))

    def each(self, work: Callable[[Solution], Iterable[ProbeRow]]) -> Iterator[ProbeRow]:
        """Measure every single solution; what one makes impossible becomes a row that says so.

        Args:
            work: a solution to its rows.

        Yields:
            The rows of all.
        """
        for solution in self._job.solutions:
            try:
                yield from work(solution)
            except SpecError as error:
                sentence = f"{self._job.measure}: {' '.join(error.faults)}"
                yield fault_row(*solution.key, self.checkpoints.step(solution.key), sentence)

    def weights(self, solution: Solution) -> "dict[str, Tensor]":
        """One solution's parameters and buffers, name to `[1, *shape]`.

        Raises:
            SpecError: they cannot be read, are not finite, or are those of another network.
        """
        loaded = load(self.checkpoints, [solution.key], self.evaluator.shapes)
        if loaded.faults:
            raise SpecError(list(loaded.faults.values()))
        return dict(loaded.weights)

    def module(self, solution: Solution, weights: "dict[str, Tensor]") -> "nn.Module":
        """A solution as a module of its own, in eval mode."""
        module = build_task(self.recipe, solution.data_seed).model().to(master_dtype(self.recipe))
        module.load_state_dict({name: tensor[0] for name, tensor in weights.items()})
        return module.eval()

    def samples_of(self, solution: Solution, split: str) -> int:
        """Size of a split."""
        part = build_task(self.recipe, solution.data_seed).split(split)
        return 0 if part is None else len(part)

    def flat(self, names: Sequence[str], solution: Solution) -> "Tensor":
        """Some of a solution's weights as one vector, `[P]`."""
        import torch

        weights = self.weights(solution)
        return torch.cat([weights[name][0].reshape(-1) for name in names])

    def data(self, solution: Solution, split: str = "train") -> "tuple[Tensor, Tensor]":
        """The first samples of a split as the network takes them, with their targets."""
        task = build_task(self.recipe, solution.data_seed)
        part = task.split(split)
        assert part is not None
        dtype = master_dtype(self.recipe)
        y = part.y[: self._samples]
        return task.inputs(part.x[: self._samples], dtype), y.to(dtype) if y.is_floating_point() else y

    @contextmanager
    def objective(self, solution: Solution, norms: Norms) -> "Iterator[Objective]":
        """The train loss around a solution, as a function of the weights that `moving` names.

        Statistics that are re-estimated see the whole training set.

        Args:
            solution: where.
            norms: batch-norm statistics.

        Yields:
            The objective.

        Raises:
            SpecError: weights that are not finite or do not fit, or a loss that is not the same twice.
            Exception: whatever the network or the loss raises.
        """
        from analysis.landscape.objective import Objective

        weights = self.weights(solution)
        if norms is Norms.REESTIMATED:
            self.evaluator.reestimate_norms(weights, [solution.data_seed])
        x, y = self.data(solution)
        try:
            found = Objective(
                self.module(solution, weights),
                build_task(self.recipe, solution.data_seed).loss,
                x,
                y,
                parameters=self.moving,
                norms=Norms.BATCH if norms is Norms.BATCH else Norms.STORED,
                batch_size=self.recipe.batch_size if norms is Norms.BATCH else None,
            )
        except SpecError as error:
            # What a user's own code raised is no fault of the weights: it is told, and tried again the next time.
            raise (error.__cause__ or error) from None
        with found as objective:
            yield objective

    @property
    def moving(self) -> tuple[str, ...]:
        """The weights that curvature is taken over: all that were trained."""
        return self.evaluator.trained

    @property
    def has_batch_norms(self) -> bool:
        """True where norm statistics make a difference."""
        return any(name.endswith("running_mean") for name in self.evaluator.shapes)

    @property
    def scale_free(self) -> bool:
        """True where the loss does not feel the scale of `moving`: then effective values mean something."""
        return bool(self.moving) and set(self.moving) <= set(self.evaluator.scale_invariant)

    @cached_property
    def rule(self) -> "Rule":
        """How the optimiser acted on each trained tensor."""
        from trainables.update import make_rule

        seed = self._job.starts[0].solutions[0].data_seed
        return make_rule(self.recipe, build_task(self.recipe, seed).model(), self.evaluator.scale_invariant)

    def rows(
        self, solution: Solution, probe: str, values: "dict[str, float]", *, n: int, split: str = "train"
    ) -> list[ProbeRow]:
        """Numbers of one solution as rows.

        Args:
            solution: whose.
            probe: what was measured.
            values: by key.
            n: samples behind them.
            split: of which split.

        Returns:
            One row for each.
        """
        step = self.checkpoints.step(solution.key)
        return [
            ProbeRow(
                member_id=solution.member_id,
                attempt=1,
                step=step,
                probe=probe,
                split=split,
                group=solution.group,
                key=key,
                value=float(value),
                n=n,
            )
            for key, value in values.items()
        ]

    def pair_rows(
        self,
        a: Solution,
        b: Solution,
        probe: str,
        values: "dict[str, float]",
        *,
        n: int,
        split: str = "train",
        group: str = "",
    ) -> list[ProbeRow]:
        """Numbers of a pair as rows; arguments as in `rows`, the group by default that of both."""
        group, other = group or f"{a.group}~{b.group}", b.member_id
        rows = self.rows(a, probe, values, n=n, split=split)
        return [replace(row, group=group, other_member_id=other) for row in rows]
