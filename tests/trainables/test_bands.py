"""Fourier bands: every frequency in one band, and images of one band as the published procedure makes them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.images.bands import keep_band, l1_bands, l1_distance, radial_bands, radius, swap_band

SIDES = st.integers(4, 33)
BANDS = pytest.mark.parametrize("bands", [l1_bands, radial_bands])


def images(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, height, width]).random((count, 3, height, width)))


def test_l1_distance_is_that_of_the_shifted_plane() -> None:
    whole = np.empty((32, 32))
    for row in range(32):
        for column in range(32):
            whole[row, column] = abs(row - 16) + abs(column - 16)
    unshifted = np.fft.ifftshift(whole)
    np.testing.assert_array_equal(l1_distance(32, 32), unshifted[:, :17])
    np.testing.assert_array_equal(unshifted[:, 17:], unshifted[:, 15:0:-1])  # the other half is its mirror image


def test_published_bands_are_those_of_the_published_procedure() -> None:
    x = images(3, 32, 32)
    spectrum = np.fft.fftshift(np.fft.fft2(x.numpy()), axes=(-2, -1))
    row, column = np.indices((32, 32))
    distance = np.abs(row - 16) + np.abs(column - 16)
    edges = {"background": (0, 1), "low": (1, 9), "mid": (9, 25), "high": (25, 33)}
    masks = l1_bands(32, 32)
    assert list(masks) == list(edges)
    for name, (low, high) in edges.items():
        kept = spectrum * ((distance >= low) & (distance < high))
        oracle = np.fft.ifft2(np.fft.ifftshift(kept, axes=(-2, -1)))
        assert np.abs(oracle.imag).max() < 1e-12
        np.testing.assert_allclose(keep_band(x, masks[name]), oracle.real, atol=1e-12)


@pytest.mark.parametrize("side", [8, 16, 64])
def test_other_sizes_keep_the_share_of_the_way_to_the_highest_frequency(side: int) -> None:
    for name, low, high in (("low", 0, 9), ("mid", 9, 25), ("high", 25, 33)):
        along = l1_bands(side, side)[name][: side // 2, 0]
        held = [f for f in range(side // 2) if low <= f * 32 / side < high and f > 0]
        assert along.nonzero().flatten().tolist() == held


@BANDS
@given(height=SIDES, width=SIDES)
@settings(max_examples=25, deadline=None)
def test_bands_add_up_to_the_image_and_share_its_power(bands, height, width) -> None:  # type: ignore[no-untyped-def]
    x = images(2, height, width)
    parts = [keep_band(x, mask) for mask in bands(height, width).values()]
    torch.testing.assert_close(sum(parts), x, atol=1e-12, rtol=0)
    power = sum(part.square().sum((1, 2, 3)) for part in parts)
    torch.testing.assert_close(power, x.square().sum((1, 2, 3)), atol=1e-9, rtol=1e-12)


@given(height=SIDES, width=SIDES, data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_cosine_lies_in_its_own_band_alone(height: int, width: int, data: st.DataObject) -> None:
    fy = data.draw(st.integers(-((height - 1) // 2), (height - 1) // 2))
    fx = data.draw(st.integers(-((width - 1) // 2), (width - 1) // 2))
    y, x = np.indices((height, width))
    wave = torch.from_numpy(np.cos(2 * np.pi * (fy * y / height + fx * x / width)))[None, None]
    far = abs(fy) * 32 / height + abs(fx) * 32 / width
    l1 = "background" if far == 0 else "low" if far < 9 - 1e-9 else "mid" if far < 25 - 1e-9 else "high"
    round_ = np.hypot(fy, fx) / (min(height, width) / 2)
    ring = "dc" if round_ == 0 else f"ring_{int(np.ceil(4 * round_ - 1e-9))}"
    for bands, home in ((l1_bands, l1), (radial_bands, ring)):
        for name, mask in bands(height, width).items():
            kept = keep_band(wave, mask)
            torch.testing.assert_close(kept, wave if name == home else torch.zeros_like(wave), atol=1e-10, rtol=0)


def test_radius_counts_cycles_per_image_over_half_the_side() -> None:
    assert radius(32, 32)[3, 4].item() == 5 / 16
    assert radius(32, 32)[-3, 4].item() == 5 / 16
    assert radius(16, 32)[0, 8].item() == 1.0
    assert [name for name, mask in radial_bands(32, 32).items() if mask[0, 4]] == ["ring_1"]
    assert [name for name, mask in radial_bands(32, 32).items() if mask[0, 5]] == ["ring_2"]
    assert list(radial_bands(32, 32)) == ["dc", "ring_1", "ring_2", "ring_3", "ring_4", "ring_5", "ring_6"]


def test_a_swapped_band_is_the_others_and_the_rest_ones_own() -> None:
    x, mask = images(1300, 8, 8), l1_bands(8, 8)["mid"]
    other = torch.arange(1300).roll(7)
    made = swap_band(x, mask, other)
    torch.testing.assert_close(keep_band(made, mask), keep_band(x, mask)[other], atol=1e-12, rtol=0)
    torch.testing.assert_close(keep_band(made, ~mask), keep_band(x, ~mask), atol=1e-12, rtol=0)
