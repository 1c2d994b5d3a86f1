"""The loss that training follows, where it is not the task's own: label smoothing.

What is measured stays the task's loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from trainables.faults import SpecError
from trainables.tasks.base import per_sample_binary_cross_entropy, per_sample_cross_entropy

__all__ = ["Loss", "SmoothedBinaryCrossEntropy", "SmoothedCrossEntropy", "training_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits `[B, C]`, targets `[B]`) to per-sample losses `[B]`."""


@dataclass(frozen=True)
class SmoothedCrossEntropy:
    """Cross-entropy against targets of which a share is spread evenly over all classes (Szegedy et al., CVPR 2016).

    Attributes:
        share: epsilon, in (0, 1).
    """

    share: float

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """Losses of `[B, classes]` logits and `[B]` class indices."""
        return nn.functional.cross_entropy(logits, y, reduction="none", label_smoothing=self.share)


@dataclass(frozen=True)
class SmoothedBinaryCrossEntropy:
    """The same for a one-logit model: the target y becomes y (1 - epsilon) + epsilon / 2.

    Attributes:
        share: epsilon, in (0, 1).
    """

    share: float

    def __call__(self, logits: Tensor, y: Tensor) -> Tensor:
        """Losses of `[B, 1]` logits and `[B]` targets 0. or 1."""
        return per_sample_binary_cross_entropy(logits, y * (1 - self.share) + self.share / 2)


def training_loss(task_loss: Loss, label_smoothing: float) -> Loss:
    """What the optimiser follows.

    Args:
        task_loss: the task's own loss.
        label_smoothing: share of the target probability to spread over all classes.

    Returns:
        The task's loss where nothing is smoothed, else its smoothed form; hashable by content.

    Raises:
        SpecError: the loss is the user's own, for which smoothing is not defined.
    """
    if label_smoothing == 0:
        return task_loss
    if task_loss is per_sample_cross_entropy:
        return SmoothedCrossEntropy(label_smoothing)
    if task_loss is per_sample_binary_cross_entropy:
        return SmoothedBinaryCrossEntropy(label_smoothing)
    name = getattr(task_loss, "__qualname__", repr(task_loss))
    raise SpecError(
        [
            f"label_smoothing needs the task's loss to be one of trainables.tasks' cross-entropies, found {name!r}; "
            "set train.label_smoothing to 0 and smooth in your own loss"
        ]
    )
