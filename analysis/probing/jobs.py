"""What there is to measure on a results folder, cut into jobs that stand alone and can be taken up again.

A job measures one thing on some solutions of one arm and writes one file, `probes/<job_id>.parquet`. Its id is made of
what it measures, with which settings and on whose weights: the same question finds its answer on disk, another setting
asks anew, and the files of the old setting are removed then.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from analysis.arms import Arm
from analysis.landscape.policy import Norms, PathNorms
from analysis.probing.solutions import Solution, Start, pairs_of, starts_of
from analysis.probing.spec import FeatureMeasure, FeatureSpec, GeometryMeasure, GeometrySpec, ProbeSpec
from analysis.row_files import write_probes
from analysis.study import Study, load_study
from trainables.checkpoint import Checkpoints
from trainables.ids import short_hash
from trainables.rows import ProbeRow
from trainables.spec import SpecError

__all__ = ["Job", "JobEnd", "check_task", "fault_row", "pending", "plan_jobs", "run_job", "spec_of", "study_jobs"]

_WORK = 1 << 25
"""Weights times samples of one job: seconds for small networks; large ones get a job for every starting point."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure on some solutions.

    Attributes:
        job_id: names its file.
        what: `geometry` or `features`.
        measure: which part of it.
        spec: with which settings.
        starts: pre-trained networks with their solutions.
        pairs: names of the solutions that are compared, where pairs are.
        members: ids of all members whose weights are read.
        seconds: an estimate; None where there is none.
    """

    job_id: str
    what: str
    measure: GeometryMeasure | FeatureMeasure
    spec: GeometrySpec | FeatureSpec
    starts: tuple[Start, ...]
    pairs: tuple[tuple[str, str], ...]
    members: tuple[str, ...]
    seconds: float | None = None

    @property
    def solutions(self) -> Iterator[Solution]:
        """All single solutions it measures, start by start."""
        for start in self.starts:
            yield from (solution for solution in start.solutions if solution.name in self.spec.solutions)


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended.

    Attributes:
        rows: rows written.
        faults: what could not be measured, one sentence each.
        seconds: how long it took.
    """

    rows: int
    faults: tuple[str, ...]
    seconds: float


def spec_of(sweep: Mapping[str, Any]) -> ProbeSpec:
    """The `probes` section of a resolved sweep.

    Args:
        sweep: `manifest.json`'s `sweep`.

    Returns:
        What it asks for; nothing where it has no such section.
    """
    section = sweep.get("probes") or {}
    return ProbeSpec(
        geometry=_geometry_spec(section["geometry"]) if section.get("geometry") is not None else None,
        features=_feature_spec(section["features"]) if section.get("features") is not None else None,
    )


def plan_jobs(directory: Path, spec: ProbeSpec) -> list[Job]:
    """Everything there is to measure on a results folder.

    Args:
        directory: the results folder.
        spec: what to measure.

    Returns:
        The jobs; equal folders and specs give equal jobs.

    Raises:
        SpecError: the folder cannot be read, or holds no weights.
    """
    return study_jobs(load_study(directory), spec)


def study_jobs(study: Study, spec: ProbeSpec, arms: Sequence[Arm] | None = None) -> list[Job]:
    """The same for a study that has been read.

    Args:
        study: the study.
        spec: what to measure.
        arms: some of its arms; None for all.

    Returns:
        Seed by seed, and within a seed pair by pair, so that what was stopped early has measured every learning rate
        equally often.

    Raises:
        SpecError: there are no weights.
    """
    folder = study.directory / "checkpoints"
    if not any(folder.glob("*.json")):
        raise SpecError(
            [f"geometry and features are measured on kept weights; {str(study.directory)!r} holds no checkpoints"]
        )
    checkpoints = Checkpoints(folder)
    jobs: list[Job] = []
    for arm in study.arms if arms is None else arms:
        for part in (spec.geometry, spec.features):
            if part is not None:
                jobs += _arm_jobs(arm, checkpoints, part)
    jobs.sort(key=lambda job: min(start.unit for start in job.starts))  # stable: measures and pairs keep their order
    return jobs


def pending(directory: Path, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that have not been done, and those that met a fault before the weights were last changed.

    Args:
        directory: the results folder.
        jobs: from `plan_jobs`.

    Returns:
        In the same order.
    """
    changed = max((_changed(path) for path in (directory / "checkpoints").glob("*")), default=0)
    return [job for job in jobs if not _is_done(_file(directory, job.job_id), changed)]


def _is_done(part: Path, changed: int) -> bool:
    """Whether a part is there and not to be tried again."""
    if not part.exists():
        return False
    return (
        _changed(part) > changed or "fault" not in pq.read_table(part, columns=["probe"])["probe"].unique().to_pylist()
    )


def _changed(path: Path) -> int:
    """When a file was last written or put in its place, nanoseconds; a restored one may bring an old time along."""
    found = path.stat()
    return max(found.st_mtime_ns, found.st_ctime_ns)


def run_job(directory: Path, job: Job) -> JobEnd:
    """Measure, and write the rows.

    What a solution's weights make impossible becomes a row that says so.

    Args:
        directory: the results folder.
        job: of that folder.

    Returns:
        How it ended.

    Raises:
        Exception: whatever the user's own task or model raises, or a full disk or memory, or `SpecError` where the task
            cannot be built here; nothing is written then, and the job is still to be done.
    """
    begun = time.perf_counter()
    checkpoints = Checkpoints(directory / "checkpoints")
    check_task(checkpoints, job)
    try:
        rows = list(_measures()[job.measure](checkpoints, job))
    except SpecError as error:
        sentence = f"{job.measure}: {' '.join(error.faults)}"
        rows = [fault_row(*each.key, checkpoints.step(each.key), sentence) for each in job.solutions]
    _remove_other_settings(directory, job)
    write_probes(_file(directory, job.job_id), rows)
    faults = dict.fromkeys(row.key for row in rows if row.probe == "fault")
    return JobEnd(rows=len(rows), faults=tuple(faults), seconds=time.perf_counter() - begun)


def check_task(checkpoints: Checkpoints, job: Job) -> None:
    """Refuse to measure where the task cannot be built: that is no fault of the weights.

    Args:
        checkpoints: of the results folder.
        job: any of its jobs.

    Raises:
        SpecError: the user's own module is not found from here, or the data are not there.
    """
    from trainables.build import build_task

    first = job.starts[0].solutions[0]
    build_task(checkpoints.recipe(first.key), first.data_seed)


def fault_row(member_id: str, group: str, step: int, sentence: str) -> ProbeRow:
    """A row that says what could not be measured.

    Args:
        member_id: of whose weights.
        group: of which of them.
        step: schedule step of the weights.
        sentence: what and why.

    Returns:
        The row, of the probe `fault`, without a value.
    """
    return ProbeRow(
        member_id=member_id,
        attempt=1,
        step=step,
        probe="fault",
        split="train",
        group=group,
        key=sentence,
        value=None,
        n=0,
    )


def _measures() -> Mapping[GeometryMeasure | FeatureMeasure, Callable[[Checkpoints, Job], Iterable[ProbeRow]]]:
    """What measures what; loaded with torch when the first job runs."""
    from analysis.probing.features import accuracies, representations, timeline
    from analysis.probing.geometry import barriers, curvature, density, gradients, llc, planes, sharpness

    return {
        GeometryMeasure.BARRIER: barriers,
        GeometryMeasure.CURVATURE: curvature,
        GeometryMeasure.DENSITY: density,
        GeometryMeasure.GRADIENT: gradients,
        GeometryMeasure.SHARPNESS: sharpness,
        GeometryMeasure.LLC: llc,
        GeometryMeasure.PLANE: planes,
        FeatureMeasure.ACCURACY: accuracies,
        FeatureMeasure.REPRESENTATION: representations,
        FeatureMeasure.TIMELINE: timeline,
    }


def _arm_jobs(arm: Arm, checkpoints: Checkpoints, spec: GeometrySpec | FeatureSpec) -> Iterator[Job]:
    """The jobs of one arm."""
    what = "geometry" if isinstance(spec, GeometrySpec) else "features"
    starts = starts_of(arm, checkpoints.entries(), seeds=spec.seeds)
    if not starts:
        return
    size = _size([solution.key for start in starts for solution in start.solutions], checkpoints)
    at_once = max(1, _WORK // (size * spec.samples))
    along = any(group.startswith("step@") for _, group in checkpoints.entries())
    pairs_there = any(_both(start, pair) for start in starts for pair in pairs_of(arm))
    for measure in spec.measures:
        if measure is GeometryMeasure.BARRIER and not pairs_there:
            continue
        chosen = _plane_starts(starts, arm) if measure is GeometryMeasure.PLANE else starts
        if measure is FeatureMeasure.TIMELINE and not along:
            continue
        every = pairs_of(arm)
        groups = [(pair,) for pair in every] if measure is GeometryMeasure.BARRIER else [every]
        for unit in sorted({start.unit for start in chosen}):
            own = [start for start in chosen if start.unit == unit]
            for pairs in groups:
                for first in range(0, len(own), at_once):
                    yield _job(what, measure, spec, tuple(own[first : first + at_once]), pairs)


def _both(start: Start, pair: tuple[str, str]) -> bool:
    return set(pair) <= set(start.by_name)


def _size(keys: Sequence[tuple[str, str]], checkpoints: Checkpoints) -> int:
    """Weights of one network, of the first that can be read."""
    for key in keys:
        try:
            return sum(tensor.numel() for tensor in checkpoints.weights([key]).values())
        except SpecError:
            continue  # told when it is measured
    return 1


def _job(
    what: str,
    measure: GeometryMeasure | FeatureMeasure,
    spec: GeometrySpec | FeatureSpec,
    starts: tuple[Start, ...],
    pairs: tuple[tuple[str, str], ...],
) -> Job:
    keys = [[solution.name, *solution.key] for start in starts for solution in start.solutions]
    content = [keys, [list(pair) for pair in pairs]]
    members = tuple(dict.fromkeys(solution.member_id for start in starts for solution in start.solutions))
    return Job(
        job_id=f"{what}.{measure}-{_settings(spec)}-{short_hash(content)}",
        what=what,
        measure=measure,
        spec=spec,
        starts=starts,
        pairs=pairs,
        members=members,
    )


def _settings(spec: GeometrySpec | FeatureSpec) -> str:
    """A hash of what changes a measured number; how many seeds and which measures are asked for does not."""
    content = {name: str(value) for name, value in asdict(spec).items() if name not in ("measures", "seeds")}
    return short_hash(content)[:8]


def _plane_starts(starts: list[Start], arm: Arm) -> list[Start]:
    """One seed at up to four rates, evenly over the grid: a plane is a picture, not a statistic."""
    complete = [start for start in starts if {"low", "high", "swa"} <= set(start.by_name)]
    if not complete:
        return []
    unit = min(start.unit for start in complete)
    own = [start for start in complete if start.unit == unit]
    count = min(4, len(own))
    places = {round(index * (len(own) - 1) / max(1, count - 1)) for index in range(count)}
    return [start for number, start in enumerate(own) if number in places]


def _remove_other_settings(directory: Path, job: Job) -> None:
    """Files of the same measure with other settings: their rows would stand beside these."""
    kind, settings, _ = job.job_id.rsplit("-", 2)
    for path in (directory / "probes").glob(f"{kind}-*.parquet"):
        if path.stem.rsplit("-", 2)[1] != settings:
            path.unlink(missing_ok=True)


def _file(directory: Path, job_id: str) -> Path:
    return directory / "probes" / f"{job_id}.parquet"


def _geometry_spec(section: Mapping[str, Any]) -> GeometrySpec:
    kinds = {"measures": GeometryMeasure, "norms": Norms, "line_norms": PathNorms}
    return GeometrySpec(**_typed(section, kinds))


def _feature_spec(section: Mapping[str, Any]) -> FeatureSpec:
    return FeatureSpec(**_typed(section, {"measures": FeatureMeasure}))


def _typed(section: Mapping[str, Any], kinds: Mapping[str, type[StrEnum]]) -> dict[str, Any]:
    """A section as JSON holds it, with names as what they stand for."""
    typed: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, list | tuple):
            typed[name] = tuple(kinds[name](each) if name in kinds else each for each in value)
        else:
            typed[name] = kinds[name](value) if name in kinds else value
    return typed
