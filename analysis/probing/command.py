"""What `python -m analysis geometry|features DIR` measures before it prints: the sweep's own wishes, or options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from analysis.probing.jobs import check_task, pending, plan_jobs, spec_of
from analysis.probing.run import run_jobs
from analysis.probing.spec import NEEDS, FeatureMeasure, FeatureSpec, GeometryMeasure, GeometrySpec, ProbeSpec
from analysis.tables import read_tables
from trainables.checkpoint import Checkpoints
from trainables.faults import did_you_mean
from trainables.spec import SpecError

__all__ = ["MEASURED", "measure"]

MEASURED: Mapping[str, type[StrEnum]] = {"geometry": GeometryMeasure, "features": FeatureMeasure}
"""The analyses that measure kept weights, with their parts."""


def measure(name: str, directory: Path, wanted: Mapping[str, Any], tell: Callable[[str], None]) -> None:
    """Measure what has not been measured.

    Args:
        name: `geometry` or `features`.
        directory: the results folder.
        wanted: `seeds`, `samples`, `measures` (names with commas) where the command line gave them.
        tell: takes lines about progress.

    Raises:
        SpecError: an option is wrong, the folder cannot be read, its task cannot be built here, or there are no weights
            (for `features` only where training measured none either).
    """
    tables = read_tables(directory)
    asked = spec_of(tables.manifest["sweep"])
    changes = _changes(name, wanted)
    if name == "geometry":
        spec = ProbeSpec(geometry=replace(asked.geometry or GeometrySpec(), **changes))
    else:
        spec = ProbeSpec(features=replace(asked.features or FeatureSpec(), **changes))
    trained = name == "features" and bool((tables.probes["probe"] == "feature_accuracy").any())
    try:
        jobs = plan_jobs(directory, spec)
    except SpecError:
        if trained and not wanted:
            return  # an old folder without weights: what training measured is shown
        raise
    if jobs and pending(directory, jobs):
        check_task(Checkpoints(directory / "checkpoints"), jobs[0])
    part = spec.geometry or spec.features
    there = {job.measure for job in jobs}
    for missing in part.measures if part else ():
        if missing not in there and (missing in NEEDS) and (missing is not FeatureMeasure.TIMELINE or wanted):
            tell(f"{missing} is not measured here: it needs {NEEDS[missing]}")
    run_jobs(directory, jobs, tell)


def _meant(found: str, legal: Sequence[str]) -> str:
    """A guess at what was meant."""
    if found in ("angle", "angles"):
        return "; angles come with barrier"
    return did_you_mean(found, legal)


def _changes(name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fields of a spec; every fault at once."""
    changes, faults = dict[str, Any](wanted), list[str]()
    faults += [
        f"--{key} must be at least 1, found {wanted[key]}" for key in ("seeds", "samples") if wanted.get(key, 1) < 1
    ]
    if "measures" in wanted:
        legal = [str(each) for each in MEASURED[name]]
        names = [part.strip() for part in wanted["measures"].split(",") if part.strip()]
        unknown = [part for part in names if part not in legal]
        if unknown or not names:
            faults.append(
                f"--measures must be of {', '.join(legal)}, found {', '.join(unknown) or repr(wanted['measures'])}"
                + "".join(_meant(part, legal) for part in unknown)
            )
        else:
            changes["measures"] = tuple(MEASURED[name](part) for part in names)
    if faults:
        raise SpecError(faults)
    return changes
