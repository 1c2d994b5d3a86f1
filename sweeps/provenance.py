"""What a result depends on beside its sweep: versions, device, commit, images. Loads none of the libraries it names."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sweeps.resources import gpu_names, this_machine
from trainables.spec import Recipe, SpecError

__all__ = ["device", "git_commit", "images_of", "versions"]

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


def images_of(recipes: Iterable[Recipe]) -> dict[str, dict[str, Any]]:
    """Which image files the recipes use; has a data set downloaded that is not there yet.

    Args:
        recipes: of a plan.

    Returns:
        By recipe id: files, rows and SHA-256; recipes without image files are left out.

    Raises:
        SpecError: the images are not there; every fault at once.
    """
    from trainables.images.facts import images_used

    found, faults = {}, dict[str, None]()
    for recipe in recipes:
        try:
            used = images_used(recipe.task, recipe.task_args)
        except SpecError as error:
            faults |= dict.fromkeys(error.faults)
            continue
        if used is not None:
            found[recipe.recipe_id] = used
    if faults:
        raise SpecError(list(faults))
    return found
