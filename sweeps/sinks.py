"""Where rows go: part files of the tables `epochs` and `probes`, a pack's statuses, and the table `members`.

A part is written beside its final name, synced and renamed, so that a reader sees all of it or nothing. A pack that is
killed goes on from its last saved state and fills the part it was filling again: no row is lost, none is doubled.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.folder import SCHEMA_VERSION, RunFolder, write_json
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status
from trainables.spec import Member, Pack

if TYPE_CHECKING:
    from sweeps.plan import Plan

__all__ = [
    "EPOCH_SCHEMA",
    "PROBE_SCHEMA",
    "MembersFile",
    "ParquetSink",
    "forget_failures",
    "members_of",
    "read_pack_statuses",
    "read_statuses",
    "write_members",
    "write_pack_statuses",
]

_METADATA = {"schema_version": str(SCHEMA_VERSION)}

EPOCH_SCHEMA = pa.schema(
    [
        pa.field("member_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("epoch", pa.int64(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("lr", pa.float64(), nullable=False),
        *(
            pa.field(name, pa.float64())
            for name in (
                "train_loss",
                "train_error",
                "valid_loss",
                "valid_error",
                "test_loss",
                "test_error",
                "weight_norm_sq",
                "grad_norm_sq",
                "seconds",
            )
        ),
    ],
    metadata=_METADATA,
)
"""Columns of the table `epochs`; the fields of `EpochRow`."""

PROBE_SCHEMA = pa.schema(
    [
        pa.field("member_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("probe", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("other_member_id", pa.string()),
    ],
    metadata=_METADATA,
)
"""Columns of the table `probes`; the fields of `ProbeRow`."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file so that it is there as a whole, or not at all, after a crash at any moment.

    Args:
        path: its final name; the folder exists.
        table: what it shall hold.
    """
    # One fixed name beside each file, which readers of *.parquet do not match: a leftover of a kill is overwritten.
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class ParquetSink:
    """Takes a pack's rows and makes them durable, a part at a time.

    Args:
        folder: the results folder.
        pack_id: names the parts: `<pack_id>-<part:05d>.parquet`.
    """

    def __init__(self, folder: RunFolder, pack_id: str) -> None:
        self._folder = folder
        self._pack_id = pack_id
        self._epochs: list[EpochRow] = []
        self._probes: list[ProbeRow] = []

    def add(self, epochs: Iterable[EpochRow], probes: Iterable[ProbeRow]) -> None:
        """Keep rows until the next flush.

        Args:
            epochs: rows of the table `epochs`.
            probes: rows of the table `probes`.
        """
        self._epochs.extend(epochs)
        self._probes.extend(probes)

    def discard_from(self, part: int) -> None:
        """Remove parts that a killed attempt wrote after the state it goes on from: their rows come again.

        Args:
            part: the first part to be filled by this attempt.
        """
        for folder in (self._folder.epochs, self._folder.probes):
            for path in folder.glob(f"{self._pack_id}-*.parquet"):
                if int(path.stem.rsplit("-", 1)[1]) >= part:
                    path.unlink(missing_ok=True)

    def flush(self, part: int, statuses: Mapping[str, MemberStatus]) -> None:
        """Make every row added since the last flush durable, then the statuses.

        Args:
            part: number of the part these rows fill; a part of that number is replaced.
            statuses: final statuses of the pack's members so far.
        """
        for folder, rows, schema in (
            (self._folder.epochs, self._epochs, EPOCH_SCHEMA),
            (self._folder.probes, self._probes, PROBE_SCHEMA),
        ):
            if rows:
                write_table(folder / f"{self._pack_id}-{part:05d}.parquet", rows_table(rows, schema))
        write_pack_statuses(self._folder, self._pack_id, statuses)
        self._epochs, self._probes = [], []


def rows_table(rows: Sequence[EpochRow] | Sequence[ProbeRow], schema: pa.Schema) -> pa.Table:
    """Rows as columns.

    Args:
        rows: of the kind the schema describes.
        schema: `EPOCH_SCHEMA` or `PROBE_SCHEMA`.

    Returns:
        A table of `len(rows)` rows.
    """
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    return pa.table(columns, schema=schema)


def members_of(pack: Pack) -> tuple[Member, ...]:
    """The members whose schedules end in a pack.

    Args:
        pack: any pack.

    Returns:
        Each once, in training order.
    """
    return tuple(segment.owner for segment in pack.segments if segment.ends)


def write_pack_statuses(folder: RunFolder, pack_id: str, statuses: Mapping[str, MemberStatus]) -> None:
    """Write a pack's `state/<pack_id>.status.json`.

    Args:
        folder: the results folder.
        pack_id: the pack.
        statuses: by member id; members that are absent are still running.
    """
    content = {
        member_id: {"status": status.status.value, "status_reason": status.status_reason, "attempt": status.attempt}
        for member_id, status in statuses.items()
    }
    write_json(_status_path(folder, pack_id), content)


def read_pack_statuses(folder: RunFolder, pack_id: str) -> dict[str, MemberStatus]:
    """Read a pack's `state/<pack_id>.status.json`.

    Args:
        folder: the results folder.
        pack_id: the pack.

    Returns:
        Statuses by member id; empty where the pack has written none yet.
    """
    path = _status_path(folder, pack_id)
    return _read_statuses(path) if path.exists() else {}


def read_statuses(folder: RunFolder) -> dict[str, MemberStatus]:
    """Final statuses of all members so far.

    Args:
        folder: the results folder.

    Returns:
        By member id; members that are absent are still running.
    """
    found: dict[str, MemberStatus] = {}
    for path in sorted(folder.state.glob("*.status.json")):
        found.update(_read_statuses(path))
    return found


def forget_failures(folder: RunFolder) -> None:
    """Let failed members run again: an error that came from outside may be gone, or its cause mended.

    Args:
        folder: the results folder; no pack may be at work in it.
    """
    for path in folder.state.glob("*.status.json"):
        statuses = _read_statuses(path)
        kept = {key: status for key, status in statuses.items() if status.status is not Status.FAILED}
        if len(kept) < len(statuses):
            write_pack_statuses(folder, path.name.removesuffix(".status.json"), kept)


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
        return table.replace_schema_metadata(_METADATA)

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


def _status_path(folder: RunFolder, pack_id: str) -> Path:
    return folder.state / f"{pack_id}.status.json"


def _read_statuses(path: Path) -> dict[str, MemberStatus]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        member_id: MemberStatus(
            member_id=member_id,
            attempt=entry["attempt"],
            status=Status(entry["status"]),
            status_reason=entry["status_reason"],
        )
        for member_id, entry in content.items()
    }
