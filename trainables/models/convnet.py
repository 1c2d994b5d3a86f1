"""The small scale-invariant convolutional network, and the same without norms."""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from trainables.models.layers import GlobalMaxPool, frozen_head, image_shape

__all__ = ["convnet_plain", "convnet_si"]

POOLED = (2, 3, 4)  # convolutions followed by a 2x2 max pool


def convnet_si(
    shape: tuple[int, ...], outputs: int, *, width: int, head_norm: float, head_bias: bool, norm_eps: float
) -> nn.Sequential:
    """ConvNet SI of Kodryan et al. (NeurIPS 2022) and Sadrtdinov et al. (NeurIPS 2024).

    Four 3x3 convolutions without bias, `C -> k -> 2k -> 4k -> 8k`, each followed by an affine-free BatchNorm and a
    ReLU; 2x2 max pools after the second to fourth, then the maximum over what is left of the image (4x4 at 32x32 as
    published, 2x2 at 16x16). The loss depends on the direction of each convolution's weight only; the last layer is
    scaled once and never trained.

    Args:
        shape: of one image, `(C, H, W)`, sides of 8 or more.
        outputs: logits.
        width: channels k of the first convolution; published: 32 for CIFAR-10, 128 for CIFAR-100.
        head_norm: Frobenius norm of the frozen last layer's weight.
        head_bias: give the last layer a bias, frozen at its random start, as published.
        norm_eps: added to the variance in BatchNorm; must be small against it for invariance to hold.

    Returns:
        A module with torch's default initial weights: their norm is 12.6 at width 32.
    """
    return _convnet(
        "convnet_si",
        shape,
        outputs,
        width=width,
        head_norm=head_norm,
        head_bias=head_bias,
        norm=lambda channels: nn.BatchNorm2d(channels, eps=norm_eps, affine=False),
    )


def convnet_plain(
    shape: tuple[int, ...], outputs: int, *, width: int, head_norm: float, head_bias: bool
) -> nn.Sequential:
    """The same network without norms: what scale invariance is compared with.

    Args:
        shape: of one image, `(C, H, W)`, sides of 8 or more.
        outputs: logits.
        width: channels of the first convolution.
        head_norm: Frobenius norm of the frozen last layer's weight.
        head_bias: give the last layer a bias, frozen at its random start.

    Returns:
        A module with torch's default initial weights.
    """
    return _convnet(
        "convnet_plain",
        shape,
        outputs,
        width=width,
        head_norm=head_norm,
        head_bias=head_bias,
        norm=lambda channels: nn.Identity(),
    )


def _convnet(
    name: str,
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int,
    head_norm: float,
    head_bias: bool,
    norm: Callable[[int], nn.Module],
) -> nn.Sequential:
    """Four convolutions, each followed by what `norm` makes for its channels."""
    channels, _, _ = image_shape(name, shape, smallest=8)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, out in enumerate((width, 2 * width, 4 * width, 8 * width), start=1):
        layers[f"conv{index}"] = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        layers[f"norm{index}"] = norm(out)
        layers[f"relu{index}"] = nn.ReLU()
        if index in POOLED:
            layers[f"pool{index}"] = nn.MaxPool2d(2)
        channels = out
    layers["pool"] = GlobalMaxPool()
    layers["head"] = frozen_head(channels, outputs, norm=head_norm, bias=head_bias)
    return nn.Sequential(layers)
