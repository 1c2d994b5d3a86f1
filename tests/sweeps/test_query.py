"""SQL and status over a results folder whose rows are known."""

import json
from pathlib import Path

import pytest

from analysis.row_files import EPOCH_SCHEMA, PROBE_SCHEMA
from sweeps.folder import RunFolder
from sweeps.plan import Plan, plan
from sweeps.query import ask, connect
from sweeps.sinks import ParquetSink
from sweeps.standing import standing
from sweeps.sweep import load_sweep
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status
from trainables.spec import Member, SpecError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    sweep = load_sweep("band-digits", ["axes.seed.range=1", "axes.label_noise.values=[0.2]"])
    small = plan(sweep, cores=2, memory_bytes=8 * 10**9)
    return RunFolder.create(tmp_path / "run", sweep, small, [])


@pytest.fixture
def small(folder: RunFolder) -> Plan:
    return folder.plan()


def epoch(member: Member, step: int, attempt: int, loss: float | None = None) -> EpochRow:
    return EpochRow(
        member_id=member.member_id, attempt=attempt, epoch=0, step=step, lr=0.1, train_loss=loss, seconds=2.0
    )


def probe(member: Member, attempt: int, value: float, other: str | None = None) -> ProbeRow:
    return ProbeRow(
        member_id=member.member_id, attempt=attempt, step=20000, probe="final", split="test", group="end", key="error",
        value=value, n=1200, other_member_id=other,
    )  # fmt: skip


def ended(member: Member, status: Status) -> dict[str, MemberStatus]:
    return {member.member_id: MemberStatus(member_id=member.member_id, attempt=1, status=status)}


def write(folder: RunFolder, epochs: list[EpochRow], probes: list[ProbeRow], statuses: dict[str, MemberStatus]) -> None:
    sink = ParquetSink(folder, "pack")
    sink.add(epochs, probes)
    sink.flush(len(list(folder.epochs.iterdir())), statuses)


def test_tables_are_there_and_typed_before_anything_is_written(folder: RunFolder, small: Plan) -> None:
    with connect(folder) as connection:
        assert ask(connection, "SELECT * FROM epochs").columns == tuple(EPOCH_SCHEMA.names)
        assert ask(connection, "SELECT * FROM probes").columns == tuple(PROBE_SCHEMA.names)
        assert ask(connection, "SELECT count(*), sum(train_loss) FROM epochs").rows == [(0, None)]
        found = ask(connection, "SELECT status, count(*), max(finetune_lr), min(label_noise) FROM members GROUP BY 1")
    assert found.rows == [("running", len(small.members), 2e-3, 0.2)]


def test_each_key_once_with_its_highest_attempt(folder: RunFolder, small: Plan) -> None:
    one, other = small.members[:2]
    write(
        folder,
        [epoch(one, 1000, 1, 9.0), epoch(one, 2000, 1, 8.0), epoch(other, 1000, 1, 7.0)],
        [probe(one, 1, 0.5)],
        {},
    )
    write(folder, [epoch(one, 1000, 2, 1.0)], [probe(one, 2, 0.25), probe(one, 1, 0.75, other.member_id)], {})
    with connect(folder) as connection:
        rows = ask(connection, "SELECT step, attempt, train_loss FROM epochs ORDER BY train_loss").rows
        values = ask(connection, "SELECT value FROM probes WHERE \"group\" = 'end' ORDER BY 1").rows
    assert rows == [(1000, 2, 1.0), (1000, 1, 7.0), (2000, 1, 8.0)]
    assert values == [(0.25,), (0.75,)]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", ("Parser Error", "epochs (member_id, attempt, epoch, step")),
        ("SELECT loss FROM epochs", ('"loss" not found', "train_loss")),
        ("SELECT * FROM epoch", ("epoch does not exist",)),
        ("COPY members TO '{place}/out.csv'", ("disabled",)),
        ("SELECT * FROM read_csv('/etc/passwd')", ("disabled",)),
        ("ATTACH '{place}/x.db'", ("disabled",)),
        ("SET enable_external_access = true", ("locked",)),
        ("SELECT * FROM folder", ("folder does not exist",)),  # a variable of this program
    ],
)
def test_a_wrong_query_is_a_fault_and_no_file_is_touched(
    folder: RunFolder, tmp_path: Path, query: str, words: tuple[str, ...]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with connect(folder) as connection, pytest.raises(SpecError) as caught:
        ask(connection, query.format(place=tmp_path))
    for word in ("the query must be valid SQL", *words):
        assert word in caught.value.faults[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_part_is_a_fault(folder: RunFolder) -> None:
    (folder.epochs / "pack-00000.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(SpecError, match=r"every part must be readable, .* in .*pack-00000\.parquet"):
        connect(folder)


def test_status_of_a_fresh_folder(folder: RunFolder, small: Plan) -> None:
    found = standing(folder).as_json()
    assert found == {
        "members": 36,
        "by_status": {"running": 36},
        "rows": 0,
        "done": False,
        "probe_rows": 0,
        "probe_jobs": None,
        "probe_jobs_done": None,
        "member_steps_done": 0,
        "member_steps": small.member_steps,
        "last_row_age_seconds": None,
        "eta_seconds": None,
    }
    assert json.loads(json.dumps(found)) == found


def test_status_counts_steps_by_members_and_estimates_the_rest(folder: RunFolder, small: Plan) -> None:
    parent = small.members[0]
    child = next(member for member in small.members if member.parent_id == parent.member_id)
    dead = small.members[1]
    rows = [epoch(parent, 10_000, 1), epoch(parent, 20_000, 1), epoch(child, 21_000, 1), epoch(dead, 1000, 1)]
    write(folder, [*rows, epoch(child, 21_000, 2)], [], ended(parent, Status.COMPLETED) | ended(dead, Status.NONFINITE))
    found = standing(folder)
    assert found.by_status == {"running": 34, "completed": 1, "nonfinite": 1}
    assert (found.rows, found.done) == (4, False)
    # The parent's schedule, the thousand steps that are the child's own, and nothing more to do for the dead one.
    assert found.steps_done == 20_000 + 1_000 + 20_000
    assert found.last_row_age is not None
    assert 0 <= found.last_row_age < 60
    # 4 rows of 2 s for 41,000 steps; two packs at work.
    assert found.seconds_left == pytest.approx((found.steps - 41_000) * 8 / 41_000 / 2)


def test_status_of_a_finished_folder(folder: RunFolder, small: Plan) -> None:
    statuses = {}
    for member in small.members:
        statuses |= ended(member, Status.COMPLETED)
    write(folder, [epoch(member, member.steps, 1) for member in small.members], [], statuses)
    found = standing(folder)
    assert (found.done, found.seconds_left, found.steps_done) == (True, 0.0, found.steps)
    assert found.by_status == {"completed": 36}
