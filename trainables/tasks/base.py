"""The contract of a task: data, model and loss, so that a user's own needs no change to this project."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

__all__ = ["Split", "Task", "errors", "per_sample_binary_cross_entropy", "per_sample_cross_entropy"]


@dataclass(frozen=True)
class Split:
    """A named part of the data, held in memory.

    Attributes:
        x: inputs, `[n, ...]`.
        y: targets, `[n]`: class indices, or 0./1. for a one-logit model.
        group: optional sample group, `[n]`.
    """

    x: Tensor
    y: Tensor
    group: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


def per_sample_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each sample.

    Args:
        logits: `[B, classes]`.
        y: class indices, `[B]`.

    Returns:
        Losses in nats, `[B]`.
    """
    return nn.functional.cross_entropy(logits, y, reduction="none")


def per_sample_binary_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of each sample of a one-logit model.

    Args:
        logits: `[B, 1]`.
        y: 0. or 1., `[B]`.

    Returns:
        Losses in nats, `[B]`.
    """
    return nn.functional.binary_cross_entropy_with_logits(logits[..., 0], y, reduction="none")


def errors(logits: Tensor, y: Tensor) -> Tensor:
    """Which samples are classified wrongly: by sign with one logit, by the largest logit otherwise.

    Args:
        logits: `[..., classes]` or `[..., 1]`.
        y: targets, `[...]`.

    Returns:
        True where wrong, `[...]`.
    """
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0) != (y > 0.5)
    return logits.argmax(-1) != y


@dataclass(frozen=True, kw_only=True)
class Task:
    """Data, model and loss.

    Attributes:
        model: builds a fresh network; the caller seeds torch's generator before.
        train: what is learned.
        test: what is reported.
        valid: what choices are made on, if the task has it.
        loss: (logits `[B, C]`, targets `[B]`) to per-sample losses `[B]`.
        augment: batched, on the device, driven by explicit random bits.
        probes: named evaluation sets.
        scale_invariant: names of the scale-invariant parameters; None = found numerically.
    """

    model: Callable[[], nn.Module]
    train: Split
    test: Split
    valid: Split | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = per_sample_cross_entropy
    augment: Callable[..., Tensor] | None = None
    probes: Mapping[str, Split] = field(default_factory=dict)
    scale_invariant: Sequence[str] | None = None

    def split(self, name: str) -> Split | None:
        """The split or probe set called `name`.

        Args:
            name: `train`, `valid`, `test`, or a probe set's name.

        Returns:
            None for a task without a validation split.

        Raises:
            KeyError: nothing is called so.
        """
        named = {"train": self.train, "valid": self.valid, "test": self.test}
        return named[name] if name in named else self.probes[name]


def as_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Floating inputs in the recipe's precision; class indices and token ids unchanged.

    Args:
        x: any tensor.
        dtype: floating type wanted.

    Returns:
        `x`, converted if it is floating.
    """
    return x.to(dtype) if x.is_floating_point() else x
