"""How long a step takes, each way of taking it, and how fast the device is at all."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _gpu_nets import Net, cost, pack_of

from trainables.cohorts import Cohort
from trainables.executors.base import Block, ExecutorName
from trainables.loader import Loader
from trainables.loop import BLOCK_SECONDS, MOST_BLOCK_STEPS
from trainables.precision import master_dtype
from trainables.setting import Setting

__all__ = ["IMAGES_OF_A_MEMBER", "ceilings", "gather_rate", "prepared", "spread", "synchronised", "time_way"]

IMAGES_OF_A_MEMBER = 200 * 50_000
"""Images that a member of the published length sees: 200 epochs of CIFAR's training set."""

ROUNDS = (3, 7)
PILOT = 4  # steps
EXECUTORS = {
    "loop": ExecutorName.LOOP,
    "graph": ExecutorName.BRANCHES,
    "branches": ExecutorName.BRANCHES,
    "stacked": ExecutorName.STACKED,
}
Steps = Callable[[Block], None]


def synchronised(device: str) -> float:
    """Seconds on the host's clock, all work of the device being done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(values: list[float]) -> dict[str, object]:
    """Median, extremes and every repeat, five significant digits."""
    rounded = [float(f"{value:.5g}") for value in values]
    return {"median": statistics.median(rounded), "min": min(rounded), "max": max(rounded), "all": rounded}


def prepared(net: Net, rows: int, executor: ExecutorName, device: str) -> tuple[Setting, Cohort]:
    """A pack of the project's own, ready to train."""
    setting = Setting(pack_of(net, rows), Path(tempfile.gettempdir()), executor, device)
    return setting, setting.cohorts[0]


def time_way(net: Net, way: str, rows: int, device: str, seconds: float) -> dict[str, object]:
    """Time the training steps of some members, with blocks of steps as long as the training loop makes them.

    Args:
        net: what is trained.
        way: `eager`, or one of `EXECUTORS`; `graph` is `branches` with one member.
        rows: members at once.
        device: `cuda` or `cpu`.
        seconds: to spend on the timed steps.

    Returns:
        Milliseconds of a step of all rows: on the device, and with what the host does for it; rates; memory.
    """
    torch.backends.cudnn.benchmark = way == "eager"  # what a careful user of the ordinary loop switches on
    torch.backends.cudnn.deterministic = way != "eager"
    setting, cohort = prepared(net, rows, EXECUTORS.get(way, ExecutorName.LOOP), device)
    begun = synchronised(device)
    base = _memory_from_here(device)
    alive, note = torch.ones(rows, dtype=torch.bool), ""
    seeds, hyper = setting.hyper(cohort, rows)
    if way == "eager":
        steps: Steps = _eager(net, setting, device)
    else:
        population = setting.populate(cohort)
        alive = population.alive

        def steps(block: Block) -> None:
            setting.executor.step(population, block, hyper)

    def block(start: int, stop: int) -> Block:
        return setting.block(cohort, seeds, rows, start, stop)

    steps(block(0, 2))  # compiles, records, chooses algorithms
    first = synchronised(device) - begun
    begun = synchronised(device)
    steps(block(2, 2 + PILOT))
    pilot = (synchronised(device) - begun) / PILOT
    length = int(max(1, min(MOST_BLOCK_STEPS, BLOCK_SECONDS / pilot, seconds / ROUNDS[0] / pilot)))
    rounds = int(max(ROUNDS[0], min(ROUNDS[1], seconds / (length * pilot))))
    done, took, with_host = 2 + PILOT, [], []
    for _ in range(rounds):
        begun = synchronised(device)
        what = block(done, done + length)
        ready = synchronised(device)
        steps(what)
        end = synchronised(device)
        took.append(1e3 * (end - ready) / length)
        with_host.append(1e3 * (end - begun) / length)
        done += length
    if way != "eager":
        note = setting.executor.note
    rate = 1e3 * rows * net.batch / statistics.median(with_host)
    floor, own = cost(net), 1e3 / statistics.median(took)
    return {
        "rows": rows,
        "steps_timed": rounds * length,
        "steps_in_a_block": length,
        "ms_per_step": spread(took),
        "ms_per_step_with_batch_tables": spread(with_host),
        "seconds_before_first_step_ends": round(first, 3),
        "images_per_second": rate,
        # of the tiny networks of a machine without a GPU this would be a number about nothing
        "members_per_hour": 3600 * rate / IMAGES_OF_A_MEMBER if device == "cuda" else None,
        "flop_per_second": own * rows * net.batch * floor.flop,
        "counted_bytes_per_second": own * rows * (net.batch * floor.sample_bytes + floor.step_bytes),
        "peak_bytes_per_member": _peak(device, base, rows),
        "members_alive": int(alive.sum()),
        "note": note,
    }


def _memory_from_here(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str, base: int, rows: int) -> float | None:
    """Most memory in use beyond data and libraries; None where torch does not count it."""
    return (torch.cuda.max_memory_allocated() - base) / rows if device == "cuda" else None


def _eager(net: Net, setting: Setting, device: str) -> Steps:
    """The ordinary loop at its best: data on the device, channels-last, autocast, `torch.optim.SGD`."""
    task, train = setting.arena.task, setting.arena.train
    torch.manual_seed(0)
    module = task.model().to(device).train()
    if net.task == "images":
        module = module.to(memory_format=torch.channels_last)
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(learned, lr=net.lr, momentum=net.momentum, weight_decay=net.weight_decay)
    loader = Loader.of(setting.arena, master_dtype(net.recipe))
    source, targets = loader.source(train.x), train.y.flatten(0, 1)
    total = torch.zeros((), device=device)

    def steps(block: Block) -> None:
        for t in range(len(block)):
            samples = block.samples[t, 0]
            x = loader(source, samples, None if block.bits is None else block.bits[t, 0])
            with torch.autocast(device, torch.bfloat16, enabled=net.dtype == "bfloat16"):
                logits = module(x)
            loss = task.loss(logits.float(), targets.index_select(0, samples)).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total.add_(loss.detach())

    return steps


def _timed(work: Callable[[], object], device: str, seconds: float) -> list[float]:
    """Seconds of one call, several times over."""
    for _ in range(3):
        work()
    begun = synchronised(device)
    work()
    calls = int(max(1, min(50, seconds / 5 / max(synchronised(device) - begun, 1e-7))))
    repeats = []
    for _ in range(5):
        begun = synchronised(device)
        for _ in range(calls):
            work()
        repeats.append((synchronised(device) - begun) / calls)
    return repeats


def ceilings(device: str, seconds: float) -> dict[str, object]:
    """What the device does at its best: large matrix products on random numbers, and a large copy.

    Args:
        device: `cuda` or `cpu`.
        seconds: to spend on each.

    Returns:
        FLOP/s in bfloat16 and in float32 without TF32, and bytes per second, read and written together.
    """
    side, elements = (8192, 1 << 30) if device == "cuda" else (256, 1 << 20)
    result: dict[str, object] = {}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        took = _timed(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device, seconds)  # type: ignore[misc]
        result[f"matmul_{name}_flop_per_second"] = spread([2 * side**3 / each for each in took])
    there = torch.randint(0, 255, (elements,), dtype=torch.uint8, device=device)
    copy = torch.empty_like(there)
    took = _timed(lambda: copy.copy_(there), device, seconds)
    result["copy_bytes_per_second"] = spread([2 * elements / each for each in took])
    return result


def gather_rate(net: Net, device: str, seconds: float) -> dict[str, object]:
    """Images per second of the data path alone: gather with crop and flip, then normalisation.

    Args:
        net: one that learns images.
        device: `cuda` or `cpu`.
        seconds: to spend.

    Returns:
        The rate for batches of 16,384 images (tiny ones on a CPU).
    """
    setting, _ = prepared(net, 1, ExecutorName.LOOP, device)
    loader = Loader.of(setting.arena, torch.float32)
    source = loader.source(setting.arena.train.x)
    batch = 16_384 if device == "cuda" else 64
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, net.samples, (batch,), generator=generator).to(device)
    bits = torch.randint(-(2**62), 2**62, (batch,), generator=generator).to(device)
    took = _timed(lambda: loader(source, rows, bits), device, seconds)
    return {"batch": batch, "images_per_second": spread([batch / each for each in took])}
