"""Random directions in weight space, from an explicit source of randomness."""

import torch
from torch import Tensor

__all__ = ["normal_like", "unit_direction"]


def normal_like(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Independent standard normal numbers, `[P]`.

    Args:
        weights: says size, dtype and device.
        generator: on the CPU, so that a seed means the same numbers on every device.
    """
    return torch.randn(weights.shape, generator=generator, dtype=weights.dtype).to(weights.device)


def unit_direction(weights: Tensor, generator: torch.Generator) -> Tensor:
    """A direction of length 1 drawn uniformly from the sphere, `[P]`; arguments as in `normal_like`."""
    drawn = normal_like(weights, generator)
    direction: Tensor = drawn / drawn.norm()
    return direction
