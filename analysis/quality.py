"""Final qualities: the error of every solution that a pre-training leads to, by seed and initial learning rate."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis.arms import FINAL, Arm, positions
from analysis.study import Study
from trainables.spec import SpecError

__all__ = ["Qualities", "qualities", "resolve_metric"]

Floats = npt.NDArray[np.float64]

_MATCH = 0.02
"""Two learning rates within 2 % of each other are the same rate written with fewer digits."""


@dataclass(frozen=True, kw_only=True)
class Qualities:
    """Errors of the final solutions.

    Attributes:
        names: [Q] `final` (the first phase's end), `finetune@LR`, `swa@W`.
        error: [U, L, Q] error on the test split, as fractions; NaN where not measured yet.
        choosing: [U, L, Q] error on the split by which rates are chosen: valid where there is one, else test.
        chosen_on: name of that split.
        samples: size of the test split.
    """

    names: tuple[str, ...]
    error: Floats
    choosing: Floats
    chosen_on: str
    samples: int

    def index(self, name: str) -> int:
        """Place of a quality in the last axis."""
        return self.names.index(name)


def qualities(study: Study, arm: Arm, chance: float) -> Qualities:
    """Collect the final errors of an arm.

    Args:
        study: the study.
        arm: one of its arms.
        chance: error of a guess that knows nothing; a member whose numbers overflowed counts as that.

    Returns:
        The errors.
    """
    members = arm.members
    probes = study.tables.probes
    probes = probes[(probes["probe"] == "final") & (probes["key"] == "error")]
    place = positions(probes, members)
    probes = probes[place >= 0].assign(member=place[place >= 0])
    has_valid = bool((probes["split"] == "valid").any())
    shape = (*arm.shape, len(arm.qualities))
    error, choosing = np.full(shape, np.nan), np.full(shape, np.nan)
    for q, name in enumerate(arm.qualities):
        quality, group = (FINAL, name) if name.startswith("swa@") else (name, "end")
        wanted = members[members["quality"] == quality]
        rows = probes[(probes["group"] == group) & probes["member"].isin(wanted.index)]
        for split, into in (("test", error), ("valid" if has_valid else "test", choosing)):
            values = rows[rows["split"] == split]
            into[..., q] = arm.grid(members.loc[values["member"]], values["value"])
        overflowed = arm.grid(wanted, (wanted["status"] == "nonfinite").to_numpy(dtype=np.float64)) == 1
        for into in (error, choosing):
            into[..., q] = np.where(overflowed & np.isnan(into[..., q]), chance, into[..., q])
    samples = probes.loc[probes["split"] == "test", "n"]
    return Qualities(
        names=arm.qualities,
        error=error,
        choosing=choosing,
        chosen_on="valid" if has_valid else "test",
        samples=int(samples.max()) if len(samples) else 0,
    )


def resolve_metric(metric: str, found: Qualities) -> str:
    """The final quality that a sweep's `metric` names.

    Args:
        metric: `auto`, `final`, `swa` (the largest window), `swa@W` or `PHASE@LR`.
        found: the qualities that exist.

    Returns:
        One of `found.names`. `auto` is the quality whose best learning rate has the lowest mean error.

    Raises:
        SpecError: the study has no such quality.
    """
    averages = [name for name in found.names if name.startswith("swa@")]
    if metric == "auto":
        return _best_of_all(found)
    if metric == "swa" and averages:
        return averages[-1]
    if metric in found.names:
        return metric
    phase, _, rate = metric.partition("@")
    for name in found.names:
        other, _, its_rate = name.partition("@")
        if phase == other and _same_rate(rate, its_rate):
            return name
    legal = ", ".join(["auto", *(["swa"] if averages else []), *found.names])
    raise SpecError([f"analysis.metric must name a final quality of the study; found {metric!r}, legal: {legal}"])


def _best_of_all(found: Qualities) -> str:
    measured = np.isfinite(found.choosing)
    count = measured.sum(axis=0)
    total = np.where(measured, found.choosing, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.inf)
    return found.names[int(mean.min(axis=0).argmin())]


def _same_rate(a: str, b: str) -> bool:
    try:
        return bool(abs(np.log(float(a) / float(b))) < _MATCH)
    except ValueError:
        return False
