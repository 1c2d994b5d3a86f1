"""What every executor takes and does: K networks, a block of steps, one optimiser."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from trainables.population import Population

__all__ = ["Block", "Executor", "ExecutorName", "Hyper", "Loss", "Traits", "halving", "is_out_of_memory"]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits `[B, C]`, targets `[B]`) to per-sample losses `[B]`."""


class ExecutorName(StrEnum):
    """Ways to train a pack; `auto` takes the one that a short measurement at the pack's start finds fastest."""

    AUTO = "auto"
    STACKED = "stacked"
    GROUPED = "grouped"
    BRANCHES = "branches"
    LOOP = "loop"


@dataclass(frozen=True)
class Hyper:
    """What stays the same for each row of a cohort, each `[K]`.

    Attributes:
        weight_decay: L2 coefficient.
        momentum: of SGD.
        grad_noise: standard deviation of noise on every gradient coordinate.
        activation_noise: level of the noise before activations.
        order_row: row of the block's tables that the member follows (its seed).
        draw: index of the member's draw of the data.
    """

    weight_decay: Tensor
    momentum: Tensor
    grad_noise: Tensor
    activation_noise: Tensor
    order_row: Tensor
    draw: Tensor


@dataclass(frozen=True)
class Block:
    """A stretch of T steps for S distinct seeds and K rows.

    Attributes:
        samples: which samples each step sees, `[T, S, B]`.
        bits: random bits of each sample's augmentation, `[T, S, B]`; None without augmentation.
        keys: random key of each step, for noise inside networks and on gradients, `[T, S]`.
        lr: learning rates, `[T, K]`.
        root: Adam's bias corrections, `[T, K, 2]`: the first one, and the square root of the second; None for SGD.
    """

    samples: Tensor
    bits: Tensor | None
    keys: Tensor
    lr: Tensor
    root: Tensor | None

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Traits:
    """What a recipe's steps involve beyond the plain ones; decides what is computed at all.

    Attributes:
        grad_noise: some member adds noise to its gradients.
        activation_noise: some member adds noise before its activations.
        windowed: some member's learning rate waits for its training loss, which is then summed apart.
        autocast: compute in bfloat16; masters, statistics, loss and update stay in float32.
        traced: norms and angles of the weights are summed at every step.
    """

    grad_noise: bool = False
    activation_noise: bool = False
    windowed: bool = False
    autocast: bool = False
    traced: bool = False


class Executor(Protocol):
    """Takes steps with all rows of a population.

    Attributes:
        name: which one it is.
        transposed: parameters it holds with their last two axes swapped.
        note: something the user should know, once.
    """

    name: ExecutorName
    transposed: frozenset[str]
    note: str

    def step(self, population: Population, block: Block, hyper: Hyper) -> None:
        """Take one step for each entry of the block.

        Args:
            population: updated in place.
            block: what the steps see.
            hyper: per-row hyperparameters.
        """
        ...


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host.

    Args:
        error: any error.

    Returns:
        True for torch's own error and for what its CPU allocator raises.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def halving(rows: int, at_once: int, least: int, work: Callable[[int, int], None]) -> int:
    """Do rows in groups, in smaller ones once memory runs out.

    A group's work must leave its rows untouched when it fails. Rows do not feel their neighbours, so the results are
    the same as in one group.

    Args:
        rows: how many there are.
        at_once: the largest group to try.
        least: the smallest group there may be.
        work: does rows `start` to `stop`.

    Returns:
        The group size that worked.

    Raises:
        RuntimeError: memory does not suffice for `least` rows.
    """
    start = 0
    while start < rows:
        left = rows - start
        size = left if left <= at_once or left < 2 * least else min(at_once, left - least)  # leaves `least` at the end
        try:
            work(start, start + size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size < 2 * least:
                raise
            smaller = -(-size // 2)
            logging.getLogger(__name__).debug("out of memory with %d rows", size, exc_info=error)
            at_once = smaller
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start += size
    return at_once
