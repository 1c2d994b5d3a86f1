"""Which probes the MLflow view shows, worked out from a planted table."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.row_files import write_probes
from sweeps.folder import RunFolder
from sweeps.mirror_records import read_source
from trainables.rows import SCHEMA_VERSION, ProbeRow

ROW = ProbeRow(
    member_id="low", attempt=1, step=30, probe="curvature", split="train", group="end", key="lambda_1", value=4.0, n=64
)
CHORD = replace(
    ROW, probe="barrier", split="test", group="end~end", key="error_chord", value=0.25, other_member_id="high"
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    for path in (folder.epochs, folder.probes):
        path.mkdir()
    member = {"member_id": "low", "status": "completed", "status_reason": "", "attempt": 1, "seed": 0, "data_seed": 0}
    members = [member | {"parent_id": None, "pack_id": "p"}]
    pq.write_table(pa.Table.from_pylist(members), folder.members)
    content = {"schema_version": SCHEMA_VERSION, "sweep": {"name": "s"}, "created": "2026-01-01T00:00:00+00:00"}
    folder.manifest.write_text(json.dumps(content))
    return folder


def test_sharpness_and_the_barrier_between_low_and_high_are_shown_and_nothing_else(folder: RunFolder) -> None:
    write_probes(
        folder.probes / "a.parquet",
        [
            ROW,
            replace(ROW, key="trace", value=9.0),
            replace(ROW, group="swa@20", value=2.0),
            replace(ROW, key="trace_se"),
            replace(ROW, key="lambda_2"),
            replace(ROW, probe="llc", key="trace"),
        ],
    )
    write_probes(
        folder.probes / "b.parquet",
        [
            CHORD,
            replace(CHORD, split="train", value=0.5),
            replace(CHORD, key="loss_chord"),
            replace(CHORD, group="end~swa@20", value=0.75),
            replace(CHORD, probe="angle"),
            replace(ROW, probe="fault", key="curvature: NaN weights", value=None, n=0),
        ],
    )
    (child,) = read_source(folder, limit=10).children
    assert sorted((point.key, point.value, point.step) for point in child.points) == [
        ("barrier_test_error", 0.25, 30),
        ("barrier_train_error", 0.5, 30),
        ("final_train_lambda_1", 4.0, 30),
        ("final_train_trace", 9.0, 30),
        ("swa20_train_lambda_1", 2.0, 30),
    ]


def test_a_number_that_is_none_is_left_out(folder: RunFolder) -> None:
    write_probes(folder.probes / "a.parquet", [replace(ROW, value=None), replace(ROW, key="trace", value=float("nan"))])
    (child,) = read_source(folder, limit=10).children
    assert child.points == ()
