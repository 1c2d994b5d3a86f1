"""The arms of a study: members laid out by seed, learning rate and final quality instead of by id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainables.spec import SpecError

__all__ = ["FINAL", "Arm", "arms_of", "lr_text", "positions", "steps_trained"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scalar = str | int | float | bool | None

FINAL = "final"
"""The quality at the end of the first phase."""


def lr_text(lr: float) -> str:
    """A learning rate as people write it, to three digits: `3.2e-5`, `1e-4`, `0.1`."""
    if lr == 0 or not np.isfinite(lr) or 0.1 <= abs(lr) < 1000:
        return f"{lr:.3g}"
    mantissa, exponent = f"{lr:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The members of one combination of the axes that are neither seeds nor learning rates.

    Attributes:
        axes: the combination; empty where the sweep has one arm only.
        number: its place in `Study.arms`.
        lrs: [L] the first phase's learning rates, ascending.
        data_seeds: [U] data seed of each unit; a unit is one (data_seed, seed).
        seeds: [U] training seed of each unit.
        clusters: [U] number of each unit's cluster: its data draw where there are several, else the unit itself.
        members: the arm's members, with the columns `unit`, `place` (into `lrs`) and `quality` added.
        qualities: [Q] the final qualities that exist: `final`, later phases, averages.
        budget: steps of the first phase.
    """

    axes: Mapping[str, Scalar]
    number: int
    lrs: Floats
    data_seeds: Ints
    seeds: Ints
    clusters: Ints
    members: pd.DataFrame
    qualities: tuple[str, ...]
    budget: int

    @property
    def shape(self) -> tuple[int, int]:
        """Units and learning rates."""
        return (len(self.seeds), len(self.lrs))

    @property
    def label(self) -> str:
        """The combination in words; empty for the only arm."""
        return ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in self.axes.items()
        )

    @cached_property
    def pretrain(self) -> pd.DataFrame:
        """The members that end with the first phase."""
        return self.members[self.members["quality"] == FINAL]

    @property
    def member_steps(self) -> int:
        """Steps of training behind the arm's finished members, each shared prefix counted once."""
        return steps_trained(self.members)

    def grid(self, frame: pd.DataFrame, values: npt.ArrayLike) -> Floats:
        """Lay one value per member out by unit and learning rate.

        Args:
            frame: members of one quality, with the columns `unit` and `place`.
            values: one number for each.

        Returns:
            [U, L], NaN where there is none.
        """
        out = np.full(self.shape, np.nan)
        out[frame["unit"].to_numpy(), frame["place"].to_numpy()] = values
        return out


def arms_of(
    members: pd.DataFrame, axes: Sequence[str], phases: Sequence[str], averages: Sequence[str]
) -> tuple[Arm, ...]:
    """Divide a sweep's members by the axes that are neither seeds nor learning rates.

    Args:
        members: the table `members`.
        axes: names of the sweep's axes.
        phases: names of the phases, in order.
        averages: averages of weights that were measured, such as `swa@20`.

    Returns:
        At least one arm, in ascending order of the axes' values.

    Raises:
        SpecError: in some arm no member ends with the first phase.
    """
    members = members.copy()
    if "branch_step" not in members:
        members["branch_step"] = 0
    members["lr_first"] = members[_first_lr(members, phases[0])]
    members["quality"] = _quality_labels(members, phases)
    columns = _arm_columns(members, axes, phases)
    if not columns:
        return (_arm({}, 0, members, averages, phases[0]),)
    groups = members.groupby(list(columns.values()), dropna=False, sort=True)
    return tuple(
        _arm(dict(zip(columns, map(_plain, values), strict=True)), number, frame, averages, phases[0])
        for number, (values, frame) in enumerate(groups)
    )


def steps_trained(members: pd.DataFrame) -> int:
    """Steps of training behind the finished ones of some members, each shared prefix counted once.

    Args:
        members: rows of the table `members`.

    Returns:
        Member-steps.
    """
    done = members[members["status"].isin(["completed", "nonfinite", "stopped"])]
    return int((done["steps"] - done.get("branch_step", 0)).sum())


def positions(frame: pd.DataFrame, members: pd.DataFrame) -> Ints:
    """Row number in `members` of each row's member.

    Args:
        frame: rows with a categorical `member_id`.
        members: a table with one row per member.

    Returns:
        [rows]; -1 where the member is not in `members`.
    """
    places = pd.Index(members["member_id"]).get_indexer(pd.Index(frame["member_id"].cat.categories))
    found: Ints = np.append(places, -1)[frame["member_id"].cat.codes.to_numpy()]
    return found


_OF_PHASES = ("steps", "weight_decay", "grad_noise", "activation_noise")
"""Columns that each phase has of its own beside its learning rate; of a later phase they make no arms."""


def _first_lr(members: pd.DataFrame, phase: str) -> str:
    return f"{phase}_lr" if f"{phase}_lr" in members else "lr"


def _quality_labels(members: pd.DataFrame, phases: Sequence[str]) -> pd.Series:
    """`final` for members of the first phase, `finetune@1e-4` for those of a later one."""
    labels = pd.Series("", index=members.index, dtype=object)
    for phase in phases[1:]:
        column = f"{phase}_lr"
        if column not in members:
            continue
        has = members[column].notna()
        part = members.loc[has, column].map(lambda lr, phase=phase: f"{phase}@{lr_text(lr)}")
        for name in _OF_PHASES:
            extra = members.loc[has, f"{phase}_{name}"] if f"{phase}_{name}" in members else None
            if extra is not None and extra.nunique() > 1:
                part = part + extra.map(lambda value, name=name: f",{name}={value:g}")
        joined = labels[has].where(labels[has] == "", labels[has] + "+")
        labels[has] = joined + part
    return labels.where(labels != "", FINAL)


def _arm_columns(members: pd.DataFrame, axes: Sequence[str], phases: Sequence[str]) -> dict[str, str]:
    """Axes that make arms, each with the column that holds its value for members of every phase."""
    rates = {"lr", *(f"{phase}_lr" for phase in phases)}
    later = {f"{phase}_{name}" for phase in phases[1:] for name in _OF_PHASES}
    columns = {}
    for axis in axes:
        column = f"{phases[0]}_{axis}" if f"{phases[0]}_{axis}" in members and axis == "weight_decay" else axis
        if axis in {"seed", "data_seed"} | rates | later or column not in members:
            continue
        if members[column].nunique(dropna=False) > 1:
            columns[axis] = column
    return columns


def _arm(axes: Mapping[str, Scalar], number: int, members: pd.DataFrame, averages: Sequence[str], phase: str) -> Arm:
    members = members.copy()
    data = members["data_seed"] if "data_seed" in members else pd.Series(0, index=members.index)
    units = pd.MultiIndex.from_arrays([data, members["seed"]])
    distinct = units.unique().sort_values()
    members["unit"] = distinct.get_indexer(units)
    lrs = np.unique(members["lr_first"].to_numpy(dtype=np.float64))
    members["place"] = np.searchsorted(lrs, members["lr_first"])
    draws = np.asarray(distinct.get_level_values(0), dtype=np.int64)
    _, shared = np.unique(draws, return_inverse=True)
    clusters = shared if shared.max() > 0 else np.arange(len(distinct))
    later = members.loc[members["quality"] != FINAL].sort_values(["lr"])["quality"].unique()
    steps = f"{phase}_steps" if f"{phase}_steps" in members else "steps"
    budgets = members.loc[members["quality"] == FINAL, steps]
    if budgets.empty:
        raise SpecError(
            [f"initial learning rates need members that end with the first phase, {phase!r}; there are none"]
        )
    return Arm(
        axes=axes,
        number=number,
        lrs=lrs,
        data_seeds=draws,
        seeds=np.asarray(distinct.get_level_values(1), dtype=np.int64),
        clusters=clusters.astype(np.int64),
        members=members.reset_index(drop=True),
        qualities=(FINAL, *map(str, later), *averages),
        budget=int(budgets.max()),
    )


def _plain(value: Any) -> Scalar:
    """A NumPy scalar as Python's own, for JSON."""
    plain: Scalar = value.item() if isinstance(value, np.generic) else value
    return plain
