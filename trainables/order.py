"""Which samples each step sees: a function of (seed, epoch), of nothing else.

The order does not depend on the pack, the slot, the attempt or the device, so a resumed run sees exactly what an
uninterrupted one sees, and there is no generator state to save.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["batches", "sample_bits", "step_keys", "steps_per_epoch"]

_MASK = (1 << 64) - 1


def _signed(constant: int) -> int:
    """A 64-bit constant as torch's signed integers hold it."""
    constant &= _MASK
    return constant - (1 << 64) if constant >> 63 else constant


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift of 64-bit integers (torch's is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finaliser of the SplitMix64 generator: a bijection of 64-bit integers with avalanche."""
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Whole batches in one pass; the rest of the pass is left out, another rest in every epoch.

    Args:
        samples: size of the training set.
        batch_size: samples per step.

    Returns:
        At least 1.

    Raises:
        ValueError: a batch is larger than the training set.
    """
    if batch_size > samples:
        raise ValueError(f"batch_size must be at most the number of training samples ({samples}), found {batch_size}")
    return samples // batch_size


def batches(seeds: Sequence[int], samples: int, batch_size: int, start: int, stop: int) -> Tensor:
    """Sample indices of steps `start` to `stop`, for each seed.

    Each epoch is a permutation: the samples sorted by a hash of (seed, epoch, sample).

    Args:
        seeds: training seeds.
        samples: size of the training set.
        batch_size: samples per step.
        start: first step.
        stop: one past the last step.

    Returns:
        Indices, `[stop - start, len(seeds), batch_size]`, int64.
    """
    per_epoch = steps_per_epoch(samples, batch_size)
    first, last = start // per_epoch, (stop - 1) // per_epoch
    seed = _mix(torch.as_tensor(seeds, dtype=torch.long) + _signed(0x9E3779B97F4A7C15))
    epoch = _mix(seed[:, None] + torch.arange(first, last + 1) * _signed(0xD1B54A32D192ED03))
    keys = _mix(epoch[:, :, None] + torch.arange(samples) * _signed(0x9E3779B97F4A7C15))
    order = keys.argsort(dim=2)[:, :, : per_epoch * batch_size]
    steps = order.reshape(len(seeds), -1, batch_size).transpose(0, 1)
    return steps[start - first * per_epoch : stop - first * per_epoch].contiguous()


def sample_bits(seeds: Sequence[int], table: Tensor, samples: int, batch_size: int, start: int) -> Tensor:
    """64 random bits for each sample of a table: a function of (seed, epoch, sample).

    Args:
        seeds: training seeds.
        table: from `batches`, `[T, len(seeds), batch_size]`.
        samples: size of the training set.
        batch_size: samples per step.
        start: the table's first step.

    Returns:
        int64, of the table's shape.
    """
    epoch = torch.arange(start, start + len(table)) // steps_per_epoch(samples, batch_size)
    seed = _mix(torch.as_tensor(seeds, dtype=torch.long) + _signed(0x8CB92BA72F3D8DD7))
    key = _mix(seed[None, :] + epoch[:, None] * _signed(0xD1B54A32D192ED03))
    return _mix(key[:, :, None] + table * _signed(0x9E3779B97F4A7C15))


def step_keys(seeds: Sequence[int], start: int, stop: int) -> Tensor:
    """One random key for each step: a function of (seed, step).

    Args:
        seeds: training seeds.
        start: first step.
        stop: one past the last step.

    Returns:
        int64, `[stop - start, len(seeds)]`.
    """
    seed = _mix(torch.as_tensor(seeds, dtype=torch.long) + _signed(0xB5AD4ECEDA1CE2A9))
    return _mix(seed[None, :] + torch.arange(start, stop)[:, None] * _signed(0x9E3779B97F4A7C15))
