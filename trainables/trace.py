"""How much memory a computation holds at its worst, as a function of the number of samples.

A small batch is run twice, with another number of samples each time, while every tensor's birth and death is noted.
Both runs do the same things in the same order, so that each tensor's size is known as a line over the number of
samples, and with it what is alive at any moment of a batch of any size. Nothing large is ever computed.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MemoryCourse", "course_of"]

_Event = tuple[int, int]
"""(number of the tensor, its bytes; negative where it is given back)."""


@dataclass(frozen=True)
class MemoryCourse:
    """What is alive while a computation runs.

    Attributes:
        changes: at each birth or death, bytes that do not depend on the samples and bytes for each sample.
        marks: how many of these changes had happened at each moment the computation marked.
    """

    changes: tuple[tuple[float, float], ...]
    marks: tuple[int, ...] = ()

    def peak(self, samples: float, *, least: float = 0.0, below: float = math.inf) -> float:
        """The most bytes alive at once.

        Args:
            samples: in the batch.
            least: count only tensors of at least so many bytes.
            below: count only tensors of fewer bytes than this.

        Returns:
            Bytes beyond what existed before.
        """
        sizes = (fixed + each * samples for fixed, each in self.changes)
        return max(accumulate(size for size in sizes if least <= abs(size) < below), default=0.0)

    def alive(self, mark: int, samples: float) -> float:
        """Bytes alive at a moment that the computation marked.

        Args:
            mark: its number, from 0.
            samples: in the batch.

        Returns:
            Bytes beyond what existed before.
        """
        return sum(fixed + each * samples for fixed, each in self.changes[: self.marks[mark]])


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes births and deaths of storages."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.events: list[_Event] = []
        self.marks: list[int] = []
        self._numbers: dict[int, int] = {}
        self._guards: list[weakref.finalize] = []  # type: ignore[type-arg]
        self._born = 0
        self._kept = list(known)
        for tensor in self._kept:
            self._numbers[tensor.untyped_storage()._cdata] = -1

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return made

    def mark(self) -> None:
        """Note this moment."""
        self.marks.append(len(self.events))

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._numbers:
            return
        number, size = self._born, storage.nbytes()
        self._born += 1
        self._numbers[key] = number
        self.events.append((number, size))

        def gone() -> None:
            if self._numbers.get(key) == number:
                del self._numbers[key]
                self.events.append((number, -size))

        self._guards.append(weakref.finalize(storage, gone))

    def close(self) -> None:
        """Stop noting: what is still alive was alive at the end."""
        for guard in self._guards:
            guard.detach()


def course_of(
    work: Callable[[int, Callable[[], None]], object], sizes: tuple[int, int], known: Iterable[Tensor]
) -> MemoryCourse:
    """Watch a computation with two numbers of samples.

    Args:
        work: (number of samples, function to mark a moment) to anything; must do the same for every number.
        sizes: two numbers of samples.
        known: tensors that existed before and are not to be counted.

    Returns:
        What is alive when. Where the two runs differ in what they do, everything is taken to grow from the larger one
        in proportion to the samples, which errs on the high side.
    """
    tensors = list(known)
    small, large = (_watched(work, samples, tensors) for samples in sizes)
    if [number for number, _ in small.events] != [number for number, _ in large.events]:
        return MemoryCourse(tuple((0.0, size / sizes[1]) for _, size in large.events), tuple(large.marks))
    changes = []
    for (_, less), (_, more) in zip(small.events, large.events, strict=True):
        each = (more - less) / (sizes[1] - sizes[0])
        changes.append((less - each * sizes[0], each))
    return MemoryCourse(tuple(changes), tuple(small.marks))


def _watched(work: Callable[[int, Callable[[], None]], object], samples: int, known: Sequence[Tensor]) -> _Watch:
    watch = _Watch(known)
    with watch:
        result = work(samples, watch.mark)
    watch.close()
    del result
    return watch
