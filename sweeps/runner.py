"""One interface to train packs and run probes, whatever runs them: options in, progress, an outcome at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from sweeps.folder import RunFolder
from sweeps.resources import Resources
from trainables.rows import Status
from trainables.spec import Pack, SpecError

if TYPE_CHECKING:
    from analysis.probing.jobs import Job
    from sweeps.probe_job import ProbeEnd
    from sweeps.schema import RunSpec

__all__ = ["RUNNERS", "Ending", "Progress", "RunOptions", "RunOutcome", "Runner", "make_runner"]


class Ending(StrEnum):
    """How the run of a pack, or of all packs, ended."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DISK_FULL = "disk_full"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a runner needs to know beside the packs.

    Attributes:
        executor: how packs are trained: `auto`, `stacked`, `grouped`, `branches` or `loop`.
        gpus_per_pack: share of a GPU for each pack; 0 trains on the CPU.
        max_failures: how often a pack whose process died is started again.
        save_seconds: time between two saved states of a pack.
        cores: packs trained at once on this machine.
    """

    executor: str = "auto"
    gpus_per_pack: float = 0.0
    max_failures: int = 2
    save_seconds: float = 10.0
    cores: int = 1

    @classmethod
    def of(cls, run: "RunSpec", *, cores: int) -> Self:
        """Options as a sweep file states them.

        Args:
            run: its part `run`.
            cores: packs trained at once on this machine.

        Returns:
            The options.
        """
        return cls(executor=run.executor, gpus_per_pack=run.gpus_per_pack, max_failures=run.max_failures, cores=cores)

    @property
    def device(self) -> str:
        """Where packs are trained."""
        return "cuda" if self.gpus_per_pack > 0 else "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far one pack is. Small, and all of plain types, because it travels between processes.

    Attributes:
        pack_id: the pack.
        member_steps: steps done, of `Pack.member_steps`, earlier attempts included.
        statuses: how many of its members have ended, by status.
        best_error: lowest test error seen so far (validation, where there is one), as a fraction.
        best_member_id: the member that reached it, where this attempt saw it.
        done: True in the pack's last report.
        note: something to tell the user once.
    """

    pack_id: str
    member_steps: int
    statuses: Mapping[Status, int] = field(default_factory=dict)
    best_error: float | None = None
    best_member_id: str | None = None
    done: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutcome:
    """How the run of a list of packs ended.

    Attributes:
        ending: `FINISHED` once every pack has been run, failed ones included.
        failures: why packs failed, by pack id.
    """

    ending: Ending
    failures: Mapping[str, str] = field(default_factory=dict)


class Runner(Protocol):
    """Trains packs into a results folder.

    A runner lets other packs go on when one fails, ends early and in good order when `folder.stop_file` appears, and
    leaves no process behind.
    """

    def resources(self) -> Resources:
        """What there is to train on: the plan is made for it.

        Returns:
            Cores, GPUs and memory.

        Raises:
            SpecError: it cannot be reached.
        """
        ...

    def run(
        self,
        packs: Sequence[Pack],
        folder: RunFolder,
        *,
        attempt: int,
        options: RunOptions,
        progress: Callable[[Progress], None],
    ) -> RunOutcome:
        """Train packs to their ends.

        Args:
            packs: independent of each other.
            folder: where rows, states and checkpoints go.
            attempt: number of this run of the sweep, from 1; a pack that is started again counts up from it.
            options: how to run.
            progress: called in this process, now and then, with how far a pack is.

        Returns:
            How it ended.

        Raises:
            SpecError: what was asked for cannot be had (a GPU, a cluster); nothing was started.
        """
        ...

    def measure(
        self,
        jobs: Sequence["Job"],
        folder: RunFolder,
        *,
        options: RunOptions,
        ended: Callable[["ProbeEnd"], None],
    ) -> Ending:
        """Run probe jobs, once training has ended.

        Args:
            jobs: independent of each other; each writes its rows by itself, whole or not at all.
            folder: the results folder.
            options: how to run.
            ended: called in this process with the end of each job that was run.

        Returns:
            How it ended: `FINISHED` once every job has been run, failed ones included.

        Raises:
            SpecError: as in `run`.
        """
        ...


RUNNERS = ("ray", "inprocess")
"""Names of the runners; the first is the default."""


def make_runner(name: str, address: str | None = None) -> Runner:
    """A runner by its name.

    Args:
        name: one of `RUNNERS`.
        address: a running Ray cluster, for `ray` only; None starts Ray on this machine.

    Returns:
        The runner; nothing is started yet.

    Raises:
        SpecError: unknown name, or an address for a runner that has no use for it.
    """
    faults = []
    if name not in RUNNERS:
        faults.append(f"--runner must be one of {', '.join(RUNNERS)}, found {name!r}")
    if address is not None and name != "ray":
        faults.append(f"--address needs --runner ray, found --runner {name}; leave one of the two out")
    if address is not None and "://" in address:
        faults.append(
            f"--address must be `auto` or host:port of the cluster's head, found {address!r}; from outside the cluster "
            "use `lratlas submit`"
        )
    if faults:
        raise SpecError(faults)
    if name == "ray":
        from sweeps.ray_runner import RayRunner

        return RayRunner(address)
    from sweeps.inprocess import InProcessRunner

    return InProcessRunner()
