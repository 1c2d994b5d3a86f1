"""Tasks as users write them: slow, faulty, or killed from outside. Imported by worker processes too."""

import errno
import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.tasks import Split, Task
from trainables.tasks.base import per_sample_cross_entropy


def plain(data_seed: int = 0, tag: int = 0) -> Task:
    """Two blobs and a linear model; `tag` only makes it another recipe, and so another pack."""
    generator = torch.Generator().manual_seed(data_seed)
    x = torch.randn(48, 3, generator=generator)
    y = (x[:, 0] + 0.3 * x[:, 1] > 0).long()
    return Task(
        model=lambda: nn.Linear(3, 2),
        train=Split(x[:32], y[:32]),
        test=Split(x[32:], y[32:]),
        scale_invariant=(),
    )


def with_loss(task: Task, before: object) -> Task:
    """The same task; `before()` is called with each training batch."""

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        before()  # type: ignore[operator]
        return per_sample_cross_entropy(logits, y)

    return Task(model=task.model, train=task.train, test=task.test, loss=loss, scale_invariant=())


def slow(data_seed: int = 0, tag: int = 0, seconds: float = 0.002) -> Task:
    """Every evaluation of the loss takes its time, so that there is some to interrupt."""
    return with_loss(plain(data_seed, tag), lambda: time.sleep(seconds))


def faulty(data_seed: int = 0, tag: int = 0, after: int = 100) -> Task:
    """Raises for `tag` 1 once training has begun: after so many batches, all members of a pack counted."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if tag == 1 and calls > after:
            raise ArithmeticError("the user's own mistake")

    return with_loss(plain(data_seed, tag), count)


def full_disk(data_seed: int = 0, tag: int = 0) -> Task:
    """Writes to a full disk for `tag` 1."""
    if tag == 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")
    return plain(data_seed, tag)


def suicidal(folder: str, data_seed: int = 0, tag: int = 0, times: int = 1) -> Task:
    """Kills its own process, as the system does when memory runs out, in the first `times` attempts at `tag` 1."""
    calls = 0

    def kill() -> None:
        nonlocal calls
        calls += 1
        marks = Path(folder) / f"died-{tag}"
        died = len(marks.read_text()) if marks.exists() else 0
        if tag == 1 and died < times and calls > 60:
            marks.write_text("x" * (died + 1))
            os.kill(os.getpid(), signal.SIGKILL)

    return with_loss(plain(data_seed, tag), kill)


def mendable(mended: str, data_seed: int = 0, tag: int = 0) -> Task:
    """Raises for `tag` 1 once training has begun, until a file exists."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if tag == 1 and calls > 100 and not Path(mended).exists():
            raise ArithmeticError("the user's own mistake")

    return with_loss(plain(data_seed, tag), count)
