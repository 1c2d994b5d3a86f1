"""Part files and the table `members`, read back with PyArrow and compared with what went in."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small

from analysis.row_files import EPOCH_SCHEMA, PROBE_SCHEMA, write_probes
from sweeps.folder import RunFolder
from sweeps.members import MembersFile, write_members
from sweeps.sinks import (
    ParquetSink,
    forget_failures,
    members_of,
    read_statuses,
    write_pack_statuses,
)
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status

EPOCH = EpochRow(member_id="m", attempt=1, epoch=2, step=30, lr=0.1, train_loss=0.5, seconds=1.0)
PROBE = ProbeRow(
    member_id="m", attempt=1, step=30, probe="final", split="test", group="end", key="error", value=0.25, n=7
)
DONE = MemberStatus(member_id="m", attempt=1, status=Status.COMPLETED)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    for name in ("epochs", "probes", "state"):
        (tmp_path / name).mkdir()
    return RunFolder(tmp_path)


def test_schemas_are_the_row_types() -> None:
    assert EPOCH_SCHEMA.names == [field.name for field in fields(EpochRow)]
    assert PROBE_SCHEMA.names == [field.name for field in fields(ProbeRow)]


def test_rows_come_back_as_they_went_in(folder: RunFolder) -> None:
    sink = ParquetSink(folder, "pack")
    sink.add([EPOCH, replace(EPOCH, step=60, train_loss=None)], [PROBE])
    assert not list(folder.epochs.iterdir())
    sink.flush(3, {"m": DONE})
    table = pq.read_table(folder.epochs / "pack-00003.parquet")
    assert table.schema.equals(EPOCH_SCHEMA, check_metadata=False)
    assert table.to_pylist() == [
        {name: getattr(row, name) for name in EPOCH_SCHEMA.names}
        for row in (EPOCH, replace(EPOCH, step=60, train_loss=None))
    ]
    (row,) = pq.read_table(folder.probes / "pack-00003.parquet").to_pylist()
    assert row == {name: getattr(PROBE, name) for name in PROBE_SCHEMA.names}
    assert read_statuses(folder) == {"m": DONE}


def test_flush_without_rows_writes_statuses_only(folder: RunFolder) -> None:
    ParquetSink(folder, "pack").flush(0, {"m": DONE})
    assert not list(folder.epochs.iterdir())
    assert read_statuses(folder) == {"m": DONE}


def test_part_is_whole_or_absent_when_the_disk_fails(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ParquetSink(folder, "pack")
    sink.add([EPOCH], [])
    sink.flush(0, {})
    before = (folder.epochs / "pack-00000.parquet").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    sink.add([replace(EPOCH, step=60)], [])
    with pytest.raises(OSError, match="No space left"):
        sink.flush(0, {})
    assert (folder.epochs / "pack-00000.parquet").read_bytes() == before
    assert len(list(folder.epochs.glob("*.parquet"))) == 1


def test_parts_of_a_killed_attempt_are_removed_from_a_number_on(folder: RunFolder) -> None:
    for pack in ("pack", "other"):
        sink = ParquetSink(folder, pack)
        for part in range(3):
            sink.add([EPOCH], [PROBE])
            sink.flush(part, {})
    ParquetSink(folder, "pack").discard_from(1)
    for table in (folder.epochs, folder.probes):
        names = sorted(path.name for path in table.glob("*.parquet"))
        assert names == ["other-00000.parquet", "other-00001.parquet", "other-00002.parquet", "pack-00000.parquet"]


def test_members_table_states_every_field(tmp_path: Path) -> None:
    folder, plan = small.make(tmp_path)
    ended = {plan.members[0].member_id: replace(DONE, attempt=2)}
    write_members(folder, plan, ended)
    rows = pq.read_table(folder.members).to_pylist()
    assert [row["member_id"] for row in rows] == [member.member_id for member in plan.members]
    packs = {member.member_id: pack.pack_id for pack in plan.packs for member in members_of(pack)}
    for row, member in zip(rows, plan.members, strict=True):
        pretrain, finetune = member.phases[0], member.phases[1] if len(member.phases) > 1 else None
        assert row | {"attempt": 0, "status": ""} == {
            "member_id": member.member_id,
            "parent_id": member.parent_id,
            "branch_step": 60 if finetune else 0,
            "recipe_id": member.recipe.recipe_id,
            "pack_id": packs[member.member_id],
            "task": "user_tasks:plain",
            "model": None,
            "tag": member.recipe.task_args["tag"],
            "batch_size": 8,
            "sphere_radius": None,
            "decoupled": False,
            "dtype": "float32",
            "optimizer": "sgd",
            "nesterov": False,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "label_smoothing": 0.0,
            "groups": "[]",
            "seed": member.seed,
            "data_seed": member.data_seed,
            "momentum": 0.0,
            "phase": "finetune" if finetune else "pretrain",
            "steps": 80 if finetune else 60,
            "lr": 0.01 if finetune else pretrain.lr,
            "weight_decay": 0.0,
            "pretrain_lr": pretrain.lr,
            "pretrain_steps": 60,
            "pretrain_weight_decay": 0.0,
            "finetune_lr": 0.01 if finetune else None,
            "finetune_steps": 20 if finetune else None,
            "finetune_weight_decay": 0.0 if finetune else None,
            "phases": row["phases"],
            "attempt": 0,
            "status": "",
            "status_reason": "",
        }
        assert [phase["lr"] for phase in json.loads(row["phases"])] == [phase.lr for phase in member.phases]
    assert [(row["status"], row["attempt"]) for row in rows] == [("completed", 2)] + [("running", 0)] * 15
    parents = {row["member_id"]: row["phase"] for row in rows}
    assert {parents[row["parent_id"]] for row in rows if row["parent_id"]} == {"pretrain"}


def test_types_do_not_depend_on_what_has_ended(tmp_path: Path) -> None:
    folder, plan = small.make(tmp_path)
    file = MembersFile(folder, plan)
    everyone = {member.member_id: DONE for member in plan.members}
    assert file.table({}).schema.equals(file.table(everyone).schema)


def test_failures_are_forgotten_and_results_are_not(folder: RunFolder) -> None:
    nonfinite = replace(DONE, member_id="n", status=Status.NONFINITE, status_reason="overflow")
    failed = replace(DONE, member_id="f", status=Status.FAILED, status_reason="error")
    write_pack_statuses(folder, "one", {"m": DONE, "n": nonfinite})
    write_pack_statuses(folder, "two", {"f": failed})
    forget_failures(folder)
    assert read_statuses(folder) == {"m": DONE, "n": nonfinite}


def test_probes_from_elsewhere_are_a_part_like_any_other(folder: RunFolder) -> None:
    path = folder.probes / "geometry.parquet"
    pair = replace(PROBE, other_member_id="o", value=None)
    write_probes(path, [PROBE, pair])
    table = pq.read_table(path)
    assert table.schema.equals(PROBE_SCHEMA, check_metadata=True)
    assert table.to_pylist() == [{name: getattr(row, name) for name in PROBE_SCHEMA.names} for row in (PROBE, pair)]
    write_probes(path, [])
    assert pq.read_table(path).num_rows == 0
    assert [found.name for found in folder.probes.iterdir()] == ["geometry.parquet"]
