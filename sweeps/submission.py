"""Sending a sweep to a cluster as a Ray job: what travels, what is run there, and how to follow it.

The job gets a folder of its own with the resolved sweep, this project's packages and the module of a user's own task,
so that the cluster runs the code that checked the sweep, whatever is installed there.
"""

import json
import shlex
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from sweeps.sweep import Sweep
from trainables.spec import SpecError

__all__ = ["Job", "bundle", "entrypoint", "submit"]

PACKAGES = ("trainables", "analysis", "sweeps")
SWEEP_FILE = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A sweep that runs on a cluster.

    Attributes:
        job_id: Ray's name for it.
        address: the cluster's dashboard.
        out: the results folder, on the cluster.
    """

    job_id: str
    address: str
    out: str

    @property
    def follow(self) -> str:
        """The command that shows what the job prints."""
        return f"ray job logs --address {self.address} --follow {self.job_id}"

    @property
    def stop(self) -> str:
        """The command that ends the job; its state is saved."""
        return f"ray job stop --address {self.address} {self.job_id}"


def submit(sweep: Sweep, address: str, out: str | None = None) -> Job:
    """Start a sweep as a job on a cluster.

    Args:
        sweep: checked.
        address: the cluster's dashboard, e.g. `http://127.0.0.1:8265`.
        out: the results folder on a disk that all nodes share; `~/runs/<name>-<timestamp>` where None.

    Returns:
        The job, accepted by the cluster. It goes on without this process.

    Raises:
        SpecError: the cluster cannot be reached, or does not let us in.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError(
            [f"--address must be the URL of a cluster's dashboard, such as http://127.0.0.1:8265, found {address!r}"]
        )
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    place = out or f"~/runs/{sweep.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    with TemporaryDirectory(prefix="lratlas-") as folder:
        bundle(sweep, Path(folder))
        try:
            client = JobSubmissionClient(address)
            job_id = client.submit_job(
                entrypoint=entrypoint(place),
                runtime_env={"working_dir": folder},
                metadata={"sweep": sweep.name, "out": place},
            )
        except AuthenticationError as error:
            said = str(error).strip().splitlines()[0]
            raise SpecError(
                [
                    f"the cluster at {address} must know this user, found {said!r}; set RAY_AUTH_MODE=token and "
                    "RAY_AUTH_TOKEN_PATH to a copy of its token (default ~/.ray/auth_token)"
                ]
            ) from error
        except (OSError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise SpecError(
                [
                    f"--address must be the dashboard of a running Ray cluster, found none at {address} ({said}); with "
                    "a cluster from cluster.yaml, keep `ray dashboard cluster.yaml` open"
                ]
            ) from error
    return Job(job_id=job_id, address=address, out=place)


def bundle(sweep: Sweep, folder: Path) -> None:
    """Lay out what travels with the job.

    Args:
        sweep: what shall be run.
        folder: empty.
    """
    content = sweep.model_dump(mode="json")
    (folder / SWEEP_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")
    for name in (*PACKAGES, *_own_modules(content)):
        source = _location(name)
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / source.name)


def entrypoint(out: str) -> str:
    """What the cluster runs, in the job's own folder.

    Args:
        out: the results folder; a leading `~/` means the home of the cluster's user.

    Returns:
        A shell command.
    """
    place = '"$HOME"/' + shlex.quote(out[2:]) if out.startswith("~/") else shlex.quote(out)
    return f"python -m sweeps run {SWEEP_FILE} --address auto --out {place}"


def _own_modules(sweep: Mapping[str, Any]) -> list[str]:
    """Top-level modules of the user's own task, unless they are installed libraries."""
    task = str(sweep["task"]["name"])
    if ":" not in task:
        return []
    name = task.split(":")[0].split(".")[0]
    library = Path(sysconfig.get_path("purelib"))
    return [] if library in _location(name).parents or name in PACKAGES else [name]


def _location(name: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = find_spec(name)
    assert spec is not None  # a sweep is only checked once its modules were imported
    return Path(next(iter(spec.submodule_search_locations or [str(spec.origin)])))
