"""Loss and error of many networks on whole splits."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.arena import Arena, ProbeSet, StackedSplit, open_arena
from trainables.executors.base import Loss
from trainables.invariance import scale_invariant_parameters
from trainables.noise import prepare
from trainables.norm_statistics import reestimate_norms, reestimate_stacked
from trainables.population import to_module_layout
from trainables.precision import computes_in_bfloat16, master_dtype
from trainables.sample_values import Samples, judged_loop, judged_stacked, quick_part, with_batch_statistics
from trainables.spec import Recipe
from trainables.stacking import Stacked, batched_form
from trainables.tasks.base import Task, errors

__all__ = ["Evaluation", "Evaluator", "Yardstick", "evaluate_loop", "evaluate_stacked"]

TIMED_SAMPLES = 64  # enough to tell seconds from hours


@dataclass(frozen=True)
class Evaluation:
    """Quality of N networks on one split.

    Attributes:
        loss: mean loss, `[N]`.
        error: share of samples classified wrongly, `[N]`.
        n: samples.
    """

    loss: Tensor
    error: Tensor
    n: int


@dataclass(frozen=True)
class Yardstick:
    """How samples are read and judged.

    Attributes:
        loss: (logits, targets) to per-sample losses.
        inputs: stored samples to network inputs.
        autocast: compute in bfloat16, as in training; losses are float32.
    """

    loss: Loss
    inputs: Callable[[Tensor], Tensor]
    autocast: bool

    @classmethod
    def of(cls, task: Task, recipe: Recipe) -> "Yardstick":
        """The yardstick of a recipe.

        Args:
            task: its task.
            recipe: says the precision.

        Returns:
            The yardstick.
        """
        dtype = master_dtype(recipe)
        return cls(task.loss, lambda x: task.inputs(x, dtype), computes_in_bfloat16(recipe))

    def logits(self, forward: Callable[[Tensor], Tensor], x: Tensor, shape: torch.Size) -> Tensor:
        """What networks say of samples.

        Args:
            forward: inputs `[..., B, *shape]` to logits `[..., B, C]`.
            x: stored samples, `[..., B, *stored shape]`.
            shape: `[..., B]`.

        Returns:
            `[..., B, C]`; float32 where the computation is in bfloat16.
        """
        inputs = self.inputs(x.flatten(0, len(shape) - 1))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            logits = forward(inputs.view(*shape, *inputs.shape[1:]))
        return logits.float() if self.autocast else logits

    def judge(self, forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error of each sample.

        Args:
            forward: inputs `[..., B, *shape]` to logits `[..., B, C]`.
            x: stored samples, `[..., B, *stored shape]`.
            y: targets, `[..., B]`.

        Returns:
            Losses and 0 or 1, each `[..., B]`.
        """
        logits = self.logits(forward, x, y.shape)
        losses = self.loss(logits.flatten(0, -2), y.flatten()).reshape(y.shape)
        return losses, errors(logits, y).to(losses.dtype)


@torch.no_grad()
def evaluate_stacked(
    model: Stacked, parameters: Mapping[str, Tensor], split: StackedSplit, draws: Tensor, yardstick: Yardstick
) -> Evaluation:
    """Evaluate rows in batched form.

    Args:
        model: the batched form.
        parameters: name to `[N, *shape]`, linear weights transposed.
        split: the data, D draws.
        draws: which draw each row is evaluated on, `[N]`.
        yardstick: how samples are read and judged.

    Returns:
        Loss and error of each row.
    """
    judged = judged_stacked(model, parameters, split, draws, yardstick)
    means = [(losses.mean(1), wrong.mean(1)) for losses, wrong in judged]
    loss, error = (torch.cat(parts)[: len(draws)] for parts in zip(*means, strict=True))
    return Evaluation(loss, error, split.samples)


@torch.no_grad()
def evaluate_loop(
    module: nn.Module, state: Mapping[str, Tensor], split: StackedSplit, draws: Tensor, yardstick: Yardstick
) -> Evaluation:
    """Evaluate rows one after the other, in eval mode; any module.

    Args:
        module: one network; only its structure is used.
        state: parameter and buffer names to `[N, *shape]`, in the module's layout.
        split: the data, D draws.
        draws: which draw each row is evaluated on, `[N]`.
        yardstick: how samples are read and judged.

    Returns:
        Loss and error of each row.
    """
    was_training = module.training
    module.eval()
    judged = judged_loop(module, state, split, draws, yardstick)
    means = [(losses.mean(), wrong.mean()) for losses, wrong in judged]
    module.train(was_training)
    loss, error = (torch.stack(parts) for parts in zip(*means, strict=True))
    return Evaluation(loss, error, split.samples)


class Evaluator:
    """Evaluates solutions of one recipe, given as stacked `state_dict` entries.

    Attributes:
        scale_invariant: names of the scale-invariant parameters.
        trained: names of the trained parameters.
        shapes: of every parameter and buffer of a network, by name.
    """

    def __init__(self, recipe: Recipe, data_seeds: Sequence[int], *, probes: Collection[str] = ()) -> None:
        """Build data and model.

        Args:
            recipe: what was trained.
            data_seeds: draws that will be asked for.
            probes: groups of the task's probe sets that will be asked for, as in `trainables.arena.open_arena`.
        """
        torch.set_num_threads(1)
        self._arena: Arena = open_arena(recipe, data_seeds, probes=probes)
        self._module = prepare(self._arena.task.model(), activation_noise=False).to(master_dtype(recipe))
        self._yardstick = Yardstick.of(self._arena.task, recipe)
        self._stacked = batched_form(self._module)
        self.scale_invariant = scale_invariant_parameters(self._arena.task)
        self.trained = tuple(name for name, p in self._module.named_parameters() if p.requires_grad)
        self.shapes = {name: tensor.shape for name, tensor in self._module.state_dict().items()}
        self._batch_size = recipe.batch_size

    def __call__(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], split: str) -> Evaluation:
        """Evaluate N solutions.

        Args:
            weights: parameter and buffer names to `[N, *shape]`, as `Checkpoints.weights` gives them.
            data_seeds: the draw each is evaluated on, N of them.
            split: `train`, `valid` or `test`.

        Returns:
            Loss and error of each.
        """
        return self._evaluate(weights, data_seeds, self._arena.splits[split])

    def probe_sets(
        self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], group: str, samples: int | None = None
    ) -> Iterator[tuple[ProbeSet, Evaluation]]:
        """Evaluate N solutions on every probe set of a group.

        Args:
            weights: as in `__call__`.
            data_seeds: as in `__call__`.
            group: one of the groups that were asked for.
            samples: at most how many of each set; None for all. `features` are always whole.

        Yields:
            Each set with the solutions' loss and error on it.
        """
        for one in self._arena.probe_sets(group, samples):
            yield one, self._evaluate(weights, data_seeds, one.data)

    def _evaluate(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], data: StackedSplit) -> Evaluation:
        draws = torch.as_tensor([self._arena.draws[seed] for seed in data_seeds])
        if self._stacked is not None:
            transposed = to_module_layout(weights, self._stacked.transposed)
            return evaluate_stacked(self._stacked, transposed, data, draws, self._yardstick)
        return evaluate_loop(self._module, weights, data, draws, self._yardstick)

    def samples(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], split: str) -> Samples:
        """Judge N solutions on every sample; arguments as in `__call__`.

        Args:
            weights: as in `__call__`.
            data_seeds: as in `__call__`.
            split: as in `__call__`.

        Returns:
            Losses and errors, each `[N, n]`.
        """
        return self._samples(weights, data_seeds, split, None)

    def batch_samples(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], split: str) -> Samples:
        """The same with batch norms as in training: with the statistics of each batch of the split, in its order.

        Args:
            weights: as in `__call__`.
            data_seeds: as in `__call__`.
            split: as in `__call__`.

        Returns:
            Losses and errors, each `[N, n]`.
        """
        return self._samples(weights, data_seeds, split, self._batch_size)

    def _samples(
        self, weights: Mapping[str, Tensor], data_seeds: Sequence[int], split: str, batch: int | None
    ) -> Samples:
        draws = torch.as_tensor([self._arena.draws[seed] for seed in data_seeds])
        data = self._arena.splits[split]
        if self._stacked is None:
            module = self._module.eval() if batch is None else with_batch_statistics(self._module)
            size = batch or quick_part(data.x[0])
            judged = judged_loop(module, weights, data, draws, self._yardstick, batch=size)
            losses, wrong = (torch.stack(parts) for parts in zip(*judged, strict=True))
        else:
            transposed = to_module_layout(weights, self._stacked.transposed)
            judged = judged_stacked(self._stacked, transposed, data, draws, self._yardstick, batch=batch)
            losses, wrong = (torch.cat(parts)[: len(draws)] for parts in zip(*judged, strict=True))
        return Samples(losses, wrong)

    def reestimate_norms(self, weights: Mapping[str, Tensor], data_seeds: Sequence[int]) -> None:
        """Recompute norm statistics of mixed or averaged weights on the training set, in place.

        Args:
            weights: as in `__call__`.
            data_seeds: as in `__call__`.
        """
        draws = torch.as_tensor([self._arena.draws[seed] for seed in data_seeds])
        if self._stacked is None:
            reestimate_norms(self._module, weights, self._arena.train, draws, self._yardstick)
            return
        # buffers have one layout: what is rewritten are the caller's own
        statistics = {name: weights[name] for name in self._stacked.statistics}
        transposed = to_module_layout(weights, self._stacked.transposed) | statistics
        reestimate_stacked(self._stacked, transposed, self._arena.train, draws, self._yardstick)

    @torch.no_grad()
    def seconds_per_solution(self, weights: Mapping[str, Tensor], data_seed: int) -> float:
        """About how long it takes to measure one solution on the training and test splits, norm statistics included.

        Args:
            weights: of one solution, name to `[1, *shape]`.
            data_seed: a draw that was asked for.

        Returns:
            Seconds, from a few samples; 0 for networks with a batched form, of which hundreds are measured at once.
        """
        if self._stacked is not None:
            return 0.0
        train, test = self._arena.train, self._arena.splits["test"]
        few = StackedSplit(train.x[:, :TIMED_SAMPLES], train.y[:, :TIMED_SAMPLES])
        draws = torch.as_tensor([self._arena.draws[data_seed]])
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            evaluate_loop(self._module, weights, few, draws, self._yardstick)
            seconds.append(time.perf_counter() - begun)
        passes = 2 * train.samples + test.samples
        return sorted(seconds)[1] * passes / few.samples
