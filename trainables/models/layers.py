"""Small pieces that several networks share."""

import sys

import torch
from torch import Tensor, nn

from trainables.spec import SpecError

__all__ = ["GlobalAveragePool", "GlobalMaxPool", "batch_norm_eps", "frozen_head", "image_shape"]


class GlobalMaxPool(nn.Module):
    """Largest value of each channel, `[B, C, H, W]` to `[B, C]`.

    A plain reduction: the backward pass of torch's adaptive pools adds atomically on a GPU, so its bits vary.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Reduce the two spatial axes of `[B, C, H, W]`."""
        return x.amax((2, 3))


class GlobalAveragePool(nn.Module):
    """Mean of each channel, `[B, C, H, W]` to `[B, C]`; a plain reduction for the same reason."""

    def forward(self, x: Tensor) -> Tensor:
        """Reduce the two spatial axes of `[B, C, H, W]`."""
        return x.mean((2, 3))


def batch_norm_eps(eps: float) -> float:
    """The eps to build a batch norm with.

    Torch refuses to train one with eps 0. The smallest normal number in its place changes no bit of any variance above
    1e-291; an input that is constant in a batch becomes 0 in float64, and not a number in float32.

    Args:
        eps: what is wanted, at least 0.

    Returns:
        `eps`, or the smallest positive normal double where it is 0.
    """
    return eps or sys.float_info.min


def frozen_head(inputs: int, outputs: int, *, norm: float, bias: bool) -> nn.Linear:
    """A last layer that is never trained, as the scale-invariant set-ups have it.

    Args:
        inputs: features.
        outputs: logits.
        norm: Frobenius norm to which torch's default initial weight is scaled.
        bias: have a bias, left at its default random start.

    Returns:
        A linear layer whose parameters need no gradient.
    """
    head = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        head.weight *= norm / head.weight.norm()
    return head.requires_grad_(False)


def image_shape(model: str, shape: tuple[int, ...], *, smallest: int, multiple: int = 1) -> tuple[int, int, int]:
    """Check that inputs are images a network can take.

    Args:
        model: how the network is called in a sweep file.
        shape: of one input.
        smallest: legal height and width.
        multiple: of which height and width must be.

    Returns:
        Channels, height, width.

    Raises:
        SpecError: they are not; one sentence for each fault.
    """
    if len(shape) != 3:
        raise SpecError([f"model {model!r} takes images (channels, height, width), found inputs of shape {shape}"])
    faults = [
        f"model {model!r} takes images at least {smallest} pixels {side}, found {size}"
        for side, size in zip(("high", "wide"), shape[1:], strict=True)
        if size < smallest
    ]
    if any(size % multiple for size in shape[1:]):
        faults.append(f"model {model!r} takes image sides that are multiples of {multiple}, found {shape[1:]}")
    if faults:
        raise SpecError(faults)
    channels, height, width = shape
    return channels, height, width
