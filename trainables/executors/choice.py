"""Which executor trains a pack: the fastest of those that can, measured on a few real steps."""

import time
from collections.abc import Callable, Sequence

import torch

from trainables.executors.base import Block, Executor, Hyper
from trainables.population import Population

__all__ = ["fastest"]

ROUNDS = 3


def fastest(
    candidates: Sequence[Callable[[], Executor]],
    population: Callable[[Executor], Population],
    block: Block,
    hyper: Hyper,
) -> tuple[Executor, dict[str, float]]:
    """Let each candidate take the same steps with rows of its own.

    The first steps of each are left out: compilation and recording are paid once, not per step. Of the rest the median
    counts.

    Args:
        candidates: makers of executors, the preferred one first; one that fails is passed over.
        population: fresh rows in an executor's own layout.
        block: a few steps.
        hyper: of the rows.

    Returns:
        The fastest, and every candidate's seconds per step.

    Raises:
        RuntimeError: the last candidate's error, when all failed.
    """
    times: dict[str, float] = {}
    made: dict[str, Executor] = {}
    failure: Exception | None = None
    for make in candidates:
        try:
            executor = make()
            rows = population(executor)
            executor.step(rows, block, hyper)
            times[str(executor.name)] = _median_seconds(executor, rows, block, hyper)
            made[str(executor.name)] = executor
        # Any error: what cannot train here is no choice, and what the user's own code raises comes again in the next.
        except Exception as error:
            failure = error
    if not made:
        assert failure is not None
        raise failure
    best = min(made, key=lambda name: times[name])
    return made[best], times


def _median_seconds(executor: Executor, rows: Population, block: Block, hyper: Hyper) -> float:
    on_gpu = rows.alive.device.type == "cuda"
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        executor.step(rows, block, hyper)
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - start) / len(block))
    return sorted(seconds)[ROUNDS // 2]
