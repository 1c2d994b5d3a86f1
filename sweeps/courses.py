"""How one phase of a sweep file becomes several constant phases of a schedule: decays at chosen times, random pieces.

The last piece keeps the phase's name, those before it are numbered, so that averages at a phase's end stay where they
are. Members whose pieces begin alike share them: a map of many decay times costs one trunk and a tail for each time.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainables.spec import Scalar

__all__ = ["NEVER", "Piece", "decay_steps", "decayed", "names_of_pieces", "random_pieces", "read_times"]

NEVER = "never"
"""How a sweep file says that there is no decay; null says the same."""
SHORTEST = 0.05
"""The least share of a phase that a random piece takes."""
STREAM = 0x5C4E
"""Tells random schedules from every other random number of the same seed."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a phase.

    Attributes:
        steps: its length.
        lr: its learning rate.
        weight_decay: its weight decay.
    """

    steps: int
    lr: float
    weight_decay: float


def read_times(value: Scalar) -> tuple[float, ...]:
    """Read when a phase decays.

    Args:
        value: steps (whole numbers from 1) or fractions of the phase (between 0 and 1); several as `"0.5, 0.75"`;
            `"never"` or None for none.

    Returns:
        The times as written; empty for none.

    Raises:
        ValueError: it is none of these; the message is the rule.
    """
    if value is None or value == NEVER:
        return ()
    parts: list[str | float] = [*value.split(",")] if isinstance(value, str) else [value]
    try:
        times = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        times = (math.nan,)
    if isinstance(value, bool) or not all(0 < time < 1 or (time >= 1 and time == int(time)) for time in times):
        raise ValueError("must be a step, a fraction of the phase between 0 and 1, a list of these, or never")
    return times


def decay_steps(value: Scalar, steps: int) -> tuple[int, ...]:
    """When a phase decays, in steps.

    Args:
        value: as `read_times` takes it.
        steps: of the phase.

    Returns:
        Steps done before each decay, within the phase.

    Raises:
        ValueError: they do not rise, or do not lie within the phase; the message is the rule.
    """
    times = read_times(value)
    found = tuple(round(time * steps) if time < 1 else int(time) for time in times)
    if any(low >= high for low, high in zip((0, *found), (*found, steps), strict=True)):
        raise ValueError(f"must rise and lie within the phase's {steps} steps")
    return found


def decayed(
    steps: int, lr: float, weight_decay: float, *, at: Sequence[int], factor: float, final_lr: float | None, wd: float
) -> Iterator[Piece]:
    """Cut a phase at its decays.

    Args:
        steps: of the phase.
        lr: before the first decay.
        weight_decay: before the first decay.
        at: steps done before each decay, rising.
        factor: of the learning rate at each decay, unless `final_lr` is given.
        final_lr: learning rate after the last decay; several decays reach it in equal ratios.
        wd: factor of the weight decay at each decay.

    Yields:
        The pieces, in order.
    """
    for number, (start, stop) in enumerate(zip((0, *at), (*at, steps), strict=True)):
        rate = lr * math.prod([factor] * number)
        if final_lr is not None and number:
            rate = final_lr if number == len(at) else lr * (final_lr / lr) ** (number / len(at))
        yield Piece(stop - start, rate, weight_decay * math.prod([wd] * number))


def random_pieces(
    steps: int, pieces: int, lr: tuple[float, float], weight_decay: tuple[float, float], draw: int
) -> Iterator[Piece]:
    """A random schedule: pieces of random length, each with a learning rate and a weight decay of its own.

    Args:
        steps: of the phase.
        pieces: how many.
        lr: range in which learning rates are drawn, evenly in their logarithm.
        weight_decay: likewise.
        draw: number of the schedule; the same number gives the same one.

    Yields:
        The pieces, in order.
    """
    import numpy as np  # here: the rest of the module serves the command line, which must not wait for it

    generator = np.random.default_rng([draw, STREAM])
    least = max(1, int(SHORTEST * steps))
    shares = generator.dirichlet(np.ones(pieces)) * (steps - pieces * least)
    ends = [int(end) for end in np.floor(np.cumsum(shares)[:-1]) + least * np.arange(1, pieces)]
    for start, stop in zip((0, *ends), (*ends, steps), strict=True):
        rates = [math.exp(generator.uniform(math.log(low), math.log(high))) for low, high in (lr, weight_decay)]
        yield Piece(stop - start, rates[0], rates[1])


def names_of_pieces(name: str, count: int) -> list[str]:
    """What the pieces of a phase are called.

    Args:
        name: of the phase.
        count: of its pieces.

    Returns:
        `train_1`, `train_2`, ..., and for the last one `train`.
    """
    return [*(f"{name}_{number}" for number in range(1, count)), name]
