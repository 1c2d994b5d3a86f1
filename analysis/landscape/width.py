"""Width of a basin: how far one can go before the loss has risen by a stated amount.

Along random directions, and along the way to another solution. An objective whose per-sample loss is 0 or 1 gives the
width by error.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor

from analysis.invariance.student import one_sample
from analysis.landscape.directions import unit_direction
from analysis.landscape.objective import Objective
from trainables.spec import SpecError

__all__ = ["Direction", "RandomWidth", "WidthTowards", "random_width", "width_towards"]

CONFIDENCE = 0.95
FIRST = 0.05
"""Of the weights' norm: how far the first look goes."""
FARTHEST_STEP = 4.0
"""Most that a look goes beyond the one before: what rises and falls again within may be missed."""
SLOW = 0.6
"""Share of the interval that is left by a look after which the next one halves it."""


class Direction(StrEnum):
    """How random directions are drawn, and so what distance means."""

    UNIT = "unit"
    """Uniform on the sphere; distances are those of weight space, and relative to ||w|| they compare between
    scale-invariant weights of different norm."""
    ADAPTIVE = "adaptive"
    """Uniform, then each weight's step times its own size and sqrt(P): a distance d changes every weight by about d of
    itself. Unchanged by any rescaling of units or layers that leaves the function unchanged; the same idea as filter
    normalisation (Li et al. 2018, arXiv 1712.09913), by weight instead of by filter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomWidth:
    """Distance to a rise of the loss in random directions.

    Attributes:
        value: mean distance over directions; a lower bound where some are capped, which count with the cap.
        standard_error: over directions.
        low: lower end of Student's 95 % interval, at least 0.
        high: upper end.
        capped: directions in which the loss had not risen so much at the cap.
        cap: distance at which the search ends.
        directions: how many.
        direction: how they were drawn, which says the unit.
        rise: of the loss, nats.
        weight_norm: ||w||.
        losses: forward passes over the samples that it took.
    """

    value: float
    standard_error: float
    low: float
    high: float
    capped: int
    cap: float
    directions: int
    direction: Direction
    rise: float
    weight_norm: float
    losses: int

    def as_rows(self) -> dict[str, float]:
        """Row keys and numbers, such as `unit`, `unit_se`, `unit_capped`; `unit_relative` is over ||w||."""
        key = self.direction.value
        rows = {
            key: self.value,
            f"{key}_se": self.standard_error,
            f"{key}_low": self.low,
            f"{key}_high": self.high,
            f"{key}_capped": float(self.capped),
        }
        if self.direction is Direction.UNIT:
            rows |= {f"{key}_relative": self.value / self.weight_norm}
            rows |= {f"{key}_relative_se": self.standard_error / self.weight_norm}
        return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class WidthTowards:
    """Distance to a rise of the loss on the way to another solution.

    Attributes:
        value: distance in weight space; that of the other solution where the loss never rose so much.
        share: of the way to the other solution, at most 1.
        capped: whether the other solution was reached.
        rise: of the loss, nats.
        losses: forward passes over the samples that it took.
    """

    value: float
    share: float
    capped: bool
    rise: float
    losses: int

    def as_rows(self) -> dict[str, float]:
        """Row keys and numbers."""
        return {"towards": self.value, "towards_share": self.share, "towards_capped": float(self.capped)}


def random_width(
    objective: Objective,
    *,
    rise: float = 0.1,
    directions: int = 4,
    direction: Direction = Direction.UNIT,
    farthest: float = 4.0,
    tolerance: float = 0.02,
    seed: int = 0,
) -> RandomWidth:
    """Mean distance at which the loss has risen, over random directions.

    Each direction is searched outwards in growing steps, then between the last two distances; a loss that is not
    finite counts as risen. About 3 forward passes over the samples a direction, on a loss that is smooth.

    Args:
        objective: the loss around the solution; batch-norm statistics are held at the solution's.
        rise: of the loss, nats.
        directions: how many random directions.
        direction: how they are drawn.
        farthest: where the search ends: in units of ||w|| for `UNIT`, as relative change for `ADAPTIVE`.
        tolerance: relative, of each distance or of the rise there.
        seed: of the directions.

    Returns:
        The width.

    Raises:
        SpecError: a rise that is not positive, fewer than two directions, or weights that are all 0.
    """
    _positive(rise)
    if directions < 2:
        raise SpecError([f"directions must be at least 2 so that there is an error, found {directions}"])
    weights = objective.weights
    norm = float(weights.double().norm())
    if norm == 0:
        raise SpecError(["width is searched in steps of the weights' norm, found weights that are all 0"])
    generator = torch.Generator().manual_seed(seed)
    unit = norm if direction is Direction.UNIT else 1.0
    probe = _Probe(objective)
    start, found, capped = FIRST * unit, [], 0
    for _ in range(directions):
        drawn = unit_direction(weights, generator)
        step = drawn if direction is Direction.UNIT else math.sqrt(len(weights)) * weights.abs() * drawn
        distance, reached = _crossing(probe.along(step), rise, start, farthest * unit, tolerance)
        capped += not reached
        found.append(distance)
        start = distance if reached else FIRST * unit  # not at the cap, beyond what may rise on the way
    mean = one_sample(np.array(found))
    low, high = mean.interval(CONFIDENCE)
    return RandomWidth(
        value=mean.value,
        standard_error=float(mean.error),
        low=max(float(low), 0.0),
        high=float(high),
        capped=capped,
        cap=farthest * unit,
        directions=directions,
        direction=direction,
        rise=rise,
        weight_norm=norm,
        losses=probe.losses,
    )


def width_towards(objective: Objective, other: Tensor, *, rise: float = 0.1, tolerance: float = 0.02) -> WidthTowards:
    """Distance at which the loss has risen on the straight way to another solution.

    Args:
        objective: the loss around the solution; batch-norm statistics are held at the solution's.
        other: weights of the other solution, `[P]`, in the order of `objective.names`.
        rise: of the loss, nats.
        tolerance: relative, of the distance or of the rise there.

    Returns:
        The width.

    Raises:
        SpecError: a rise that is not positive, or another solution of another size or at the same place.
    """
    _positive(rise)
    if other.shape != objective.weights.shape:
        raise SpecError([f"other must hold {objective.size} weights, found the shape {list(other.shape)}"])
    way = other.to(objective.weights) - objective.weights
    length = float(way.double().norm())
    if length == 0:
        raise SpecError(["other must be another solution, found the same weights"])
    probe = _Probe(objective)
    distance, reached = _crossing(probe.along(way / length), rise, length / 8, length, tolerance)
    return WidthTowards(value=distance, share=distance / length, capped=not reached, rise=rise, losses=probe.losses)


class _Probe:
    """Rises of the loss along directions; counts forward passes."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._base = objective.finite_loss()
        self.losses = 1

    def along(self, step: Tensor) -> Callable[[float], float]:
        def rise(distance: float) -> float:
            self.losses += 1
            return self._objective.value(self._objective.weights + distance * step) - self._base

        return rise


def _crossing(
    rise_at: Callable[[float], float], target: float, start: float, farthest: float, tolerance: float
) -> tuple[float, bool]:
    """First distance found at which a rise reaches a target, and whether it was reached before the farthest one.

    Near a solution the rise grows about as a power of the distance, so the next distance is where the power law
    through what is known would reach the target; bisection where that does not halve the interval.
    """
    low, low_rise, at = 0.0, 0.0, min(start, farthest)
    while True:  # outwards
        found = rise_at(at)
        if abs(found / target - 1) <= tolerance:
            return at, True
        if not found < target:
            high, high_rise = at, found
            break
        if at >= farthest:
            return farthest, False
        factor = math.sqrt(target / found) if found > 0 else FARTHEST_STEP
        low, low_rise, at = at, found, min(farthest, at * min(max(1.05 * factor, 1.1), FARTHEST_STEP))
    halve = False
    while high - low > tolerance * high:  # inwards
        at = (low + high) / 2 if halve else _power_law(low, low_rise, high, high_rise, target)
        found = rise_at(at)
        if abs(found / target - 1) <= tolerance:
            return at, True
        before = high - low
        if found < target:
            low, low_rise = at, found
        else:
            high, high_rise = at, found
        halve = high - low > SLOW * before
    return (low + high) / 2, True


def _power_law(low: float, low_rise: float, high: float, high_rise: float, target: float) -> float:
    """Where the power law through two points reaches the target, kept off both; a square law through one."""
    if not math.isfinite(high_rise):
        return (low + high) / 2
    power = math.log(high_rise / low_rise) / math.log(high / low) if low_rise > 0 else 2.0
    guess = float(high * (target / high_rise) ** (1 / power))
    margin = 0.05 * (high - low)
    return min(max(guess, low + margin), high - margin)


def _positive(rise: float) -> None:
    if not rise > 0:
        raise SpecError([f"rise must be positive, found {rise}"])
