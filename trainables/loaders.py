"""For users of plain PyTorch or Lightning: an existing module and its DataLoaders as a task.

A loader is read once and its samples are kept in memory: order and augmentation are decided anew in every epoch by the
project's own bits, so that runs repeat exactly, and no worker process stands between the data and the device.

    def my_task() -> Task:
        data = MyDataModule()
        return task_from_loaders(MyNet, data.train_dataloader(), data.test_dataloader(), data.val_dataloader())
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, SubsetRandomSampler

from trainables.fresh import Fresh
from trainables.images.encode import measured
from trainables.spec import SpecError
from trainables.tasks.base import (
    Augment,
    Split,
    Task,
    per_sample_binary_cross_entropy,
    per_sample_cross_entropy,
)

__all__ = ["materialise", "task_from_loaders"]

INPUTS = ("x", "image", "images", "img", "input", "inputs", "pixel_values", "input_ids", "data", "features")
TARGETS = ("y", "label", "labels", "target", "targets", "class", "classes")
LOOKED_AT = 16  # a sample flipped every other time looks the same twice in all of them once in 65,536 cases
GIB = 1 << 30


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Whatever is random in a loader comes out the same in every process, and disturbs nobody else's randomness."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - transforms use these
    with torch.random.fork_rng(devices=[]):
        try:
            random.seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.manual_seed(0)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _pair(batch: Any, name: str) -> tuple[Any, Any]:
    """Inputs and targets of a batch."""
    if isinstance(batch, Mapping):
        keys = [next((key for key in names if key in batch), None) for names in (INPUTS, TARGETS)]
        if None not in keys:
            return batch[keys[0]], batch[keys[1]]
        raise SpecError(
            [
                f"a batch of the {name} loader must hold inputs ({', '.join(INPUTS)}) and targets "
                f"({', '.join(TARGETS)}), found keys {', '.join(map(str, batch))}; rename them in collate_fn"
            ]
        )
    if isinstance(batch, list | tuple) and len(batch) == 2:
        return batch[0], batch[1]
    found = f"{len(batch)} parts" if isinstance(batch, list | tuple) else type(batch).__name__
    raise SpecError([f"a batch of the {name} loader must be a pair (inputs, targets) or a dict, found {found}"])


def _targets(found: Any, name: str) -> Tensor:
    """Class indices, or 0./1., `[B]`."""
    y: Tensor = torch.as_tensor(found)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise SpecError(
            [
                f"targets of the {name} loader must be class indices, one for each sample, found shape "
                f"{tuple(y.shape)}; turn one-hot targets into indices by argmax(1)"
            ]
        )
    if y.is_floating_point():
        if not bool(((y == 0) | (y == 1)).all()):
            raise SpecError(
                [f"targets of the {name} loader must be class indices or 0./1., found {y.dtype} such as {y[0]:g}"]
            )
        return y  # of a one-logit model
    if bool((y < 0).any()):
        raise SpecError([f"targets of the {name} loader must be class indices from 0 up, found {int(y.min())}"])
    return y.long()


def _fixed_order(loader: DataLoader[Any], name: str) -> DataLoader[Any]:
    """A loader of the same samples in an order that does not depend on chance, none dropped."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return loader
    sampler = loader.sampler
    if isinstance(sampler, RandomSampler) and not sampler.replacement:
        order: Any = range(len(sampler))
    elif isinstance(sampler, SubsetRandomSampler):
        order = sorted(sampler.indices)
    elif isinstance(sampler, SequentialSampler):
        order = sampler
    else:
        raise SpecError(
            [
                f"the {name} loader must go through its data set once, found a {type(sampler).__name__}, which may "
                "repeat or leave out samples; give a loader of the data set itself, shuffled or not"
            ]
        )
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=order,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if loader.num_workers else None,
    )


def _differs(first: Any, second: Any) -> bool:
    if isinstance(first, Mapping):
        return any(_differs(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) != len(second) or any(map(_differs, first, second))
    if isinstance(first, Tensor | np.ndarray) or hasattr(first, "__array_interface__"):
        one, two = np.asarray(first), np.asarray(second)
        return one.shape != two.shape or not np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
    return bool(first != second)


def _augmented(loader: DataLoader[Any]) -> bool:
    """Whether a sample looks different each time it is read."""
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        return False
    rows = range(min(LOOKED_AT, len(dataset)))
    with _same_randomness():
        return any(_differs(dataset[row], dataset[row]) for row in rows)


def materialise(
    loader: DataLoader[Any], *, name: str = "training", frozen: bool = False, max_bytes: int = 16 * GIB
) -> Split:
    """Read a loader once and keep its samples.

    A shuffled loader is read in the order of its data set and `drop_last` is ignored: the project shuffles by itself.
    Samples that random transforms change are refused, because only one change of each would be kept for good.

    Args:
        loader: batches are pairs (inputs, targets), or dicts with such keys.
        name: how messages name it.
        frozen: keep one random change of each sample after all, the same in every process.
        max_bytes: the most memory that samples may take.

    Returns:
        Inputs `[n, ...]` as the loader makes them, in memory n times the bytes of one; class indices `[n]` (or 0./1.).

    Raises:
        SpecError: random transforms, samples of different shapes, targets that are no classes, too little memory.
    """
    if not frozen and _augmented(loader):
        raise SpecError(
            [
                f"the {name} loader must give the same sample each time it is read, found samples that change "
                "(random crops or flips?); keeping them would freeze one change of each: give a loader without random "
                "transforms and augment=CropFlip(), or frozen=True if one change is meant"
            ]
        )
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    held = 0
    with _same_randomness():
        for batch in _fixed_order(loader, name):
            x, y = _pair(batch, name)
            if not isinstance(x, Tensor):
                raise SpecError(
                    [f"inputs of the {name} loader must be tensors, found {type(x).__name__}; add ToTensor or the like"]
                )
            if inputs and x.shape[1:] != inputs[0].shape[1:]:
                found = f"{tuple(inputs[0].shape[1:])} and {tuple(x.shape[1:])}"
                raise SpecError(
                    [f"all samples of the {name} loader must have one shape, found {found}; resize or pad them"]
                )
            if not inputs:
                _room(loader, x, name, max_bytes)
            inputs.append(x.detach().cpu())
            targets.append(_targets(y, name))
            held += x.numel() * x.element_size()
            if held > max_bytes:
                raise SpecError([_too_large(name, held, max_bytes)])
    if not inputs:
        raise SpecError([f"the {name} loader must hold samples, found none"])
    if len({y.dtype for y in targets}) > 1:
        raise SpecError([f"targets of the {name} loader must be of one type, found whole numbers and decimals"])
    return Split(torch.cat(inputs), torch.cat(targets))


def _too_large(name: str, size: float, limit: int) -> str:
    return (
        f"the samples of the {name} loader must fit in {limit / GIB:.1f} GiB, found {size / GIB:.1f} GiB; "
        "give smaller samples (uint8 images take a quarter of float32), fewer of them, or a larger max_bytes"
    )


def _room(loader: DataLoader[Any], x: Tensor, name: str, limit: int) -> None:
    """Fault before reading everything, where the number of samples is known."""
    if hasattr(loader.dataset, "__len__") and not isinstance(loader.dataset, IterableDataset):
        size = len(loader.dataset) * math.prod(x.shape[1:]) * x.element_size()
        if size > limit:
            raise SpecError([_too_large(name, size, limit)])


def _channels_last(split: Split) -> Split:
    """uint8 images as the project stores them, `[n, H, W, C]`."""
    x = split.x
    if x.ndim == 3:
        return Split(x[..., None], split.y)
    if x.ndim == 4 and x.shape[3] not in (1, 3) and x.shape[1] in (1, 3):
        return Split(x.permute(0, 2, 3, 1).contiguous(), split.y)
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return split
    raise SpecError(
        [f"uint8 samples must be images with 1 or 3 channels, found shape {tuple(x.shape[1:])}; give floats instead"]
    )


def _per_sample(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """A usual loss as the task needs it: one number for each sample."""
    plain: dict[Any, Any] = {
        nn.functional.cross_entropy: per_sample_cross_entropy,
        nn.functional.binary_cross_entropy_with_logits: per_sample_binary_cross_entropy,
    }
    if loss in plain:
        return plain[loss]  # type: ignore[no-any-return]
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and not loss.label_smoothing:
        return per_sample_cross_entropy
    if type(loss) is nn.BCEWithLogitsLoss and loss.weight is None and loss.pos_weight is None:
        return per_sample_binary_cross_entropy
    if isinstance(loss, nn.Module) and getattr(loss, "reduction", "none") != "none":
        raise SpecError(
            [
                f"loss must give one number for each sample, found {type(loss).__name__} with reduction="
                f"{loss.reduction!r}; make it with reduction='none'"
            ]
        )
    return loss


def task_from_loaders(
    model: Callable[[], nn.Module] | nn.Module,
    train_loader: DataLoader[Any],
    test_loader: DataLoader[Any],
    valid_loader: DataLoader[Any] | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = per_sample_cross_entropy,
    augment: Augment | None = None,
    frozen: bool = False,
) -> Task:
    """An existing network and its loaders as a task.

    Args:
        model: makes a fresh network (a class or a function without arguments), or a network, which is copied and
            initialised anew by its layers' `reset_parameters`.
        train_loader: training samples; see `materialise` for what is read of a loader.
        test_loader: test samples.
        valid_loader: validation samples, for choices.
        loss: (logits, targets) to one loss for each sample; `nn.CrossEntropyLoss()` and `F.cross_entropy` are taken for
            what they mean here, and so are the binary ones with logits.
        augment: changes stored training samples, for example `CropFlip()` on uint8 images.
        frozen: keep one random change of each sample where a loader has random transforms.

    Returns:
        The task. Floats and token ids reach the network as the loader makes them. uint8 images are stored as bytes,
        channels last, and normalised on the device by the training images' mean and standard deviation.

    Raises:
        SpecError: a loader or the network does not fit; every fault at once.
    """
    faults: list[str] = []
    splits: dict[str, Split] = {}
    loaders = {"training": train_loader, "test": test_loader, "validation": valid_loader}
    for name, loader in loaders.items():
        try:
            if loader is not None:
                splits[name] = materialise(loader, name=name, frozen=frozen)
        except SpecError as error:
            faults += error.faults
    kinds = {(name, split.x.dtype, tuple(split.x.shape[1:])) for name, split in splits.items()}
    if len({kind[1:] for kind in kinds}) > 1:
        shown = "; ".join(f"{name} {dtype} {shape}" for name, dtype, shape in sorted(kinds, key=str))
        faults.append(f"all loaders must give samples of one shape and type, found {shown}")
    fresh, criterion = model, loss
    try:
        fresh = Fresh(model) if isinstance(model, nn.Module) else model
    except SpecError as error:
        faults += error.faults
    try:
        criterion = _per_sample(loss)
    except SpecError as error:
        faults += error.faults
    if faults:
        raise SpecError(faults)
    encode = None
    if splits["training"].x.dtype == torch.uint8:
        splits = {name: _channels_last(split) for name, split in splits.items()}
        encode = measured([splits["training"].x])
    return Task(
        model=fresh,
        train=splits["training"],
        test=splits["test"],
        valid=splits.get("validation"),
        loss=criterion,
        augment=augment,
        encode=encode,
    )
