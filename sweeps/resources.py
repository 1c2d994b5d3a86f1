"""What there is to train on: cores, GPUs, memory."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.spec import SpecError

if TYPE_CHECKING:
    from sweeps.sweep import Sweep

__all__ = ["Resources", "check_resources", "gpu_names", "this_machine"]


@dataclass(frozen=True)
class Resources:
    """What a plan is made for.

    Attributes:
        cores: CPU cores; each trains one pack at a time.
        gpus: GPUs.
        memory_bytes: memory that all packs at work may use together.
        gpu_memory_bytes: memory of each GPU, the smallest one's; 0 where it is not known.
    """

    cores: int
    gpus: int
    memory_bytes: int
    gpu_memory_bytes: int = 0


def this_machine() -> Resources:
    """What this process may use.

    Returns:
        Its cores (after affinity and container limits), the GPUs the driver lists, and three quarters of the memory.
    """
    gpus = _ask_driver("memory.total")
    sizes = [int(text) * 2**20 for text in gpus if text.strip().isdigit()]
    return Resources(
        cores=_cores(), gpus=len(gpus), memory_bytes=_memory() * 3 // 4, gpu_memory_bytes=min(sizes, default=0)
    )


def gpu_names() -> list[str]:
    """The GPUs the driver lists, found without loading torch.

    Returns:
        One name each; empty without a driver.
    """
    return _ask_driver("name")


def _ask_driver(quantity: str) -> list[str]:
    """One line for each GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-gpu={quantity}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []


def check_resources(sweep: "Sweep") -> None:
    """Refuse a sweep that asks for what this machine has not; loads torch only where GPUs are asked for.

    Args:
        sweep: about to be run here.

    Raises:
        SpecError: GPUs were asked for and torch sees none.
    """
    if sweep.run.gpus_per_pack <= 0:
        return
    import torch

    if not torch.cuda.is_available():
        raise SpecError(
            [
                f"run.gpus_per_pack = {sweep.run.gpus_per_pack:g} needs a GPU, found none that torch sees; "
                "give --set run.gpus_per_pack=0 to train on the CPU, or --address of a cluster with GPUs"
            ]
        )


def _cores() -> int:
    """Cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _first_line(Path("/sys/fs/cgroup/cpu.max")).split()
    if len(limit) == 2 and limit[0].isdigit():
        allowed = min(allowed, max(1, int(limit[0]) // int(limit[1])))
    return allowed


def _memory() -> int:
    """Bytes of memory this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _first_line(Path("/sys/fs/cgroup/memory.max"))
    return min(total, int(limit)) if limit.isdigit() else total


def _first_line(path: Path) -> str:
    """A system file's first line; empty where there is no such file."""
    try:
        return path.read_text().split("\n", 1)[0].strip()
    except OSError:
        return ""
