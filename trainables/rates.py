"""The learning rates of a stretch of steps, for every row: phases, curves, and Adam's bias corrections.

All of it is computed on the host in float64, one number at a time, and rounded once: the same numbers wherever
training is interrupted and whoever trains beside.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trainables.curves import FLAT, Curve, factor, factors
from trainables.spec import Member, Recipe, Segment

__all__ = ["Rates", "needs_momenta", "needs_squares", "rates", "reported_lr"]


@dataclass(frozen=True)
class Rates:
    """Of T steps and K rows.

    Attributes:
        lr: learning rates, `[T, K]`; may be an expanded view.
        root: Adam's bias corrections, `[T, K, 2]`: the first one, and the square root of the second; None for SGD.
    """

    lr: Tensor
    root: Tensor | None


def needs_momenta(recipe: Recipe, members: Iterable[Member]) -> bool:
    """Whether averages of gradients are to be kept.

    Args:
        recipe: says which optimiser.
        members: those that train together.

    Returns:
        True for Adam, and for SGD where any member has momentum.
    """
    return recipe.optimizer.adapts or any(member.momentum > 0 for member in members)


def needs_squares(recipe: Recipe) -> bool:
    """Whether averages of squared gradients are to be kept.

    Args:
        recipe: says which optimiser.

    Returns:
        True for Adam.
    """
    return recipe.optimizer.adapts


def rates(
    segments: Sequence[Segment],
    recipe: Recipe,
    start: int,
    stop: int,
    dtype: torch.dtype,
    device: torch.device | str,
    triggered: Tensor | None = None,
) -> Rates:
    """Learning rates of some schedule steps.

    Args:
        segments: one for each row; the steps lie within each.
        recipe: says which optimiser.
        start: the first schedule step.
        stop: one past the last.
        dtype: to round to.
        device: where to.
        triggered: rows whose curve has seen the training loss it waits for, `[K]`; read only if any waits.

    Returns:
        The rates, and Adam's bias corrections.
    """
    plain = [segment.phase.lr for segment in segments]
    if all(segment.phase.curve.is_flat for segment in segments):
        lr = torch.tensor(plain, dtype=dtype, device=device).expand(stop - start, -1)
    else:
        columns = torch.tensor(plain, dtype=torch.float64) * _factors(segments, start, stop, triggered)
        lr = columns.to(device=device, dtype=dtype)
    if not recipe.optimizer.adapts:
        return Rates(lr, None)
    begun = [_optimizer_start(segment) for segment in segments]
    distinct = sorted(set(begun))
    table = [_corrections(recipe.beta1, recipe.beta2, start - first, stop - first) for first in distinct]
    corrections = torch.tensor(table, dtype=torch.float64)[[distinct.index(first) for first in begun]].transpose(0, 1)
    return Rates(lr, corrections.contiguous().to(device=device, dtype=dtype))


def _factors(segments: Sequence[Segment], start: int, stop: int, triggered: Tensor | None) -> Tensor:
    """Factors of all rows, float64 `[T, K]`; rows on the same curve share the work."""
    waits = triggered is not None and any(segment.phase.curve.waits for segment in segments)
    low = triggered.tolist() if triggered is not None and waits else [False] * len(segments)
    place: dict[tuple[Curve, int, int, bool], int] = {}
    index = []
    for segment, seen in zip(segments, low, strict=True):
        curve, steps = segment.phase.curve, segment.phase.steps
        key = (FLAT, 0, 0, False) if curve.is_flat else (curve, steps, segment.phase_start, seen and curve.waits)
        index.append(place.setdefault(key, len(place)))
    columns = [factors(curve, steps, start - first, stop - first, seen) for curve, steps, first, seen in place]
    return torch.stack(columns, 1)[:, index]


def _optimizer_start(segment: Segment) -> int:
    """The schedule step at which Adam's count of steps begins: the last fresh start on the way to a segment."""
    begun, at = 0, 0
    for phase in segment.owner.phases:
        if at > segment.start:
            break
        begun = at if phase.fresh_optimizer else begun
        at += phase.steps
    return begun


@lru_cache(maxsize=256)
def _corrections(beta1: float, beta2: float, start: int, stop: int) -> tuple[tuple[float, float], ...]:
    """For updates `start` to `stop` (from 0): 1 - beta1^n and the root of 1 - beta2^n, n = update + 1.

    Kingma & Ba, ICLR 2015, algorithm 1, arranged as `torch.optim.Adam` does.
    """
    return tuple((1 - beta1**n, math.sqrt(1 - beta2**n)) for n in range(start + 1, stop + 1))


def reported_lr(segment: Segment, step: int, triggered: bool = False) -> float:
    """The learning rate of the table `epochs`: that of the last update done.

    Args:
        segment: what is trained; `step` lies within it.
        step: schedule steps done.
        triggered: whether its curve has seen the training loss it waits for.

    Returns:
        In the sweep's own parametrisation, before groups and the sphere.
    """
    phase = segment.phase
    if phase.curve.is_flat:
        return phase.lr
    return phase.lr * factor(phase.curve, phase.steps, max(0, step - 1 - segment.phase_start), triggered)
