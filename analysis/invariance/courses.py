"""A study's members as the tests of invariance see them: networks apart, each run with its schedule and its law."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis.decay.schedules import Level, Schedule, parse_schedule
from analysis.history import history
from analysis.laws import intrinsic_lr
from analysis.study import Study

__all__ = ["Course", "Network", "matching", "networks_of"]

_WITHIN = ("seed", "data_seed", "intrinsic_lr", "ratio", "init_scale")
"""Axes that vary within a network and never name one."""


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
        """Intrinsic learning rate of a stretch of the schedule, without what rounding of its factors adds."""
        return float(f"{intrinsic_lr(level.lr, level.weight_decay, self.schedule.momentum):.12g}")


@dataclass(frozen=True, kw_only=True)
class Network:
    """All members that train the same network by the same recipe: one arm of the study.

    Attributes:
        study: the study.
        name: its variant's name, or what tells its recipe from the others; empty for the only one.
        recipe_id: of the recipe.
        axes: what tells it from the others, by axis; empty for the only one.
        variants: names of its variants: several may train one network by different schedules.
        courses: its members.
    """

    study: Study
    name: str
    recipe_id: str
    axes: Mapping[str, object]
    variants: tuple[str, ...]
    courses: tuple[Course, ...]

    @property
    def suffix(self) -> str:
        """What names of its files and figures end with; empty for the only one."""
        return "-" + re.sub(r"[^A-Za-z0-9._-]+", "-", self.name) if self.name else ""

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
    """The networks of a study, the headline's first and the negative control last.

    Args:
        study: the study.

    Returns:
        One for each recipe; none where `members` has no column `phases`, as of a run before schedules were written.
    """
    members = study.tables.members
    if "phases" not in members:
        return []
    recipes = members["recipe_id"].fillna("") if "recipe_id" in members else pd.Series("", index=members.index)
    wanted = study.sweep.get("headline") or {}
    control = (study.sweep.get("analysis") or {}).get("control") or {}
    axes = [name for name in ("variant", *study.sweep.get("axes", {})) if name in members and name not in _WITHIN]
    groups = {str(recipe_id): group for recipe_id, group in members.groupby(recipes, sort=False)}
    found, names = [], set[str]()
    for recipe_id, group in groups.items():
        variants = _variants(group, wanted.get("variant"))
        own: dict[str, object] = {}
        if len(groups) > 1:
            own = {"variant": variants[0]} if variants else _own(group, members[recipes != recipe_id], axes)
        name = ", ".join(str(value) if axis == "variant" else f"{axis} {value}" for axis, value in own.items())
        if len(groups) > 1 and (not name or name in names):
            name = f"{name} {recipe_id}".strip()  # a name is a network's alone: files are called by it
        names.add(name)
        found.append(
            Network(
                study=study,
                name=name,
                recipe_id=recipe_id,
                axes=own,
                variants=variants,
                courses=_courses(group),
            )
        )
    order = list(study.sweep.get("variants") or {})

    def place(network: Network) -> tuple[bool, bool, int]:
        listed = [order.index(name) for name in network.variants if name in order]
        is_control = bool(control) and _matches(network, control)
        return not _matches(network, wanted), is_control, min(listed, default=len(order))

    return sorted(found, key=place)


def matching(networks: Sequence[Network], wanted: Mapping[str, object]) -> Network | None:
    """The network that a choice of axes names.

    Args:
        networks: of a study.
        wanted: axis to value; empty names none.

    Returns:
        None where nothing fits.
    """
    return next((each for each in networks if wanted and _matches(each, wanted)), None)


def _variants(group: pd.DataFrame, wanted: object) -> tuple[str, ...]:
    """Names of the variants behind a recipe, the wanted one first."""
    names = [str(name) for name in dict.fromkeys(group["variant"].dropna())] if "variant" in group else []
    return tuple(sorted(filter(None, names), key=lambda name: name != wanted))


def _own(group: pd.DataFrame, others: pd.DataFrame, axes: Sequence[str]) -> dict[str, object]:
    """What all of a recipe's members share and not all of the others do."""
    return {
        name: group[name].iloc[0]
        for name in axes
        if group[name].nunique(dropna=False) == 1 and set(others[name]) != set(group[name])
    }


def _matches(network: Network, wanted: Mapping[str, object]) -> bool:
    return all(
        value in network.variants if axis == "variant" else network.axes.get(axis) == value
        for axis, value in wanted.items()
    )


def _courses(group: pd.DataFrame) -> tuple[Course, ...]:
    momenta = group["momentum"].fillna(0.0) if "momentum" in group else pd.Series(0.0, index=group.index)
    draws = group["data_seed"].fillna(0) if "data_seed" in group else pd.Series(0, index=group.index)
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
