"""Sharpness: how far the loss rises within a ball around a solution, at worst and on average.

The worst case over |e| <= rho is SAM's (Foret et al. 2021, arXiv 2010.01412). ASAM's (Kwon et al. 2021, arXiv
2102.11600) takes the ball |e / w| <= rho, whose axes are the weights' own sizes: it stays as it is when weights are
scaled in any way that leaves the function unchanged. Both maxima are found by ascent, so what is reported is a lower
bound of them. Batch-norm statistics are held at the solution's.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.invariance.student import one_sample
from analysis.landscape.directions import unit_direction
from analysis.landscape.objective import Objective
from trainables.spec import SpecError

__all__ = ["RandomRise", "Sharpness", "WorstRise", "asam", "random_sharpness", "sam", "sharpness"]

CONFIDENCE = 0.95
STRIDE = 4.0
"""Radii of the ball that one step of ascent goes along the gradient before it is put back on the sphere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstRise:
    """Largest rise of the loss found in a ball.

    Attributes:
        value: nats; a lower bound of the maximum, at least 0.
        first_order: rise at the one step along the gradient that SAM training takes, nats.
        loss: at the solution.
        rho: radius of the ball.
        gradients: forward and backward passes over the samples that it took.
    """

    value: float
    first_order: float
    loss: float
    rho: float
    gradients: int

    @property
    def relative(self) -> float | None:
        """The rise in units of the loss; None where the loss is not positive."""
        return self.value / self.loss if self.loss > 0 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomRise:
    """Mean rise of the loss on a sphere around the solution.

    Attributes:
        value: nats; negative where the loss falls in most directions.
        standard_error: over pairs of opposite directions.
        low: lower end of Student's 95 % interval.
        high: upper end.
        rho: radius of the sphere.
        pairs: of opposite directions.
    """

    value: float
    standard_error: float
    low: float
    high: float
    rho: float
    pairs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharpness:
    """Raw sharpness, the invariant one beside it, and the average.

    Attributes:
        sam: worst rise in a ball.
        asam: worst rise in a ball whose axes are the weights' sizes.
        random: mean rise on a sphere.
    """

    sam: WorstRise
    asam: WorstRise
    random: RandomRise

    def as_rows(self) -> dict[str, float]:
        """Row keys and numbers; `*_relative` is left out where the loss is not positive."""
        rows: dict[str, float] = {}
        for key, rise in (("sam", self.sam), ("asam", self.asam)):
            rows |= {key: rise.value, f"{key}_first_order": rise.first_order, f"{key}_rho": rise.rho}
            if rise.relative is not None:
                rows[f"{key}_relative"] = rise.relative
        return rows | {
            "random": self.random.value,
            "random_se": self.random.standard_error,
            "random_low": self.random.low,
            "random_high": self.random.high,
        }


def sharpness(
    objective: Objective,
    *,
    rho: float = 0.05,
    adaptive_rho: float = 0.5,
    steps: int = 5,
    restarts: int = 2,
    pairs: int = 4,
    seed: int = 0,
) -> Sharpness:
    """All three measures of one solution.

    At the defaults 22 forward and backward and 15 forward passes over the samples.

    Args:
        objective: the loss around the solution.
        rho: radius for SAM and for random directions, in units of the weights.
        adaptive_rho: radius for ASAM, as a norm over all weights of their relative changes.
        steps: of ascent from each start.
        restarts: starts of each ascent.
        pairs: of opposite random directions.
        seed: of all random directions.

    Returns:
        The measures.

    Raises:
        SpecError: as `sam`, `asam` and `random_sharpness` say.
    """
    return Sharpness(
        sam=sam(objective, rho=rho, steps=steps, restarts=restarts, seed=seed),
        asam=asam(objective, rho=adaptive_rho, steps=steps, restarts=restarts, seed=seed),
        random=random_sharpness(objective, rho=rho, pairs=pairs, seed=seed),
    )


def sam(objective: Objective, *, rho: float = 0.05, steps: int = 5, restarts: int = 2, seed: int = 0) -> WorstRise:
    """Worst rise of the loss in a ball: max over |e| <= rho of L(w + e) - L(w).

    Not invariant: for scale-invariant weights compare at the same `rho / ||w||`.

    Args:
        objective: the loss around the solution.
        rho: radius, in units of the weights.
        steps: of projected ascent from each start.
        restarts: starts; the first is the gradient's direction, the others are random.
        seed: of the random starts.

    Returns:
        The largest rise found. Costs 1 + steps x restarts gradients and 1 + restarts losses, and the solution's
        own once.

    Raises:
        SpecError: a radius that is not positive, no step or start, or a loss within the ball that is not finite.
    """
    return _worst_rise(objective, torch.ones_like(objective.weights), rho, steps, restarts, seed)


def asam(objective: Objective, *, rho: float = 0.5, steps: int = 5, restarts: int = 2, seed: int = 0) -> WorstRise:
    """Worst rise in a ball whose axes are the weights' sizes: max over |u| <= rho of L(w + |w| u) - L(w).

    The published eta, which keeps small weights movable, is 0 here because it would break the invariance; weights that
    are 0 stay 0.

    Args:
        objective: the loss around the solution.
        rho: radius; the published 0.5 changes each of P weights by about 0.5 / sqrt(P) of itself.
        steps: of projected ascent from each start.
        restarts: starts; the first is the gradient's direction, the others are random.
        seed: of the random starts.

    Returns:
        The largest rise found. Costs 1 + steps x restarts gradients and 1 + restarts losses, and the solution's
        own once.

    Raises:
        SpecError: a radius that is not positive, no step or start, or a loss within the ball that is not finite.
    """
    return _worst_rise(objective, objective.weights.abs(), rho, steps, restarts, seed)


def random_sharpness(objective: Objective, *, rho: float = 0.05, pairs: int = 4, seed: int = 0) -> RandomRise:
    """Mean rise of the loss at distance rho in uniformly random directions.

    Each direction is taken with its opposite, in whose mean the gradient cancels: what is left is about rho^2 tr H /
    (2 P).

    Args:
        objective: the loss around the solution.
        rho: distance, in units of the weights.
        pairs: of opposite directions.
        seed: of the directions.

    Returns:
        The mean and its interval. Costs 2 x pairs losses, and the solution's own once.

    Raises:
        SpecError: a radius that is not positive, fewer than two pairs, or a loss on the sphere that is not finite.
    """
    _positive(rho)
    if pairs < 2:
        raise SpecError([f"pairs must be at least 2 so that there is an error, found {pairs}"])
    generator = torch.Generator().manual_seed(seed)
    base = objective.finite_loss()
    rises = []
    for _ in range(pairs):
        step = rho * unit_direction(objective.weights, generator)
        both = [_finite(objective.value(objective.weights + sign * step), rho) for sign in (1, -1)]
        rises.append(sum(both) / 2 - base)
    found = one_sample(torch.tensor(rises, dtype=torch.float64).numpy())
    low, high = found.interval(CONFIDENCE)
    return RandomRise(
        value=found.value, standard_error=float(found.error), low=float(low), high=float(high), rho=rho, pairs=pairs
    )


def _worst_rise(objective: Objective, sizes: Tensor, rho: float, steps: int, restarts: int, seed: int) -> WorstRise:
    """Ascent over u in |u| <= rho of L(w + sizes u).

    Each step goes `STRIDE` radii along the gradient and back to the sphere: around a minimum this is the power
    iteration for the largest curvature, shifted so that a negative curvature of the same size does not win.
    """
    _positive(rho)
    if steps < 1 or restarts < 1:
        raise SpecError([f"steps and restarts must be at least 1, found {steps} and {restarts}"])
    generator = torch.Generator().manual_seed(seed)
    base = objective.finite_loss()

    def at(u: Tensor) -> Tensor:
        return objective.weights + rho * sizes * u

    def ascent(weights: Tensor | None) -> Tensor:
        """Along the gradient with length 1; zeros where there is no gradient."""
        return _unit(sizes * objective.gradient(weights))

    first = ascent(None)
    first_order = _finite(objective.value(at(first)), rho) - base
    best = max(0.0, first_order)
    random = [unit_direction(first, generator) for _ in range(restarts)]
    starts = [first, *random[1:]] if bool(first.any()) else random
    for u in starts:
        for _ in range(steps):
            u = _unit(u + STRIDE * ascent(at(u)))
        best = max(best, _finite(objective.value(at(u)), rho) - base)
    return WorstRise(value=best, first_order=first_order, loss=base, rho=rho, gradients=1 + steps * len(starts))


def _unit(vector: Tensor) -> Tensor:
    direction: Tensor = vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)
    return direction


def _finite(loss: float, rho: float) -> float:
    """A loss; one that is not finite would drop out of a maximum or a mean and leave the solution looking flat."""
    if not math.isfinite(loss):
        raise SpecError([f"the loss must be finite at the distance rho = {rho:g}, found {loss}; take a smaller rho"])
    return loss


def _positive(rho: float) -> None:
    if not rho > 0:
        raise SpecError([f"rho must be positive, found {rho}"])
