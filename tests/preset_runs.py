"""A shipped study, run by the command as a user has it, and what its answer holds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from analysis.__main__ import main as analyse

Answer = dict[str, Any]


def run(preset: str, folder: Path, *changes: str) -> Path:
    """The results folder; each change is a `--set`."""
    command = [sys.executable, "-m", "sweeps", "run", preset, "--out", str(folder), "--json"]
    command += [word for change in changes for word in ("--set", change)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def answer(folder: Path) -> Answer:
    return json.loads((folder / "report" / "answer.json").read_text())  # type: ignore[no-any-return]


def rates(found: Answer) -> dict[float, Answer]:
    """The rows of an answer's table by initial rate."""
    return {row["lr"]: row for row in found["table"]}


def accuracy(row: Answer, quality: str) -> float:
    """Of a row's test set, in points."""
    return 100 * (1 - row["error"][quality]["value"])


def parted(folder: Path, pair: str, *options: str) -> dict[float, Answer]:
    """Angles and barriers between two solutions of each pre-training, by initial rate."""
    out = folder / "geometry.json"
    command = ["geometry", str(folder), "--measures", "barrier", "--json", "--out", str(out), *options]
    assert analyse(command) == 0
    return {row["lr"]: row for row in json.loads(out.read_text())["table"] if row["pair"] == pair}
