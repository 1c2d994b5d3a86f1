"""The command line as a user meets it."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from sweeps import cli
from sweeps.folder import RunFolder
from sweeps.plan import plan
from sweeps.sweep import load_sweep
from trainables.spec import SpecError

CONTRACT = ("presets", "plan", "run", "resume", "status", "mirror", "sql", "band", "submit", "doctor")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sweep = load_sweep("band-digits", ["axes.seed.range=1"])
    small = plan(sweep, cores=2, memory_bytes=8 * 10**9)
    return RunFolder.create(tmp_path / "run", sweep, small, []).root


def test_help_shows_every_command_with_a_line() -> None:
    found = call("--help")
    assert found.exit_code == 0
    assert tuple(cli.COMMANDS) == CONTRACT
    for name, line in cli.COMMANDS.items():
        assert name in found.stdout
        assert line.split()[0] in found.stdout


@pytest.mark.parametrize("name", CONTRACT)
def test_every_command_has_help_with_an_example(name: str) -> None:
    found = call(name, "--help")
    assert found.exit_code == 0
    assert f"Example: lratlas {name}" in " ".join(found.stdout.split())


def test_help_takes_less_than_half_a_second(root: Path) -> None:
    command = [sys.executable, "-m", "sweeps", "--help"]
    times = []
    for _ in range(3):
        start = processor_seconds()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        times.append(processor_seconds() - start)
        assert "Usage: lratlas" in done.stdout
    assert min(times) < 0.5


def processor_seconds() -> float:
    """Processor time of all child processes so far: unlike the clock on the wall it leaves out what others do."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_module_and_exit_codes_in_a_real_process(root: Path) -> None:
    command = [sys.executable, "-m", "sweeps", "plan", "band-digts"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("lratlas: 1 fault in the input:\n  1. unknown preset 'band-digts'")


def test_a_task_in_the_users_folder_is_found(root: Path, tmp_path: Path) -> None:
    (tmp_path / "my_tasks.py").write_text(
        "import torch\nfrom trainables.tasks import Split, Task\n\n\ndef easy(size=10, data_seed=0):\n"
        "    data = Split(torch.ones(size, 3), torch.arange(size) % 2)\n"
        "    return Task(model=lambda: torch.nn.Linear(3, 2), train=data, test=data)\n"
    )
    (tmp_path / "my.yaml").write_text(
        "name: my\ntask: {name: 'my_tasks:easy', size: 5}\ntrain: {batch_size: 4}\n"
        "phases: [{name: train, steps: 100}]\naxes: {lr: {values: [1e-3, 1e-2]}}\nmeasure: {report_every: 10}\n"
    )
    # As an installed command starts: with neither this folder nor the user's on the path.
    program = f"import sys; sys.path.append({str(root)!r}); from sweeps.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "plan", "my.yaml", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout)["members"] == 2


@pytest.mark.slow
def test_presets() -> None:
    listed = json.loads(call("presets", "--json").stdout)
    files = sorted(path.stem for path in (Path(cli.__file__).parent / "presets").glob("*.yaml"))
    assert [preset["name"] for preset in listed] == files
    assert {"band-digits", "band-cifar10-small", "band-vit"} <= set(files)
    assert all(set(preset) == {"name", "question", "source", "tag", "cost"} for preset in listed)
    shown = " ".join(call("presets").stdout.split())
    for preset in listed:
        words = [text for key, text in preset.items() if key not in ("tag", "cost")]  # the cost is measured anew
        assert all(" ".join(text.split()) in shown for text in words)


def test_plan() -> None:
    found = call("plan", "band-tick", "--json", "--set", "axes.seed.range=1", "--set", "axes.data_seed.range=1")
    assert found.exit_code == 0
    numbers = json.loads(found.stdout)
    assert set(numbers) == {
        "members", "segments", "packs", "member_steps", "member_steps_without_sharing", "estimated_seconds",
        "estimated_memory_bytes", "estimated_memory_bytes_per_member", "estimated_disk_bytes", "kept_weights_bytes",
        "checkpoint_budget_bytes", "probed_solutions", "equilibrium_steps", "steps_per_epoch",
    }  # fmt: skip
    assert (numbers["members"], numbers["member_steps"]) == (36, 12 * 40_000 + 24 * 20_000)
    shown = call("plan", "band-tick").stdout
    for word in ("864", "288 pretrain + 576 finetune", "23,040,000", "46,080,000", "time", "memory", "disk"):
        assert word in shown


def test_all_faults_are_printed_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = ["--set", "train.batch_size=0", "--set", "axes.sede.range=2", "--set", "task.name=digit"]
    for command in ("plan", "run"):
        found = call(command, "band-digits", *wrong)
        assert found.exit_code == 2
        assert found.stdout == ""
        assert "3 faults in the input" in found.stderr
        assert [line[2:4] for line in found.stderr.splitlines()[1:]] == ["1.", "2.", "3."]
        assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["plam"], ["plan"], ["plan", "band-digits", "--jso"], ["sql", "x"]])
def test_a_wrong_command_line(arguments: list[str]) -> None:
    found = call(*arguments)
    assert found.exit_code == 2
    assert "Usage: lratlas" in found.stderr


def test_no_arguments_show_help() -> None:
    found = call()
    assert "presets" in found.stdout + found.stderr


def test_status_and_sql(folder: Path) -> None:
    assert json.loads(call("status", folder, "--json").stdout)["by_status"] == {"running": 72}
    assert "not finished" in call("status", folder).stdout
    query = (
        "SELECT phase, count(*) AS n, 0.5::DOUBLE AS half, 'nan'::DOUBLE AS nothing FROM members GROUP BY 1 ORDER BY 1"
    )
    rows = json.loads(call("sql", folder, query, "--json").stdout)
    assert rows == [
        {"phase": "finetune", "n": 48, "half": 0.5, "nothing": None},
        {"phase": "pretrain", "n": 24, "half": 0.5, "nothing": None},
    ]
    shown = call("sql", folder, "SELECT member_id, phases FROM members LIMIT 1").stdout
    (line,) = [line for line in shown.splitlines() if "pretrain" in line]
    assert "…" not in line  # nothing is cut where there is no terminal
    assert "[bold]" in call("sql", folder, "SELECT '[bold]' AS x").stdout
    assert "200 of 300 rows" in call("sql", folder, "SELECT * FROM range(300)").stdout


def test_faults_of_status_and_sql(folder: Path, tmp_path: Path) -> None:
    for arguments in (["status", tmp_path], ["sql", tmp_path / "x", "SELECT 1"], ["sql", folder, "SELEC 1"]):
        found = call(*arguments)
        assert (found.exit_code, found.stdout) == (2, "")
        assert "1 fault in the input" in found.stderr
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 7}))
    found = call("status", folder)
    assert found.exit_code == 2
    assert "written by a newer lr-atlas; update" in found.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SpecError(["one", "two"]), 2, "2 faults in the input:\n  1. one\n  2. two"),
        (OSError(28, "No space left on device", "/data/x"), 2, "the disk is full at /data/x; make room"),
        (PermissionError(13, "Permission denied", "/data/x"), 2, "no permission at /data/x"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(3), 3, ""),
    ],
)
def test_one_place_turns_errors_into_messages(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def presets() -> None:
        raise error

    monkeypatch.setattr("sweeps.commands.presets.presets", presets)
    found = call("presets")
    assert found.exit_code == code
    assert words in found.stderr


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def presets() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("sweeps.commands.presets.presets", presets)
    assert isinstance(call("presets").exception, ZeroDivisionError)
