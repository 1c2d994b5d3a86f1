"""From stored pixels to network inputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["Normalise", "measured"]

BLOCK = 4096


@lru_cache(maxsize=32)
def _scale_and_shift(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """The constants of x / (255 std) - mean / std, made once on each device: a CUDA graph may not copy them in."""
    at, spread = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    return (1 / (255 * spread)).float().to(device), (-at / spread).float().to(device)


@dataclass(frozen=True)
class Normalise:
    """Pixels to inputs of given mean and standard deviation, channel by channel.

    Attributes:
        mean: of each channel, pixels counted from 0 to 1.
        std: standard deviation likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            x: uint8 `[..., H, W, C]`.

        Returns:
            float32 `[..., C, H, W]`, a view that keeps the memory order of `x`: a batch is channels-last.
        """
        # A compiler traces through the cache's wrapper and warns of it: there, the constants are made in the graph.
        constants = _scale_and_shift.__wrapped__ if torch.compiler.is_compiling() else _scale_and_shift
        scale, shift = constants(self.mean, self.std, x.device)
        # Not fused: a fused multiply-add rounds once where two operations round twice, and which of them runs depends
        # on the place in a vector register.
        return x.movedim(-1, -3).to(torch.float32).mul_(scale).add_(shift)


def measured(images: Sequence[Tensor]) -> Normalise:
    """The encoding that gives these images mean 0 and standard deviation 1 in every channel.

    Args:
        images: uint8 `[n, H, W, C]` each; at least one image in all.

    Returns:
        Its mean and standard deviation, exact; a channel of one value only is left unscaled.
    """
    pixels = 0
    total = squares = torch.zeros((), dtype=torch.int64)
    for part in images:
        for block in torch.split(part, BLOCK):  # sums of integers: exact, in whatever order they are taken
            values = block.reshape(-1, block.shape[-1]).to(torch.int64)
            pixels += len(values)
            total = total + values.sum(0)
            squares = squares + values.square().sum(0)
    mean = total.double() / pixels
    std = (squares.double() / pixels - mean.square()).clamp(min=0).sqrt()
    std = torch.where(std > 0, std, 255.0)
    return Normalise(tuple((mean / 255).tolist()), tuple((std / 255).tolist()))
