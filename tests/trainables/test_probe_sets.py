"""Groups of probe sets: what each holds, what it costs unasked, and accuracies where the answer is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import pictures, write_parquet
from torch import nn

from trainables.arena import open_arena
from trainables.build import build_task
from trainables.evaluate import Evaluator
from trainables.images import band_sets
from trainables.images.band_sets import Pictures, band_groups
from trainables.images.bands import keep_band, l1_bands, l1_distance
from trainables.spec import Recipe, SpecError
from trainables.tasks.base import Split, Task
from trainables.tasks.images import parquet_images
from trainables.tasks.shapes import SHAPES

MLP = {"width": 16, "depth": 2, "head_norm": 10.0, "norm_eps": 1e-7}


def recipe(task: str, **args: object) -> Recipe:
    return Recipe(task=task, task_args=args, model="mlp_si", model_args=MLP, batch_size=16)  # type: ignore[arg-type]


def sets(task: Task, group: str, samples: int | None = None) -> dict[str, Split]:
    return dict(task.probe_groups[group].sets(samples))


@pytest.fixture
def images(tmp_path: Path) -> Task:
    pixels = pictures(90, side=16, seed=5)
    write_parquet(tmp_path / "train.parquet", pixels[:40], np.arange(40) % 4)
    write_parquet(tmp_path / "test.parquet", pixels[40:], np.arange(50) % 4)
    return parquet_images(
        model=lambda shape, outputs: nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), outputs)),
        train=str(tmp_path / "train.parquet"),
        test=str(tmp_path / "test.parquet"),
        valid_size=0,
    )


def test_resampled_sets_hold_one_informative_feature_among_ordinary_ones() -> None:
    task, shape = build_task(recipe("tick_features", probe_size=1000), 0), SHAPES["tick"]
    made = sets(task, "resampled")
    assert list(made) == list(task.probes)
    for index, split in enumerate(made.values()):
        points = split.x.view(len(split), 16, 2).numpy()
        assert shape.distance(points[..., 0], points[..., 1]).min() >= 0.1
        classes, y = shape.classes(points[..., 0], points[..., 1]), split.y.numpy()
        np.testing.assert_array_equal(classes[:, index], y)
        others = np.delete(classes, index, axis=1)
        agreement = (others == y[:, None]).mean(axis=0)
        assert np.abs(agreement - 0.5).max() < 5 * 0.5 / np.sqrt(1000)
        assert np.abs(others.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(1000)
    assert all(torch.equal(a.x, b.x) for a, b in zip(made.values(), sets(task, "resampled").values(), strict=True))
    short = sets(task, "resampled", 100)["feature_03"]
    assert torch.equal(short.x, made["feature_03"].x[:100])
    assert len(short) == len(short.y)


def test_switched_off_sets_are_those_of_earlier_versions() -> None:
    probe = build_task(recipe("tick_features"), 3).probes["feature_07"]
    assert probe.x.sum().item() == pytest.approx(327.3035785073524, abs=1e-9)
    assert probe.y.sum().item() == 524


def test_published_bands_normalise_the_background_alone(images: Task) -> None:
    whole = images.test.x.movedim(-1, 1).float() / 255
    made = sets(images, "bands")
    assert list(made) == ["background", "low", "mid", "high"]
    colour = whole.mean((2, 3), keepdim=True).expand_as(whole)
    encoded = (images.inputs(images.test.x, torch.float32).mean((2, 3), keepdim=True)).expand_as(whole)
    torch.testing.assert_close(made["background"].x, encoded, atol=1e-5, rtol=0)
    rest = sum(made[name].x for name in ("low", "mid", "high"))
    torch.testing.assert_close(rest, whole - colour, atol=1e-5, rtol=0)
    torch.testing.assert_close(made["mid"].x, keep_band(whole, l1_bands(16, 16)["mid"]), atol=1e-6, rtol=0)
    assert all(torch.equal(split.y, images.test.y) for split in made.values())


def test_renormalised_bands_have_mean_0_and_standard_deviation_1(images: Task) -> None:
    raw, made = sets(images, "bands"), sets(images, "bands_renormalised")
    for name, split in made.items():
        torch.testing.assert_close(split.x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(split.x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
        scale = raw[name].x.std((0, 2, 3), correction=0).view(-1, 1, 1)
        centre = raw[name].x.mean((0, 2, 3)).view(-1, 1, 1)
        torch.testing.assert_close(split.x, (raw[name].x - centre) / scale, atol=1e-4, rtol=0)


def test_inputs_of_all_rings_add_up_to_the_input_of_the_image(images: Task) -> None:
    made = sets(images, "radial_bands")
    total = sum(split.x for split in made.values())
    torch.testing.assert_close(total, images.inputs(images.test.x, torch.float32), atol=1e-4, rtol=0)


def test_randomised_bands_are_another_images_and_all_else_stays(images: Task) -> None:
    made, whole = sets(images, "randomised_bands"), images.inputs(images.test.x, torch.float32)
    torch.testing.assert_close(made["whole"].x, whole, atol=1e-5, rtol=0)
    for name, mask in l1_bands(16, 16).items():
        changed, own = keep_band(made[name].x, mask), keep_band(whole, mask)
        torch.testing.assert_close(keep_band(made[name].x, ~mask), keep_band(whole, ~mask), atol=1e-4, rtol=0)
        lender = torch.cdist(changed.flatten(1), own.flatten(1)).argmin(1)
        assert sorted(lender.tolist()) == list(range(50))  # each lends once: the power in the band is the same
        assert (lender != torch.arange(50)).all()
        torch.testing.assert_close(changed, own[lender], atol=1e-4, rtol=0)


def test_fewer_samples_are_spread_over_a_split_that_is_in_order() -> None:
    split = Split(torch.rand(100, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(100) // 10)
    shown = Pictures(split=split, pixels=lambda x: x, mean=(0.5,) * 3, std=(0.2,) * 3)
    made = dict(band_groups(shown)["bands"].sets(20))
    assert made["low"].y.tolist() == [label for label in range(10) for _ in range(2)]
    assert torch.equal(made["high"].x, keep_band(split.x[::5], l1_bands(8, 8)["high"]))


def test_digits_have_bands_of_the_pixels_in_their_order() -> None:
    task = build_task(recipe("digits"), 1)
    made = sets(task, "radial_bands")
    torch.testing.assert_close(sum(split.x for split in made.values()), task.test.x, atol=1e-12, rtol=0)
    grid = made["ring_1"].x.view(-1, 8, 8)
    spectrum = np.abs(np.fft.fft2(grid.numpy())).sum(0)
    far = l1_distance(8, 8)  # ring 1 of 8 pixels holds the one wave along either side, or none
    assert spectrum[0, 1] > 1
    assert spectrum[:, :5][far > 4].max() < 1e-9


def test_unasked_groups_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("made unasked")

    monkeypatch.setattr(band_sets, "keep_band", never)
    of = recipe("digits", train_size=20, test_size=30)
    assert set(open_arena(of, [0]).splits) == {"train", "test"}
    assert set(open_arena(of, [0], probes=["features", "bands"]).splits) == {"train", "test"}
    with pytest.raises(AssertionError, match="unasked"):
        list(open_arena(of, [0], probes=["bands"]).probe_sets("bands"))


def test_draws_share_sets_that_are_the_same_and_keep_their_own() -> None:
    shared = list(open_arena(recipe("tick_features"), [4, 5, 4], probes=["resampled"]).probe_sets("resampled"))
    assert [one.key for one in shared] == [f"feature_{index:02d}" for index in range(16)]
    assert shared[0].data.x.shape == (2, 1000, 32)
    assert shared[0].data.x.untyped_storage().nbytes() == 1000 * 32 * 4
    of = recipe("digits")
    own = {one.key: one.data.x for one in open_arena(of, [7, 8], probes=["bands"]).probe_sets("bands")}
    for draw, seed in enumerate((7, 8)):
        for name, split in sets(build_task(of, seed), "bands").items():
            torch.testing.assert_close(own[name][draw], split.x.float(), atol=0, rtol=0)


def test_a_group_that_the_task_has_not_is_named() -> None:
    with pytest.raises(SpecError, match="features, resampled for this task, found 'bands'"):
        open_arena(recipe("tick_features"), [0], probes=["features", "bands"])


def test_random_networks_are_at_chance_on_every_band() -> None:
    of = recipe("digits")
    evaluator = Evaluator(of, [0], probes=["bands", "randomised_bands"])
    weights: dict[str, list[torch.Tensor]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(80):
            for name, tensor in build_task(of, 0).model().state_dict().items():
                weights.setdefault(name, []).append(tensor)
    stacked = {name: torch.stack(each) for name, each in weights.items()}
    for group in ("bands", "randomised_bands"):
        for one, result in evaluator.probe_sets(stacked, [0] * 80, group):
            accuracy = 1 - result.error
            spread = accuracy.std().item() / np.sqrt(80)
            assert abs(accuracy.mean().item() - 0.1) < 4 * spread, one.key
            assert spread > 0


def test_a_network_that_sees_the_mean_colour_alone_needs_the_background_and_nothing_else(tmp_path: Path) -> None:
    labels = np.arange(200) % 2
    pixels = (pictures(200, side=16, seed=1) // 4 + 100 * labels[:, None, None, None]).astype(np.uint8)
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", pixels, labels)

    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = self.weight * x.mean((1, 2, 3))
            return torch.stack([-bright, bright], 1)

    task = parquet_images(
        model=lambda *_: Brightness(), train=f"{tmp_path}/train.parquet", test=f"{tmp_path}/test.parquet", valid_size=0
    )
    net = task.model()

    def accuracy(split: Split) -> float:
        return (net(split.x).argmax(1) == split.y).float().mean().item()

    alone = {name: accuracy(split) for name, split in sets(task, "radial_bands").items()}
    assert alone["dc"] == 1
    assert all(0.3 < value < 0.7 for name, value in alone.items() if name != "dc")
    without = {name: accuracy(split) for name, split in sets(task, "randomised_bands").items()}
    assert without["whole"] == without["low"] == without["mid"] == without["high"] == 1
    assert 0.3 < without["background"] < 0.7
