"""Pre-activation residual networks for small images: ResNet-18, PreActResNet-(6n+2), Wide ResNet.

In a pre-activation block a convolution's output is added to the stream without a norm. A network is then invariant to
one common scale of all its convolutions, not to the scale of each: the stream's writers (stem, second convolutions,
shortcuts) must grow together. Shortcut convolutions that read the raw stream would scale it twice, which is why they
get a norm of their own.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.models.layers import GlobalAveragePool, frozen_head, image_shape
from trainables.spec import SpecError

__all__ = ["PreActBlock", "PreActResNet", "preact_resnet32", "resnet18", "resnet18_si", "wide_resnet"]


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and ReLU, added to the block's input (He et al., ECCV 2016).

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
        affine: norms have a trained scale and shift.
        norm_eps: added to the variance in BatchNorm.
        shared_start: where the shape changes, the shortcut convolution reads the block's first norm and ReLU, as in
            Wide ResNet; otherwise it reads the block's input through a norm of its own.
        dropout: between the convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        affine: bool,
        norm_eps: float,
        shared_start: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs, eps=norm_eps, affine=affine)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, eps=norm_eps, affine=affine)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shared_start = shared_start
        self.shortcut: nn.Module = nn.Identity()
        self.changes_shape = stride != 1 or inputs != outputs
        if self.changes_shape:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            norm = nn.BatchNorm2d(inputs, eps=norm_eps, affine=affine)
            self.shortcut = projection if shared_start else nn.Sequential(norm, projection)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `[B, inputs, H, W]`; returns `[B, outputs, H / stride, W / stride]`."""
        start = self.relu1(self.norm1(x))
        rest = self.shortcut(start if self.shared_start and self.changes_shape else x)
        change = self.conv2(self.dropout(self.relu2(self.norm2(self.conv1(start)))))
        out: Tensor = change + rest
        return out


class PreActResNet(nn.Module):
    """A 3x3 stem, stages of pre-activation blocks, norm, ReLU, global average pool and a linear head.

    Args:
        stem: the first convolution.
        stages: the blocks, stage by stage; each stage after the first halves the image.
        norm: of the last stage's output.
        head: features to logits.
    """

    def __init__(self, stem: nn.Conv2d, stages: Sequence[nn.Module], norm: nn.BatchNorm2d, head: nn.Linear) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.norm = norm
        self.relu = nn.ReLU()
        self.pool = GlobalAveragePool()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, outputs]` of images `[B, C, H, W]`."""
        logits: Tensor = self.head(self.pool(self.relu(self.norm(self.stages(self.stem(x))))))
        return logits


def _body(
    channels: int,
    stem_width: int,
    widths: Sequence[int],
    blocks: int,
    *,
    affine: bool,
    norm_eps: float,
    shared_start: bool = False,
    dropout: float = 0.0,
) -> tuple[nn.Conv2d, list[nn.Module], nn.BatchNorm2d]:
    """Everything but the head: `blocks` in each of the stages, of the given widths."""
    stem = nn.Conv2d(channels, stem_width, 3, padding=1, bias=False)
    stages: list[nn.Module] = []
    inputs = stem_width
    for index, width in enumerate(widths):
        stage = []
        for block in range(blocks):
            stride = 2 if index > 0 and block == 0 else 1
            stage.append(
                PreActBlock(
                    inputs,
                    width,
                    stride,
                    affine=affine,
                    norm_eps=norm_eps,
                    shared_start=shared_start,
                    dropout=dropout,
                )
            )
            inputs = width
        stages.append(nn.Sequential(*stage))
    return stem, stages, nn.BatchNorm2d(inputs, eps=norm_eps, affine=affine)


def resnet18_si(
    shape: tuple[int, ...], outputs: int, *, width: int, head_norm: float, head_bias: bool, norm_eps: float
) -> PreActResNet:
    """ResNet-18 SI of Kodryan et al. (NeurIPS 2022) and Sadrtdinov et al. (NeurIPS 2024).

    Blocks 2-2-2-2 of widths k, 2k, 4k, 8k; every BatchNorm affine-free, one more in front of each shortcut
    convolution; the last layer scaled once and never trained. The loss depends on the direction of all
    convolutions taken as one vector.

    Args:
        shape: of one image, `(C, H, W)`.
        outputs: logits.
        width: k; published: 32.
        head_norm: Frobenius norm of the frozen last layer's weight.
        head_bias: give the last layer a bias, frozen at its random start; published: none.
        norm_eps: added to the variance in BatchNorm; must be small against it for invariance to hold.

    Returns:
        A module with torch's default initial weights: their norm is 28.3 at width 32.
    """
    channels, _, _ = image_shape("resnet18_si", shape, smallest=8)
    stem, stages, norm = _body(channels, width, [width << i for i in range(4)], 2, affine=False, norm_eps=norm_eps)
    return PreActResNet(stem, stages, norm, frozen_head(8 * width, outputs, norm=head_norm, bias=head_bias))


def resnet18(shape: tuple[int, ...], outputs: int, *, width: int, head_bias: bool, norm_eps: float) -> PreActResNet:
    """The practical ResNet-18 of the same papers: affine BatchNorm, every parameter trained.

    Args:
        shape: of one image, `(C, H, W)`.
        outputs: logits.
        width: channels of the first stage; published: 64, which makes 11,173,056 parameters for 10 classes.
        head_bias: give the last layer a bias; published: none.
        norm_eps: added to the variance in BatchNorm.

    Returns:
        A module with torch's default initial weights.
    """
    channels, _, _ = image_shape("resnet18", shape, smallest=8)
    stem, stages, norm = _body(channels, width, [width << i for i in range(4)], 2, affine=True, norm_eps=norm_eps)
    return PreActResNet(stem, stages, norm, nn.Linear(8 * width, outputs, bias=head_bias))


def preact_resnet32(
    shape: tuple[int, ...], outputs: int, *, width: int, affine: bool, head_norm: float, norm_eps: float
) -> PreActResNet:
    """PreResNet-32, as in the studies of the intrinsic learning rate (Li, Lyu, Arora, NeurIPS 2020).

    Three stages of 5 blocks, widths k, 2k, 4k. Without affine parameters the last layer is frozen as well, so that the
    loss depends on the direction of all trained weights only; with them it is an ordinary network.

    Args:
        shape: of one image, `(C, H, W)`.
        outputs: logits.
        width: k; 16 in the paper by He et al.
        affine: norms have a trained scale and shift, and the head is trained, with a bias.
        head_norm: Frobenius norm of the frozen head; without meaning when `affine`.
        norm_eps: added to the variance in BatchNorm.

    Returns:
        A module with torch's default initial weights.
    """
    channels, _, _ = image_shape("preact_resnet32", shape, smallest=8)
    stem, stages, norm = _body(channels, width, [width << i for i in range(3)], 5, affine=affine, norm_eps=norm_eps)
    head = nn.Linear(4 * width, outputs) if affine else frozen_head(4 * width, outputs, norm=head_norm, bias=False)
    return PreActResNet(stem, stages, norm, head)


def wide_resnet(
    shape: tuple[int, ...], outputs: int, *, depth: int, widen: int, dropout: float, norm_eps: float
) -> PreActResNet:
    """Wide ResNet (Zagoruyko and Komodakis, BMVC 2016), as in the learning-order study of Li, Wei, Ma (NeurIPS 2019).

    Three stages of (depth - 4) / 6 blocks, widths 16, 32, 64 times `widen`, a stem of 16 channels; shortcut
    convolutions read the block's first norm and ReLU. Convolutions start at N(0, 2 / (k k out)), the head's bias at 0.

    Args:
        shape: of one image, `(C, H, W)`.
        outputs: logits.
        depth: 6n + 4; published: 16.
        widen: multiplies the widths; published: 10, which makes 17,116,634 parameters for 10 classes.
        dropout: between the two convolutions of a block.
        norm_eps: added to the variance in BatchNorm.

    Returns:
        A module with 2 norm-ReLU sites for each block and a final one.

    Raises:
        SpecError: `depth` is not 6n + 4, or the inputs are not images.
    """
    channels, _, _ = image_shape("wide_resnet", shape, smallest=8)
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise SpecError([f"model depth of wide_resnet must be 6n + 4 (10, 16, 22, 28, ...), found {depth}"])
    widths = [16 * widen << i for i in range(3)]
    stem, stages, norm = _body(
        channels, 16, widths, blocks, affine=True, norm_eps=norm_eps, shared_start=True, dropout=dropout
    )
    module = PreActResNet(stem, stages, norm, nn.Linear(widths[-1], outputs))
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (math.prod(layer.kernel_size) * layer.out_channels)))
    with torch.no_grad():
        module.head.bias.zero_()
    return module
