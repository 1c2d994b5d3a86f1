"""Reading results folders: duplicates, order, partial folders, and sentences for what cannot be read."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import digits_like

from analysis.study import load_study
from analysis.tables import read_tables
from trainables.spec import SpecError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return digits_like(tmp_path_factory.mktemp("tables"), seeds=3)


def test_highest_attempt_wins_whatever_the_order_of_parts(folder, tmp_path):
    expected = read_tables(folder)
    for name in ("manifest.json", "members.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    rng = np.random.default_rng(5)
    for name in ("epochs", "probes"):
        (tmp_path / name).mkdir()
        table = pa.concat_tables([pq.read_table(path) for path in sorted((folder / name).glob("*.parquet"))])
        frame = table.to_pandas()
        wrong = "test_error" if name == "epochs" else "value"
        stale = frame.sample(frac=0.3, random_state=1).assign(**{wrong: 0.123}, attempt=0)
        mixed = pd.concat([frame, stale]).sample(frac=1, random_state=2)
        for part, rows in enumerate(np.array_split(rng.permutation(len(mixed)), 4)):
            piece = pa.Table.from_pandas(mixed.iloc[rows], schema=table.schema, preserve_index=False)
            pq.write_table(piece, tmp_path / name / f"x-{part:05d}.parquet")
        (tmp_path / name / ".x-00009.parquet.tmp").write_bytes(b"half a part")
    found = read_tables(tmp_path)
    pd.testing.assert_frame_equal(_plain(found.epochs), _plain(expected.epochs))
    pd.testing.assert_frame_equal(_plain(found.probes), _plain(expected.probes))


def test_a_column_the_files_lack_comes_back_null(folder):
    assert read_tables(folder).epochs["valid_error"].isna().all()


def test_a_folder_without_rows_is_a_study_without_numbers(folder, tmp_path):
    for name in ("manifest.json", "members.parquet"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    study = load_study(tmp_path)
    assert [arm.label for arm in study.arms] == ["label_noise 0", "label_noise 0.2"]
    assert study.headline.axes == {"label_noise": 0.2}
    assert study.tables.epochs.empty


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda path: (path / "manifest.json").unlink(), "holds manifest.json"),
        (lambda path: (path / "manifest.json").write_text("{"), "readable JSON"),
        (lambda path: _version(path, 2), "a newer version"),
        (lambda path: _version(path, 0), "schema_version 1"),
        (lambda path: _version(path, None), "schema_version 1"),
        (lambda path: (path / "members.parquet").unlink(), "members.parquet"),
        (lambda path: (path / "members.parquet").write_bytes(b"PAR1 no"), "members.parquet must be readable"),
        (lambda path: (path / "epochs" / "zz.parquet").write_bytes(b"cut"), "zz.parquet"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, break_it, says):
    digits_like(tmp_path, seeds=1)
    break_it(tmp_path)
    with pytest.raises(SpecError) as caught:
        read_tables(tmp_path)
    assert len(caught.value.faults) == 1
    assert says in caught.value.faults[0]
    assert "\n" not in caught.value.faults[0]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(SpecError, match="nowhere"):
        read_tables(tmp_path / "nowhere")


def _version(path, version):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"schema_version": version}))


def _plain(frame):
    words = frame.select_dtypes("category").columns
    plain = frame.astype(dict.fromkeys(words, object))
    key = ["member_id", "step"] + (["probe", "group", "key"] if "probe" in frame else [])
    return plain.sort_values(key, ignore_index=True)
