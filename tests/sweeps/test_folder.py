"""The results folder: what is written first, and what is refused with one sentence."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from sweeps.folder import RunFolder, write_json
from sweeps.plan import Plan, plan
from sweeps.resources import Resources, check_resources, this_machine
from sweeps.schema import Sweep
from sweeps.sweep import load_sweep
from trainables.rows import SCHEMA_VERSION
from trainables.spec import Recipe, SpecError

CHANGES = ["axes.seed.range=1", "phases.0.steps=2000", "phases.1.steps=1000"]


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return load_sweep("band-digits", CHANGES)


@pytest.fixture(scope="module")
def small(sweep: Sweep) -> Plan:
    return plan(sweep, cores=3, memory_bytes=8 * 10**9)


def made(root: Path, sweep: Sweep, small: Plan) -> RunFolder:
    return RunFolder.create(root, sweep, small, ["lratlas", "run", "band-digits"])


def test_manifest(tmp_path: Path, sweep: Sweep, small: Plan) -> None:
    folder = made(tmp_path / "runs" / "one", sweep, small)
    manifest: dict[str, Any] = json.loads((tmp_path / "runs" / "one" / "manifest.json").read_text())
    assert manifest["schema_version"] == SCHEMA_VERSION == 1
    assert manifest["sweep"] == sweep.model_dump(mode="json")
    assert manifest["members"] == 72
    assert manifest["member_steps"] == small.member_steps
    assert manifest["executor"] == "auto"
    assert manifest["command_line"] == ["lratlas", "run", "band-digits"]
    assert re.match(r"\d+\.\d+", manifest["versions"]["torch"])
    assert manifest["device"]["cpu_count"] == os.cpu_count()
    assert manifest["created"].endswith("+00:00")
    assert manifest["git_commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", manifest["git_commit"])
    for recipe_id, content in manifest["recipes"].items():
        assert Recipe(**content).recipe_id == recipe_id
    assert set(manifest["recipes"]) == {m.recipe.recipe_id for m in small.members}
    assert sorted(path.name for path in folder.root.iterdir()) == [
        "checkpoints", "epochs", "manifest.json", "probes", "state"
    ]  # fmt: skip


def test_an_opened_folder_gives_sweep_and_plan_again(tmp_path: Path, sweep: Sweep, small: Plan) -> None:
    made(tmp_path / "one", sweep, small)
    folder = RunFolder.open(tmp_path / "one")
    assert folder.sweep() == sweep
    # As it was planned when the sweep began, whatever machine this is: packs keep their ids.
    assert folder.plan() == small


def test_paths_stay_inside(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = ("manifest", "members", "epochs", "probes", "checkpoints", "state", "report", "answer", "ray", "mlflow")
    paths = [getattr(folder, name) for name in (*names, "stop_file")]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)
    assert folder.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    assert RunFolder.default_root("x").parent == Path("runs")


def test_manifest_changes_as_a_whole(tmp_path: Path, sweep: Sweep, small: Plan) -> None:
    folder = made(tmp_path, sweep, small)
    folder.update_manifest(executor="stacked")
    assert folder.read_manifest()["executor"] == "stacked"
    assert folder.sweep() == sweep
    with pytest.raises(TypeError):
        folder.update_manifest(executor=object())
    assert folder.read_manifest()["executor"] == "stacked"


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A place where nothing can be made, for the superuser as well."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "run"


def test_out_must_be_new_or_empty(tmp_path: Path, sweep: Sweep, small: Plan) -> None:
    (tmp_path / "empty").mkdir()
    made(tmp_path / "empty", sweep, small)
    with pytest.raises(SpecError, match=r"new or empty folder, found files in .*empty; `lratlas resume .*` goes on"):
        made(tmp_path / "empty", sweep, small)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(SpecError, match=r"new or empty folder, found files in .*full; empty it"):
        made(tmp_path / "full", sweep, small)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    with pytest.raises(SpecError, match="--out must be a folder, found a file"):
        made(tmp_path / "full" / "thesis.tex", sweep, small)


def test_out_must_be_writable(unwritable: Path, sweep: Sweep, small: Plan) -> None:
    with pytest.raises((SpecError, NotADirectoryError)) as caught:
        made(unwritable, sweep, small)
    assert isinstance(caught.value, SpecError)
    assert "--out must be writable, found Not a directory" in caught.value.faults[0]


def test_a_disk_that_fills_up_at_the_start_leaves_nothing(
    tmp_path: Path, sweep: Sweep, small: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sweeps.folder.os.fsync", full)
    with pytest.raises(SpecError, match="--out must be writable, found No space left on device"):
        made(tmp_path / "new", sweep, small)
    assert not (tmp_path / "new").exists()


def test_a_disk_too_small_for_the_plan(
    tmp_path: Path, sweep: Sweep, small: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(free=1_000_000))
    with pytest.raises(SpecError, match=r"the disk must hold about \d+ MB of results, found 1\.0 MB free at"):
        made(tmp_path / "new", sweep, small)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, ("must be 1, found 2", "a newer lr-atlas", "update")),
        ({"schema_version": SCHEMA_VERSION - 1}, ("must be 1, found 0", "an older lr-atlas", "run the sweep again")),
        ({}, ("must state a schema_version", "found None")),
        ([], ("must state a schema_version", "found None")),
        ("not json {", ("must be readable", "restore it from a copy")),
        (None, ("must hold manifest.json", "found none")),
    ],
)
def test_other_folders_are_refused_with_a_sentence(tmp_path: Path, content: object, words: tuple[str, ...]) -> None:
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(SpecError) as caught:
        RunFolder.open(tmp_path)
    (fault,) = caught.value.faults
    for word in (*words, str(tmp_path)):
        assert word in fault


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="must exist, found none at"):
        RunFolder.open(tmp_path / "nowhere")


def test_a_gpu_that_is_not_there(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_resources(sweep)
    greedy = load_sweep("band-digits", [*CHANGES, "run.gpus_per_pack=1"])
    with pytest.raises(SpecError, match=r"run\.gpus_per_pack = 1 needs a GPU, found none .* give --set"):
        check_resources(greedy)


def test_this_machine() -> None:
    here = this_machine()
    assert isinstance(here, Resources)
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.memory_bytes > 10**8
