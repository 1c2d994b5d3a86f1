"""Where a benchmark ran: processor, GPU, versions, commit. Needs nothing but torch, so that any GPU node will do."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["ROOT", "described"]

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("torch", "torchvision", "triton", "numpy", "safetensors")
CLOCKS = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,power.limit"


def described() -> dict[str, object]:
    """Everything beside the code that a number depends on.

    Returns:
        When, where, with which versions and from which commit; the GPU's clocks as they are now.
    """
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "git_commit": _commit(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _said(*command: str) -> str | None:
    """What a command prints; None where it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _gpu() -> dict[str, object] | None:
    if not torch.cuda.is_available():
        return None
    seen = torch.cuda.get_device_properties(0)
    said = _said("nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader")
    return {
        "name": seen.name,
        "memory_bytes": seen.total_memory,
        "multiprocessors": seen.multi_processor_count,
        "capability": list(torch.cuda.get_device_capability(0)),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvidia_smi": dict(zip(CLOCKS.split(","), (said or "").split("\n")[0].split(", "), strict=False)),
    }


def _commit() -> str | None:
    commit = _said("git", "-C", str(ROOT), "rev-parse", "HEAD")
    changed = _said("git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+changes" if commit and changed else commit
