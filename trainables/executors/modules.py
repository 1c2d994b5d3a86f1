"""Ordinary modules, any of them: one after the other (`loop`), or side by side in one recorded graph (`branches`).

Each network runs its own kernels, the same ones whatever its neighbours, so its bits cannot depend on them. Only the
optimiser works on all rows together.
"""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.executors.base import Block, ExecutorName, Hyper, Loss, Traits, is_out_of_memory
from trainables.executors.capture import Graph
from trainables.loader import Loader
from trainables.noise import gradient_noise, keyed
from trainables.population import Population
from trainables.tasks.base import errors
from trainables.update import Rule, row_norm_sq, update_rows

__all__ = ["BranchesExecutor", "LoopExecutor"]

STREAMS = 8  # networks at work at once on a GPU; beyond, kernels only queue


class LoopExecutor:
    """One ordinary module after the other: serves any model, norm buffers included."""

    name = ExecutorName.LOOP
    transposed: frozenset[str] = frozenset()

    def __init__(
        self, module: nn.Module, loss: Loss, rule: Rule, loader: Loader, x: Tensor, y: Tensor, traits: Traits
    ) -> None:
        """Bind what stays the same.

        Args:
            module: one network, prepared (`noise.prepare`); only its structure is used.
            loss: of training.
            rule: the optimiser's fixed part.
            loader: makes batches.
            x: training samples of all draws, `[D, n, ...]`.
            y: training targets, `[D, n]`.
            traits: what the recipe's steps involve.
        """
        self.note = ""
        self._module = module.train()
        self._loss, self._rule, self._loader, self._traits = loss, rule, loader, traits
        self._source, self._targets, self._samples = loader.source(x), y.flatten(0, 1), x.shape[1]
        self._owner: Population | None = None
        self._gradients: list[Tensor] = []

    def step(self, population: Population, block: Block, hyper: Hyper) -> None:
        """Take one step for each entry of the block; see `Executor.step`."""
        self._adopt(population)
        for t in range(len(block)):
            samples = block.samples[t].index_select(0, hyper.order_row) + (hyper.draw * self._samples).unsqueeze(1)
            bits = None if block.bits is None else block.bits[t].index_select(0, hyper.order_row)
            keys = block.keys[t].index_select(0, hyper.order_row)
            losses, wrong = torch.zeros_like(block.lr[t]), torch.zeros_like(block.lr[t])
            living, generators = population.alive.tolist(), keys.tolist()
            shared = self._shared(population)
            for k in range(len(population)):
                if not living[k]:
                    continue
                with torch.random.fork_rng(devices=[]):
                    # what draws from torch's own generator: a function of the member and its step, not of neighbours
                    torch.manual_seed(generators[k])
                    x = self._loader(self._source, samples[k], None if bits is None else bits[k])
                    y = self._targets.index_select(0, samples[k])
                    self._one(k, shared, x, y, keys[k], hyper.activation_noise[k], losses, wrong)
            root = None if block.root is None else block.root[t]
            self._update(population, losses, wrong, keys, block.lr[t], root, hyper)

    def _adopt(self, population: Population) -> None:
        """Make room for the gradients of a population."""
        if population is not self._owner:
            self._owner = population
            self._gradients = [torch.zeros_like(weight) for weight in population.trained.values()]

    def _shared(self, population: Population) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What the networks compute with: weights (matrices and kernels in bfloat16 if asked for), and the rest."""
        weights = {
            name: value.to(torch.bfloat16) if self._traits.autocast and value.dim() > 2 else value
            for name, value in population.trained.items()
        }
        return weights, population.frozen | population.buffers

    def _one(
        self,
        k: int,
        shared: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        x: Tensor,
        y: Tensor,
        key: Tensor,
        level: Tensor,
        losses: Tensor,
        wrong: Tensor,
    ) -> None:
        """Loss, error and gradient of row k, written to its place."""
        try:
            self._differentiate(k, shared, x, y, key, level, losses, wrong)
        except Exception as error:
            error.add_note(f"row {k}")  # whose it is: the caller knows the members
            raise

    def _differentiate(
        self,
        k: int,
        shared: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        x: Tensor,
        y: Tensor,
        key: Tensor,
        level: Tensor,
        losses: Tensor,
        wrong: Tensor,
    ) -> None:
        weights = {name: weight[k].detach().requires_grad_() for name, weight in shared[0].items()}
        fixed = {name: value[k] for name, value in shared[1].items()}
        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=self._traits.autocast)
        with keyed(self._module, key, level), autocast:
            logits = functional_call(self._module, weights | fixed, (x,))
        logits = logits.float() if self._traits.autocast else logits
        loss = self._loss(logits, y).mean()
        for place, gradient in zip(self._gradients, torch.autograd.grad(loss, list(weights.values())), strict=True):
            place[k].copy_(gradient)
        losses[k] = loss.detach()
        wrong[k] = errors(logits.detach(), y).to(losses.dtype).mean()

    def _update(
        self,
        population: Population,
        losses: Tensor,
        wrong: Tensor,
        keys: Tensor,
        lr: Tensor,
        root: Tensor | None,
        hyper: Hyper,
    ) -> None:
        """The optimiser, on all rows."""
        gradients = self._gradients
        if self._traits.grad_noise:
            gradients = [
                g + hyper.grad_noise.view(-1, *[1] * (g.dim() - 1)) * gradient_noise(g, keys, salt)
                for salt, g in enumerate(gradients)
            ]
        norm_sq = row_norm_sq(gradients, self._rule.measured)
        alive = update_rows(
            self._rule,
            list(population.trained.values()),
            list(population.momenta.values()),
            list(population.squares.values()),
            gradients,
            finite=population.alive & torch.isfinite(losses),
            lr=lr,
            root=root,
            weight_decay=hyper.weight_decay,
            momentum=hyper.momentum,
        )
        population.sums.add_(torch.where(alive, torch.stack([losses, wrong, norm_sq]), 0.0))
        if self._traits.windowed:
            population.window.add_(torch.where(alive, losses, 0.0))
        population.alive.copy_(alive)


class BranchesExecutor(LoopExecutor):
    """The networks side by side: each on a stream of its own, all in one recorded CUDA graph, replayed every step.

    Where there is no GPU, or the model cannot be recorded, the same step runs unrecorded, one network after the other.
    """

    name = ExecutorName.BRANCHES

    def __init__(
        self, module: nn.Module, loss: Loss, rule: Rule, loader: Loader, x: Tensor, y: Tensor, traits: Traits
    ) -> None:
        """Bind what stays the same; arguments as of `LoopExecutor`."""
        super().__init__(module, loss, rule, loader, x, y, traits)
        self._on_gpu = x.device.type == "cuda"
        self._streams = [torch.cuda.Stream(x.device) for _ in range(STREAMS)] if self._on_gpu else []  # type: ignore[no-untyped-call]
        self._record = self._on_gpu
        self._graph: Graph | None = None

    def step(self, population: Population, block: Block, hyper: Hyper) -> None:
        """Take one step for each entry of the block; see `Executor.step`."""
        if population is not self._owner:
            self._graph = None
        self._adopt(population)
        samples = block.samples.index_select(1, hyper.order_row) + (hyper.draw * self._samples).unsqueeze(1)
        bits = None if block.bits is None else block.bits.index_select(1, hyper.order_row)
        keys = block.keys.index_select(1, hyper.order_row)
        inside = self._loader.capturable

        def whole(*inputs: Tensor | None) -> None:
            self._whole(population, hyper, *inputs)  # type: ignore[arg-type]

        for t in range(len(block)):
            batch = None if bits is None else bits[t]
            x = None if inside else self._loader(self._source, samples[t], batch)
            inputs = (
                samples[t],
                batch if inside else None,
                x,
                keys[t],
                block.lr[t],
                None if block.root is None else block.root[t],
            )
            if self._record and self._graph is None:
                self._graph = self._recorded(whole, inputs, population)
            if self._graph is not None:
                self._graph(*inputs)
            else:
                whole(*inputs)

    def _recorded(self, step: object, inputs: tuple[Tensor | None, ...], population: Population) -> Graph | None:
        """The step as a graph; None, and a note, where it cannot be recorded."""
        try:
            return Graph(step, inputs, list(population.tensors().values()))  # type: ignore[arg-type]
        except RuntimeError as error:
            if is_out_of_memory(error) and len(self._streams) > 1:
                # every stream holds the activations of one network: fewer at once need less
                self._streams = self._streams[: -(-len(self._streams) // 2)]
                torch.cuda.empty_cache()
                self.note = f"memory did not suffice; going on with {len(self._streams)} networks at once, same results"
                return self._recorded(step, inputs, population)
            if is_out_of_memory(error):
                raise
            self._record = False
            self.note = (
                "the training step could not be recorded as a CUDA graph, so it runs unrecorded, which is slower for "
                f"small networks. Reason: {str(error).strip().splitlines()[0][:200]}"
            )
            logging.getLogger(__name__).debug("recording failed", exc_info=error)
            return None

    def _whole(
        self,
        population: Population,
        hyper: Hyper,
        samples: Tensor,
        bits: Tensor | None,
        x: Tensor | None,
        keys: Tensor,
        lr: Tensor,
        root: Tensor | None,
    ) -> None:
        """One step of all rows; reads nothing back to the host."""
        losses, wrong = torch.zeros_like(lr), torch.zeros_like(lr)
        if x is None:
            x = self._loader(self._source, samples, bits)
        y = self._targets.index_select(0, samples.flatten()).reshape(samples.shape)
        shared = self._shared(population)
        main = torch.cuda.current_stream() if self._on_gpu else None
        for k in range(len(population)):
            if main is None:
                self._one(k, shared, x[k], y[k], keys[k], hyper.activation_noise[k], losses, wrong)
                continue
            stream = self._streams[k % len(self._streams)]
            if k < len(self._streams):
                stream.wait_stream(main)
            with torch.cuda.stream(stream):
                self._one(k, shared, x[k], y[k], keys[k], hyper.activation_noise[k], losses, wrong)
        for stream in self._streams[: len(population)]:
            assert main is not None
            main.wait_stream(stream)
        self._update(population, losses, wrong, keys, lr, root, hyper)
