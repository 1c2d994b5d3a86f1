"""Crop, flip and RandAugment do what torchvision does for the same offsets, operations and signs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from trainables.images.augment import CropFlip, Padding
from trainables.images.encode import Normalise, measured
from trainables.images.randaugment import OPERATIONS, RandAugment
from trainables.spec import SpecError
from trainables.tasks.base import GatherAugment

TORCHVISION_MODE = {Padding.ZERO: "constant", Padding.REFLECT: "reflect"}


def images(count: int, height: int = 12, width: int = 10, channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8, generator=generator)


def random_bits(*shape: int, seed: int = 1) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-(2**63), 2**63, shape, dtype=np.int64))


def cropped(image: Tensor, top: int, left: int, mirrored: bool, padding: int, mode: Padding) -> Tensor:
    """torchvision's own pad, crop and flip of one image `[H, W, C]`."""
    plane = F.pad(image.permute(2, 0, 1), [padding] * 4, padding_mode=TORCHVISION_MODE[mode])
    plane = F.crop(plane, top, left, *image.shape[:2])
    return (F.horizontal_flip(plane) if mirrored else plane).permute(1, 2, 0)


@pytest.mark.parametrize("mode", Padding)
@pytest.mark.parametrize(("padding", "channels"), [(4, 3), (2, 1), (0, 3)])
def test_crop_and_flip_equal_torchvision_for_every_offset(mode: Padding, padding: int, channels: int) -> None:
    change, stored = CropFlip(padding, mode), images(5, channels=channels)
    places = 2 * padding + 1
    spots = [(t, s, f) for t in range(places) for s in range(places) for f in (False, True)]
    # bits that say just this: see CropFlip.offsets
    said = torch.tensor([t + (s << 31) - (2**63 if f else 0) for t, s, f in spots])
    assert [tuple(map(int, spot)) for spot in zip(*change.offsets(said), strict=True)] == [
        (t, s, int(f)) for t, s, f in spots
    ]
    rows = torch.arange(len(spots)) % len(stored)
    found = change.gather(change.prepare(stored), rows, said)
    assert found.dtype == torch.uint8
    for spot, row, image in zip(spots, rows, found, strict=True):
        assert torch.equal(image, cropped(stored[row], *spot, padding, mode)), spot


def test_gather_takes_any_shape_and_agrees_with_the_batch_call() -> None:
    change, stored = CropFlip(), images(9)
    assert isinstance(change, GatherAugment)
    rows, bits = torch.arange(24).view(2, 3, 4) % 9, random_bits(2, 3, 4)
    found = change.gather(change.prepare(stored), rows, bits)
    assert found.shape == (2, 3, 4, 12, 10, 3)
    assert torch.equal(found.flatten(0, 2), change(stored[rows.flatten()], bits.flatten()))
    assert change.prepare(stored).numel() == change.prepared_bytes(9, 12, 10, 3)


def test_gather_is_one_graph_without_breaks() -> None:
    # What torch.compile(fullgraph=True) takes holds no read by the host: the same that a CUDA graph asks for.
    change, stored = CropFlip(), images(6)
    prepared, rows, bits = change.prepare(stored), torch.arange(6), random_bits(6)
    compiled = torch.compile(change.gather, fullgraph=True, backend="eager")
    assert torch.equal(compiled(prepared, rows, bits), change.gather(prepared, rows, bits))
    assert change.capturable
    assert not RandAugment().capturable


def test_offsets_are_uniform_and_independent() -> None:
    top, left, mirrored = CropFlip().offsets(random_bits(60_000))
    joint = torch.bincount((top * 9 + left) * 2 + mirrored, minlength=162)
    assert stats.chisquare(joint.numpy()).pvalue > 1e-3


def test_floats_are_cropped_too() -> None:
    stored, bits = images(4).float(), random_bits(4)
    assert torch.equal(CropFlip()(stored, bits), CropFlip()(stored.to(torch.uint8), bits).float())


def test_reflection_must_fit_into_the_image() -> None:
    with pytest.raises(SpecError, match=r"smaller than the image, found 10 for 10x12"):
        CropFlip(10, Padding.REFLECT).prepare(images(1))
    with pytest.raises(SpecError, match="at least 0"):
        CropFlip(-1)


class Stub:
    """Random numbers that torchvision is made to draw: the operation, then the sign where it asks for one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, draws: list[tuple[int, bool]]) -> None:
        which, signs = [operation for operation, _ in draws], [minus for _, minus in draws]
        signed = [list(OPERATIONS.values())[operation].signed for operation in which]
        self.signs = [minus for minus, asked in zip(signs, signed, strict=True) if asked]
        self.which = which
        monkeypatch.setattr(torch, "randint", lambda *_args, **_more: torch.tensor(self.which.pop(0)))
        monkeypatch.setattr(torch, "rand", lambda *_args, **_more: torch.tensor(0.4 if self.signs.pop(0) else 0.6))


@pytest.mark.parametrize("magnitude", [0, 7, 14, 30])
def test_randaugment_equals_torchvision_with_the_same_draws(monkeypatch: pytest.MonkeyPatch, magnitude: int) -> None:
    ours, theirs = RandAugment(n=2, magnitude=magnitude, crop=None), v2.RandAugment(num_ops=2, magnitude=magnitude)
    stored, bits = images(120, height=32, width=32, seed=magnitude), random_bits(120, seed=magnitude)
    which, negative = ours.drawn(bits)
    found = ours(stored, bits)
    assert set(which.flatten().tolist()) == set(range(14))
    for row, image in enumerate(stored):
        Stub(monkeypatch, list(zip(which[:, row].tolist(), negative[:, row].tolist(), strict=True)))
        expected = theirs(image.permute(2, 0, 1)).permute(1, 2, 0)
        assert torch.equal(found[row], expected), [list(OPERATIONS)[k] for k in which[:, row]]


def test_randaugment_names_torchvisions_operations() -> None:
    space = v2.RandAugment._AUGMENTATION_SPACE
    assert [(name, signed) for name, (_, signed) in space.items()] == [
        (name, operation.signed) for name, operation in OPERATIONS.items()
    ]


def test_randaugment_of_an_image_does_not_depend_on_the_batch() -> None:
    change, stored, bits = RandAugment(), images(64, height=16, width=16), random_bits(64)
    whole = change(stored, bits)
    assert torch.equal(whole, torch.cat([change(stored[i : i + 1], bits[i : i + 1]) for i in range(64)]))
    assert torch.equal(whole.flip(0), change(stored.flip(0), bits.flip(0)))
    before = images(64, height=16, width=16)
    assert torch.equal(stored, before)  # the stored images are left alone


def test_randaugment_draws_are_uniform_and_independent_of_the_crop() -> None:
    change, bits = RandAugment(), random_bits(100_000, seed=5)
    which, negative = change.drawn(bits)
    assert change.crop is not None
    top, left, mirrored = change.crop.offsets(bits)
    tables: list[Callable[[], Tensor]] = [
        lambda: torch.bincount(which[0] * 14 + which[1], minlength=196),
        lambda: torch.bincount(which[0] * 2 + negative[0], minlength=28),
        lambda: torch.bincount(which[1] * 4 + negative[0] * 2 + negative[1], minlength=56),
        lambda: torch.bincount(which[0] * 9 + top, minlength=126),
        lambda: torch.bincount(which[1] * 9 + left, minlength=126),
        lambda: torch.bincount(which[0] * 2 + mirrored, minlength=28),
    ]
    assert all(stats.chisquare(table().numpy()).pvalue > 1e-4 for table in tables)


def test_randaugment_checks_its_numbers() -> None:
    with pytest.raises(SpecError) as caught:
        RandAugment(n=-1, magnitude=31)
    assert len(caught.value.faults) == 2
    assert torch.equal(RandAugment(n=0, crop=None)(images(3), random_bits(3)), images(3))


def test_encoding_equals_torchvisions_and_keeps_the_memory_order() -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    stored, encode = images(20), Normalise(mean, std)
    expected = F.normalize(F.to_dtype(stored.permute(0, 3, 1, 2), torch.float32, scale=True), mean, std)
    found = encode(stored)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(encode(stored.view(4, 5, 12, 10, 3)), found.view(4, 5, 3, 12, 10))
    assert encode == Normalise(mean, std)
    assert hash(encode) == hash(Normalise(mean, std))


def test_measured_encoding_gives_mean_0_and_deviation_1() -> None:
    stored = images(9000, height=3, width=2)
    stored[..., 1] = 7  # a channel of one value only
    encode = measured([stored[:100], stored[100:]])
    double = stored.double() / 255
    mean, std = double.mean((0, 1, 2)).numpy(), double.std((0, 1, 2), correction=0).numpy()
    np.testing.assert_allclose(encode.mean, mean, atol=1e-12)
    np.testing.assert_allclose(np.delete(encode.std, 1), np.delete(std, 1), atol=1e-12)
    assert encode(stored)[:, 1].abs().max() < 1e-6
