"""Image tasks: the images that come out are the ones stored, and which they are follows from the arguments alone."""

import io
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from pictures import encoded, pictures, write_folder, write_parquet
from PIL import Image
from torch import nn

from trainables.images.decode import resized
from trainables.images.facts import image_facts, images_used
from trainables.images.subsets import Choice, evaluation_rows, replaced_labels, stratified, training_rows
from trainables.tasks.base import Task
from trainables.tasks.images import cifar10, cifar100, image_folder, parquet_images


def model(shape: tuple[int, ...], outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), outputs))


@pytest.fixture
def stored(tmp_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], Path]:
    """240 lossless pictures of three classes, 120, 80 and 40 of them, in two files, and 60 test pictures."""
    pixels, labels = pictures(300, seed=3), np.repeat([0, 1, 2], [150, 100, 50])
    labels = np.random.default_rng(0).permutation(labels)
    write_parquet(tmp_path / "train-0.parquet", pixels[:100], labels[:100], group=30)
    write_parquet(tmp_path / "train-1.parquet", pixels[100:240], labels[100:240], group=50)
    write_parquet(tmp_path / "test.parquet", pixels[240:], labels[240:])
    return pixels, labels, tmp_path


def test_parquet_images_come_back_pixel_by_pixel(
    stored: tuple[NDArray[np.uint8], NDArray[np.int64], Path],
) -> None:
    pixels, labels, folder = stored
    task = parquet_images(
        model=model, train=f"{folder}/train-*.parquet", test=f"{folder}/test.parquet", valid_size=40, subset="first"
    )
    assert task.valid is not None
    np.testing.assert_array_equal(task.train.x.numpy(), pixels[:200])
    np.testing.assert_array_equal(task.valid.x.numpy(), pixels[200:240])
    np.testing.assert_array_equal(task.test.x.numpy(), pixels[240:])
    for split, rows in ((task.train, slice(200)), (task.valid, slice(200, 240)), (task.test, slice(240, 300))):
        np.testing.assert_array_equal(split.y.numpy(), labels[rows])
        assert split.x.dtype == torch.uint8
        assert split.y.dtype == torch.int64
    inputs = task.inputs(task.train.x, torch.float32)
    assert inputs.shape == (200, 3, 8, 8)
    np.testing.assert_allclose(inputs.mean((0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std((0, 2, 3), correction=0), 1, atol=1e-5)
    assert task.model()(inputs).shape == (200, 3)


@pytest.mark.parametrize("where", ["{0}/train-0.parquet, {0}/train-1.parquet", "{0}", "{1}"])
def test_many_files_a_folder_and_a_url_are_the_same_images(
    stored: tuple[NDArray[np.uint8], NDArray[np.int64], Path], where: str
) -> None:
    pixels, _, folder = stored
    (folder / "only").mkdir()
    memory = fsspec.filesystem("memory")
    place = f"/{folder.name}"
    for name in ("train-0.parquet", "train-1.parquet"):
        content = (folder / name).read_bytes()
        (folder / "only" / name).write_bytes(content)
        memory.pipe_file(f"{place}/{name}", content)
    text = where.format(folder if "," in where else folder / "only", f"memory://{place}/train-*.parquet")
    task = parquet_images(model=model, train=text, test=f"{folder}/test.parquet", valid_size=0)
    assert task.valid is None
    np.testing.assert_array_equal(task.train.x.numpy(), pixels[:240])
    used = images_used("parquet_images", {"train": text, "test": f"{folder}/test.parquet", "valid_size": 0})
    assert used is not None
    assert used["used"] == {"train": 240, "valid": 0, "test": 60}
    checksum = "footer_sha256" if "memory" in text else "sha256"
    assert all(len(file[checksum]) == 64 for file in used["train"]["files"])


def test_only_the_rows_needed_are_decoded(
    stored: tuple[NDArray[np.uint8], NDArray[np.int64], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.images import decode

    count: list[int] = []
    real: Callable[..., torch.Tensor] = decode._pixels
    monkeypatch.setattr(decode, "_pixels", lambda image, channels: count.append(image.row) or real(image, channels))
    folder = stored[2]
    args = {"train": f"{folder}/train-*.parquet", "test": f"{folder}/test.parquet", "test_size": 5}
    task = parquet_images(model=model, **args, train_size=10, valid_size=5, subset="first")  # type: ignore[arg-type]
    assert len(count) == 20
    again = parquet_images(model=model, **args, train_size=12, valid_size=5, subset="first")  # type: ignore[arg-type]
    assert len(count) == 22
    assert torch.equal(again.train.x[:10], task.train.x)


def test_data_seeds_share_images_unless_they_draw_their_own(
    stored: tuple[NDArray[np.uint8], NDArray[np.int64], Path],
) -> None:
    folder = stored[2]
    where = {"train": f"{folder}/train-*.parquet", "test": f"{folder}/test.parquet", "valid_size": 60}

    def task(data_seed: int, **more: object) -> Task:
        return parquet_images(model=model, data_seed=data_seed, **where, **more)  # type: ignore[arg-type]

    first, second, noisy = task(1), task(2), task(3, label_noise=0.5)
    assert first.valid is not None
    assert second.valid is not None
    for one, two in ((first, second), (first, noisy)):
        assert one.train.x is two.train.x
        assert one.test.x is two.test.x
    assert first.valid.x is second.valid.x
    assert torch.equal(first.train.y, second.train.y)
    assert not torch.equal(first.train.y, noisy.train.y)
    assert torch.equal(first.test.y, noisy.test.y)
    drawn, other = task(1, train_size=50), task(2, train_size=50)
    assert not torch.equal(drawn.train.x, other.train.x)
    assert drawn.valid is not None
    assert drawn.valid.x is first.valid.x  # the same yardstick for every draw
    assert drawn.encode == other.encode  # and the same inputs


def test_subsets_are_stratified_disjoint_nested_and_seeded() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [700, 200, 100]))

    def rows(size: int, seed: int) -> tuple[set[int], set[int]]:
        train, valid = training_rows(
            labels, Choice(train_size=size, valid_size=100, test_size=0, subset="random"), seed
        )
        return set(train.tolist()), set(valid.tolist())

    train, valid = rows(90, 0)
    assert not train & valid
    assert np.bincount(labels[sorted(valid)]).tolist() == [70, 20, 10]
    assert np.bincount(labels[sorted(train)]).tolist() == [63, 18, 9]
    assert rows(90, 0) == (train, valid)
    other, same = rows(90, 1)
    assert same == valid
    assert other != train
    assert train < rows(300, 0)[0]
    assert len(rows(0, 5)[0]) == 900
    # every image is as likely to be drawn as any other of its class
    draws = np.zeros(1000)
    for seed in range(400):
        draws[stratified(labels, np.arange(1000), 100, np.random.default_rng(seed))] += 1
    assert abs(draws.mean() - 40) < 1e-9
    assert draws.std() < 1.25 * np.sqrt(400 * 0.1 * 0.9)
    test = evaluation_rows(labels, Choice(train_size=0, valid_size=0, test_size=50, subset="random"))
    assert np.bincount(labels[test]).tolist() == [35, 10, 5]


def test_label_noise_replaces_a_share_and_grows_in_place() -> None:
    labels = np.zeros(50_000, dtype=np.int64)
    some, more = (replaced_labels(labels, 10, share, 3) for share in (0.2, 0.4))
    assert abs((some != 0).mean() - 0.18) < 5 * np.sqrt(0.18 * 0.82 / 50_000)
    assert (more[some != 0] == some[some != 0]).all()
    assert np.bincount(some[some != 0], minlength=10)[1:].std() < 0.1 * 1000
    assert replaced_labels(labels, 10, 0.0, 3) is labels


def test_resizing_averages_blocks_or_interpolates() -> None:
    images = torch.from_numpy(pictures(3, side=12))
    expected = nn.functional.avg_pool2d(images.permute(0, 3, 1, 2).double(), 3).round().permute(0, 2, 3, 1)
    assert torch.equal(resized(images, 4), expected.to(torch.uint8))
    assert resized(images, 0) is images
    ours = resized(images, 5).numpy().astype(int)
    pillow = np.stack(
        [np.array(Image.fromarray(image).resize((5, 5), Image.Resampling.BILINEAR)) for image in images.numpy()]
    )
    assert np.abs(ours - pillow.astype(int)).max() <= 1


def test_grey_images_keep_one_channel_and_mixed_ones_become_colour(tmp_path: Path) -> None:
    grey = pictures(40)[..., 0]
    content = [encoded(image) for image in grey]
    labels = np.arange(40) % 4
    write_parquet(tmp_path / "grey.parquet", content, labels)
    mixed = [*content[:-1], encoded(pictures(1)[0])]
    write_parquet(tmp_path / "mixed.parquet", mixed, labels)

    def shape(train: str, test: str) -> tuple[int, ...]:
        task = parquet_images(
            model=model, train=f"{tmp_path}/{train}.parquet", test=f"{tmp_path}/{test}.parquet", valid_size=0
        )
        np.testing.assert_array_equal(task.train.x[0, ..., 0].numpy(), grey[0])
        return tuple(task.train.x.shape[1:])

    assert shape("grey", "grey") == (8, 8, 1)
    assert shape("mixed", "grey") == (8, 8, 3)
    assert shape("grey", "mixed") == (8, 8, 3)


def test_image_folder_equals_torchvisions(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for part, seed in (("train", 1), ("test", 2)):
        write_folder(tmp_path / part, {"cat": pictures(7, seed=seed), "ape": pictures(5, seed=seed + 9)})
    task = image_folder(model=model, train=str(tmp_path / "train"), test=str(tmp_path / "test"), valid_size=0)
    for split, part in ((task.train, "train"), (task.test, "test")):
        reference = ImageFolder(str(tmp_path / part))
        assert split.y.tolist() == reference.targets
        np.testing.assert_array_equal(split.x.numpy(), np.stack([np.array(image) for image, _ in reference]))
    facts = image_facts(
        "image_folder", {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "valid_size": 0}
    )
    assert facts is not None
    assert (facts.shape, facts.classes, facts.train, facts.test) == ((3, 8, 8), 2, 12, 12)
    used = images_used(
        "image_folder", {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "valid_size": 0}
    )
    assert used is not None
    before = used["train"]["files"][0]["sha256"]
    Image.fromarray(pictures(1, seed=77)[0]).save(next((tmp_path / "train" / "ape").iterdir()))
    again = images_used(
        "image_folder", {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "valid_size": 0}
    )
    assert again is not None
    assert again["train"]["files"][0]["sha256"] != before


def test_names_of_classes_may_be_words_and_numbers_may_have_gaps(tmp_path: Path) -> None:
    labels = np.array(["dog", "ape", "cat"] * 10)
    write_parquet(tmp_path / "words.parquet", pictures(30), labels)
    write_parquet(tmp_path / "gaps.parquet", pictures(30), np.tile([5, 1, 9], 10))
    for name, codes in (("words", [2, 0, 1]), ("gaps", [1, 0, 2])):
        path = f"{tmp_path}/{name}.parquet"
        task = parquet_images(model=model, train=path, test=path, valid_size=0)
        assert task.train.y.tolist() == codes * 10


def test_cifar100_is_read_with_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRATLAS_DATA", str(tmp_path))
    for part in ("train", "test"):
        more = {"coarse_label": pa.array(np.arange(300) % 20)}
        fine = (np.arange(300) * 7) % 100
        write_parquet(
            tmp_path / f"cifar100-{part}.parquet", pictures(300, side=32), fine, label="fine_label", more=more
        )
    task = cifar100(model=model, valid_size=0, augment="crop_flip", padding_mode="reflect")
    assert task.train.y[:3].tolist() == [0, 7, 14]
    assert task.model()(task.inputs(task.test.x, torch.float32)).shape == (300, 100)
    assert task.augment is not None


@pytest.mark.parametrize("augment", ["crop_flip", "randaugment"])
def test_augmented_batches_are_stored_images_of_the_same_shape(
    stored: tuple[NDArray[np.uint8], NDArray[np.int64], Path], augment: str
) -> None:
    folder = stored[2]
    where = {"train": f"{folder}/train-*.parquet", "test": f"{folder}/test.parquet"}
    task = parquet_images(model=model, **where, valid_size=0, augment=augment, padding=2)
    assert task.augment is not None
    changed = task.augment(task.train.x[:16], torch.arange(16) << 33)
    assert changed.shape == (16, 8, 8, 3)
    assert changed.dtype == torch.uint8
    facts = image_facts("parquet_images", {**where, "valid_size": 0, "augment": "crop_flip", "padding": 2})
    assert facts is not None
    assert facts.kept_bytes == 300 * 192 + 240 * 2 * 12 * 12 * 3


def test_cifar10_first_rows_are_the_files(cifar10_folder: Path) -> None:
    task = cifar10(model=model, train_size=200, valid_size=0, test_size=100, subset="first", size=16)
    table = pq.ParquetFile(cifar10_folder / "cifar10-train.parquet").read_row_group(0).slice(0, 200)
    pillow = np.stack(
        [np.array(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table.column("img").to_pylist()]
    )
    averages = pillow.reshape(200, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(task.train.x.numpy() - averages).max() <= 0.5
    assert task.train.y.tolist() == table.column("label").to_pylist()
    assert task.inputs(task.test.x, torch.float32).shape == (100, 3, 16, 16)


@pytest.mark.slow
def test_whole_cifar10(cifar10_folder: Path) -> None:
    task = cifar10(model=model)
    assert task.valid is not None
    assert [len(split) for split in (task.train, task.valid, task.test)] == [45000, 5000, 10000]
    assert torch.bincount(task.valid.y).tolist() == [500] * 10
    assert torch.bincount(task.train.y).tolist() == [4500] * 10
    inputs = task.inputs(task.train.x[:10000], torch.float32)
    # the published mean is the training set's; the published deviation is that of an image, averaged over images
    assert inputs.mean((0, 2, 3)).abs().max() < 0.02
    assert (inputs.std((2, 3)).mean(0) - 1).abs().max() < 0.03
