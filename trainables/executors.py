"""How K networks take a step: `stacked` (one batched graph) or `loop` (any module, one after the other).

Both share the optimiser (`update.py`) and give the same mathematics; bits differ between executors, never with the
number of rows, their order or their neighbours within one.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.population import Population
from trainables.stacking import NotStackable, Stacked, stack
from trainables.tasks.base import errors
from trainables.update import Rule, row_norm_sq, update_rows

__all__ = ["ExecutorName", "Hyper", "LoopExecutor", "StackedExecutor", "choose_executor"]

Loss = Callable[[Tensor, Tensor], Tensor]


class ExecutorName(StrEnum):
    """Ways to train a pack; `auto` takes `stacked` where the model has a batched form."""

    AUTO = "auto"
    STACKED = "stacked"
    LOOP = "loop"


@dataclass(frozen=True)
class Hyper:
    """Per-row hyperparameters of the current stretch, each `[K]`, and where each row finds its data.

    Attributes:
        order_row: row of the batch table each member follows (its seed).
        draw: index of each member's draw of the data.
    """

    lr: Tensor
    weight_decay: Tensor
    momentum: Tensor
    order_row: Tensor
    draw: Tensor


def _accumulate(population_sums: Tensor, alive: Tensor, values: Sequence[Tensor]) -> None:
    population_sums.add_(torch.where(alive, torch.stack(list(values)), 0.0))


@dataclass(frozen=True)
class _StackedStep:
    """The whole step of K stacked networks as one function: gather, forward, gradient, update, sums.

    Hashable, so that packs of the same architecture in one process share one compiled graph.
    """

    model: Stacked
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    loss: Loss
    rule: Rule

    def __call__(
        self,
        weights: list[Tensor],
        momenta: list[Tensor],
        frozen: list[Tensor],
        alive: Tensor,
        sums: Tensor,
        x: Tensor,
        y: Tensor,
        batch: Tensor,
        hyper: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        lr, weight_decay, momentum = hyper
        rows = batch.flatten()
        members, size = batch.shape
        x_batch = x.flatten(0, 1).index_select(0, rows).reshape(members, size, *x.shape[2:])
        y_batch = y.flatten(0, 1).index_select(0, rows)
        constant = dict(zip(self.frozen, frozen, strict=True))

        def total(weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            logits = self.model({**constant, **dict(zip(self.trained, weights, strict=True))}, x_batch)
            losses = self.loss(logits.flatten(0, 1), y_batch).reshape(members, size).mean(1)
            wrong = errors(logits, y_batch.reshape(members, size)).to(losses.dtype).mean(1)
            return losses.sum(), (losses, wrong)

        gradients, (losses, wrong) = torch.func.grad(total, has_aux=True)(weights)
        norm_sq = row_norm_sq(gradients, self.rule.measured)
        now_alive = update_rows(
            self.rule,
            weights,
            momenta,
            gradients,
            finite=alive & torch.isfinite(losses),
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
        )
        _accumulate(sums, now_alive, (losses, wrong, norm_sq))
        alive.copy_(now_alive)


COMPILED_STEPS = 256  # graphs one process may hold: one for each architecture and number of rows


@lru_cache(maxsize=COMPILED_STEPS)
def _compiled(step: _StackedStep, members: int) -> Callable[..., None]:
    """A compiled step; cached by content, so that it is compiled once in a process for each number of rows."""

    def one_step(*args: object) -> None:  # a function object of its own: compilation caches by code and closure
        step(*args)  # type: ignore[arg-type]

    del members
    return torch.compile(one_step, fullgraph=True, dynamic=False)


class StackedExecutor:
    """All rows in one batched graph, compiled where a C++ compiler is at hand."""

    name = ExecutorName.STACKED

    def __init__(self, model: Stacked, loss: Loss, rule: Rule, population: Population) -> None:
        self.model = model
        self.transposed = model.transposed
        self.note = ""
        self._step = _StackedStep(model, tuple(population.trained), tuple(population.frozen), loss, rule)
        self._compile = True
        self._run: Callable[..., None] | None = None
        self._width = 0

    def step(self, population: Population, x: Tensor, y: Tensor, table: Tensor, hyper: Hyper) -> None:
        """Take one step for each entry of `table`.

        Args:
            population: updated in place.
            x: training inputs, `[D, n, ...]`.
            y: training targets, `[D, n]`.
            table: sample indices, `[steps, seeds, B]`.
            hyper: per-row hyperparameters.
        """
        state = (
            list(population.trained.values()),
            list(population.momenta.values()),
            list(population.frozen.values()),
            population.alive,
            population.sums,
            x,
            y,
        )
        rows = (hyper.lr, hyper.weight_decay, hyper.momentum)
        # where each member's samples are among those of all draws, [steps, K, B]
        places = table.index_select(1, hyper.order_row) + (hyper.draw * x.shape[1]).unsqueeze(1)
        if self._width != len(population):
            self._width = len(population)
            self._run = self._prepare(state, places[0], rows)
        assert self._run is not None
        for batch in places.unbind(0):
            self._run(*state, batch, rows)

    def _prepare(self, state: tuple[object, ...], batch: Tensor, rows: tuple[Tensor, ...]) -> Callable[..., None]:
        """The compiled step, proven on a copy of the state; the plain one where compilation is not possible."""
        if not self._compile:
            return self._step
        run = _compiled(self._step, self._width)
        trial = copy.deepcopy(state)
        try:
            with torch._dynamo.config.patch(recompile_limit=COMPILED_STEPS):
                run(*trial, batch, rows)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError, RuntimeError) as error:
            self._compile = False
            self.note = (
                "the training step could not be compiled, so it runs uncompiled, about 2 to 3 times slower; the usual "
                f"cure is a C++ compiler (g++ or clang++). Reason: {str(error).strip().splitlines()[0][:200]}"
            )
            logging.getLogger(__name__).debug("compilation failed", exc_info=error)
            return self._step
        return run


class LoopExecutor:
    """One ordinary module after the other: serves any model, norm buffers included."""

    name = ExecutorName.LOOP
    transposed: frozenset[str] = frozenset()
    note = ""

    def __init__(self, module: nn.Module, loss: Loss, rule: Rule) -> None:
        self._module = module.train()
        self._loss = loss
        self._rule = rule

    def step(self, population: Population, x: Tensor, y: Tensor, table: Tensor, hyper: Hyper) -> None:
        """Take one step for each entry of `table`; arguments as in `StackedExecutor.step`."""
        draws = hyper.draw.tolist()
        for batch in table.unbind(0):
            rows = batch.index_select(0, hyper.order_row)
            gradients = [torch.zeros_like(weight) for weight in population.trained.values()]
            losses, wrong = torch.zeros_like(hyper.lr), torch.zeros_like(hyper.lr)
            for k in range(len(population)):
                with torch.random.fork_rng(devices=[]):
                    # dropout and the like: a function of the member's samples, not of its neighbours
                    torch.manual_seed(int(rows[k].sum()) ^ int(hyper.order_row[k]))
                    self._one(population, k, x[draws[k]][rows[k]], y[draws[k]][rows[k]], gradients, losses, wrong)
            norm_sq = row_norm_sq(gradients, self._rule.measured)
            alive = update_rows(
                self._rule,
                list(population.trained.values()),
                list(population.momenta.values()),
                gradients,
                finite=population.alive & torch.isfinite(losses),
                lr=hyper.lr,
                weight_decay=hyper.weight_decay,
                momentum=hyper.momentum,
            )
            _accumulate(population.sums, alive, (losses, wrong, norm_sq))
            population.alive.copy_(alive)

    def _one(
        self,
        population: Population,
        k: int,
        x: Tensor,
        y: Tensor,
        gradients: list[Tensor],
        losses: Tensor,
        wrong: Tensor,
    ) -> None:
        """Loss, error and gradient of row k, written to its place."""
        weights = {name: weight[k].detach().requires_grad_() for name, weight in population.trained.items()}
        fixed = {name: value[k] for name, value in (population.frozen | population.buffers).items()}
        logits = functional_call(self._module, weights | fixed, (x,))
        loss = self._loss(logits, y).mean()
        for target, gradient in zip(gradients, torch.autograd.grad(loss, list(weights.values())), strict=True):
            target[k] = gradient
        losses[k] = loss.detach()
        wrong[k] = errors(logits.detach(), y).to(losses.dtype).mean()


Executor = StackedExecutor | LoopExecutor


def batched_form(module: nn.Module) -> Stacked | None:
    """The module's batched form, if it has one.

    Args:
        module: any module.

    Returns:
        None where a layer has no batched form.
    """
    try:
        return stack(module)
    except NotStackable:
        return None


def choose_executor(name: ExecutorName, module: nn.Module) -> Stacked | None:
    """Decide between the batched form and the loop.

    Args:
        name: what the sweep asks for.
        module: one network.

    Returns:
        The batched form for `stacked`, None for `loop`.

    Raises:
        NotStackable: `stacked` was asked for and the model has no batched form.
    """
    if name is ExecutorName.LOOP:
        return None
    if name is ExecutorName.STACKED:
        return stack(module)
    return batched_form(module)
