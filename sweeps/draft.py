"""A sweep file as far as it could be read: what checks between its parts look at."""

from collections.abc import Mapping
from dataclasses import dataclass

from sweeps.axes import Target, targets
from sweeps.schema import AnalysisSpec, Axis, Builder, MeasureSpec, PhaseSpec, ProbesSpec, RateOf, Train
from trainables.spec import Scalar

__all__ = ["Draft"]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A sweep file's parts; None for what could not be read (its fault is told already) or is not there.

    Attributes:
        variants: names of the sweep's variants.
        whole: True when every part could be read.
    """

    task: Builder | None
    model: Builder | None
    train: Train | None
    phases: tuple[PhaseSpec | None, ...]
    axes: Mapping[str, Axis | None]
    measure: MeasureSpec | None
    probes: ProbesSpec | None
    headline: Mapping[str, Scalar]
    analysis: AnalysisSpec | None
    variants: tuple[str, ...]
    whole: bool

    @property
    def targets(self) -> dict[str, Target]:
        """Every legal name of an axis."""
        return targets(self.phases, self.task, self.model, self.axes)

    def points(self, name: str) -> tuple[Scalar, ...]:
        """An axis' values; empty where it could not be read."""
        axis = self.axes.get(name)
        axis = self.axes.get(axis.same_as) if axis and axis.same_as else axis
        return axis.points if axis else ()

    def phase_values(self, index: int, field: str) -> tuple[Scalar, ...]:
        """All values a phase's quantity takes, by its literal or its axis; empty where it has none."""
        phase = self.phases[index]
        literal = getattr(phase, field, None) if phase else None
        names = [name for name, target in self.targets.items() if target == Target("phase", field, index)]
        return (literal,) if literal is not None else tuple(point for name in names for point in self.points(name))

    def phase_points(self, index: int, field: str) -> tuple[float, ...]:
        """The same as numbers, relative ones worked out; empty where it has none, or no legal one."""
        literal = getattr(self.phases[index], field, None)
        if isinstance(literal, RateOf):
            earlier = {other.name: place for place, other in enumerate(self.phases[:index]) if other}
            base = self.phase_points(earlier[literal.of], field) if literal.of in earlier else ()
            return tuple(point * literal.times for point in base)
        return tuple(point for point in self.phase_values(index, field) if isinstance(point, int | float))
