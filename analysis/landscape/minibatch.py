"""Losses and gradients of some of an objective's samples."""

import torch
from torch import Tensor
from torch.func import functional_call

from analysis.landscape.objective import Objective

__all__ = ["batch_gradient", "batches"]


def batches(samples: int, batch_size: int) -> list[slice]:
    """Samples in their stored order, cut into mini-batches.

    Args:
        samples: n.
        batch_size: of each; the last one holds what is left. A single sample left goes to the one before, because it
            has no batch statistics.

    Returns:
        The mini-batches.
    """
    starts = list(range(0, samples, batch_size))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], samples], strict=True)]


def batch_gradient(
    objective: Objective, samples: slice | Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Loss of each sample of a mini-batch, and the gradient of their mean.

    Args:
        objective: the loss.
        samples: which, as a slice or as indices `[B]`.
        weights: `[P]`; None for the solution's own.

    Returns:
        Losses `[B]` and gradient `[P]`, from one forward and one backward pass.
    """
    device = objective.weights.device
    at = (objective.weights if weights is None else weights).detach().clone().requires_grad_(True)
    pieces = torch.split(at, [shape.numel() for shape in objective._shapes])
    own = {n: p.view(shape) for n, p, shape in zip(objective.names, pieces, objective._shapes, strict=True)}
    outputs = functional_call(objective._module, own, (objective._x[samples].to(device),))
    losses = objective._loss(outputs, objective._y[samples].to(device))
    (gradient,) = torch.autograd.grad(losses.mean(), at)
    return losses.detach(), gradient
