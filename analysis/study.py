"""A results folder as a study: arms, seeds, learning rates and final qualities instead of rows and ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from analysis.arms import Arm, Scalar, arms_of, steps_trained
from analysis.chance import classes_of
from analysis.tables import Tables, read_tables
from trainables.spec import SpecError

__all__ = ["Settings", "Study", "load_study"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the sweep file asks of the analysis.

    Attributes:
        metric: `auto`, `final`, `swa`, `swa@W` or `PHASE@LR`: the final quality the answer is about.
        margin: width of the band in error: 0.01 is one point.
        confidence: nominal coverage of every interval.
        converged_loss: train loss below which a member has converged.
        tail: share of a stretch, at its end, over which tests of invariance average an equilibrium.
        margins: differences that count as none there: `loss`, `error`, `effective_lr`, `angle`.
    """

    metric: str = "auto"
    margin: float = 0.01
    confidence: float = 0.95
    converged_loss: float = 0.01
    tail: float = 0.3
    margins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A results folder, ready to be analysed.

    Attributes:
        tables: the files.
        settings: what the sweep asks for.
        phases: the phases' names, in order.
    """

    tables: Tables
    settings: Settings
    phases: tuple[str, ...]

    @property
    def sweep(self) -> Mapping[str, Any]:
        """The resolved sweep."""
        sweep: Mapping[str, Any] = self.tables.manifest["sweep"]
        return sweep

    @property
    def directory(self) -> Path:
        """The results folder."""
        return self.tables.directory

    @property
    def kind(self) -> str:
        """What the study is about: the sweep file's `analysis.kind`."""
        return str((self.sweep.get("analysis") or {}).get("kind") or "band")

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The study by seed and initial learning rate, as a band needs it; at least one arm.

        Raises:
            SpecError: the sweep has no phase, or no member ends with its first one.
        """
        if not self.phases:
            raise SpecError(
                [f"initial learning rates need a sweep with a phase; that of {str(self.directory)!r} has none"]
            )
        axes = list(self.sweep.get("axes", {}))
        return arms_of(self.tables.members, axes, self.phases, _averages(self.tables))

    @cached_property
    def headline(self) -> Arm:
        """The arm whose answer is the study's."""
        return _headline(self.arms, self.sweep.get("headline") or {})

    @cached_property
    def classes(self) -> int | None:
        """Number of classes, None where it is not known."""
        return classes_of(self.tables.members, self.tables.manifest)

    @cached_property
    def watched(self) -> str:
        """The split that members are measured on while they train: `valid` where there is one, else `test`."""
        return "test" if self.tables.epochs["test_error"].notna().any() else "valid"

    @cached_property
    def by_status(self) -> dict[str, int]:
        """Members by status."""
        return {str(name): int(count) for name, count in self.tables.members["status"].value_counts().items()}

    @property
    def member_steps(self) -> int:
        """Steps of training behind all finished members, each shared prefix counted once."""
        return steps_trained(self.tables.members)


def load_study(directory: Path) -> Study:
    """Read a results folder, finished or not.

    Args:
        directory: the results folder.

    Returns:
        The study.

    Raises:
        SpecError: the folder cannot be read, has another schema version, or holds no members.
    """
    tables = read_tables(directory)
    sweep = tables.manifest["sweep"]
    phases = tuple(str(phase["name"]) for phase in sweep.get("phases") or ())
    if tables.members.empty:
        raise SpecError([f"a study needs at least one member; {str(directory)!r} holds none"])
    analysis = sweep.get("analysis") or {}
    asked = {name: value for name, value in analysis.items() if name in Settings.__dataclass_fields__}
    return Study(
        tables=tables,
        settings=Settings(**{name: value for name, value in asked.items() if value is not None}),
        phases=phases,
    )


def _headline(arms: Sequence[Arm], wanted: Mapping[str, Scalar]) -> Arm:
    matching = (arm for arm in arms if all(arm.axes.get(name, value) == value for name, value in wanted.items()))
    return next(matching, arms[0])


def _averages(tables: Tables) -> list[str]:
    """Averages of weights that the first phase ends with, planned or measured, smallest window first."""
    kept = map(str, tables.probes["group"].cat.categories)
    groups = {name for name in kept if name.startswith("swa@") and "~" not in name}
    planned = tables.manifest["sweep"]["phases"][0].get("swa") or {}
    groups |= {f"swa@{window}" for window in planned.get("windows", ())}
    return sorted(groups, key=lambda name: int(name.removeprefix("swa@")))
