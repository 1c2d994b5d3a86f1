"""Loss and error of every sample under many networks, group by group: what means over splits are made of."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.executors.base import is_out_of_memory
from trainables.norm_statistics import batches_of
from trainables.stacking import Stacked

if TYPE_CHECKING:
    from trainables.arena import StackedSplit
    from trainables.evaluate import Yardstick

__all__ = ["ELEMENTS", "SAMPLES", "Samples", "judged_loop", "judged_stacked", "quick_part", "with_batch_statistics"]

ELEMENTS = 1 << 18  # input elements in one batched forward: its activations then stay in a core's cache
MOST_ELEMENTS = 1 << 22  # beyond, the samples of large data sets are taken in parts
SAMPLES = 1000  # in one forward pass of a single module
CUDA_SAMPLES = 10_000

Judged = tuple[Tensor, Tensor]
Work = Callable[[int], Judged]


@dataclass(frozen=True)
class Samples:
    """Quality of N networks on every sample of one split.

    Attributes:
        losses: of each network and sample, `[N, n]`.
        wrong: 1 where a sample is classified wrongly, else 0, `[N, n]`.
    """

    losses: Tensor
    wrong: Tensor


def quick_part(x: Tensor) -> int:
    """How many samples at once a single module takes quickest, for its activations then stay in a core's cache.

    Args:
        x: stored samples, `[n, ...]`.

    Returns:
        At least 16; thousands on a GPU.
    """
    return CUDA_SAMPLES if x.is_cuda else max(16, ELEMENTS // max(1, x[0].numel()))


def _in_parts(at_once: int, work: Work) -> Judged:
    """`work` with as many samples at once as memory allows, at most `at_once`."""
    while True:
        try:
            return work(at_once)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or at_once == 1:
                raise
            at_once = -(-at_once // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _joined(parts: list[Judged], axis: int) -> Judged:
    return torch.cat([losses for losses, _ in parts], axis), torch.cat([wrong for _, wrong in parts], axis)


@torch.no_grad()
def judged_stacked(
    model: Stacked,
    parameters: Mapping[str, Tensor],
    split: "StackedSplit",
    draws: Tensor,
    yardstick: "Yardstick",
    *,
    batch: int | None = None,
) -> Iterator[Judged]:
    """Judge rows in batched form, in groups of a fixed size (the last one padded).

    A row's result then does not depend on how many others are judged with it.

    Args:
        model: the batched form.
        parameters: name to `[N, *shape]`, linear weights transposed.
        split: the data, D draws.
        draws: which draw each row is judged on, `[N]`.
        yardstick: how samples are read and judged.
        batch: batch norms take the statistics of every batch of about this many samples, as in training; None: their
            running statistics.

    Yields:
        Losses and errors of one group, each `[group, n]`; rows beyond N repeat the last one.
    """
    rows = len(draws)
    group = max(2, ELEMENTS // max(1, split.x[0].numel()))
    part = max(1, min(split.samples, MOST_ELEMENTS // max(1, group * split.x[0, 0].numel())))
    for start in range(0, rows, group):
        index = torch.arange(start, start + group, device=draws.device).clamp(max=rows - 1)
        chosen = {name: tensor.index_select(0, index) for name, tensor in parameters.items()}
        draw = draws.index_select(0, index)

        def judge(forward: Callable[[Tensor], Tensor], spans: Iterable[slice], draw: Tensor = draw) -> Judged:
            data = ((split.x[:, span].index_select(0, draw), split.y[:, span].index_select(0, draw)) for span in spans)
            return _joined([yardstick.judge(forward, x, y) for x, y in data], 1)

        if batch is None:
            forward = partial(model, chosen)
            yield _in_parts(part, lambda at_once: judge(forward, _spans(split.samples, at_once)))  # noqa: B023 - at once
        else:
            yield judge(partial(_as_in_training, model, chosen), batches_of(split.samples, batch))


def _as_in_training(model: Stacked, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return model.train(parameters, x)[0]


def _spans(samples: int, at_once: int) -> list[slice]:
    return [slice(first, first + at_once) for first in range(0, samples, at_once)]


@torch.no_grad()
def judged_loop(
    module: nn.Module,
    state: Mapping[str, Tensor],
    split: "StackedSplit",
    draws: Tensor,
    yardstick: "Yardstick",
    *,
    batch: int | None = None,
) -> Iterator[Judged]:
    """Judge rows one after the other; any module.

    Args:
        module: one network, in the mode in which it is judged; only its structure is used.
        state: parameter and buffer names to `[N, *shape]`, in the module's layout.
        split: the data, D draws.
        draws: which draw each row is judged on, `[N]`.
        yardstick: how samples are read and judged.
        batch: about this many samples at once, whatever memory allows (for a module from `with_batch_statistics`);
            None: as many as memory allows.

    Yields:
        Losses and errors of one row, each `[n]`.
    """
    known = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    held = known.intersection(state)
    for row, draw in enumerate(draws.tolist()):
        own = {name: state[name][row] for name in held}
        x, y = split.x[draw], split.y[draw]

        def judge(spans: Iterable[slice], own: dict[str, Tensor] = own, x: Tensor = x, y: Tensor = y) -> Judged:
            forward = partial(_called, module, own)
            return _joined([yardstick.judge(forward, x[span], y[span]) for span in spans], 0)

        if batch is None:
            most = CUDA_SAMPLES if split.x.is_cuda else SAMPLES
            yield _in_parts(most, lambda at_once: judge(_spans(split.samples, at_once)))
        else:
            yield judge(batches_of(split.samples, batch))


def _called(module: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    output: Tensor = functional_call(module, state, (x,))
    return output


def with_batch_statistics(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose batch norms know no statistics but those of each batch.

    Args:
        module: any; it is not changed.

    Returns:
        The copy; its batch norms hold no running statistics.
    """
    copied = copy.deepcopy(module).eval()
    for layer in copied.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
            layer.train()
    return copied
