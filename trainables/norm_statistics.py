"""Batch-norm statistics anew: exact averages over the training set, for weights that were averaged or mixed."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.stacking import Stacked

if TYPE_CHECKING:
    from trainables.arena import StackedSplit
    from trainables.evaluate import Yardstick

__all__ = ["averaging_norms", "batches_of", "even_batches", "reestimate_norms", "reestimate_stacked"]

SAMPLES = 500  # most in a batch whose statistics are taken; their plain average is kept
ELEMENTS = 1 << 18  # numbers in the widest layer of one batched forward: it then stays in a core's cache


def batches_of(samples: int, size: int) -> Iterator[slice]:
    """A split in batches, in its order; no last one of a single sample, which has no variance.

    Args:
        samples: how many there are.
        size: of a batch; the last one may hold fewer, or one more.

    Yields:
        Which samples.
    """
    start = 0
    while start < samples:
        left = samples - start
        stop = samples if left <= size + 1 else start + size
        yield slice(start, stop)
        start = stop


def even_batches(samples: int, most: int = SAMPLES) -> Iterator[slice]:
    """A split in as few batches as may be, of sizes that differ by one at most: their plain average is the split's.

    Args:
        samples: how many there are.
        most: in a batch, at least 4; two samples or more then never leave a batch of one, which has no variance.

    Yields:
        Which samples.
    """
    count = -(-samples // most)
    for number in range(count):
        yield slice(samples * number // count, samples * (number + 1) // count)


@contextmanager
def averaging_norms(module: nn.Module) -> Iterator[list[nn.modules.batchnorm._BatchNorm]]:
    """Let batch norms average their statistics over the batches to come; all other layers are in eval mode.

    Args:
        module: modes and momenta are as before at the end.

    Yields:
        The batch norms that keep statistics.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    modes = {layer: layer.training for layer in module.modules()}
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.momentum = None  # torch's name for a cumulative average
        norm.train()
    try:
        yield norms
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for layer, mode in modes.items():
            layer.training = mode


@torch.no_grad()
def reestimate_norms(
    module: nn.Module, state: Mapping[str, Tensor], train: "StackedSplit", draws: Tensor, yardstick: "Yardstick"
) -> None:
    """Replace batch-norm statistics by exact averages over the training set; any module.

    Args:
        module: one network; only its structure is used.
        state: as in `evaluate_loop`; its norm buffers are rewritten in place.
        train: the training split.
        draws: each row's draw, `[N]`.
        yardstick: how samples are read.
    """
    with averaging_norms(module) as norms:
        if not norms:
            return
        for name, tensor in state.items():
            if name.endswith(("running_mean", "num_batches_tracked")):
                tensor.zero_()
            elif name.endswith("running_var"):
                tensor.fill_(1)
        for row, draw in enumerate(draws.tolist()):
            own = {name: tensor[row] for name, tensor in state.items()}
            for part in even_batches(train.samples):
                x = train.x[draw, part]
                with torch.autocast(x.device.type, torch.bfloat16, enabled=yardstick.autocast):
                    functional_call(module, own, (yardstick.inputs(x),))


@torch.no_grad()
def reestimate_stacked(
    model: Stacked, parameters: Mapping[str, Tensor], train: "StackedSplit", draws: Tensor, yardstick: "Yardstick"
) -> None:
    """The same for rows in batched form.

    Rows go through in groups of a fixed size (the last one padded), so that a row's statistics do not depend on how
    many others are computed with it.

    Args:
        model: the batched form.
        parameters: parameter and buffer names to `[N, *shape]`, linear weights transposed; the running statistics are
            rewritten in place.
        train: the training split.
        draws: each row's draw, `[N]`.
        yardstick: how samples are read.
    """
    if not model.statistics:
        return
    rows, averaging = len(draws), model.averaging()
    widths = [parameters[name].shape[-1] for name in model.transposed]
    widest = max([math.prod(train.x.shape[2:]), *widths])
    group = max(2, ELEMENTS // (min(SAMPLES, train.samples) * widest))
    for start in range(0, rows, group):
        index = torch.arange(start, start + group, device=draws.device).clamp(max=rows - 1)
        chosen = {name: tensor.index_select(0, index) for name, tensor in parameters.items()}
        statistics = {name: torch.zeros_like(chosen[name]) for name in model.statistics}
        draw = draws.index_select(0, index)
        for part in even_batches(train.samples):
            stored = train.x[:, part].index_select(0, draw)
            inputs = yardstick.inputs(stored.flatten(0, 1))
            with torch.autocast(stored.device.type, torch.bfloat16, enabled=yardstick.autocast):
                x = inputs.view(*stored.shape[:2], *inputs.shape[1:])
                statistics = averaging.train({**chosen, **statistics}, x)[1]
        own = slice(start, min(start + group, rows))
        for name, value in statistics.items():
            parameters[name][own] = value[: own.stop - start]
