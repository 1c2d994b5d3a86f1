"""The sweep file: what is fixed, what varies, what is measured, what is asked of the results, how it is run."""

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from sweeps.courses import names_of_pieces, read_times
from sweeps.fields import (
    Count,
    Fraction,
    NotNegative,
    Number,
    Part,
    Positive,
    Times,
    Value,
    auto_or_count,
    bytes_of,
    size_in_words,
    whole_or_two,
)
from sweeps.probes_schema import ProbesSpec
from sweeps.training import CurveSpec, GroupSpec, PhaseSpec, RateOf, Train
from sweeps.variants import unmarked
from trainables.spec import Labels, Measure, Scalar, Swa

__all__ = [
    "AnalysisSpec",
    "Axis",
    "Builder",
    "CurveSpec",
    "GroupSpec",
    "LogGrid",
    "MeasureSpec",
    "PhaseSpec",
    "ProbesSpec",
    "RateOf",
    "RunSpec",
    "Sweep",
    "Train",
]


class Builder(Part):
    """A task or a model: its name, and beside it the arguments its function takes."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Value] = Field(init=False)

    name: str

    @property
    def args(self) -> dict[str, Scalar]:
        """The arguments as the sweep file gives them."""
        return dict(self.__pydantic_extra__)


class Refinement(Part):
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


class Axis(Part):
    """What one quantity runs through: exactly one of the four forms."""

    values: tuple[Times, ...] | None = None
    range: Annotated[int | tuple[int, int], BeforeValidator(whole_or_two)] | None = None
    log_grid: LogGrid | None = None
    same_as: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = sorted(self.model_fields_set)
        if len(given) != 1:
            raise ValueError(
                f"must have exactly one of values, range, log_grid, same_as; found {', '.join(given) or 'none'}"
            )
        if self.range is not None and not self.points:
            found = self.range if isinstance(self.range, int) else list(self.range)
            raise ValueError(f"range must be at least 1, found {found}: an empty grid; give the number of values")
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
            return tuple(range(self.range) if isinstance(self.range, int) else range(*self.range))
        return tuple(self.log_grid.values()) if self.log_grid else self.values or ()


class LabelsSpec(Part):
    """Predicted classes of the first samples of a split, recorded at some steps."""

    steps: Annotated[tuple[Count, ...], Field(min_length=1)]
    samples: Count = 500
    split: Literal["test", "valid"] = "test"


class MeasureSpec(Part):
    """What is recorded while training; it changes no weight."""

    report_every: Count
    keep: tuple[Count, ...] = ()
    probes: tuple[str, ...] = ()
    norm_statistics: Literal["running", "training_set"] = "running"
    trace_every: Count | None = None
    labels: LabelsSpec | None = None


class Margins(Part):
    """Differences that count as none: the loss, effective learning rate and angle relative, the error in fractions."""

    loss: Fraction = 0.05
    error: Fraction = 0.01
    effective_lr: Fraction = 0.05
    angle: Fraction = 0.03


class AnalysisSpec(Part):
    """What is asked of the results.

    `band`: the initial learning rates within `margin` of the best. `invariance`: whether learning rate and weight decay
    act only through their product, within `margins`, and differently in the `control`. `decay`: what each decay does,
    and when it should come. `tail` is the share of a phase, at its end, over which an equilibrium is averaged.
    """

    kind: Literal["band", "invariance", "decay"] = "band"
    metric: str = "auto"
    margin: Fraction = 0.01
    confidence: Annotated[float, Number, Field(ge=0.5, lt=1)] = 0.95
    converged_loss: Positive = 0.01
    tail: Fraction = 0.3
    margins: Margins = Margins()
    control: dict[str, Value] = Field(default={})


class RunSpec(Part):
    """How it is run."""

    members_per_pack: Annotated[Literal["auto"] | int, BeforeValidator(auto_or_count)] = "auto"
    gpus_per_pack: NotNegative = 0.0
    max_failures: Annotated[int, Number, Field(ge=0)] = 2
    executor: Literal["auto", "stacked", "grouped", "branches", "loop"] = "auto"
    checkpoint_budget: Annotated[str | None, BeforeValidator(size_in_words)] = "50GB"

    @property
    def checkpoint_bytes(self) -> int | None:
        """Most bytes that kept weights may take; None for no limit."""
        return None if self.checkpoint_budget is None else bytes_of(self.checkpoint_budget)


class Sweep(Part):
    """All members of one question."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = ""
    source: str = ""
    tag: Literal["cpu", "gpu"] = "cpu"
    task: Builder
    model: Builder | None = None
    train: Train
    phases: Annotated[tuple[PhaseSpec, ...], Field(min_length=1)]
    axes: dict[str, Axis] = Field(default={})
    measure: MeasureSpec
    probes: ProbesSpec | None = None
    headline: dict[str, Value] = Field(default={})
    analysis: AnalysisSpec = AnalysisSpec()
    run: RunSpec = RunSpec()
    variants: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], dict[str, Any]] = Field(default={})

    @cached_property
    def parts(self) -> Mapping[str, "Sweep"]:
        """The sweeps it is made of, by variant; itself under no name where it has no variants."""
        if not self.variants:
            return {"": self}
        whole = {"run": self.run, "name": self.name}
        return {name: Sweep.model_validate({**unmarked(content), **whole}) for name, content in self.variants.items()}

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
        trace = {
            name: every
            for phase in self.phases
            if (every := phase.trace_every or self.measure.trace_every)
            for name in names_of_pieces(phase.name, self._most_pieces(phase))
        }
        labels = Labels(**self.measure.labels.model_dump()) if self.measure.labels else None
        return Measure(
            report_every=self.measure.report_every,
            keep=self.measure.keep,
            swa=swa,
            probes=self.measure.probes,
            norm_statistics=self.measure.norm_statistics,
            trace=trace,
            labels=labels,
        )

    def _most_pieces(self, phase: PhaseSpec) -> int:
        """Of how many constant pieces a phase may consist."""
        own = [f"{phase.name}_decay_at", *(["decay_at"] if len(self.phases) == 1 else [])]
        times = [phase.decay_at, *(point for name in own if name in self.axes for point in self.points(name))]
        decays = max(len(read_times(value)) for value in times)
        return max(decays + 1, phase.random.pieces if phase.random else 1)

    @model_serializer(mode="wrap")
    def _without_what_axes_say(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole: dict[str, Any] = handler(self)
        if "train" in whole:
            said = {*self.axes, *(["weight_decay"] if "intrinsic_lr" in self.axes else [])}
            whole["train"] = {key: value for key, value in whole["train"].items() if key not in said}
        return whole
