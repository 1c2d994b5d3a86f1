"""Which executor trains a pack: the fastest of those that can, measured on a few real steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.executors.base import Block, Executor, ExecutorName, Hyper, Loss, Traits
from trainables.executors.grouped import GroupedExecutor, places_agree
from trainables.executors.modules import BranchesExecutor, LoopExecutor
from trainables.executors.stacked import StackedExecutor
from trainables.grouping import Grouped, grouped_form
from trainables.loader import Loader
from trainables.population import Population
from trainables.spec import SpecError
from trainables.stacking import batched_form, stack
from trainables.update import Rule

__all__ = ["Parts", "able", "fastest", "make"]

ROUNDS = 3


@dataclass(frozen=True)
class Parts:
    """What every executor is made of.

    Attributes:
        module: one network, prepared (`noise.prepare`).
        loss: of training.
        rule: the optimiser's fixed part.
        loader: makes batches.
        x: training samples of all draws, `[D, n, ...]`.
        y: training targets, `[D, n]`.
        traits: what the recipe's steps involve.
        rows: a population of one row, given the parameters to hold transposed.
        batch_size: samples per step.
    """

    module: nn.Module
    loss: Loss
    rule: Rule
    loader: Loader
    x: Tensor
    y: Tensor
    traits: Traits
    rows: Callable[[frozenset[str]], Population]
    batch_size: int

    def grouped_form(self) -> Grouped | None:
        """The network's grouped form, where it has one that treats both networks of a pair alike."""
        form = None if self.traits.activation_noise else grouped_form(self.module)
        if form is None:
            return None
        row = self.rows(frozenset())
        state = row.trained | row.frozen | row.buffers
        # two networks: the second has the first one's weights in another order
        two = {name: torch.cat([value, value.flatten().flip(0).view_as(value)]) for name, value in state.items()}
        chosen = torch.arange(self.batch_size, device=self.x.device)
        x = Loader(None, self.loader.encode, self.loader.dtype)(self.x.flatten(0, 1), chosen, None)
        return form if places_agree(form, two, set(row.trained), x) else None


def able(parts: Parts) -> list[ExecutorName]:
    """Executors that can train a network where its data lie and are worth a try there.

    Args:
        parts: what they would be made of.

    Returns:
        At least one, the preferred one first.
    """
    on_gpu = parts.x.device.type == "cuda"
    found = [ExecutorName.BRANCHES if on_gpu else ExecutorName.LOOP]
    if parts.traits.activation_noise:  # its sites are hooks, which the other forms do not see
        return found
    if not on_gpu and parts.grouped_form() is not None:
        found.insert(0, ExecutorName.GROUPED)
    if batched_form(parts.module) is not None:
        found.insert(0, ExecutorName.STACKED)
    return found


def make(name: ExecutorName, parts: Parts) -> Executor:
    """Build an executor.

    Args:
        name: which one; not `auto`.
        parts: what it is made of.

    Returns:
        The executor.

    Raises:
        NotStackable: `stacked` was asked for and the network has no batched form.
        SpecError: `grouped` was asked for and the network has no grouped form with bits of its own; or either with
            activation noise.
    """
    common = (parts.loss, parts.rule, parts.loader, parts.x, parts.y)
    if name is ExecutorName.LOOP:
        return LoopExecutor(parts.module, *common, parts.traits)
    if name is ExecutorName.BRANCHES:
        return BranchesExecutor(parts.module, *common, parts.traits)
    if parts.traits.activation_noise:
        raise SpecError([f"the {name} executor has no activation_noise; set run.executor to auto or loop"])
    if name is ExecutorName.STACKED:
        form = stack(parts.module)
        return StackedExecutor(form, *common, parts.rows(form.transposed), parts.traits)
    grouped = parts.grouped_form()
    if grouped is None:
        raise SpecError(
            [
                "the grouped executor needs a Sequential of convolutions, batch norms, activations, pools and linear "
                "layers whose bits do not depend on the place in a pair (channels that fill vector registers), found "
                f"another {type(parts.module).__name__}; set run.executor to auto or loop"
            ]
        )
    return GroupedExecutor(grouped, parts.module, *common, parts.traits)


def fastest(
    candidates: Sequence[Callable[[], Executor]],
    population: Callable[[Executor], Population],
    block: Block,
    hyper: Hyper,
) -> tuple[Executor, dict[str, float]]:
    """Let each candidate take the same steps with rows of its own.

    The first steps of each are left out: compilation and recording are paid once, not per step. Of the rest the median
    counts.

    Args:
        candidates: makers of executors, the preferred one first; one that fails is passed over.
        population: fresh rows in an executor's own layout.
        block: a few steps.
        hyper: of the rows.

    Returns:
        The fastest, and every candidate's seconds per step.

    Raises:
        RuntimeError: the last candidate's error, when all failed.
    """
    times: dict[str, float] = {}
    made: dict[str, Executor] = {}
    failure: Exception | None = None
    for make in candidates:
        try:
            executor = make()
            rows = population(executor)
            executor.step(rows, block, hyper)
            times[str(executor.name)] = _median_seconds(executor, rows, block, hyper)
            made[str(executor.name)] = executor
        # Any error: what cannot train here is no choice, and what the user's own code raises comes again in the next.
        except Exception as error:
            failure = error
    if not made:
        assert failure is not None
        raise failure
    best = min(made, key=lambda name: times[name])
    return made[best], times


def _median_seconds(executor: Executor, rows: Population, block: Block, hyper: Hyper) -> float:
    on_gpu = rows.alive.device.type == "cuda"
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        executor.step(rows, block, hyper)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / len(block))
    return sorted(seconds)[ROUNDS // 2]
