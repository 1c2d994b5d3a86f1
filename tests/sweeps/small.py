"""Small sweeps, and their tables read back without the project's own readers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from sweeps.folder import RunFolder
from sweeps.plan import Plan, plan
from sweeps.runner import RunOptions
from sweeps.sweep import load_sweep

KEYS = {
    "epochs": ["member_id", "step"],
    "probes": ["member_id", "step", "probe", "split", "group", "key", "other_member_id"],
    "members": ["member_id"],
}
OPTIONS = RunOptions(executor="loop", save_seconds=0.0, cores=2)


def content(
    task: str = "user_tasks:plain", task_args: Mapping[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """A sweep file of two packs: 2 tags x 2 learning rates x 2 seeds, fine-tuned once."""
    return {
        "name": "small",
        "question": "Does it run?",
        "source": "a test",
        "task": {"name": task, **(task_args or {})},
        "train": {"batch_size": 8},
        "phases": [
            {"name": "pretrain", "steps": 60, "swa": {"every": 5, "windows": [3]}},
            {"name": "finetune", "steps": 20, "lr": 0.01},
        ],
        "axes": {
            "pretrain_lr": {"values": [0.1, 0.5]},
            "tag": {"values": [0, 1]},
            "seed": {"range": 2},
        },
        "measure": {"report_every": 10},
        "headline": {"tag": 0},
        "analysis": {"kind": "band", "metric": "final"},
        "run": {"executor": "loop"},
        **changes,
    }


def write_sweep(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(content(**changes)))
    return path


def make(tmp_path: Path, **changes: Any) -> tuple[RunFolder, Plan]:
    """A new results folder and its plan."""
    tmp_path.mkdir(exist_ok=True)
    sweep = load_sweep(str(write_sweep(tmp_path / "small.yaml", **changes)))
    planned = plan(sweep, cores=2, memory_bytes=2**33)
    return RunFolder.create(tmp_path / "out", sweep, planned, ["test"]), planned


def table(root: Path, name: str) -> pd.DataFrame:
    """A table as written, in the order of its key; fails on a key that comes twice."""
    paths = [root / "members.parquet"] if name == "members" else sorted((root / name).glob("*.parquet"))
    frame = pd.concat([pd.read_parquet(path) for path in paths]).sort_values(KEYS[name]).reset_index(drop=True)
    assert not frame.duplicated(KEYS[name]).any(), f"{name}: rows doubled"
    return frame


def facts(root: Path) -> dict[str, pd.DataFrame]:
    """What training wrote, without what may differ between two runs of the same sweep."""
    tables = {name: table(root, name).drop(columns=["attempt", "seconds"], errors="ignore") for name in KEYS}
    measured = tables["probes"]["probe"].isin(["angle", "barrier", "fault"])  # by a report, if there was one
    tables["probes"] = tables["probes"][~measured].reset_index(drop=True)
    return tables


def assert_same_facts(one: Path | Mapping[str, pd.DataFrame], other: Path) -> None:
    before = facts(one) if isinstance(one, Path) else one
    after = facts(other)
    for name in KEYS:
        pd.testing.assert_frame_equal(before[name], after[name], check_exact=True, obj=name)


def statuses(root: Path) -> dict[str, int]:
    """Members by status in members.parquet."""
    return dict(table(root, "members")["status"].value_counts())


def attempts(folder: RunFolder) -> Sequence[int]:
    """Attempts in the table epochs."""
    return sorted(set(table(folder.root, "epochs")["attempt"]))


def status_files(folder: RunFolder) -> dict[str, str]:
    """Status by member, as the packs left it."""
    found = {}
    for path in folder.state.glob("*.status.json"):
        found |= {key: entry["status"] for key, entry in json.loads(path.read_text()).items()}
    return found
