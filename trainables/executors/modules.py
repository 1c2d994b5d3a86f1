"""Ordinary modules, any of them: one after the other (`loop`), or side by side in one recorded graph (`branches`).

Each network runs its own kernels, the same ones whatever its neighbours, so its bits cannot depend on them. Only the
optimiser works on all rows together.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Batches:
    """Rows that agree in seed and draw see the same samples, which are then loaded once.

    Attributes:
        order_row: `[U]`, of each distinct batch.
        draw: `[U]`, likewise.
        of_row: which batch each row sees.
        rows_in_turn: all rows, those that share a batch one after the other, while it is in the caches.
    """

    order_row: Tensor
    draw: Tensor
    of_row: tuple[int, ...]
    rows_in_turn: tuple[int, ...]

    @classmethod
    def of(cls, hyper: Hyper) -> "Batches":
        pairs = list(zip(hyper.order_row.tolist(), hyper.draw.tolist(), strict=True))
        place = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
        of_row = tuple(place[pair] for pair in pairs)
        device = hyper.order_row.device
        return cls(
            order_row=torch.tensor([order for order, _ in place], device=device),
            draw=torch.tensor([draw for _, draw in place], device=device),
            of_row=of_row,
            rows_in_turn=tuple(sorted(range(len(pairs)), key=lambda row: of_row[row])),
        )

    def tables(self, block: Block, samples: int) -> tuple[Tensor, Tensor | None]:
        """Sample numbers through all draws, and random bits, each `[T, U, B]`."""
        chosen = block.samples.index_select(1, self.order_row) + (self.draw * samples).unsqueeze(1)
        return chosen, None if block.bits is None else block.bits.index_select(1, self.order_row)


def _channels_last(tensor: Tensor) -> Tensor:
    """Kernels of K convolutions, `[K, O, I, H, W]`, each row channels-last in memory; other tensors as they are."""
    if tensor.dim() != 5:
        return tensor
    return tensor.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)


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
        self._draws_at_random: bool | None = None  # not known before the first forward pass

    def step(self, population: Population, block: Block, hyper: Hyper) -> None:
        """Take one step for each entry of the block; see `Executor.step`."""
        self._adopt(population)
        batches = Batches.of(hyper)
        samples, bits = batches.tables(block, self._samples)
        keys = block.keys.index_select(1, hyper.order_row)
        for t in range(len(block)):
            x = self._loader(self._source, samples[t], None if bits is None else bits[t])
            y = self._targets.index_select(0, samples[t].flatten()).view(samples[t].shape)
            losses, wrong = torch.zeros_like(block.lr[t]), torch.zeros_like(block.lr[t])
            self._all_rows(population, batches, x, y, keys[t], hyper.activation_noise, losses, wrong)
            root = None if block.root is None else block.root[t]
            self._update(population, losses, wrong, keys[t], block.lr[t], root, hyper)

    def _all_rows(
        self,
        population: Population,
        batches: Batches,
        x: Tensor,
        y: Tensor,
        keys: Tensor,
        levels: Tensor,
        losses: Tensor,
        wrong: Tensor,
    ) -> None:
        """Losses, errors and gradients of all living rows, written to their places."""
        living = population.alive.tolist()
        shared = self._shared(population)
        for k in batches.rows_in_turn:
            if living[k]:
                batch = batches.of_row[k]
                with self._generator(keys[k]):
                    self._one(k, shared, x[batch], y[batch], keys[k], levels[k], losses, wrong)

    def _adopt(self, population: Population) -> None:
        """Lay out a population's convolution kernels channels-last, as the images are, and make room for gradients."""
        if population is self._owner:
            return
        self._owner = population
        for named in (population.trained, population.momenta, population.squares, population.frozen):
            for name, tensor in named.items():
                named[name] = _channels_last(tensor)
        self._gradients = [torch.zeros_like(weight) for weight in population.trained.values()]

    @contextmanager
    def _generator(self, key: Tensor) -> Iterator[None]:
        """Seed torch's own generator for networks that draw from it: by member and step, not by neighbours."""
        if self._draws_at_random is False:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(key))
            before = torch.get_rng_state()
            yield
            self._draws_at_random = not torch.equal(before, torch.get_rng_state())

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
            trace=population.trace if self._traits.traced else None,
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
        batches = Batches.of(hyper)
        samples, bits = batches.tables(block, self._samples)
        keys = block.keys.index_select(1, hyper.order_row)
        inside = self._loader.capturable

        def whole(*inputs: Tensor | None) -> None:
            self._whole(population, hyper, batches.of_row, *inputs)  # type: ignore[arg-type]

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
        of_row: Sequence[int],
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
        y = self._targets.index_select(0, samples.flatten()).view(samples.shape)
        shared = self._shared(population)
        main = torch.cuda.current_stream() if self._on_gpu else None
        for k, batch in enumerate(of_row):
            if main is None:
                self._one(k, shared, x[batch], y[batch], keys[k], hyper.activation_noise[k], losses, wrong)
                continue
            stream = self._streams[k % len(self._streams)]
            if k < len(self._streams):
                stream.wait_stream(main)
            with torch.cuda.stream(stream):
                self._one(k, shared, x[batch], y[batch], keys[k], hyper.activation_noise[k], losses, wrong)
        for stream in self._streams[: len(population)]:
            assert main is not None
            main.wait_stream(stream)
        self._update(population, losses, wrong, keys, lr, root, hyper)
