"""The table `members`: one row per member, everything about it that is known before it runs, and how it ended."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from analysis.row_files import METADATA, write_table
from sweeps.folder import RunFolder
from trainables.rows import MemberStatus, Status
from trainables.spec import Member, Pack

if TYPE_CHECKING:
    from sweeps.plan import Plan

__all__ = ["MembersFile", "members_of", "write_members"]


def members_of(pack: Pack) -> tuple[Member, ...]:
    """The members whose schedules end in a pack.

    Args:
        pack: any pack.

    Returns:
        Each once, in training order.
    """
    return tuple(segment.owner for segment in pack.segments if segment.ends)


class MembersFile:
    """The table `members`: what is known before the run, laid out once, and statuses that change.

    Args:
        folder: the results folder.
        plan: the sweep's plan; gives the members and their order.
    """

    def __init__(self, folder: RunFolder, plan: "Plan") -> None:
        pack_ids = {member.member_id: pack.pack_id for pack in plan.packs for member in members_of(pack)}
        rows = [_member_columns(member, pack_ids[member.member_id]) for member in plan.members]
        # Members of one sweep may differ in their columns (another model, no second phase): the union, in order.
        names = dict.fromkeys(name for row in rows for name in row)
        self._path = folder.members
        self._member_ids = [member.member_id for member in plan.members]
        self._known = pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})

    def table(self, statuses: Mapping[str, MemberStatus]) -> pa.Table:
        """The table as it stands.

        Args:
            statuses: by member id; members that are absent are still running.

        Returns:
            One row per member, in the plan's order.
        """
        running = MemberStatus(member_id="", attempt=0, status=Status.RUNNING)
        ends = [statuses.get(member_id, running) for member_id in self._member_ids]
        table = self._known
        for name, kind, values in (
            ("attempt", pa.int32(), [end.attempt for end in ends]),
            ("status", pa.string(), [end.status.value for end in ends]),
            ("status_reason", pa.string(), [end.status_reason for end in ends]),
        ):
            table = table.append_column(name, pa.array(values, type=kind))
        return table.replace_schema_metadata(METADATA)

    def write(self, statuses: Mapping[str, MemberStatus]) -> None:
        """Replace `members.parquet` as a whole.

        Args:
            statuses: by member id; members that are absent are still running.
        """
        write_table(self._path, self.table(statuses))


def write_members(folder: RunFolder, plan: "Plan", statuses: Mapping[str, MemberStatus]) -> None:
    """Write `members.parquet` once.

    Args:
        folder: the results folder.
        plan: the sweep's plan.
        statuses: by member id; members that are absent are still running.
    """
    MembersFile(folder, plan).write(statuses)


def _member_columns(member: Member, pack_id: str) -> dict[str, Any]:
    """Everything about a member that is known before it runs."""
    recipe, last = member.recipe, member.phases[-1]
    columns: dict[str, Any] = {
        "member_id": member.member_id,
        "parent_id": member.parent_id,
        "branch_step": member.branch_step,
        "recipe_id": recipe.recipe_id,
        "pack_id": pack_id,
        "task": recipe.task,
        "model": recipe.model,
        **recipe.task_args,
        **recipe.model_args,
        "batch_size": recipe.batch_size,
        "sphere_radius": recipe.sphere_radius,
        "decoupled": recipe.decoupled,
        "dtype": recipe.dtype,
        "optimizer": str(recipe.optimizer),
        "nesterov": recipe.nesterov,
        "beta1": recipe.beta1,
        "beta2": recipe.beta2,
        "eps": recipe.eps,
        "label_smoothing": recipe.label_smoothing,
        "groups": json.dumps([asdict(group) for group in recipe.groups]),
        "seed": member.seed,
        "data_seed": member.data_seed,
        "momentum": member.momentum,
        "phase": last.name,
        "steps": member.steps,
        "lr": last.lr,
        "weight_decay": last.weight_decay,
    }
    for phase in member.phases:
        columns[f"{phase.name}_lr"] = phase.lr
        columns[f"{phase.name}_steps"] = phase.steps
        columns[f"{phase.name}_weight_decay"] = phase.weight_decay
        noises = (("grad_noise", phase.grad_noise, 0.0), ("activation_noise", phase.activation_noise, 0.0))
        for noise, level, none in (*noises, ("kick", phase.kick, 1.0)):
            if level != none or f"{phase.name}_{noise}" in member.axes:
                columns[f"{phase.name}_{noise}"] = level
    columns |= {name: value for name, value in member.axes.items() if name not in columns}
    columns["phases"] = json.dumps([asdict(phase) for phase in member.phases])
    return columns


_TEXT = {"parent_id", "model"}
"""Text columns that may hold no value at all; every other column without values is one of numbers."""


def _column(name: str, values: list[Any]) -> pa.Array:
    """A column of the narrowest type that holds all values; text where they have no type in common."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and name not in _TEXT:
        return pa.array(values, type=pa.int64() if kinds == {int} else pa.float64())
    if len(kinds) == 1:
        return pa.array(values)
    return pa.array([None if value is None else str(value) for value in values], type=pa.string())
