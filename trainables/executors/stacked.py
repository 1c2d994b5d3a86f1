"""All rows in one batched graph: gather, forward, gradient, update and sums as one compiled function."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainables.executors.base import Block, ExecutorName, Hyper, Loss, Traits, halving, is_out_of_memory
from trainables.executors.capture import Graph
from trainables.loader import Loader
from trainables.noise import gradient_noise
from trainables.population import Population
from trainables.stacking import Stacked
from trainables.tasks.base import errors
from trainables.update import Rule, row_norm_sq, update_rows

__all__ = ["StackedExecutor"]

COMPILED_STEPS = 256  # graphs one process may hold: one for each architecture and number of rows
LEAST_ROWS = 2  # one matrix alone takes another kernel, with other rounding

_Rows = tuple[Tensor, ...]


def _state(population: Population, start: int, stop: int) -> tuple[object, ...]:
    """Views of some rows of a population, in the order in which the step takes them."""

    def rows(named: dict[str, Tensor]) -> list[Tensor]:
        return [tensor[start:stop] for tensor in named.values()]

    return (
        rows(population.trained),
        rows(population.momenta),
        rows(population.squares),
        rows(population.frozen),
        rows(population.buffers),
        population.alive[start:stop],
        population.sums[:, start:stop],
        population.window[start:stop],
        population.trace[start:stop],
    )


@dataclass(frozen=True)
class _StackedStep:
    """The whole step of K stacked networks as one function.

    Hashable, so that packs of the same architecture in one process share one compiled graph.
    """

    model: Stacked
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    buffers: tuple[str, ...]
    loss: Loss
    rule: Rule
    loader: Loader
    traits: Traits

    def __call__(
        self,
        weights: list[Tensor],
        momenta: list[Tensor],
        squares: list[Tensor],
        frozen: list[Tensor],
        buffers: list[Tensor],
        alive: Tensor,
        sums: Tensor,
        window: Tensor,
        trace: Tensor,
        x: Tensor,
        y: Tensor,
        samples: Tensor,
        bits: Tensor | None,
        keys: Tensor,
        lr: Tensor,
        root: Tensor | None,
        constants: _Rows,
    ) -> None:
        weight_decay, momentum, grad_noise = constants
        members, size = samples.shape
        x_batch = self.loader(x, samples, bits)
        y_batch = y.index_select(0, samples.flatten())
        statistics = dict(zip(self.buffers, buffers, strict=True))
        constant = {**dict(zip(self.frozen, frozen, strict=True)), **statistics}

        def total(weights: list[Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor, dict[str, Tensor]]]:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.traits.autocast):
                named = {**constant, **dict(zip(self.trained, weights, strict=True))}
                logits, moved = self.model.train(named, x_batch)
            logits = logits.float() if self.traits.autocast else logits
            losses = self.loss(logits.flatten(0, 1), y_batch).reshape(members, size).mean(1)
            wrong = errors(logits, y_batch.reshape(members, size)).to(losses.dtype).mean(1)
            return losses.sum(), (losses, wrong, moved)

        gradients, (losses, wrong, moved) = torch.func.grad(total, has_aux=True)(weights)
        if self.traits.grad_noise:
            gradients = [
                g + grad_noise.view(-1, *[1] * (g.dim() - 1)) * self._noise(name, g, keys, salt)
                for salt, (name, g) in enumerate(zip(self.trained, gradients, strict=True))
            ]
        norm_sq = row_norm_sq(gradients, self.rule.measured)
        now_alive = update_rows(
            self.rule,
            weights,
            momenta,
            squares,
            gradients,
            finite=alive & torch.isfinite(losses),
            lr=lr,
            root=root,
            weight_decay=weight_decay,
            momentum=momentum,
            trace=trace if self.traits.traced else None,
        )
        for name, new in moved.items():
            old = statistics[name]
            old.copy_(torch.where(now_alive.view(-1, *[1] * (old.dim() - 1)), new, old))
        sums.add_(torch.where(now_alive, torch.stack([losses, wrong, norm_sq]), 0.0))
        if self.traits.windowed:
            window.add_(torch.where(now_alive, losses, 0.0))
        alive.copy_(now_alive)

    def _noise(self, name: str, gradient: Tensor, keys: Tensor, salt: int) -> Tensor:
        """Noise as the other executors draw it, which hold every parameter in its module's layout."""
        if name in self.model.transposed:
            return gradient_noise(gradient.transpose(-1, -2), keys, salt).transpose(-1, -2)
        return gradient_noise(gradient, keys, salt)


@lru_cache(maxsize=COMPILED_STEPS)
def _compiled(step: _StackedStep, members: int) -> Callable[..., None]:
    """A compiled step; cached by content, so that it is compiled once in a process for each number of rows."""

    def one_step(*args: object) -> None:  # a function object of its own: compilation caches by code and closure
        step(*args)  # type: ignore[arg-type]

    del members
    return torch.compile(one_step, fullgraph=True, dynamic=False)


class StackedExecutor:
    """All rows in one batched graph, compiled where a compiler is at hand; on a GPU also recorded and replayed."""

    name = ExecutorName.STACKED

    def __init__(
        self,
        model: Stacked,
        loss: Loss,
        rule: Rule,
        loader: Loader,
        x: Tensor,
        y: Tensor,
        population: Population,
        traits: Traits,
    ) -> None:
        """Bind what stays the same.

        Args:
            model: the batched form.
            loss: of training.
            rule: the optimiser's fixed part.
            loader: makes batches.
            x: training samples of all draws, `[D, n, ...]`.
            y: training targets, `[D, n]`.
            population: any of this architecture; only its names are read.
            traits: what the recipe's steps involve.
        """
        self.model = model
        self.transposed = model.transposed
        self.note = ""
        self._source, self._targets, self._samples = loader.source(x), y.flatten(0, 1), x.shape[1]
        self._step = _StackedStep(
            model,
            tuple(population.trained),
            tuple(population.frozen),
            tuple(population.buffers),
            loss,
            rule,
            loader,
            traits,
        )
        self._compile = True
        self._at_once = 1 << 30
        self._prepared: dict[int, Callable[..., None]] = {}
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._states: dict[tuple[int, int], tuple[object, ...]] = {}
        self._owner: Population | None = None

    def step(self, population: Population, block: Block, hyper: Hyper) -> None:
        """Take one step for each entry of the block; see `Executor.step`."""
        # where each member's samples are among those of all draws, [T, K, B]
        samples = block.samples.index_select(1, hyper.order_row) + (hyper.draw * self._samples).unsqueeze(1)
        bits = None if block.bits is None else block.bits.index_select(1, hyper.order_row)
        keys = block.keys.index_select(1, hyper.order_row)
        constants = (hyper.weight_decay, hyper.momentum, hyper.grad_noise)
        if population is not self._owner:
            self._graphs, self._states, self._owner = {}, {}, population
        whole = len(population)
        absent = [None] * len(block)
        steps = zip(
            samples.unbind(0),
            absent if bits is None else bits.unbind(0),
            keys.unbind(0),
            block.lr.unbind(0),
            absent if block.root is None else block.root.unbind(0),
            strict=True,
        )
        for inputs in steps:

            def work(start: int, stop: int, inputs: tuple[Tensor | None, ...] = inputs) -> None:
                rows: _Rows = constants
                if stop - start < whole:
                    inputs = tuple(None if value is None else value[start:stop] for value in inputs)
                    rows = tuple(value[start:stop] for value in constants)
                if (start, stop) not in self._states:
                    self._states[start, stop] = _state(population, start, stop)
                self._run(start, stop, self._states[start, stop], inputs, rows)

            at_once = halving(whole, self._at_once, LEAST_ROWS, work)
            if at_once < min(self._at_once, whole):
                self.note = (
                    f"memory did not suffice for {whole} rows at once; going on with {at_once} at a time, "
                    "with the same results"
                )
            self._at_once = at_once

    def _run(
        self,
        start: int,
        stop: int,
        state: tuple[object, ...],
        inputs: tuple[Tensor | None, ...],
        rows: _Rows,
    ) -> None:
        """One step of rows `start` to `stop`."""
        if stop - start not in self._prepared:
            self._prepared[stop - start] = self._prepare(stop - start, state, inputs, rows)
        step = self._prepared[stop - start]
        if self._targets.device.type != "cuda" or not self._step.loader.capturable:
            step(*state, self._source, self._targets, *inputs, rows)
            return
        if (start, stop) not in self._graphs:

            def one(*inputs: Tensor | None) -> None:
                step(*state, self._source, self._targets, *inputs, rows)

            changed: list[Tensor] = []
            for part in state:
                changed += part if isinstance(part, list) else [part]  # type: ignore[list-item]
            self._graphs[start, stop] = Graph(one, inputs, changed)
        self._graphs[start, stop](*inputs)

    def _prepare(
        self, width: int, state: tuple[object, ...], inputs: tuple[Tensor | None, ...], rows: _Rows
    ) -> Callable[..., None]:
        """The compiled step, proven on a copy of the state; the plain one where compilation is not possible."""
        if not self._compile:
            return self._step
        run = _compiled(self._step, width)
        try:
            with torch._dynamo.config.patch(recompile_limit=COMPILED_STEPS):
                run(*copy.deepcopy(state), self._source, self._targets, *inputs, rows)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            self._compile = False
            self.note = (
                "the training step could not be compiled, so it runs uncompiled, about 2 to 3 times slower; the usual "
                f"cure is a C++ compiler (g++ or clang++). Reason: {str(error).strip().splitlines()[0][:200]}"
            )
            logging.getLogger(__name__).debug("compilation failed", exc_info=error)
            return self._step
        return run
