"""Fourier bands of images: which frequencies belong to which band, and images that hold one band alone.

Sadrtdinov et al., NeurIPS 2024, arXiv 2410.22113: four bands by the L1 distance |fx| + |fy| from the zero frequency.
A frequency f counts whole waves per image, from -side/2 to side/2. Every mask is symmetric about zero, so that what is
kept of a real image is real.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["PUBLISHED_SIDE", "keep_band", "l1_bands", "l1_distance", "radial_bands", "radius", "swap_band"]

PUBLISHED_SIDE = 32
"""The published bands are those of images of 32x32 pixels."""
_L1_BANDS = {"background": (0.0, 1e-9), "low": (1e-9, 9.0), "mid": (9.0, 25.0), "high": (25.0, 33.0)}
"""Lower bound included, upper excluded. No distance of whole waves lies between 0 and 1e-9."""
RINGS = 4
"""Rings between the zero frequency and the highest that an image can hold along its shorter side."""
BLOCK = 1000
"""Images transformed at once: bounds the memory."""


def _frequencies(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Whole waves per image along each side, of the half plane that `rfft2` gives: `[H, 1]` and `[1, W // 2 + 1]`."""
    fy = torch.fft.fftfreq(height, d=1 / height, dtype=torch.float64)
    fx = torch.fft.rfftfreq(width, d=1 / width, dtype=torch.float64)
    return fy[:, None], fx[None, :]


def l1_distance(height: int, width: int) -> Tensor:
    """L1 distance of every frequency from zero, each side counted as if it had 32 pixels.

    On 32x32 pixels it is |fx| + |fy|, 0 to 32. On other sizes |f| is multiplied by 32 / side, so that a band holds the
    same share of the way from zero to the highest frequency, whatever the size.

    Args:
        height: of the images in pixels.
        width: likewise.

    Returns:
        float64 `[H, W // 2 + 1]`, the half plane that `torch.fft.rfft2` gives.
    """
    fy, fx = _frequencies(height, width)
    distance = fy.abs() * PUBLISHED_SIDE / height + fx.abs() * PUBLISHED_SIDE / width
    return distance.round(decimals=9)  # thirds that add up to a bound count as the bound


def radius(height: int, width: int) -> Tensor:
    """Euclidean distance of every frequency from zero, in units of the highest along the shorter side.

    Args:
        height: of the images in pixels.
        width: likewise.

    Returns:
        float64 `[H, W // 2 + 1]`: cycles per image divided by half the shorter side; 0 to sqrt(2) for a square.
    """
    fy, fx = _frequencies(height, width)
    return torch.hypot(fy, fx) / (min(height, width) / 2)


def l1_bands(height: int, width: int) -> dict[str, Tensor]:
    """The four published bands: background (0, the mean alone), low (1-8), mid (9-24), high (25-32).

    Args:
        height: of the images in pixels.
        width: likewise; distances are those of `l1_distance`.

    Returns:
        Name to bool `[H, W // 2 + 1]`; together they hold every frequency once. Bands without a frequency, as some of
        very small images, are left out.
    """
    distance = l1_distance(height, width)
    masks = {name: (distance >= low) & (distance < high) for name, (low, high) in _L1_BANDS.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def radial_bands(height: int, width: int) -> dict[str, Tensor]:
    """Rings of equal width by radius, the zero frequency apart.

    Ring k holds the radii above (k - 1) / 4 up to k / 4 of the highest frequency along the shorter side: on 32x32
    pixels above 4 (k - 1) up to 4 k cycles per image. Rings beyond the fourth are the corners of the plane.

    Args:
        height: of the images in pixels.
        width: likewise.

    Returns:
        `dc`, `ring_1`, `ring_2`, ... to bool `[H, W // 2 + 1]`; together they hold every frequency once.
    """
    number = torch.ceil(radius(height, width) * RINGS - 1e-9).to(torch.int64)
    names = {0: "dc", **{ring: f"ring_{ring}" for ring in range(1, int(number.max()) + 1)}}
    masks = {name: number == ring for ring, name in names.items()}
    return {name: mask for name, mask in masks.items() if mask.any()}


def keep_band(images: Tensor, mask: Tensor) -> Tensor:
    """Images of one band: every other frequency is set to 0.

    Args:
        images: floating, `[n, C, H, W]`.
        mask: from `l1_bands` or `radial_bands`.

    Returns:
        `[n, C, H, W]`.
    """
    return _transformed(images, {"kept": mask}, None)


def swap_band(images: Tensor, mask: Tensor, other: Tensor) -> Tensor:
    """Images with one band taken from another image, so that the band keeps its power but tells nothing of the class.

    Args:
        images: floating, `[n, C, H, W]`.
        mask: from `l1_bands` or `radial_bands`.
        other: the image that each one's band is taken from, `[n]`.

    Returns:
        `[n, C, H, W]`.
    """
    return _transformed(images, {"kept": ~mask, "taken": mask}, other)


def _transformed(images: Tensor, masks: Mapping[str, Tensor], other: Tensor | None) -> Tensor:
    made = torch.empty_like(images)
    size = images.shape[-2:]
    for start in range(0, len(images), BLOCK):
        rows = slice(start, start + BLOCK)
        spectrum = torch.fft.rfft2(images[rows]) * masks["kept"]
        if other is not None:
            spectrum += torch.fft.rfft2(images[other[rows]]) * masks["taken"]
        made[rows] = torch.fft.irfft2(spectrum, s=size)
    return made
