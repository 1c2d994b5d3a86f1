"""The command line as a user has it: a process of its own, in a session of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sweeps", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Tasks of the tests are importable; the checkout is, wherever the command runs."""
    paths = [str(Path(__file__).resolve().parent), str(ROOT)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def finish(*arguments: object, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a new session; whatever of that session is left at the end is killed, by its id."""
    process = subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill_session(process.pid)
        process.communicate()


def session(leader: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        # A process may be gone between the listing and the reading.
        with suppress(OSError, IndexError, ValueError):
            state, _, _, its_session = (path / "stat").read_text().rsplit(")", 1)[1].split()[:4]
            if int(its_session) == leader and state not in "ZX":
                found.append(int(path.name))
    return found


def kill_session(leader: int) -> None:
    """Kill -9 every process of a session, workers in groups of their own included."""
    while pids := session(leader):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def wait_for(
    condition: Callable[[], object], seconds: float = 120, process: subprocess.Popen[str] | None = None
) -> None:
    """Wait until a condition holds; fails when the time is over or the process has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.stdout.read() if process.stdout else ''}")
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
