"""A study's members as the tests of invariance see them: networks apart, each run with its schedule and its law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.decay.schedules import Level, Schedule, parse_schedule
from analysis.history import history
from analysis.laws import intrinsic_lr
from analysis.study import Study

__all__ = ["Course", "Network", "networks_of"]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One member.

    Attributes:
        member_id: its id.
        seed: training seed.
        data_seed: draw of the data.
        status: how it ended.
        schedule: what was done.
    """

    member_id: str
    seed: int
    data_seed: int
    status: str
    schedule: Schedule

    @property
    def unit(self) -> int:
        """One number for training seed and draw of the data: what makes two runs of a cell independent."""
        return self.seed * 1_000_003 + self.data_seed

    @property
    def is_constant(self) -> bool:
        """Whether it was trained at one learning rate and one weight decay, both above 0, throughout."""
        levels = self.schedule.levels
        return len(levels) == 1 and levels[0].constant and levels[0].weight_decay > 0

    @property
    def start_scale(self) -> float:
        """Factor on the initial scale-invariant weights."""
        return self.schedule.levels[0].kick

    def law(self, level: Level) -> float:
        """Intrinsic learning rate of a stretch of the schedule."""
        return intrinsic_lr(level.lr, level.weight_decay, self.schedule.momentum)


@dataclass(frozen=True, kw_only=True)
class Network:
    """All members that train the same network by the same recipe: one arm of the study.

    Attributes:
        study: the study.
        name: its variant's name, or what tells its recipe from the others; empty for the only one.
        recipe_id: of the recipe.
        axes: what tells it from the others, by axis.
        courses: its members.
    """

    study: Study
    name: str
    recipe_id: str
    axes: Mapping[str, object]
    courses: tuple[Course, ...]

    @cached_property
    def trace(self) -> pd.DataFrame:
        """Norms, angles and effective rates over all members' whole histories: `member_id, step, group, key, value`."""
        probes = self.study.tables.probes
        return self._whole(probes[probes["probe"] == "trace"])

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Rows of `epochs` over all members' whole histories."""
        return self._whole(self.study.tables.epochs)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Predicted classes over all members' whole histories."""
        probes = self.study.tables.probes
        return self._whole(probes[probes["probe"] == "label"])

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the measured weight tensors, by depth as their names tell; without the whole set."""
        groups = [str(name) for name in self.trace["group"].unique() if name not in ("scale_invariant", "trained")]
        return tuple(sorted(groups, key=_natural))

    @property
    def is_scale_invariant(self) -> bool | None:
        """Whether it has scale-invariant weights; None where no norms were recorded."""
        groups = set(self.trace["group"].unique())
        return "scale_invariant" in groups if groups else None

    def _whole(self, rows: pd.DataFrame) -> pd.DataFrame:
        return history(rows, self.study.tables.members, [course.member_id for course in self.courses])


def networks_of(study: Study) -> list[Network]:
    """The networks of a study, the headline's first.

    Args:
        study: the study.

    Returns:
        At least one.
    """
    members = study.tables.members
    recipes = members["recipe_id"] if "recipe_id" in members else pd.Series("", index=members.index)
    wanted = study.sweep.get("headline") or {}
    axes = [name for name in ("variant", *study.sweep.get("axes", {})) if name in members]
    found = []
    for recipe_id, group in members.groupby(recipes, sort=False):
        others = members[recipes != recipe_id]
        # what all of its members share and not all of the others do
        own = {
            name: group[name].iloc[0]
            for name in axes
            if group[name].nunique(dropna=False) == 1
            and len(others)
            and set(others[name]) != set(group[name])
            and name not in ("seed", "data_seed", "intrinsic_lr", "ratio", "init_scale")
        }
        variants = list(dict.fromkeys(group["variant"])) if "variant" in group else []
        if variants:
            own = {"variant": wanted.get("variant") if wanted.get("variant") in variants else variants[0]}
        name = ", ".join(str(v) if k == "variant" else f"{k} {v}" for k, v in own.items()) if len(others) else ""
        found.append(
            Network(
                study=study,
                name=name,
                recipe_id=str(recipe_id),
                axes=own if len(others) else {},
                courses=_courses(group),
            )
        )
    return sorted(found, key=lambda network: not _matches(network.axes, wanted))


def matching(networks: Sequence[Network], wanted: Mapping[str, object]) -> Network | None:
    """The network that a choice of axes names.

    Args:
        networks: of a study.
        wanted: axis to value; empty names none.

    Returns:
        None where nothing fits.
    """
    return next((each for each in networks if wanted and _matches(each.axes, wanted)), None)


def _matches(axes: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    return all(axes.get(name) == value for name, value in wanted.items())


def _courses(group: pd.DataFrame) -> tuple[Course, ...]:
    momenta = group["momentum"] if "momentum" in group else pd.Series(0.0, index=group.index)
    draws = group["data_seed"] if "data_seed" in group else pd.Series(0, index=group.index)
    parsed: dict[tuple[str, float], Schedule] = {}
    courses = []
    for member_id, seed, draw, status, phases, momentum in zip(
        group["member_id"], group["seed"], draws, group["status"], group["phases"], momenta, strict=True
    ):
        key = (str(phases), float(momentum))
        if key not in parsed:
            parsed[key] = parse_schedule(*key)
        courses.append(
            Course(
                member_id=str(member_id), seed=int(seed), data_seed=int(draw), status=str(status), schedule=parsed[key]
            )
        )
    return tuple(courses)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which `layer.10` comes after `layer.9`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in name.split(".")]
