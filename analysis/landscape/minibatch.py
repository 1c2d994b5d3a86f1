"""Losses and gradients of some of an objective's samples."""

from torch import Tensor

from analysis.landscape.objective import Objective

__all__ = ["batch_gradient"]


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
