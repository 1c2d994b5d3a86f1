"""How the learning rate runs within a phase: a factor on the phase's own rate, in closed form.

Every factor is computed by itself, from its step alone and in Python's float64: whole tensors of cosines would differ
in the last bit with the length of the tensor, and so with where training is interrupted. Loads torch only on demand.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trainables.faults import SpecError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CURVES", "FLAT", "Curve", "Stretch", "factor", "factors", "stretches"]

CURVES = ("constant", "linear", "cosine", "steps", "loss")
"""The kinds of curves."""

_TIMES = 0.1
_CHECK_EVERY = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The course of the learning rate within one phase; the default is flat.

    Whatever the kind, it may begin with a linear warm-up. What belongs to another kind must be left at its default.

    Attributes:
        kind: `constant`; `linear` or `cosine` (decay to `end`); `steps` (times `times` at each milestone); `loss`
            (times `times` for the rest of the phase once the mean training loss over `check_every` steps is low).
        warmup: steps of the warm-up: update t of the phase (from 0) is done at (t + 1) / warmup of the rate.
        decay_steps: for `linear` and `cosine`: only the phase's last steps decay, before them the rate is flat
            (warm-up, stable, decay); None decays from the warm-up on.
        end: for `linear` and `cosine`: the factor that is reached as the phase ends.
        milestones: for `steps`: updates of the phase, rising, from which the next factor holds.
        times: for `steps` and `loss`: the factor of each drop.
        below: for `loss`: the training loss to wait for.
        check_every: for `loss`: steps between two looks, and over which the loss is averaged.
    """

    kind: str = "constant"
    warmup: int = 0
    decay_steps: int | None = None
    end: float = 0.0
    milestones: tuple[int, ...] = ()
    times: float = _TIMES
    below: float | None = None
    check_every: int = _CHECK_EVERY

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))  # JSON has lists
        if faults := [*self._misplaced(), *self._illegal()]:
            raise SpecError(faults)

    def _misplaced(self) -> list[str]:
        """Fields that belong to another kind."""
        if self.kind not in CURVES:
            return [f"curve.kind must be one of {', '.join(CURVES)}; found {self.kind!r}"]
        of_kind = {
            "decay_steps": (("linear", "cosine"), self.decay_steps is not None),
            "end": (("linear", "cosine"), self.end != 0),
            "milestones": (("steps",), bool(self.milestones)),
            "times": (("steps", "loss"), self.times != _TIMES),
            "below": (("loss",), self.below is not None),
            "check_every": (("loss",), self.check_every != _CHECK_EVERY),
        }
        return [
            f"curve.{name} belongs to the kinds {' and '.join(kinds)}, found it with {self.kind}; leave it out"
            for name, (kinds, given) in of_kind.items()
            if given and self.kind not in kinds
        ]

    def _illegal(self) -> list[str]:
        faults = []
        if self.warmup < 0:
            faults.append(f"curve.warmup must be at least 0, found {self.warmup}")
        if self.decay_steps is not None and self.decay_steps < 1:
            faults.append(f"curve.decay_steps must be at least 1, found {self.decay_steps}; null decays all along")
        if not (math.isfinite(self.end) and self.end >= 0):
            faults.append(f"curve.end must be a finite number of at least 0, found {self.end}")
        if not (math.isfinite(self.times) and self.times > 0):
            faults.append(f"curve.times must be a positive finite number, found {self.times}")
        if self.kind == "steps" and not self.milestones:
            faults.append("curve.milestones must hold the steps at which the rate drops, found none; list them")
        if any(low >= high for low, high in zip((self.warmup - 1, *self.milestones), self.milestones, strict=False)):
            faults.append(
                f"curve.milestones must rise and come after the {self.warmup} steps of warm-up, "
                f"found {', '.join(map(str, self.milestones))}"
            )
        if self.kind == "loss" and not (self.below is not None and math.isfinite(self.below) and self.below > 0):
            faults.append(f"curve.below must be the positive training loss to wait for, found {self.below}")
        if self.check_every < 1:
            faults.append(f"curve.check_every must be at least 1, found {self.check_every}")
        return faults

    def faults_in(self, steps: int) -> list[str]:
        """What does not fit into a phase.

        Args:
            steps: of the phase.

        Returns:
            One sentence for each fault; empty when all fits.
        """
        faults = []
        if self.warmup > steps:
            faults.append(f"curve.warmup must be at most the phase's {steps} steps, found {self.warmup}; shorten it")
        elif self.warmup + (self.decay_steps or 0) > steps:
            faults.append(
                f"curve.warmup + curve.decay_steps must be at most the phase's {steps} steps, "
                f"found {self.warmup} + {self.decay_steps}; shorten one"
            )
        if self.milestones and self.milestones[-1] >= steps:
            faults.append(
                f"curve.milestones must lie within the phase's {steps} steps, found {self.milestones[-1]}; leave it out"
            )
        if self.waits and self.check_every > steps:
            faults.append(
                f"curve.check_every must be at most the phase's {steps} steps, found {self.check_every}; look earlier"
            )
        return faults

    @property
    def is_flat(self) -> bool:
        """True where the factor is 1 throughout."""
        return self.kind == "constant" and self.warmup <= 1

    @property
    def waits(self) -> bool:
        """True where it depends on the training loss, and so on the member and not only on the step."""
        return self.kind == "loss"

    def decay_start(self, steps: int) -> int:
        """The first update of the decay, which is still done at the full rate.

        Args:
            steps: of the phase.

        Returns:
            Step within the phase; `steps` for kinds without a decay.
        """
        if self.kind not in ("linear", "cosine"):
            return steps
        return steps - (steps - self.warmup if self.decay_steps is None else self.decay_steps)


FLAT = Curve()
"""The full rate throughout."""


def factor(curve: Curve, steps: int, t: int, triggered: bool = False) -> float:
    """The factor of one update.

    The same numbers as torch's `LinearLR`, `CosineAnnealingLR` and `MultiStepLR`, after a warm-up by `LinearLR`.

    Args:
        curve: the curve.
        steps: of the phase.
        t: the update, from 0 at the phase's start.
        triggered: for `loss`: whether the training loss has been low enough.

    Returns:
        What the phase's learning rate is multiplied with; exactly 1 where the rate is full.
    """
    if t < curve.warmup:
        value = (t + 1) / curve.warmup
        return value * curve.times if triggered and curve.waits else value
    if curve.waits:
        return curve.times if triggered else 1.0
    if curve.kind == "steps":
        return _power(curve.times, sum(milestone <= t for milestone in curve.milestones))
    start = curve.decay_start(steps)
    if t <= start:
        return 1.0
    done = (t - start) / (steps - start)
    if curve.kind == "cosine":  # SGDR (Loshchilov & Hutter, ICLR 2017), equation 5, without restarts
        done = (1 - math.cos(math.pi * done)) / 2
    return 1 - (1 - curve.end) * done


def _power(times: float, drops: int) -> float:
    """`times` multiplied with itself, drop by drop."""
    return math.prod([times] * drops)


@lru_cache(maxsize=4096)
def _some_factors(curve: Curve, steps: int, start: int, stop: int, triggered: bool) -> tuple[float, ...]:
    return tuple(factor(curve, steps, t, triggered) for t in range(start, stop))


def factors(curve: Curve, steps: int, start: int, stop: int, triggered: bool = False) -> "Tensor":
    """The factors of some updates; each is the same whatever stretch it is asked for in.

    Args:
        curve: the curve.
        steps: of the phase.
        start: the first update, from 0 at the phase's start.
        stop: one past the last.
        triggered: for `loss`: whether the training loss has been low enough.

    Returns:
        float64 `[stop - start]`, on the CPU.
    """
    import torch  # here: the rest of the module serves the command line, which must not wait for it

    if curve.is_flat:
        return torch.ones(stop - start, dtype=torch.float64)
    return torch.tensor(_some_factors(curve, steps, start, stop, triggered), dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a phase that another phase may have too.

    Attributes:
        stop: step within the phase at its end.
        factor: the factor where it is one number, else None.
        law: where the factor changes: with the step at which the stretch begins, all that its numbers depend on.
    """

    stop: int
    factor: float | None
    law: str = ""


def stretches(curve: Curve, steps: int) -> tuple[Stretch, ...]:
    """Cut a phase where its learning rate begins to change in another way.

    Args:
        curve: the curve.
        steps: of the phase.

    Returns:
        Stretches in order, none empty; the last ends with the phase. Beginnings of two phases train alike where their
        stretches are equal.
    """
    if curve.waits:
        return (Stretch(steps, None, f"{curve!r} in {steps}"),)
    found = []
    rising = max(0, curve.warmup - 1)  # the warm-up's last update is done at the full rate
    if rising:
        found.append(Stretch(rising, None, f"warm-up of {curve.warmup}"))
    start = curve.decay_start(steps)
    if curve.kind == "steps":
        bounds = (*curve.milestones, steps)
        found += [Stretch(stop, _power(curve.times, drops)) for drops, stop in enumerate(bounds) if stop > rising]
    elif (flat := min(start + 1, steps)) > rising:
        found.append(Stretch(flat, 1.0))
    if start + 1 < steps:
        found.append(Stretch(steps, None, f"{curve.kind} over {steps - start} to {curve.end!r}"))
    return tuple(found)
