"""Losses and gradients of some of an objective's samples."""

from torch import Tensor

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
    return objective.batch_gradient(samples, weights)
