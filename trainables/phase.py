"""A phase of a schedule."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from trainables.curves import FLAT, Curve
from trainables.faults import SpecError

__all__ = ["Phase"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A stretch of training: one learning rate, constant or along a curve, and what else may change between phases.

    Attributes:
        name: the phase's name in the sweep file; not part of any id.
        steps: optimiser updates, at least 1.
        lr: learning rate (the effective learning rate when the recipe has a `sphere_radius`).
        weight_decay: L2 coefficient, coupled as in `torch.optim.SGD` unless the recipe says `decoupled`.
        curve: the course of the learning rate within the phase, as a factor on `lr`.
        grad_noise: standard deviation of Gaussian noise added to every coordinate of the gradient.
        activation_noise: level of the noise before each ReLU that follows a norm layer.
        fresh_optimizer: forget momentum (Adam: both moments and the step count) at the phase's start.
        kick: factor on the scale-invariant weights at the phase's start, which leaves the function as it is and moves
            the weights off the equilibrium of their norm; in a first phase it is the scale of the initial weights.
    """

    name: str
    steps: int
    lr: float
    weight_decay: float = 0.0
    curve: Curve = FLAT
    grad_noise: float = 0.0
    activation_noise: float = 0.0
    fresh_optimizer: bool = False
    kick: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.curve, Mapping):  # as read from JSON
            object.__setattr__(self, "curve", Curve(**self.curve))
        faults = []
        if self.steps < 1:
            faults.append(f"phase {self.name!r}: steps must be at least 1, found {self.steps}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            faults.append(f"phase {self.name!r}: lr must be a positive finite number, found {self.lr}")
        for name in ("weight_decay", "grad_noise", "activation_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                faults.append(f"phase {self.name!r}: {name} must be at least 0, found {value}")
        if not (math.isfinite(self.kick) and self.kick > 0):
            faults.append(f"phase {self.name!r}: kick must be a positive finite number, found {self.kick}")
        faults += [f"phase {self.name!r}: {fault}" for fault in self.curve.faults_in(self.steps)]
        if faults:
            raise SpecError(faults)

    @property
    def is_plain(self) -> bool:
        """True where steps, learning rate and weight decay say everything."""
        changed = self.grad_noise or self.activation_noise or self.fresh_optimizer or self.kick != 1
        return self.curve.is_flat and not changed

    @property
    def key(self) -> tuple[int, float, float] | tuple[int, float, float, str]:
        """What identifies the phase: steps, lr, weight decay; then, where it is not plain, everything else as text."""
        numbers = (self.steps, float(self.lr), float(self.weight_decay) + 0.0)  # -0.0 is no other decay than 0.0
        if self.is_plain:
            return numbers
        extras: dict[str, object] = {"grad_noise": float(self.grad_noise)} if self.grad_noise else {}
        extras |= {"activation_noise": float(self.activation_noise)} if self.activation_noise else {}
        extras |= {"fresh_optimizer": True} if self.fresh_optimizer else {}
        extras |= {"kick": float(self.kick)} if self.kick != 1 else {}
        if not self.curve.is_flat:
            extras["curve"] = _unlike_default(self.curve)
        return (*numbers, json.dumps(extras, sort_keys=True))


def _unlike_default(what: object) -> dict[str, object]:
    """A dataclass' fields that are not at their defaults, in JSON's types, numbers as the field's default has them."""
    content = asdict(what)  # type: ignore[call-overload]
    return {
        each.name: float(value) if isinstance(each.default, float) else value
        for each in fields(what)  # type: ignore[arg-type]
        if (value := content[each.name]) != each.default
    }
