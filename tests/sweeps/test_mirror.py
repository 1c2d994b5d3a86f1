"""The MLflow view, read back through MLflow's own client and compared with the planted tables."""

import itertools
import json
import math
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sweeps.mirror
from analysis.row_files import EPOCH_SCHEMA, PROBE_SCHEMA, rows_table
from sweeps.folder import RunFolder
from sweeps.mirror import MirrorError, mirror, store_made_meanwhile
from sweeps.mirror_records import MOST_ROWS, read_source
from sweeps.mirror_stores import ClientStore, SqliteStore
from trainables.rows import SCHEMA_VERSION, EpochRow, ProbeRow

LRS = (1e-3, 8e-3)
SEEDS = 2
STEPS = (100, 200, 300)


def member_row(lr: float, seed: int, **changes: Any) -> dict[str, Any]:
    row = {
        "member_id": f"id-{lr:g}-{seed}",
        "parent_id": None,
        "recipe_id": "r",
        "pack_id": "p",
        "task": "digits",
        "label_noise": 0.2,
        "batch_size": 16,
        "seed": seed,
        "data_seed": seed,
        "lr": lr,
        "pretrain_lr": lr,
        "phases": "[]",
        "attempt": 1,
        "status": "completed",
        "status_reason": "",
    }
    return row | changes


def epoch_row(member_id: str, step: int, attempt: int = 1, loss: float | None = None) -> EpochRow:
    return EpochRow(
        member_id=member_id,
        attempt=attempt,
        epoch=step // 10,
        step=step,
        lr=0.1,
        train_loss=1.0 / step if loss is None else loss,
        test_error=0.25,
        seconds=2.0,
    )


def final_row(member_id: str, group: str, value: float) -> ProbeRow:
    return ProbeRow(
        member_id=member_id,
        attempt=1,
        step=300,
        probe="final",
        split="test",
        group=group,
        key="error",
        value=value,
        n=9,
    )


def write_members(folder: RunFolder, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder.members)


def write_epochs(folder: RunFolder, part: str, rows: list[EpochRow]) -> None:
    pq.write_table(rows_table(rows, EPOCH_SCHEMA), folder.epochs / f"{part}.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Two learning rates by two seeds, three rows each, with a report."""
    folder = RunFolder(tmp_path / "planted")
    for path in (folder.epochs, folder.probes, folder.report):
        path.mkdir(parents=True)
    sweep = {
        "name": "planted-study",
        "question": "Which rate?",
        "task": {"name": "digits", "label_noise": 0.2},
        "train": {"batch_size": 16},
        "axes": {
            "pretrain_lr": {"values": list(LRS)},
            "seed": {"range": SEEDS},
            "data_seed": {"same_as": "seed"},
        },
    }
    content = {"schema_version": SCHEMA_VERSION, "sweep": sweep, "created": "2026-01-01T00:00:00+00:00"}
    folder.manifest.write_text(json.dumps(content))
    rows = [member_row(lr, seed) for lr in LRS for seed in range(SEEDS)]
    write_members(folder, rows)
    write_epochs(folder, "p-00000", [epoch_row(row["member_id"], step) for row in rows for step in STEPS])
    finals = [final_row(row["member_id"], group, 0.125) for row in rows for group in ("end", "swa@20")]
    pq.write_table(rows_table(finals, PROBE_SCHEMA), folder.probes / "p-00000.parquet")
    answer = {
        "optimum_lr": 8e-3,
        "band": [5e-3, 1e-2],
        "metric": "swa",
        "gain_over_regime_1": None,
        "sentence": "8e-3.",
    }
    folder.answer.write_text(json.dumps(answer))
    (folder.report / "index.html").write_text("<html>report</html>")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh store as a file: making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    SqliteStore(path, "planted-study")
    return path.read_bytes()


@pytest.fixture(params=["local", "client"])
def uri(request: pytest.FixtureRequest, folder: RunFolder, empty_store: bytes, monkeypatch: Any) -> Iterator[str]:
    """The same store through both ways in."""
    folder.mlflow.mkdir()
    (folder.mlflow / "mlflow.db").write_bytes(empty_store)
    (folder.mlflow / "artifacts").mkdir()
    if request.param == "client":
        monkeypatch.setattr("sweeps.mirror._open", ClientStore)
    return folder.tracking_uri


def view(uri: str) -> dict[str, Any]:
    """Everything a person sees: runs by name, with their data, histories and files, without ids and fingerprints."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = [one for one in client.search_experiments() if one.name == "planted-study"]
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    seen = {}
    for run in runs:
        tags = {name: value for name, value in run.data.tags.items() if name != "fingerprint"}
        if "mlflow.parentRunId" in tags:
            tags["mlflow.parentRunId"] = names[tags["mlflow.parentRunId"]]
        assert run.info.run_name not in seen
        seen[run.info.run_name] = {
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": run.data.params,
            "latest": run.data.metrics,
            "tags": tags,
            "history": {
                key: [
                    (point.step, point.value, point.timestamp)
                    for point in client.get_metric_history(run.info.run_id, key)
                ]
                for key in run.data.metrics
            },
            "files": [file.path for file in client.list_artifacts(run.info.run_id, "report")],
        }
    return seen


def test_view_shows_what_the_tables_say(folder: RunFolder, uri: str) -> None:
    summary = mirror(folder)
    seen = view(uri)
    assert (summary.written, summary.unchanged, summary.skipped) == (4, 0, 0)
    children = {f"pretrain_lr={lr} seed={seed}" for lr in ("1e-3", "8e-3") for seed in range(SEEDS)}
    assert set(seen) == {"planted", *children}

    child = seen["pretrain_lr=8e-3 seed=1"]
    began = 1_767_225_600_000
    assert child["status"] == "FINISHED"
    assert child["times"] == (began, began + 6000)
    assert child["params"]["lr"] == "0.008"
    assert not {"parent_id", "status", "phases"} & set(child["params"])
    assert child["tags"]["member_id"] == "id-0.008-1"
    assert child["tags"]["status"] == "completed"
    assert child["tags"]["mlflow.parentRunId"] == "planted"
    assert child["latest"] == {
        "train_loss": 1.0 / 300,
        "test_error": 0.25,
        "final_test_error": 0.125,
        "swa20_test_error": 0.125,
    }
    assert child["history"]["train_loss"] == [
        (step, 1.0 / step, began + 2000 * row) for row, step in enumerate(STEPS, start=1)
    ]

    parent = seen["planted"]
    assert parent["latest"] == {"optimum_lr": 8e-3, "band_low": 5e-3, "band_high": 1e-2, "members_completed": 4}
    assert parent["params"] == {"task.name": "digits", "task.label_noise": "0.2", "train.batch_size": "16"}
    assert parent["files"] == ["report/answer.json", "report/index.html"]
    assert "Which rate?" in parent["tags"]["mlflow.note.content"]


def test_twice_is_once(folder: RunFolder, uri: str) -> None:
    mirror(folder)
    before = view(uri)
    again = mirror(folder)
    assert (again.written, again.unchanged) == (0, 4)
    assert view(uri) == before


def test_changed_member_is_replaced_and_the_rest_left_alone(folder: RunFolder, uri: str) -> None:
    mirror(folder)
    before = view(uri)
    # A later attempt measured one row again and went on by one more.
    rows = [epoch_row("id-0.008-1", 300, attempt=2, loss=0.5), epoch_row("id-0.008-1", 400, attempt=2, loss=0.4)]
    write_epochs(folder, "p-00001", rows)
    again = mirror(folder)
    after = view(uri)
    assert (again.written, again.unchanged) == (1, 3)
    changed = after.pop("pretrain_lr=8e-3 seed=1")
    assert [value for _, value, _ in changed["history"]["train_loss"]] == [0.01, 0.005, 0.5, 0.4]
    del before["pretrain_lr=8e-3 seed=1"]
    assert {name: run for name, run in after.items() if name != "planted"} == {
        name: run for name, run in before.items() if name != "planted"
    }


@pytest.mark.parametrize("breaking", [1, 3])
def test_interrupted_mirror_is_completed(
    folder: RunFolder, uri: str, breaking: int, empty_store: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, method = (ClientStore, "_fill") if sweeps.mirror._open is ClientStore else (SqliteStore, "_insert")
    original = getattr(store, method)
    calls = 0

    def breaks(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > breaking:
            raise OSError("the plug was pulled")
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store, method, breaks)
        with pytest.raises(MirrorError, match="the plug was pulled"):
            mirror(folder)
    mirror(folder)

    other = tmp_path / "other.db"
    other.write_bytes(empty_store)
    mirror(folder, f"sqlite:///{other}")
    assert view(uri) == view(f"sqlite:///{other}")


def test_report_that_came_later_is_shown(folder: RunFolder, uri: str) -> None:
    answer = folder.answer.read_text()
    folder.answer.unlink()
    mirror(folder)
    before = view(uri)
    folder.answer.write_text(answer)
    again = mirror(folder)
    after = view(uri)
    assert (again.written, again.unchanged) == (0, 4)
    assert "optimum_lr" not in before["planted"]["latest"]
    assert after["planted"]["latest"]["optimum_lr"] == 8e-3
    assert after["planted"]["files"] == ["report/answer.json", "report/index.html"]


def test_overflow_is_a_finished_run_and_a_failure_is_not(folder: RunFolder, uri: str) -> None:
    ends = {0: "nonfinite", 1: "failed"}
    rows = [member_row(lr, seed, status=ends[seed]) for lr in LRS for seed in range(SEEDS)]
    write_members(folder, rows)
    write_epochs(folder, "p-00001", [epoch_row("id-0.001-0", 400, loss=math.inf)])
    mirror(folder)
    seen = view(uri)
    assert seen["pretrain_lr=1e-3 seed=0"]["status"] == "FINISHED"
    assert seen["pretrain_lr=1e-3 seed=0"]["tags"]["status"] == "nonfinite"
    assert seen["pretrain_lr=1e-3 seed=0"]["latest"]["train_loss"] == 1.0 / 300
    assert seen["pretrain_lr=1e-3 seed=1"]["status"] == "FAILED"


def test_limit_keeps_failures_and_whole_seeds_and_says_so(folder: RunFolder) -> None:
    rows = [member_row(lr, seed) for lr in LRS for seed in range(5)]
    rows[-1] |= {"status": "failed"}
    write_members(folder, rows)
    source = read_source(folder, limit=4)
    kept = [child.key for child in source.children]
    assert kept == ["id-0.008-4", "id-0.001-0", "id-0.008-0", "id-0.001-1"]
    assert source.skipped == 6


def test_summary_tells_how_to_get_what_was_left_out(folder: RunFolder, uri: str) -> None:
    mirror(folder)
    fewer = mirror(folder, limit=1)
    assert len(view(uri)) == 2
    assert "3 of 4 members left out" in fewer.sentence
    assert "--limit 4" in fewer.sentence


def test_long_history_is_thinned_to_its_ends(folder: RunFolder) -> None:
    steps = range(1, 1001)
    write_epochs(folder, "p-00001", [epoch_row("id-0.001-0", step) for step in steps])
    (child,) = [one for one in read_source(folder, 1000).children if one.key == "id-0.001-0"]
    kept = [point.step for point in child.points if point.key == "train_loss"]
    assert len(kept) == MOST_ROWS
    assert (kept[0], kept[-1]) == (1, 1000)
    assert max(later - earlier for earlier, later in itertools.pairwise(kept)) <= 11
    # The clock runs on through the rows that are not shown.
    assert max(point.timestamp for point in child.points) - child.start == 2_000_000


def test_moved_folder_takes_its_artifacts_along(folder: RunFolder, uri: str) -> None:
    from mlflow.tracking import MlflowClient

    mirror(folder)
    moved = RunFolder(folder.root.rename(folder.root.with_name("elsewhere")))
    summary = mirror(moved)
    (report,) = [
        file
        for file in MlflowClient(moved.tracking_uri).list_artifacts(summary.run_id, "report")
        if file.path.endswith("index.html")
    ]
    assert report.file_size == len("<html>report</html>")


def test_fingerprint_sees_every_part_of_a_record(folder: RunFolder) -> None:
    child = read_source(folder, 1000).children[0]
    point = child.points[0]
    others = [
        replace(child, name="x"),
        replace(child, status="x"),
        replace(child, end=0),
        replace(child, params={}),
        replace(child, tags={}),
        replace(child, points=(replace(point, value=9.0), *child.points[1:])),
    ]
    prints = {one.fingerprint("a") for one in (child, *others)} | {child.fingerprint("b")}
    assert len(prints) == len(others) + 2


def test_server_that_is_away_is_one_clear_sentence_and_soon(folder: RunFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    began = time.perf_counter()
    with pytest.raises(MirrorError, match=r"cannot be written.*results are safe"):
        mirror(folder, f"http://user:secret@127.0.0.1:{port}")
    assert time.perf_counter() - began < 20


def test_password_is_not_told(folder: RunFolder) -> None:
    with pytest.raises(MirrorError) as caught:
        mirror(folder, "http://user:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


def test_unreadable_table_is_one_clear_sentence(folder: RunFolder) -> None:
    (folder.epochs / "p-00009.parquet").write_bytes(b"not parquet")
    with pytest.raises(MirrorError, match="cannot be read"):
        mirror(folder)


@pytest.mark.slow
def test_store_made_meanwhile_is_the_one_that_mirror_makes(folder: RunFolder) -> None:
    with store_made_meanwhile(folder):
        pass
    before = (folder.mlflow / "mlflow.db").stat().st_ino
    summary = mirror(folder)
    assert summary.written == 4
    assert (folder.mlflow / "mlflow.db").stat().st_ino == before
    assert set(view(folder.tracking_uri)["planted"]["files"]) == {"report/answer.json", "report/index.html"}


@pytest.mark.slow
def test_store_whose_making_was_interrupted_is_made_again(folder: RunFolder) -> None:
    folder.mlflow.mkdir()
    with sqlite3.connect(folder.mlflow / "mlflow.db.new") as half:
        half.execute("CREATE TABLE experiments (half INTEGER)")
    assert mirror(folder).written == 4
    assert [path.name for path in folder.mlflow.iterdir() if path.is_file()] == ["mlflow.db"]


@pytest.mark.slow
def test_hundreds_of_members_take_seconds(folder: RunFolder) -> None:
    members = [member_row(1e-3, seed) for seed in range(576)]
    write_members(folder, members)
    write_epochs(folder, "p-00002", [epoch_row(row["member_id"], step) for row in members for step in range(1, 21)])
    began = time.process_time()
    mirror(folder)
    assert time.process_time() - began < 10
