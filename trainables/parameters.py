"""What a built-in task or model is called and which arguments it takes; loads nothing heavy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainables.spec import Scalar

__all__ = ["Builtin", "Parameter"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One argument of a built-in.

    Attributes:
        kind: `int`, `float`, `str` or `bool`.
        default: used when the sweep file is silent.
        low: smallest legal value.
        high: largest legal value.
        choices: the legal values of a closed choice.
    """

    kind: type
    default: Scalar
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def fault(self, where: str, value: object) -> str | None:
        """What is wrong with `value`, or None.

        Args:
            where: how the argument is called in the sweep file.
            value: what the sweep file says.

        Returns:
            One sentence with the rule and the value found.
        """
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{where} must be true or false, found {value!r}"
        if self.kind is str:
            if not isinstance(value, str):
                return f"{where} must be a string, found {value!r}"
            if self.choices and value not in self.choices:
                return f"{where} must be one of {', '.join(self.choices)}; found {value!r}"
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return f"{where} must be a finite number, found {value!r}"
        if self.kind is int and value != int(value):
            return f"{where} must be a whole number, found {value!r}"
        if not self.low <= value <= self.high:
            return f"{where} must be between {self.low:g} and {self.high:g}, found {value!r}"
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Builtin:
    """A task or model that ships with the project."""

    name: str
    target: str
    summary: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
