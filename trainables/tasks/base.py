"""The contract of a task: data, model and loss, so that a user's own needs no change to this project."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = [
    "Augment",
    "GatherAugment",
    "ModelBuilder",
    "ProbeGroup",
    "Split",
    "Task",
    "errors",
    "per_sample_binary_cross_entropy",
    "per_sample_cross_entropy",
]

ModelBuilder = Callable[[tuple[int, ...], int], nn.Module]
"""(shape of one input as the network sees it, outputs) to a fresh network."""


class Augment(Protocol):
    """A random change of training samples, decided by bits alone, so that it repeats exactly wherever it runs."""

    def __call__(self, x: Tensor, bits: Tensor) -> Tensor:
        """Change a batch.

        Args:
            x: stored samples, `[B, ...]`.
            bits: 64 random bits for each sample as int64, `[B]`: a function of (seed, epoch, sample).

        Returns:
            Changed samples as they are stored, `[B, ...]`.
        """
        ...


@runtime_checkable
class GatherAugment(Protocol):
    """An augmentation that picks its batch itself, out of data prepared once: one gather instead of gather and change.

    It is also an `Augment`.
    """

    def prepare(self, x: Tensor) -> Tensor:
        """What `gather` reads, from all stored samples `[n, ...]`; made once on the device."""
        ...

    def gather(self, prepared: Tensor, rows: Tensor, bits: Tensor) -> Tensor:
        """Samples `rows` (int64, any shape `[...]`), changed as `bits` (`[...]`) say: `[..., *sample]`."""
        ...


@dataclass(frozen=True)
class Split:
    """A named part of the data, held in memory.

    Attributes:
        x: inputs, `[n, ...]`: floating, token ids, or images as they are stored (uint8 `[n, H, W, C]`; then the task's
            `encode` makes inputs of them).
        y: targets, `[n]`: class indices, or 0./1. for a one-logit model.
        group: optional sample group, `[n]`.
    """

    x: Tensor
    y: Tensor
    group: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True)
class ProbeGroup:
    """Probe sets of one kind that are made while they are measured and not kept, so that they cost nothing unasked.

    Attributes:
        probe: what their accuracies are called in the table `probes`, such as `band_accuracy`.
        split: which variant of it, the column `split`.
        sets: at most how many samples of each set are wanted (None: all), to names and data, one set after the other.
        source: the split they are made of; None for sets that do not depend on the data seed.
    """

    probe: str
    split: str
    sets: Callable[[int | None], Iterator[tuple[str, Split]]]
    source: Split | None = None


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
        augment: batched, on the device, driven by explicit random bits; of training batches only.
        encode: stored uint8 samples `[B, H, W, C]` to network inputs (float32, `[B, C, H, W]`), on the device; hashable
            by content. Splits stored as floats or token ids reach the network as they are.
        probes: named evaluation sets; asked for as the group `features`.
        probe_groups: further evaluation sets by the name they are asked for.
        scale_invariant: names of the scale-invariant parameters; None = found numerically.
    """

    model: Callable[[], nn.Module]
    train: Split
    test: Split
    valid: Split | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = per_sample_cross_entropy
    augment: Augment | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    probes: Mapping[str, Split] = field(default_factory=dict)
    probe_groups: Mapping[str, ProbeGroup] = field(default_factory=dict)
    scale_invariant: Sequence[str] | None = None

    def inputs(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Stored samples as the network takes them.

        Args:
            x: `[B, ...]`, of a split.
            dtype: floating type of the computation.

        Returns:
            `[B, ...]`.
        """
        if x.dtype == torch.uint8 and self.encode is not None:
            return self.encode(x).to(dtype)
        return as_dtype(x, dtype)

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
