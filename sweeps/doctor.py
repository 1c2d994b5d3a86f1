"""What a sweep needs, checked where it will run, each fault with what to do about it.

Every check does the thing itself, in small: it compiles, starts Ray, makes a store. Nothing is judged by its version.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trainables.spec import SpecError

__all__ = ["Check", "checks"]

LEAST_DISK_BYTES = 2 * 10**9
LEAST_SHARED_MEMORY_BYTES = 512 * 10**6
COMPILE_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing a sweep needs.

    Attributes:
        check: what was looked at.
        ok: whether it is as it should be.
        detail: what was found; where not ok, what it costs and what to do.
        essential: whether a sweep cannot run without it.
    """

    check: str
    ok: bool
    detail: str
    essential: bool = False


def checks(address: str | None = None, place: Path = Path()) -> Iterator[Check]:
    """Check this machine, or a cluster, one thing after the other.

    Args:
        address: a running Ray cluster; None starts Ray here.
        place: folder in which results would be written.

    Yields:
        Each check as soon as it is done; the slow ones last.
    """
    quick: tuple[Callable[[], Check], ...] = (
        python,
        lambda: write_access(place),
        lambda: disk(place),
        shared_memory,
        data,
        compiler,
        torch_pair,
        gpu,
        mlflow_store,
    )
    for check in quick:
        yield check()
    yield ray_cluster(address)


def python() -> Check:
    """The interpreter; one that is too old could not have come this far."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(check="python", ok=True, detail=f"{found} at {sys.executable}", essential=True)


def write_access(place: Path) -> Check:
    """Results can be written.

    Args:
        place: where they would go.
    """
    try:
        with TemporaryDirectory(prefix=".lratlas-", dir=place) as folder:
            (Path(folder) / "file").write_bytes(b"x")
    except OSError as error:
        detail = f"{place.absolute()} cannot be written ({error.strerror}); change into another folder or give --out"
        return Check(check="write access", ok=False, detail=detail, essential=True)
    return Check(check="write access", ok=True, detail=str(place.absolute()), essential=True)


def disk(place: Path) -> Check:
    """There is room for results and checkpoints.

    Args:
        place: where they would go.
    """
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free at {place.absolute()}"
    if free < LEAST_DISK_BYTES:
        detail += "; make room: checkpoints of a large sweep take gigabytes (`lratlas plan SWEEP` tells how many)"
    return Check(check="disk", ok=free >= LEAST_DISK_BYTES, detail=detail, essential=True)


def shared_memory() -> Check:
    """Ray's object store lives in /dev/shm where there is one."""
    store = Path("/dev/shm")
    if not store.is_dir():
        return Check(check="shared memory", ok=True, detail="no /dev/shm on this system: Ray uses files")
    free = shutil.disk_usage(store).free
    detail = f"{free / 1e9:.1f} GB free in /dev/shm"
    if free < LEAST_SHARED_MEMORY_BYTES:
        detail += ": Ray falls back to slow files; start the container with --shm-size=2g"
    return Check(check="shared memory", ok=free >= LEAST_SHARED_MEMORY_BYTES, detail=detail)


def data() -> Check:
    """The folder of data sets, for tasks that read one."""
    named = os.environ.get("LRATLAS_DATA")
    if named is None:
        detail = f"LRATLAS_DATA is not set: looked for in {Path.home() / '.cache' / 'lratlas'} (the presets need none)"
        return Check(check="data", ok=True, detail=detail)
    if not os.access(named, os.R_OK | os.X_OK):
        detail = f"LRATLAS_DATA names {named}, which is no readable folder; mend or unset it (the presets need none)"
        return Check(check="data", ok=False, detail=detail)
    return Check(check="data", ok=True, detail=f"LRATLAS_DATA = {named}")


def compiler() -> Check:
    """A C++ compiler that finds Python's headers: what compiled training steps need on a CPU."""
    name = os.environ.get("CXX", "g++")
    without = "training falls back to uncompiled steps, several times slower; install g++ and python3-dev"
    found = shutil.which(name)
    if found is None:
        return Check(check="c++ compiler", ok=False, detail=f"no {name} on the PATH: {without}")
    with TemporaryDirectory(prefix="lratlas-") as folder:
        source = Path(folder) / "try.cpp"
        source.write_text("#include <Python.h>\n#include <vector>\nint main() { return std::vector<int>(1)[0]; }\n")
        command = [found, "-fsyntax-only", f"-I{sysconfig.get_path('include')}", str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Check(check="c++ compiler", ok=False, detail=f"{found} does not run ({error}): {without}")
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[0]
        return Check(check="c++ compiler", ok=False, detail=f"{found} cannot compile ({said}): {without}")
    return Check(check="c++ compiler", ok=True, detail=found)


def torch_pair() -> Check:
    """Torch and torchvision load together: builds for different CUDA versions do not."""
    try:
        import torch
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        said = str(error).strip().splitlines()[0]
        detail = f"{said}; install both together: pip install --upgrade --force-reinstall torch torchvision"
        return Check(check="torch", ok=False, detail=detail, essential=True)
    detail = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    return Check(check="torch", ok=True, detail=detail, essential=True)


def gpu() -> Check:
    """Torch sees every GPU that the driver lists, and can compute on one."""
    from sweeps.resources import gpu_names

    names = gpu_names()
    try:
        import torch

        if torch.cuda.is_available():
            torch.ones(8, device="cuda").sum().item()
            seen = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
            return Check(check="gpu", ok=True, detail=", ".join(seen))
    except (ImportError, OSError, RuntimeError) as error:
        return Check(check="gpu", ok=False, detail=f"torch cannot use it ({str(error).splitlines()[0]})")
    if names:
        detail = (
            f"the driver lists {', '.join(names)}, torch sees none: update the driver, or look at CUDA_VISIBLE_DEVICES"
        )
        return Check(check="gpu", ok=False, detail=detail)
    return Check(check="gpu", ok=True, detail="none: packs train on the CPU, which the presets are sized for")


def mlflow_store() -> Check:
    """An MLflow store can be made and read."""
    import sqlite3

    with TemporaryDirectory(prefix="lratlas-") as folder:
        try:
            from sweeps.mirror import quiet
            from sweeps.mirror_stores import SqliteStore

            with quiet():
                SqliteStore(Path(folder) / "mlflow.db", "doctor")
        except (ImportError, OSError, RuntimeError, sqlite3.Error) as error:
            said = str(error).strip().splitlines()[0]
            detail = (
                f"no store can be made ({said}): sweeps run, but without the MLflow view; pip install --upgrade mlflow"
            )
            return Check(check="mlflow", ok=False, detail=detail)
    return Check(check="mlflow", ok=True, detail="a SQLite store can be made")


def _one() -> int:
    """A task for Ray to run."""
    return 1


def ray_cluster(address: str | None) -> Check:
    """Ray starts and runs a task here, or a cluster answers and lets us in.

    Args:
        address: `auto` or host:port of the cluster's head; None starts Ray here.
    """
    try:
        import ray

        from sweeps.ray_session import DRIVER_ENVIRONMENT, connected, environment

        with environment(DRIVER_ENVIRONMENT), connected(address):
            found = ray.cluster_resources()
            nodes = sum(node["Alive"] for node in ray.nodes())
            answer = ray.get(ray.remote(_one).remote(), timeout=60) if address is None else 1
    except SpecError as error:
        return Check(check="ray", ok=False, detail="; ".join(error.faults), essential=True)
    except (ImportError, OSError, RuntimeError, TimeoutError) as error:
        said = str(error).strip().splitlines()[0]
        detail = f"does not start ({said}); `lratlas run SWEEP --runner inprocess` works without it"
        return Check(check="ray", ok=False, detail=detail, essential=True)
    cores, gpus = int(found.get("CPU", 0)), int(found.get("GPU", 0))
    where = "starts here" if address is None else f"{address} answers: {nodes} nodes"
    detail = f"ray {ray.__version__} {where}, {cores} cores, {gpus} GPUs"
    if address is not None and cores == 0:
        detail += "; nodes that train join when there are packs, if the cluster has an autoscaler"
    return Check(check="ray", ok=answer == 1, detail=detail, essential=True)
