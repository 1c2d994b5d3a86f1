"""Test images of one Fourier band as probe sets: what a network still recognises when it sees nothing else.

Four groups, each an own variant: `bands` as published, `bands_renormalised`, `radial_bands`, `randomised_bands`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trainables.images.bands import keep_band, l1_bands, radial_bands, swap_band
from trainables.tasks.base import ProbeGroup, Split

__all__ = ["Pictures", "band_groups"]

SEED = 0xBA2D  # which image lends its band to which is the same for all members: one yardstick
PROBE = "band_accuracy"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The images that bands are made of.

    Attributes:
        split: the images as stored.
        pixels: stored images to pixels from 0 to 1, floating `[n, C, H, W]`.
        mean: of each channel, pixels counted from 0 to 1; the network sees (pixel - mean) / std.
        std: likewise.
        flat: whether the network takes a row of pixels instead of an image.
    """

    split: Split
    pixels: Callable[[Tensor], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flat: bool = False

    def taken(self, samples: int | None) -> tuple[Tensor, Tensor]:
        """Some images, evenly spaced over the split, which may be in the order of its classes.

        Args:
            samples: at most how many; None for all.

        Returns:
            Pixels `[n, C, H, W]` and targets `[n]`.
        """
        size = len(self.split)
        rows = torch.arange(size) if samples is None or samples >= size else torch.arange(samples) * size // samples
        return self.pixels(self.split.x[rows]), self.split.y[rows]

    def centred(self, images: Tensor) -> Tensor:
        """Pixels to network inputs, `[n, C, H, W]`."""
        return self.scaled(images - torch.tensor(self.mean, dtype=images.dtype).view(-1, 1, 1))

    def scaled(self, images: Tensor) -> Tensor:
        """Deviations from the mean to network inputs, `[n, C, H, W]`."""
        return images / torch.tensor(self.std, dtype=images.dtype).view(-1, 1, 1)

    def finished(self, images: Tensor, y: Tensor) -> Split:
        """Network inputs `[n, C, H, W]` with their targets, laid out as the network reads them."""
        x = images.flatten(1) if self.flat else images.contiguous(memory_format=torch.channels_last)
        return Split(x, y)


def _published(pictures: Pictures, samples: int | None) -> Iterator[tuple[str, Split]]:
    """The background is normalised as images are; the other bands, of mean 0, reach the network as they are."""
    images, y = pictures.taken(samples)
    for name, mask in l1_bands(*images.shape[-2:]).items():
        band = keep_band(images, mask)
        yield name, pictures.finished(pictures.centred(band) if name == "background" else band, y)


def _renormalised(pictures: Pictures, samples: int | None) -> Iterator[tuple[str, Split]]:
    """Every band is brought to mean 0 and standard deviation 1, each channel by its own, over these images."""
    images, y = pictures.taken(samples)
    for name, mask in l1_bands(*images.shape[-2:]).items():
        band = keep_band(images, mask)
        std, mean = torch.std_mean(band, dim=(0, 2, 3), correction=0, keepdim=True)
        yield name, pictures.finished((band - mean) / torch.where(std > 1e-6, std, 1.0), y)


def _radial(pictures: Pictures, samples: int | None) -> Iterator[tuple[str, Split]]:
    """Every ring stands on the mean colour of the data set and is normalised as images are: (mean + ring - mean) / std.

    The inputs of all rings and the zero frequency add up to the input of the whole image.
    """
    images, y = pictures.taken(samples)
    for name, mask in radial_bands(*images.shape[-2:]).items():
        band = keep_band(images, mask)
        yield name, pictures.finished(pictures.centred(band) if name == "dc" else pictures.scaled(band), y)


def _randomised(pictures: Pictures, samples: int | None) -> Iterator[tuple[str, Split]]:
    """`whole` images, then images of which one band is another image's: what a network loses without the band."""
    images, y = pictures.taken(samples)
    yield "whole", pictures.finished(pictures.centred(images), y)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # along a circle: nobody gets their own band unless they are alone
    for name, mask in l1_bands(*images.shape[-2:]).items():
        yield name, pictures.finished(pictures.centred(swap_band(images, mask, other)), y)


_VARIANTS = {
    "bands": ("published", _published),
    "bands_renormalised": ("renormalised", _renormalised),
    "radial_bands": ("radial", _radial),
    "randomised_bands": ("randomised", _randomised),
}


def band_groups(pictures: Pictures) -> dict[str, ProbeGroup]:
    """The groups of probe sets that every task of images has.

    Args:
        pictures: the images, those of the test split.

    Returns:
        `bands` (split `published`): the four L1 bands; only the background, the mean colour, is normalised.
        `bands_renormalised` (`renormalised`): the same, each band brought to mean 0 and standard deviation 1.
        `radial_bands` (`radial`): rings by radius on the data set's mean colour, normalised like images.
        `randomised_bands` (`randomised`): whole images, then images with one L1 band of another image.
    """
    return {
        name: ProbeGroup(probe=PROBE, split=split, sets=partial(make, pictures), source=pictures.split)
        for name, (split, make) in _VARIANTS.items()
    }
