"""The smallest loss that gradient descent with weight decay reaches the bottom of and leaves again."""

import torch
from torch import Tensor, nn

from trainables.tasks.base import Split, Task

__all__ = ["ratio"]


class _Ratio(nn.Module):
    """Two trained numbers x and y in one tensor, both 1 at the start; its output is x^2 / (x^2 + y^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """The same number for each of B inputs, `[B, 1]`."""
        x, y = self.weight.square()
        loss: Tensor = x / (x + y)
        return loss.expand(len(inputs), 1)


def _output(logits: Tensor, _: Tensor) -> Tensor:
    """The network's output is the loss."""
    return logits[:, 0]


def ratio() -> Task:
    """Minimise x^2 / (x^2 + y^2), the two-variable example of Li, Lyu, Arora (NeurIPS 2020, arXiv 2010.02916).

    The loss depends on the direction of (x, y) alone. Without weight decay gradient descent converges; with it the norm
    shrinks, the effective learning rate grows beyond what is stable, and the loss leaves its minimum time and again.
    Train it in float64: the loss falls below 1e-100 in between.

    Returns:
        A task with a network of its own and two samples, one of each class, that say nothing: with batches of one or
        of two every step is the same one of full-batch gradient descent. Its error is a half while the loss is above 0.
    """
    split = Split(torch.zeros(2, 1), torch.tensor([0.0, 1.0]))
    return Task(model=_Ratio, train=split, test=split, loss=_output, scale_invariant=("weight",))
