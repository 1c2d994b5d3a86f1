"""From sample numbers to a batch on the device: gather, augment, encode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.arena import Arena
from trainables.tasks.base import Augment, GatherAugment, as_dtype

__all__ = ["Loader"]


@dataclass(frozen=True)
class Loader:
    """How stored samples become training batches; hashable by content, so that compiled steps can be shared.

    Attributes:
        augment: of training batches; None for none.
        encode: stored bytes to network inputs; None where samples are stored as inputs.
        dtype: floating type of the inputs.
    """

    augment: Augment | None
    encode: Callable[[Tensor], Tensor] | None
    dtype: torch.dtype

    @classmethod
    def of(cls, arena: Arena, dtype: torch.dtype) -> "Loader":
        """The loader of a task.

        Args:
            arena: the task's data.
            dtype: floating type of the network's inputs.

        Returns:
            The loader.
        """
        return cls(arena.task.augment, arena.task.encode, dtype)

    @property
    def capturable(self) -> bool:
        """False where the augmentation decides on the host, so that it cannot be part of a recorded graph."""
        return self.augment is None or bool(getattr(self.augment, "capturable", True))

    def source(self, x: Tensor) -> Tensor:
        """What batches are read from, made once.

        Args:
            x: stored samples of D draws, `[D, n, ...]`.

        Returns:
            The samples of all draws in a row, or what the augmentation gathers from.
        """
        flat = x.flatten(0, 1)
        return flat if self._gather is None else self._gather.prepare(flat)

    @property
    def _gather(self) -> GatherAugment | None:
        augment: object = self.augment
        return augment if isinstance(augment, GatherAugment) else None

    def __call__(self, source: Tensor, rows: Tensor, bits: Tensor | None) -> Tensor:
        """Network inputs of some samples.

        Args:
            source: from `source`.
            rows: sample numbers, counted through all draws, `[...]`.
            bits: 64 random bits for each, `[...]`; None without augmentation.

        Returns:
            Inputs, `[..., *input shape]`.
        """
        flat, gather = rows.flatten(), self._gather
        if gather is not None and bits is not None:
            x = gather.gather(source, flat, bits.flatten())
        else:
            x = source.index_select(0, flat)
            if self.augment is not None and bits is not None:
                x = self.augment(x, bits.flatten())
        if x.dtype == torch.uint8 and self.encode is not None:
            x = self.encode(x)
        x = as_dtype(x, self.dtype)
        return x.view(*rows.shape, *x.shape[1:])
