"""Which class each of many networks predicts for each sample."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.evaluate import Yardstick
from trainables.sample_values import ELEMENTS, SAMPLES
from trainables.stacking import Stacked

__all__ = ["predict"]


@torch.no_grad()
def predict(
    model: Stacked | None,
    module: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    draws: Tensor,
    yardstick: Yardstick,
) -> Tensor:
    """Predicted classes: the largest logit, or with one logit whether it is positive.

    Args:
        model: the batched form; None for networks that have none.
        module: one network; only its structure is used, and only where there is no batched form.
        weights: all parameters and buffers, `[N, *shape]`, in the layout that `model` or `module` takes.
        x: stored samples of D draws, `[D, n, ...]`.
        draws: which draw each row is shown, `[N]`.
        yardstick: how samples are read.

    Returns:
        Classes, int64 `[N, n]`.
    """
    rows: list[Tensor] = []
    if model is not None:
        group = max(2, ELEMENTS // max(1, x[0].numel()))
        for start in range(0, len(draws), group):
            # rows beyond the last repeat it: a batched product of one matrix alone takes another kernel
            index = torch.arange(start, start + group, device=draws.device).clamp(max=len(draws) - 1)
            chosen = {name: tensor.index_select(0, index) for name, tensor in weights.items()}
            seen = x.index_select(0, draws.index_select(0, index))
            rows.append(_classes(yardstick.logits(partial(model, chosen), seen, seen.shape[:2])))
        return torch.cat(rows)[: len(draws)]
    was_training = module.training
    module.eval()
    for row, draw in enumerate(draws.tolist()):
        own = {name: tensor[row] for name, tensor in weights.items()}

        def forward(inputs: Tensor, own: dict[str, Tensor] = own) -> Tensor:
            logits: Tensor = functional_call(module, own, (inputs,))
            return logits

        parts = [_classes(yardstick.logits(forward, part, part.shape[:1])) for part in torch.split(x[draw], SAMPLES)]
        rows.append(torch.cat(parts))
    module.train(was_training)
    return torch.stack(rows)


def _classes(logits: Tensor) -> Tensor:
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)
