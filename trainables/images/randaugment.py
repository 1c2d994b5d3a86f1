"""RandAugment after crop and flip, driven by explicit random bits.

Cubuk et al. 2020, arXiv 1909.13719, with the operations, magnitudes and signs of torchvision's
`transforms.v2.RandAugment`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from trainables.images.augment import CropFlip
from trainables.spec import SpecError

__all__ = ["OPERATIONS", "Operation", "RandAugment"]

BINS = 31
Apply = Callable[[Tensor, float], Tensor]
Strength = Callable[[int, int], float]


@dataclass(frozen=True)
class Operation:
    """One change of an image.

    Attributes:
        apply: (uint8 `[n, C, H, W]`, strength) to changed images; every image on its own.
        strength: (magnitude, side of the image in pixels) to the strength.
        signed: the strength is negative every other time.
        vertical: the side meant is the height.
    """

    apply: Apply
    strength: Strength = lambda _magnitude, _side: 0.0
    signed: bool = False
    vertical: bool = False


def _sheared(axis: int) -> Apply:
    def apply(x: Tensor, strength: float) -> Tensor:
        shear = [0.0, 0.0]
        shear[axis] = math.degrees(math.atan(strength))
        changed: Tensor = F.affine(x, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
        return changed

    return apply


def _moved(axis: int) -> Apply:
    def apply(x: Tensor, strength: float) -> Tensor:
        translate = [0, 0]
        translate[axis] = int(strength)
        changed: Tensor = F.affine(x, angle=0.0, translate=translate, scale=1.0, shear=[0.0, 0.0])
        return changed

    return apply


def _linear(largest: float, smallest: float = 0.0) -> Strength:
    return lambda magnitude, _side: _bin(smallest, largest, magnitude)


def _bin(smallest: float, largest: float, magnitude: int) -> float:
    """As torchvision rounds it, in float32: a rotation by one part in 10**7 more moves other pixels."""
    return float(torch.linspace(smallest, largest, BINS)[magnitude])


def _share_of_side(magnitude: int, side: int) -> float:
    return _bin(0.0, 150.0 / 331.0 * side, magnitude)


OPERATIONS: Mapping[str, Operation] = {
    "Identity": Operation(lambda x, _: x),
    "ShearX": Operation(_sheared(0), _linear(0.3), signed=True),
    "ShearY": Operation(_sheared(1), _linear(0.3), signed=True),
    "TranslateX": Operation(_moved(0), _share_of_side, signed=True),
    "TranslateY": Operation(_moved(1), _share_of_side, signed=True, vertical=True),
    "Rotate": Operation(lambda x, angle: F.rotate(x, angle), _linear(30.0), signed=True),
    "Brightness": Operation(lambda x, by: F.adjust_brightness(x, 1 + by), _linear(0.9), signed=True),
    "Color": Operation(lambda x, by: F.adjust_saturation(x, 1 + by), _linear(0.9), signed=True),
    "Contrast": Operation(lambda x, by: F.adjust_contrast(x, 1 + by), _linear(0.9), signed=True),
    "Sharpness": Operation(lambda x, by: F.adjust_sharpness(x, 1 + by), _linear(0.9), signed=True),
    "Posterize": Operation(
        lambda x, bits: F.posterize(x, int(bits)), lambda magnitude, _: 8 - round(4 * magnitude / (BINS - 1))
    ),
    "Solarize": Operation(lambda x, share: F.solarize(x, 255 * share), _linear(0.0, 1.0)),
    "AutoContrast": Operation(lambda x, _: F.autocontrast(x)),
    "Equalize": Operation(lambda x, _: F.equalize(x)),
}
"""In torchvision's order; new borders are filled with black, as there."""
_ALL = tuple(OPERATIONS.values())


@dataclass(frozen=True)
class RandAugment:
    """Crop and flip, then `n` operations drawn uniformly with repetition, all of one magnitude.

    What happens to an image follows from its own bits: whatever else is in the batch, the result is the same.

    Attributes:
        n: operations one after another.
        magnitude: bin of every operation's strength, 0 to 30.
        crop: what happens before; None for nothing.
        capturable: which images an operation gets is read on the host, so not inside a CUDA graph.
    """

    n: int = 2
    magnitude: int = 14
    crop: CropFlip | None = field(default_factory=CropFlip)
    capturable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        faults = []
        if self.n < 0:
            faults.append(f"RandAugment's n must be at least 0, found {self.n}")
        if not 0 <= self.magnitude < BINS:
            faults.append(f"RandAugment's magnitude must be from 0 to {BINS - 1}, found {self.magnitude}")
        if faults:
            raise SpecError(faults)

    def drawn(self, bits: Tensor) -> tuple[Tensor, Tensor]:
        """Which operations each image gets.

        Args:
            bits: `[B]`.

        Returns:
            Place in `OPERATIONS`, and whether the strength is negative; `[n, B]` both.
        """
        which, negative = [], []
        for _ in range(self.n):
            # One step of Knuth's MMIX generator each: crop and flip use the bits themselves.
            bits = bits * 6364136223846793005 + 1442695040888963407
            high = (bits >> 32) & 0x7FFFFFFF
            which.append((high >> 1) % len(_ALL))
            negative.append((high & 1).bool())
        empty = bits.new_empty(0, len(bits))
        return torch.stack(which) if which else empty, torch.stack(negative) if negative else empty.bool()

    def __call__(self, x: Tensor, bits: Tensor) -> Tensor:
        """Change a batch.

        Args:
            x: uint8 `[B, H, W, C]` with 1 or 3 channels.
            bits: 64 random bits for each image, `[B]`.

        Returns:
            uint8 `[B, H, W, C]`.
        """
        x = self.crop(x, bits) if self.crop else x.clone()
        images = x.permute(0, 3, 1, 2)
        for which, negative in zip(*self.drawn(bits), strict=True):
            kinds = which * 2 + negative
            for kind in kinds.unique().tolist():
                operation, minus = _ALL[kind // 2], kind % 2
                side = images.shape[2 if operation.vertical else 3]
                strength = operation.strength(self.magnitude, side)
                strength = -strength if operation.signed and minus else strength
                rows = (kinds == kind).nonzero()[:, 0]
                images[rows] = operation.apply(images[rows], strength)
        return images.permute(0, 2, 3, 1)
