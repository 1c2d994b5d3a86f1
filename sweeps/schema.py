"""The sweep file: what is fixed, what varies, what is measured, what is asked of the results, how it is run."""

import math
from collections import Counter
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trainables.spec import Measure, Scalar, Swa

__all__ = [
    "AnalysisSpec",
    "Axis",
    "Builder",
    "LogGrid",
    "MeasureSpec",
    "PhaseSpec",
    "RunSpec",
    "Sweep",
    "Train",
]


def _not_a_bool(value: object) -> object:
    """Refuse true and false where a number is meant: pydantic would read them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, found {str(value).lower()}")
    return value


def _auto_or_count(value: object) -> object:
    """One rule in place of the two halves of a union."""
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"must be auto or a whole number of at least 1, found {value!r}")
    return value


def _one_value(value: object) -> object:
    """One rule in place of the parts of a union."""
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"must be one number, word, true, false or null, found {value!r}")
    return value


_Number = BeforeValidator(_not_a_bool)
Value = Annotated[Scalar, BeforeValidator(_one_value)]
Count = Annotated[int, _Number, Field(ge=1)]
Positive = Annotated[float, _Number, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, _Number, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, _Number, Field(gt=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Builder(_Part):
    """A task or a model: its name, and beside it the arguments its function takes."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Value] = Field(init=False)

    name: str

    @property
    def args(self) -> dict[str, Scalar]:
        """The arguments as the sweep file gives them."""
        return dict(self.__pydantic_extra__)


class Train(_Part):
    """How every step is done."""

    batch_size: Count | None = None
    sphere_radius: Positive | None = None
    momentum: Annotated[float, _Number, Field(ge=0, lt=1)] = 0.0
    weight_decay: NotNegative = 0.0
    decoupled: bool = False
    dtype: Literal["float32", "float64"] = "float32"


class SwaSpec(_Part):
    """Averages over the last weights of a phase: one for each window, of weights `every` steps apart."""

    every: Count
    windows: Annotated[tuple[Count, ...], Field(min_length=1)]


class PhaseSpec(_Part):
    """A stretch of training at constant hyperparameters; what it leaves out is an axis, or `train` says it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    steps: Count | None = None
    lr: Positive | None = None
    weight_decay: NotNegative | None = None
    swa: SwaSpec | None = None


class Refinement(_Part):
    """A denser part of a grid, both ends included."""

    low: Positive
    high: Positive
    per_decade: Count

    def values(self) -> list[float]:
        """From `low` in equal ratios, `per_decade` of them in a factor of ten, up to and with `high`."""
        first = math.log10(self.low) * self.per_decade
        on_lattice = math.isclose(first, round(first), abs_tol=1e-6)
        count = math.ceil(math.log10(self.high / self.low) * self.per_decade - 1e-6)
        # Whole multiples are written as powers of ten, so that 0.01 is the same number in every grid.
        inner = (
            10.0 ** ((round(first) + k) / self.per_decade) if on_lattice else self.low * 10.0 ** (k / self.per_decade)
            for k in range(1, count)
        )
        return [self.low, *inner, self.high]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, found low {self.low:g} and high {self.high:g}; exchange them")
        return self


class LogGrid(Refinement):
    """A grid of equal ratios, with denser parts where more is to be seen."""

    refine: tuple[Refinement, ...] = ()

    def values(self) -> list[float]:
        """All points in rising order, none twice."""
        merged: list[float] = []
        for point in sorted([*super().values(), *(point for part in self.refine for point in part.values())]):
            if not merged or not math.isclose(point, merged[-1], rel_tol=1e-9):
                merged.append(point)
        return merged


class Axis(_Part):
    """What one quantity runs through: exactly one of the four forms."""

    values: tuple[Value, ...] | None = None
    range: Annotated[int, _Number] | None = None
    log_grid: LogGrid | None = None
    same_as: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = sorted(self.model_fields_set)
        if len(given) != 1:
            raise ValueError(
                f"must have exactly one of values, range, log_grid, same_as; found {', '.join(given) or 'none'}"
            )
        if self.range is not None and self.range < 1:
            raise ValueError(f"range must be at least 1, found {self.range}: an empty grid; give the number of values")
        if self.values == ():
            raise ValueError("values must hold at least one value, found an empty grid; list the values")
        repeated = [repr(value) for value, count in Counter(self.values or ()).items() if count > 1]
        if repeated:
            raise ValueError(f"values must differ, found {', '.join(repeated)} more than once; remove the repetitions")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}

    @cached_property
    def points(self) -> tuple[Scalar, ...]:
        """The values, in order; empty for `same_as`."""
        if self.range is not None:
            return tuple(range(self.range))
        return tuple(self.log_grid.values()) if self.log_grid else self.values or ()


class MeasureSpec(_Part):
    """What is recorded while training; it changes no weight."""

    report_every: Count
    keep: tuple[Count, ...] = ()
    probes: tuple[str, ...] = ()


class AnalysisSpec(_Part):
    """What is asked of the results: the band of initial learning rates within `margin` of the best."""

    kind: Literal["band"] = "band"
    metric: str = "auto"
    margin: Fraction = 0.01
    confidence: Annotated[float, _Number, Field(ge=0.5, lt=1)] = 0.95
    converged_loss: Positive = 0.01


class RunSpec(_Part):
    """How it is run."""

    members_per_pack: Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)] = "auto"
    gpus_per_pack: NotNegative = 0.0
    max_failures: Annotated[int, _Number, Field(ge=0)] = 2
    executor: Literal["auto", "stacked", "loop"] = "auto"


class Sweep(_Part):
    """All members of one question."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = ""
    source: str = ""
    tag: Literal["cpu", "gpu"] = "cpu"
    task: Builder
    model: Builder | None = None
    train: Train
    phases: Annotated[tuple[PhaseSpec, ...], Field(min_length=1)]
    axes: dict[str, Axis] = {}
    measure: MeasureSpec
    headline: dict[str, Value] = {}
    analysis: AnalysisSpec = AnalysisSpec()
    run: RunSpec = RunSpec()

    def points(self, axis: str) -> tuple[Scalar, ...]:
        """Values of an axis, those of another one where it says `same_as`.

        Args:
            axis: its name.

        Returns:
            Its values in order.
        """
        return self.axes[self.axes[axis].same_as or axis].points

    def measured(self) -> Measure:
        """What trainables are told to record."""
        swa = {phase.name: Swa(**phase.swa.model_dump()) for phase in self.phases if phase.swa}
        return Measure(swa=swa, **self.measure.model_dump())

    @model_serializer(mode="wrap")
    def _without_what_axes_say(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole: dict[str, Any] = handler(self)
        if "train" in whole:
            whole["train"] = {key: value for key, value in whole["train"].items() if key not in self.axes}
        return whole
