"""What curvature products will cost, from a small slice of the data, before anything heavy is begun."""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analysis.landscape.kernels import Kernel
from trainables.spec import SpecError

__all__ = ["Cost", "Footprint", "Plan", "footprint", "plan", "seconds_of"]

_WORDS = {
    Kernel.FRESH: "graph built anew each time",
    Kernel.RETAINED: "retained graph",
    Kernel.LINEARISED: "linearised gradient",
}
_LINEARISED_BYTES = 2.0
"""Memory of a linearised gradient over that of a retained graph; 1.7 on a ConvNet and a ResNet-18."""
_SCRATCH = 1.3
"""Memory taken over that of the tensors counted, for scratch space and for what the allocator wastes; 1.26 on a
ResNet-18."""
_SHARE = 4  # a batch takes a quarter of the memory at most, so that most of it can hold graphs
_TIMED = 0.05  # seconds that a timed slice takes, so that overheads no longer matter


@dataclass(frozen=True)
class Cost:
    """What one curvature product and many of them cost.

    Attributes:
        kernel: how products are computed.
        batches: into which the data are cut.
        retained: batches whose graph is kept; the others are computed anew.
        seconds_per_product: of one product, once graphs are kept.
        setup_seconds: for building what is kept.
        memory_bytes: of tensors at the peak, weights and data not counted.
        vector_bytes: of one vector of the size of the weights; Lanczos keeps one for each product.
        products: how many are expected.
    """

    kernel: Kernel
    batches: int
    retained: int
    seconds_per_product: float
    setup_seconds: float
    memory_bytes: int
    vector_bytes: int
    products: int

    @property
    def seconds(self) -> float:
        """Of all products expected."""
        return self.setup_seconds + self.products * self.seconds_per_product

    @property
    def words(self) -> str:
        """Such as `about 0.6 s and 310 MB per product, retained graph; 60 products: 36 s`."""
        how = _WORDS[self.kernel]
        if 0 < self.retained < self.batches:
            how = f"graph retained for {self.retained} of {self.batches} batches"
        basis = self.products * self.vector_bytes
        kept = f", and {_memory(basis)} for their vectors" if basis > self.memory_bytes / 10 else ""
        return (
            f"about {_time(self.seconds_per_product)} and {_memory(self.memory_bytes)} per product, {how}; "
            f"{self.products} products: {_time(self.seconds)}{kept}"
        )


@dataclass(frozen=True)
class Footprint:
    """Memory of tensors that a computation makes.

    Attributes:
        kept: bytes still held at its end.
        peak: bytes at the highest point.
    """

    kept: int
    peak: int


@dataclass(frozen=True)
class Plan:
    """How data are cut into batches and how many of their graphs are kept.

    Attributes:
        kernel: of the batches kept; `FRESH` where none are.
        batch: samples at once.
        retained: batches kept.
        memory_bytes: expected at the peak.
    """

    kernel: Kernel
    batch: int
    retained: int
    memory_bytes: int


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class hook has no types
    """Counts the bytes of all storages that come into being, and takes them off when they go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # nor has its constructor
        self.now = self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def ignore(self, tensors: list[Tensor]) -> None:
        """Leave tensors that were there before uncounted, although views of them will be seen."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._seen[storage.data_ptr()] = weakref.ref(storage)

    def _see(self, storage: Any) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        known = self._seen.get(place)
        if size == 0 or (known is not None and known() is not None):
            return

        def gone(_: object) -> None:
            self.now -= size
            self._seen.pop(place, None)

        self._seen[place] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


def footprint(work: Callable[[], object], known: list[Tensor]) -> Footprint:
    """Memory that a computation takes, counted tensor by tensor; scratch space inside operators is not seen.

    Args:
        work: the computation; what it returns counts as kept.
        known: tensors that exist already.

    Returns:
        Bytes kept and at the peak.
    """
    meter = _Meter()
    meter.ignore(known)
    with meter:
        held = work()
    now = meter.now
    del held
    return Footprint(now, meter.peak)


def plan(
    measured: Callable[[int], Footprint],
    samples: int,
    memory_bytes: int,
    *,
    kernel: Kernel,
    batch: int | None,
    products: int,
) -> Plan:
    """Choose batches and kernel by memory and expected products.

    Args:
        measured: number of samples to the footprint of a retained graph and one product.
        samples: n.
        memory_bytes: what may be used.
        kernel: what the user wants.
        batch: the user's batch size; None chooses.
        products: how many are expected.

    Returns:
        The plan.

    Raises:
        SpecError: a single sample, or a batch of the size asked for, does not fit.
    """
    few = min(2, samples)
    first = _with_scratch(measured(few))
    whole = min(batch or samples, samples)
    if first.peak * -(-samples // few) * _LINEARISED_BYTES <= memory_bytes:
        slope, start, held = first.peak / few, 0.0, first.kept / few
    else:
        more = min(4 * few, samples)
        second = _with_scratch(measured(more)) if more > few else first
        slope = (second.peak - first.peak) / max(more - few, 1) or first.peak / few
        start = max(0.0, first.peak - slope * few)
        held = max((second.kept - first.kept) / max(more - few, 1), first.kept / few if more == few else 0.0)
        if batch is None:
            whole = max(1, min(samples, int((memory_bytes / _SHARE - start) / slope)))
    working = start + slope * whole
    if working > memory_bytes:
        raise SpecError(
            [
                f"a curvature product must fit into memory_bytes = {_memory(memory_bytes)}, found about "
                f"{_memory(working)} for {whole} samples at once; give more memory"
                + (" or a smaller batch_size" if whole > 1 else "")
            ]
        )
    chosen = kernel
    if kernel is Kernel.AUTO:
        chosen = Kernel.RETAINED if products > 1 else Kernel.FRESH
    graph = held * whole * (_LINEARISED_BYTES if chosen is Kernel.LINEARISED else 1.0)
    beside = int((memory_bytes - working) / max(graph, 1.0))  # graphs that fit beside the batch at work
    batches = -(-samples // whole)
    if chosen is Kernel.FRESH or (beside == 0 and batches > 1):
        return Plan(Kernel.FRESH, whole, 0, int(working))
    retained = batches if beside >= batches - 1 else beside
    return Plan(chosen, whole, retained, int(working + graph * min(beside, batches - 1)))


def _with_scratch(found: Footprint) -> Footprint:
    return Footprint(int(_SCRATCH * found.kept), int(_SCRATCH * found.peak))


def seconds_of(work: Callable[[int], Callable[[], object]], most: int) -> float:
    """How long a computation on all samples of a batch takes, from as few of them as tell.

    Args:
        work: number of samples to a computation on them, ready to run.
        most: samples of a batch.

    Returns:
        Seconds, the slice being doubled until it takes long enough and the last two extrapolated in a line.
    """
    before, samples = (0, 0.0), min(2, most)
    while True:
        run = work(samples)
        taken = min(_seconds(run) for _ in range(2))
        if samples == most:
            return taken
        if taken >= _TIMED:
            slope = max(taken - before[1], 0.0) / (samples - before[0])
            return taken + max(slope, taken / samples / 2) * (most - samples)
        before, samples = (samples, taken), min(2 * samples, most)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _memory(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"


def _time(seconds: float) -> str:
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 0.1 else f"{1e3 * seconds:.1f} ms"
