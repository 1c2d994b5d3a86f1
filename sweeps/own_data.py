"""What must hold of the data of a user's own task: each split by itself, all beside each other, targets and classes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trainables.tasks.base import Split, Task, per_sample_cross_entropy

__all__ = ["data_faults", "kind", "splits_of", "target_faults"]


def kind(value: object) -> str:
    """A tensor's type and shape in words.

    Args:
        value: anything.

    Returns:
        `float32 [16, 64]`; the type's name where it is no tensor.
    """
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def splits_of(task: Task) -> dict[str, Split]:
    """All splits of a task by name, probe sets included.

    Args:
        task: any task.

    Returns:
        Those that are there.
    """
    named = {"train": task.train, "valid": task.valid, "test": task.test}
    return {name: split for name, split in {**named, **task.probes}.items() if split is not None}


def data_faults(task: Task, batch_size: int | None) -> Iterator[str]:
    """Whether every split is tensors of matching lengths and shapes.

    Args:
        task: the task.
        batch_size: samples per step; None where it is not decided yet.

    Yields:
        One sentence for each fault.
    """
    splits, whole = splits_of(task), True
    for name, split in splits.items():
        found = list(_split_faults(name, split, stored=task.encode is not None))
        whole = whole and not found
        yield from found
    if not whole:
        return
    first = splits["train"]
    for name, split in splits.items():
        if split.x.shape[1:] != first.x.shape[1:] or split.x.dtype != first.x.dtype:
            yield (
                f"split {name!r} must have samples like those of train, found {kind(split.x)} beside "
                f"{kind(first.x)}; make them alike"
            )
    if batch_size is not None and batch_size > len(first):
        yield (
            f"batch_size must be at most the training samples, found {batch_size} and {len(first)}; "
            "take smaller batches or more samples"
        )
    if bool((first.y == first.y[0]).all()):
        yield f"the training targets must hold at least two classes, found only {first.y[0].item()!r}"


def target_faults(task: Task, outputs: int) -> Iterator[str]:
    """Whether the targets are classes that the network has.

    Args:
        task: the task; its data are without fault.
        outputs: logits of its network.

    Yields:
        One sentence for each fault.
    """
    if outputs == 1 and task.loss is per_sample_cross_entropy:
        yield (
            "a network with one output needs a loss of its own, found cross-entropy over classes; give "
            "Task(loss=per_sample_binary_cross_entropy) of trainables.tasks.base"
        )
    for name, split in splits_of(task).items():
        y = split.y
        low, high = y.min().item(), y.max().item()
        if outputs == 1:
            if not bool(((y == 0) | (y == 1)).all()):
                yield f"targets of {name!r} must be 0 or 1 for a network with one output, found {low:g} to {high:g}"
        elif y.dtype != torch.int64:
            yield f"targets of {name!r} must be class indices of type int64, found {kind(y)}; write y.long()"
        elif low < 0 or high >= outputs:
            yield (
                f"targets of {name!r} must lie between 0 and {outputs - 1} for a network with {outputs} outputs, "
                f"found {low} to {high}; give the network {high + 1} outputs or mend the labels"
            )


def _split_faults(name: str, split: object, *, stored: bool) -> Iterator[str]:
    """One split by itself."""
    if not isinstance(split, Split):
        yield f"split {name!r} must be a trainables.tasks.Split(x, y), found {type(split).__name__}; wrap the tensors"
        return
    parts = {"x": split.x, "y": split.y, **({} if split.group is None else {"group": split.group})}
    wrong = {key: value for key, value in parts.items() if not isinstance(value, Tensor)}
    for key, value in wrong.items():
        yield f"{key} of split {name!r} must be a tensor, found {type(value).__name__}; write torch.as_tensor({key})"
    if wrong:
        return
    lengths = {key: len(value) if value.dim() else 0 for key, value in parts.items()}
    if len(set(lengths.values())) > 1 or not all(lengths.values()):
        found = ", ".join(f"{key} {kind(value)}" for key, value in parts.items())
        yield f"split {name!r} must hold as many targets as samples, at least one, found {found}"
        return
    if split.y.dim() != 1:
        yield f"y of split {name!r} must be one number for each sample, [{len(split.x)}], found {kind(split.y)}"
    if split.x.dtype == torch.uint8 and not stored:
        yield f"x of split {name!r} must be floats where the task has no `encode`, found bytes; write x.float() / 255"
    for key in ("x", "y"):
        value = parts[key]
        if value.is_floating_point() and (bad := int((~torch.isfinite(value)).sum())):
            yield f"{key} of split {name!r} must be finite, found {bad:,} numbers that are not; clean the data"
