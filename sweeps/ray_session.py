"""Ray for as long as a sweep needs it: started on this machine, or a cluster that is already there."""

import logging
import os
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray

from sweeps.folder import RunFolder
from sweeps.resources import Resources, this_machine
from trainables.spec import SpecError

__all__ = ["check_address", "cluster_resources", "connected", "environment", "missing_here", "own_modules"]

WORKER_ENVIRONMENT = {
    # Two threads on small tensors are many times slower than one, and a pack has a core to itself.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Otherwise every worker starts a pool of compile processes as large as the machine.
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    # Ray runs a trial in a thread, and glibc gives a thread an arena of its own that returns freed tensors to the
    # system at every step, whatever `trainables.loop` asks of the main one.
    "MALLOC_ARENA_MAX": "1",
    # Relative paths in a user's task mean the folder where the command was typed.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""What the processes that train find in their environment."""

DRIVER_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune imports MLflow to see whether a callback is one of its own; this is read at that moment.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # Ctrl-C is the caller's: it asks the packs to save their state, where Tune would only stop them.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""What keeps Ray quick and quiet in the process that drives the sweep."""

_OBJECT_STORE_BYTES = 256 * 2**20
_REACH_SECONDS = 5.0


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block.

    Args:
        variables: names and values.

    Yields:
        Nothing.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def connected(address: str | None, *, cores: int = 1, modules: Sequence[str] = ()) -> Iterator[None]:
    """Ray: the one this process is connected to already, a cluster, or one started here and stopped at the end.

    Args:
        address: a running cluster, `auto` or host:port; None starts Ray on this machine.
        cores: packs at once, where Ray is started here.
        modules: names of the user's own modules that a cluster's nodes must be able to import.

    Yields:
        Nothing.

    Raises:
        SpecError: the cluster cannot be reached, or does not let us in.
    """
    if ray.is_initialized():
        yield
        return
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    main = threading.current_thread() is threading.main_thread()
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            with environment({**WORKER_ENVIRONMENT, "PYTHONPATH": _import_path()}):
                ray.init(
                    "local",  # a cluster that happens to run on this machine is joined only when asked for
                    num_cpus=cores,
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    **common,
                )
        else:
            _join(address, modules, common)
        if main:
            # Ray takes SIGTERM for itself; the caller's handler saves states first.
            signal.signal(signal.SIGTERM, on_terminate)
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Refuse a cluster that does not answer. Ray itself tries for two minutes and then ends the process.

    Args:
        address: `auto` or host:port.

    Raises:
        SpecError: nothing listens there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SpecError([f"--address must be `auto` or host:port of the cluster's head, found {address!r}"])
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SpecError(
            [f"--address must be that of a running Ray head, found nothing that answers at {address} ({error})"]
        ) from None


def cluster_resources(address: str) -> Resources:
    """What a cluster has now, of which the head may be a part.

    Args:
        address: `auto` or host:port.

    Returns:
        Its cores, GPUs, and three quarters of its memory.

    Raises:
        SpecError: it cannot be reached.
    """
    with environment(DRIVER_ENVIRONMENT), connected(address):
        found = ray.cluster_resources()
    cores = int(found.get("CPU", 0))
    here = this_machine()
    memory = int(found.get("memory", here.memory_bytes)) * 3 // 4
    return Resources(
        cores=max(cores, 1),
        gpus=int(found.get("GPU", 0)),
        memory_bytes=memory,
        gpu_memory_bytes=here.gpu_memory_bytes,  # Ray does not tell; the head's own GPUs stand for the others
    )


def own_modules(tasks: Iterable[str]) -> list[str]:
    """Where tasks of the user's own live, `package.module:function`: modules the nodes of a cluster may not have.

    Args:
        tasks: names of tasks.

    Returns:
        Names of modules for `connected`, each once.
    """
    return list(dict.fromkeys(task.split(":")[0] for task in tasks if ":" in task))


def missing_here(root: Path) -> str:
    """Why a worker cannot work on a results folder, if it cannot.

    Args:
        root: the folder.

    Returns:
        A sentence; empty where the folder is there.
    """
    if RunFolder(root).manifest.exists():
        return ""
    return f"{root} is not there on node {os.uname().nodename}: --out must be on a disk that all nodes share"


def _join(address: str, modules: Sequence[str], common: Mapping[str, Any]) -> None:
    """Connect to a cluster, shipping this project's packages, and the user's modules, from here.

    Shipped always, so that every node trains and measures with the code that plans and reports, whatever is installed
    there. The libraries themselves (torch, PyArrow ...) must be installed on the nodes.
    """
    check_address(address)
    ours = [_location(name) for name in ("sweeps", "trainables", "analysis")]
    library = Path(sysconfig.get_path("purelib"))
    theirs = [path for path in map(_location, modules) if path is not None and library not in path.parents]
    try:
        ray.init(
            address=address,
            runtime_env={
                "env_vars": WORKER_ENVIRONMENT,
                "py_modules": [str(path) for path in dict.fromkeys([*ours, *theirs]) if path is not None],
                "excludes": ["**/__pycache__"],
            },
            **common,
        )
    except ConnectionError as error:
        raise SpecError(
            [
                f"--address must be that of a running Ray cluster that knows this user's token, found none at "
                f"{address!r}: {error}; where it runs, set RAY_AUTH_TOKEN_PATH to a copy of its token"
            ]
        ) from None
    except ray.exceptions.AuthenticationError as error:
        raise SpecError(
            [
                f"the cluster at {address!r} must know this user, found {str(error).strip().splitlines()[0]}; "
                "set RAY_AUTH_TOKEN_PATH to a copy of its token"
            ]
        ) from None


def _import_path() -> str:
    """Where this process finds modules, the installed libraries aside: a user's own task must be found there too."""
    libraries = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    entries = [Path(entry).resolve() for entry in sys.path]
    own = [entry for entry in entries if entry not in libraries and not libraries & set(entry.parents)]
    return os.pathsep.join(dict.fromkeys(str(entry) for entry in own if entry.exists()))


def _location(name: str) -> Path | None:
    """Where the top-level package or module of a dotted name lies; None where there is none."""
    spec = find_spec(name.split(".")[0])
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
