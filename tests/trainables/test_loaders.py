"""A PyTorch user's loaders and network become a task that trains on the same samples."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from trainables.fresh import Fresh
from trainables.images.augment import CropFlip
from trainables.loaders import materialise, task_from_loaders
from trainables.spec import SpecError
from trainables.tasks.base import per_sample_binary_cross_entropy, per_sample_cross_entropy

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(50) % 3


def loader(x: Tensor = X, y: Tensor = Y, **options: object) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(x, y), **{"batch_size": 8, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": True, "drop_last": True}, {"batch_size": 7}])
def test_a_loader_is_read_whole_and_in_order(options: dict[str, object]) -> None:
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    split = materialise(loader(**options))
    assert torch.equal(split.x, X)
    assert torch.equal(split.y, Y)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_subset_sampler_is_read_in_the_order_of_the_data() -> None:
    rows = [31, 4, 17]
    split = materialise(loader(sampler=SubsetRandomSampler(rows)))
    assert torch.equal(split.x, X[sorted(rows)])


def test_dict_batches_and_iterable_data_sets() -> None:
    class Rows(Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return 50

        def __getitem__(self, row: int) -> dict[str, Tensor]:
            return {"pixel_values": X[row], "labels": Y[row]}

    class Stream(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return zip(X, Y, strict=True)

    for data in (Rows(), Stream()):
        split = materialise(DataLoader(data, batch_size=16))
        assert torch.equal(split.x, X)
        assert torch.equal(split.y, Y)


def test_image_folder_with_its_usual_transform(tmp_path: Path) -> None:
    from pictures import pictures, write_folder
    from torchvision import datasets, transforms

    write_folder(tmp_path, {"a": pictures(5), "b": pictures(4, seed=1)})
    data = datasets.ImageFolder(str(tmp_path), transforms.ToTensor())
    split = materialise(DataLoader(data, batch_size=4, shuffle=True))
    assert split.x.shape == (9, 3, 8, 8)
    assert split.y.tolist() == [0] * 5 + [1] * 4
    flipping = datasets.ImageFolder(
        str(tmp_path), transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    )
    with pytest.raises(SpecError, match=r"same sample each time.*CropFlip"):
        materialise(DataLoader(flipping, batch_size=4))
    kept = [materialise(DataLoader(flipping, batch_size=4), frozen=True).x for _ in range(2)]
    assert torch.equal(*kept)  # one draw, always the same
    assert not torch.equal(kept[0], split.x)


def test_whatever_source_of_chance_is_found_and_put_back() -> None:
    class Noisy(Dataset[tuple[Tensor, int]]):
        def __init__(self, draw: Callable[[], float]) -> None:
            self.draw = draw

        def __len__(self) -> int:
            return 30

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return X[row] + self.draw(), row % 2

    for draw in (random.random, np.random.rand, lambda: float(torch.rand(()))):
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
        data = DataLoader(Noisy(draw), batch_size=4)
        with pytest.raises(SpecError, match="found samples that change"):
            materialise(data)
        first, second = materialise(data, frozen=True), materialise(data, frozen=True)
        assert torch.equal(first.x, second.x)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # type: ignore[index] # noqa: NPY002


class Ragged(Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return torch.zeros(row // 2 + 1), row % 2


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda: loader(y=nn.functional.one_hot(Y)), ["class indices", "(8, 3)", "argmax"]),
        (lambda: loader(y=torch.rand(50)), ["class indices", "torch.float32"]),
        (lambda: loader(y=Y - 1), ["from 0 up", "-1"]),
        (lambda: loader(sampler=WeightedRandomSampler([1.0] * 50, 50)), ["WeightedRandomSampler"]),
        (lambda: DataLoader(Ragged(), batch_size=2), ["one shape", "(1,)", "(2,)"]),
        (lambda: DataLoader(TensorDataset(X), batch_size=2), ["pair", "1 parts"]),
        (lambda: DataLoader([{"a": 1, "b": 2}] * 4, batch_size=2), ["keys a, b"]),  # type: ignore[arg-type]
        (lambda: DataLoader(TensorDataset(X[:0], Y[:0]), batch_size=2), ["found none"]),
    ],
)
def test_what_cannot_be_kept_is_named(broken: Callable[[], DataLoader[object]], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        materialise(broken(), name="odd")
    assert all(word in caught.value.faults[0] for word in ["odd", *words]), caught.value.faults


def test_memory_is_stated_before_it_is_taken() -> None:
    with pytest.raises(SpecError, match=r"must fit in 0\.0 GiB"):
        materialise(loader(), max_bytes=X.numel() * 4 - 1)
    materialise(loader(), max_bytes=X.numel() * 4)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_a_module_is_copied_and_initialised_anew() -> None:
    torch.manual_seed(0)
    module = Net()
    module(X)  # moves the running statistics
    module.body[3].requires_grad_(False)
    task = task_from_loaders(module, loader(shuffle=True), loader(X[:20], Y[:20]), loader(X[20:30], Y[20:30]))
    torch.manual_seed(7)
    fresh = task.model()
    torch.manual_seed(7)
    again = task.model()
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))
    assert not torch.equal(fresh.body[0].weight, module.body[0].weight)
    assert torch.equal(fresh.body[3].weight, module.body[3].weight)  # frozen: it may be pre-trained
    assert fresh.body[1].running_mean.abs().max() == 0
    assert module.body[1].running_mean.abs().max() > 0
    assert task.valid is not None
    assert [len(split) for split in (task.train, task.valid, task.test)] == [50, 10, 20]
    # drawn like a network that is built: the same spread of weights
    built, drawn = (torch.stack([make().body[0].weight for _ in range(200)]) for make in (Net, task.model))
    assert abs(built.std() / drawn.std() - 1).item() < 0.02


def test_a_frozen_norm_keeps_its_statistics() -> None:
    module = Net()
    module(X)
    module.body[1].requires_grad_(False)
    assert torch.equal(Fresh(module)().body[1].running_mean, module.body[1].running_mean)


def test_a_transformer_can_be_initialised_anew_and_bare_parameters_cannot() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    fresh = Fresh(layer)()
    assert not torch.equal(fresh.self_attn.in_proj_weight, layer.self_attn.in_proj_weight)
    assert fresh.self_attn.out_proj.bias.abs().max() == 0  # as the attention layer sets it, after its parts

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))

    with pytest.raises(SpecError, match=r"found none in 1 \(Token\); give a function"):
        Fresh(nn.Sequential(nn.Linear(2, 3), Token()))


def test_usual_losses_are_taken_for_what_they_mean() -> None:
    for loss in (nn.CrossEntropyLoss(), nn.functional.cross_entropy, per_sample_cross_entropy):
        assert task_from_loaders(Net, loader(), loader(), loss=loss).loss is per_sample_cross_entropy
    binary = loader(y=(Y > 0).float()[:, None])
    task = task_from_loaders(Net, binary, binary, loss=nn.BCEWithLogitsLoss())
    assert task.loss is per_sample_binary_cross_entropy
    assert task.train.y.shape == (50,)


def test_every_fault_is_told_at_once() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(3))

    with pytest.raises(SpecError) as caught:
        task_from_loaders(Token(), loader(y=Y - 1), loader(X[:, :5]), loader(), loss=nn.L1Loss())
    told = "\n".join(caught.value.faults)
    assert len(caught.value.faults) == 4
    for words in (
        "training loader must be class indices",
        "one shape and type",
        "reset_parameters",
        "reduction='none'",
    ):
        assert words in told


def test_uint8_images_are_stored_as_bytes_and_normalised() -> None:
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    data = loader(pixels, torch.arange(40) % 4)
    task = task_from_loaders(lambda: nn.Flatten(), data, data, augment=CropFlip(2))
    assert task.train.x.shape == (40, 8, 8, 3)
    inputs = task.inputs(task.train.x, torch.float32)
    assert inputs.shape == (40, 3, 8, 8)
    double = pixels.double()
    expected = (double - double.mean((0, 2, 3), keepdim=True)) / double.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(inputs.double(), expected, atol=1e-5, rtol=0)
    assert task.augment is not None
    assert task.augment(task.train.x[:4], torch.arange(4)).shape == (4, 8, 8, 3)
