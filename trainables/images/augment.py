"""Random crop and flip as one gather from padded copies.

The usual augmentation of CIFAR: pad 4 pixels, crop back at random, mirror every other time (He et al. 2016, section
4.2). Every image is kept twice, padded, as it is and mirrored; a crop is then H lines of memory that start where the
random bits say, and a batch is one gather of lines. On one CPU core that is 12 times as fast as gathering pixels.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import torch
from torch import Tensor

from trainables.spec import SpecError

__all__ = ["CropFlip", "Padding"]

_FIELD = (1 << 31) - 1  # 31 random bits: a remainder by 9 is uniform up to one part in 10**8


class Padding(StrEnum):
    """What a crop shows beyond the image's border."""

    ZERO = "zero"
    REFLECT = "reflect"


@dataclass(frozen=True)
class CropFlip:
    """Pad, crop at random, mirror with probability 1/2.

    Attributes:
        padding: pixels on each side, so that a crop has (2 padding + 1)^2 places.
        mode: what lies in the padding.
        capturable: may run inside a CUDA graph.
    """

    padding: int = 4
    mode: Padding = Padding.ZERO
    capturable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise SpecError([f"crop padding must be at least 0, found {self.padding}"])

    def offsets(self, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the bits say: bits 0-30 the line, 31-61 the column, 63 the flip.

        Args:
            bits: int64, any shape.

        Returns:
            Line and column of the crop's corner in the padded image (0 to 2 padding), and whether the crop is mirrored.
        """
        places = 2 * self.padding + 1
        return (bits & _FIELD) % places, ((bits >> 31) & _FIELD) % places, bits < 0

    def prepare(self, x: Tensor) -> Tensor:
        """Padded copies of all images; takes `prepared_bytes`.

        Args:
            x: `[n, H, W, C]`.

        Returns:
            As they are and mirrored, `[n, 2, H + 2 padding, W + 2 padding, C]`.
        """
        height, width = x.shape[1:3]
        edge = self.padding
        if self.mode == Padding.REFLECT and edge >= min(height, width):
            raise SpecError(
                [
                    f"reflected crop padding must be smaller than the image, found {edge} for {width}x{height} pixels; "
                    "take less, or padding_mode zero"
                ]
            )
        padded = x.new_zeros(len(x), 2, height + 2 * edge, width + 2 * edge, x.shape[3])
        if self.mode == Padding.REFLECT:
            rows, columns = (_reflected(side, edge, x.device) for side in (height, width))
            padded[:, 0] = x[:, rows[:, None], columns]
        else:
            padded[:, 0, edge : edge + height, edge : edge + width] = x
        padded[:, 1] = padded[:, 0].flip(2)
        return padded

    def gather(self, prepared: Tensor, rows: Tensor, bits: Tensor) -> Tensor:
        """Crops of some images.

        Args:
            prepared: what `prepare` gave.
            rows: which images, int64, any shape `[...]`.
            bits: 64 random bits for each, `[...]`.

        Returns:
            `[..., H, W, C]`.
        """
        _, _, tall, wide, channels = prepared.shape
        height, width = tall - 2 * self.padding, wide - 2 * self.padding
        top, left, mirrored = self.offsets(bits)
        # The crop of the image, mirrored, is the crop of the mirrored image counted from its other side.
        left = torch.where(mirrored, 2 * self.padding - left, left)
        corner = ((rows * 2 + mirrored) * tall + top) * wide + left
        # Every stretch of `width` pixels, wherever it begins, as one row of a matrix whose rows overlap in memory.
        stretches = prepared.as_strided(
            (prepared.numel() // channels - width + 1, width * channels), (channels, 1), prepared.storage_offset()
        )
        lines = corner[..., None] + torch.arange(height, device=rows.device) * wide
        return stretches.index_select(0, lines.view(-1)).view(*rows.shape, height, width, channels)

    def prepared_bytes(self, images: int, height: int, width: int, channels: int) -> int:
        """Memory of `prepare`'s result for uint8 images.

        Args:
            images: how many.
            height: of each.
            width: of each.
            channels: of each.

        Returns:
            Bytes.
        """
        return 2 * images * (height + 2 * self.padding) * (width + 2 * self.padding) * channels

    def __call__(self, x: Tensor, bits: Tensor) -> Tensor:
        """Change a batch that was not prepared.

        Args:
            x: `[B, H, W, C]`.
            bits: `[B]`.

        Returns:
            `[B, H, W, C]`.
        """
        return self.gather(self.prepare(x), torch.arange(len(x), device=x.device), bits)


def _reflected(side: int, edge: int, device: torch.device) -> Tensor:
    """Which pixel stands where, the border pixel itself not repeated."""
    place = torch.arange(-edge, side + edge, device=device).abs()
    return torch.where(place < side, place, 2 * (side - 1) - place)
