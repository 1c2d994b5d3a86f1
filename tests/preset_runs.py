"""A shipped study, run by the command as a user has it, and what its answer holds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
