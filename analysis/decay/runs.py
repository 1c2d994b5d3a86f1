"""A study's members as runs: each with its schedule, its arm and its seed.

What a member is, but for its seed, is its recipe, its momentum and its schedule. Arms are divided by the first two; a
sweep's variants that differ in their schedules alone are compared with each other and therefore share an arm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import Scalar, lr_text
from analysis.decay.schedules import Schedule, parse_schedule
from analysis.study import Study

__all__ = ["DecayArm", "Run", "runs_of"]

Ints = npt.NDArray[np.int64]

_RECIPE = (
    "task",
    "model",
    "batch_size",
    "sphere_radius",
    "decoupled",
    "dtype",
    "optimizer",
    "nesterov",
    "beta1",
    "beta2",
    "eps",
    "label_smoothing",
    "groups",
    "momentum",
)
"""Columns of `members` that make arms where they vary, beside the task's and the model's arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One member.

    Attributes:
        member_id: its id.
        unit: number of its (data_seed, seed) among its arm's.
        schedule: its whole schedule, beginnings shared with others included.
        status: how it ended.
        variant: name of the sweep's variant; empty where there is none.
    """

    member_id: str
    unit: int
    schedule: Schedule
    status: str
    variant: str


@dataclass(frozen=True, kw_only=True)
class DecayArm:
    """The runs of one network on one task.

    Attributes:
        axes: what sets the arm apart; empty where the study has one.
        number: its place among the study's.
        seeds: [U] training seed of each unit.
        data_seeds: [U] data seed of each unit.
        clusters: [U] number of each unit's cluster: its data draw where there are several, else the unit itself.
        runs: its members.
    """

    axes: Mapping[str, Scalar]
    number: int
    seeds: Ints
    data_seeds: Ints
    clusters: Ints
    runs: tuple[Run, ...]

    @property
    def label(self) -> str:
        """What sets it apart, in words; empty for the only arm."""
        return ", ".join(
            f"{name} {lr_text(value) if isinstance(value, float) else value}" for name, value in self.axes.items()
        )


def runs_of(study: Study) -> tuple[DecayArm, ...]:
    """Divide a study's members into arms and read their schedules.

    Args:
        study: the study.

    Returns:
        At least one arm, in ascending order of what divides them; none where `members` has no column `phases`.
    """
    members = study.tables.members
    if "phases" not in members:
        return ()
    columns = _columns(members, study.tables.manifest)
    if not columns:
        return (_arm({}, 0, members),)
    keys = members[list(columns)].astype(object).where(members[list(columns)].notna(), None)
    words = keys.map(lambda value: f"{value:>24.12g}" if isinstance(value, int | float) else str(value))
    arms = []
    for number, (_, places) in enumerate(sorted(words.groupby(list(columns)).indices.items())):
        values = keys.iloc[places[0]]
        axes = {name: _plain(values[name]) for name in columns}
        arms.append(_arm(axes, number, members.iloc[places]))
    return tuple(_named(arm) for arm in arms) if _variants_name(arms) else tuple(arms)


def _columns(members: pd.DataFrame, manifest: Mapping[str, Any]) -> Sequence[str]:
    """Columns of recipes, and momentum, that vary."""
    recipes = list((manifest.get("recipes") or {}).values())
    arguments = [name for each in recipes for kind in ("task_args", "model_args") for name in each.get(kind) or {}]
    known = dict.fromkeys([*_RECIPE, *arguments])
    return [name for name in known if name in members and members[name].nunique(dropna=False) > 1]


def _arm(axes: Mapping[str, Scalar], number: int, members: pd.DataFrame) -> DecayArm:
    data = members["data_seed"] if "data_seed" in members else pd.Series(0, index=members.index)
    units = pd.MultiIndex.from_arrays([data, members["seed"]])
    distinct = units.unique().sort_values()
    draws = np.asarray(distinct.get_level_values(0), dtype=np.int64)
    _, shared = np.unique(draws, return_inverse=True)
    clusters = shared if shared.max() > 0 else np.arange(len(distinct))
    momenta = members["momentum"].fillna(0.0) if "momentum" in members else pd.Series(0.0, index=members.index)
    variants = members["variant"].fillna("") if "variant" in members else pd.Series("", index=members.index)
    columns = (
        members["member_id"],
        distinct.get_indexer(units),
        members["phases"],
        momenta,
        members["status"],
        variants,
    )
    runs = tuple(
        Run(
            member_id=str(member_id),
            unit=int(unit),
            schedule=parse_schedule(phases, float(momentum)),
            status=str(status),
            variant=str(variant),
        )
        for member_id, unit, phases, momentum, status, variant in zip(*columns, strict=True)
    )
    return DecayArm(
        axes=axes,
        number=number,
        seeds=np.asarray(distinct.get_level_values(1), dtype=np.int64),
        data_seeds=draws,
        clusters=clusters.astype(np.int64),
        runs=runs,
    )


def _variants_name(arms: Sequence[DecayArm]) -> bool:
    """Whether each arm is one variant: then its name says more than the arguments behind it."""
    names = [{run.variant for run in arm.runs} for arm in arms]
    return all(len(each) == 1 and "" not in each for each in names) and len(set.union(*names)) == len(arms)


def _named(arm: DecayArm) -> DecayArm:
    return DecayArm(
        axes={"variant": arm.runs[0].variant},
        number=arm.number,
        seeds=arm.seeds,
        data_seeds=arm.data_seeds,
        clusters=arm.clusters,
        runs=arm.runs,
    )


def _plain(value: Any) -> Scalar:
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
