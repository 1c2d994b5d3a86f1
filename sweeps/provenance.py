"""What a result depends on beside its sweep: versions, device, commit. Loads none of the libraries it names."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sweeps.resources import gpu_names, this_machine

__all__ = ["device", "git_commit", "versions"]

_LIBRARIES = ("lr-atlas", "torch", "torchvision", "ray", "mlflow", "optuna", "pyarrow", "numpy", "scikit-learn")


def versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries that matter.

    Returns:
        By name; None where not installed.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def device() -> dict[str, object]:
    """The machine.

    Returns:
        Platform, processor, cores, memory in bytes and GPU names.
    """
    here = this_machine()
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "cores_allowed": here.cores,
        "memory_bytes_allowed": here.memory_bytes,
        "gpus": gpu_names(),
    }


def git_commit() -> str | None:
    """The commit of the source tree this package is run from.

    Returns:
        Its hash, with `+changes` where tracked files differ from it; None outside a repository.
    """
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def _git(where: Path, *arguments: str) -> str:
    """What git prints."""
    command = ["git", "-C", str(where), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def _processor() -> str:
    """The processor's name as people know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
