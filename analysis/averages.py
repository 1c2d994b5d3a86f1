"""What averages of weights are worth, along one run and across runs, with intervals over runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.estimates import Estimate, mean_estimate
from analysis.invariance.courses import Network
from analysis.seed_groups import SeedGroup, schedule_words, seed_groups
from analysis.weight_averages import Kind, affordable, measure
from trainables.spec import SpecError

__all__ = ["AverageQuality", "Averages", "GroupAverages", "group_averages", "measured_averages"]

_SECONDS = 60.0
"""Time that a report takes for it; where networks are large, fewer runs are measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AverageQuality:
    """How good one kind of average is.

    Attributes:
        kind: what the averages are made of.
        count: weights behind each.
        error: test error, a fraction: mean over averages that share no run.
        excess: the same minus the mean error of the ends of the runs behind it, paired.
        train_loss: mean loss on the training set.
    """

    kind: Kind
    count: int
    error: Estimate
    excess: Estimate
    train_loss: Estimate

    def as_json(self) -> dict[str, Any]:
        """As `answer.json` holds it."""
        numbers = {"error": self.error, "excess": self.excess, "train_loss": self.train_loss}
        return {"kind": str(self.kind), "count": self.count, **{key: each.as_json() for key, each in numbers.items()}}


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupAverages:
    """The averages of runs that differ in their seed alone.

    Attributes:
        group: the runs.
        qualities: ends first, then along one run, then across 2, 4, ... all runs.
        solutions: as measured, from `analysis.weight_averages.measure`.
    """

    group: SeedGroup
    qualities: tuple[AverageQuality, ...]
    solutions: pd.DataFrame

    def quality(self, kind: Kind, count: int | None = None) -> AverageQuality:
        """One of the qualities.

        Args:
            kind: of average.
            count: weights behind it; None for the largest.

        Returns:
            The quality.

        Raises:
            StopIteration: there is none of that count.
        """
        return next(q for q in reversed(self.qualities) if q.kind is kind and count in (None, q.count))

    def as_json(self) -> dict[str, Any]:
        """As `answer.json` holds it."""
        return {
            "schedule": schedule_words(self.group.schedule),
            "data_seed": self.group.data_seed,
            "seeds": list(self.group.seeds),
            "averages": [quality.as_json() for quality in self.qualities],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Averages:
    """The averages of a network's runs.

    Attributes:
        network: its name; empty for a study's only one.
        groups: the headline's first; empty where nothing could be measured.
        chance: error of a guess that knows nothing; None where it is not known.
        note: what was left out and why, as a sentence; empty where nothing was.
    """

    network: str
    groups: tuple[GroupAverages, ...]
    chance: float | None
    note: str

    def as_json(self) -> Mapping[str, Any]:
        """As `answer.json` holds it."""
        return {"groups": [each.as_json() for each in self.groups], "chance": self.chance, "note": self.note}


def measured_averages(network: Network, seconds: float = _SECONDS) -> Averages | None:
    """Measure a network's averages where its weights are there.

    Args:
        network: of a study.
        seconds: about how long it may take.

    Returns:
        None where no two runs that differ in their seed alone left both their end and an average of their last weights.
    """
    study = network.study
    folder = study.directory / "checkpoints"
    averaged = any(str(name).startswith("swa@") for name in study.tables.probes["group"].unique())
    if not averaged or not any(folder.glob("*.json")):
        return None
    from trainables.checkpoint import Checkpoints
    from trainables.evaluate import Evaluator

    try:
        checkpoints = Checkpoints(folder)
        groups = seed_groups(network, checkpoints)
        if not groups:
            return None
        first = (groups[0].member_ids[0], "end")
        evaluator = Evaluator(checkpoints.recipe(first), sorted({group.data_seed for group in groups}))
        each = evaluator.seconds_per_solution(checkpoints.weights([first]), groups[0].data_seed)
        chosen = affordable(groups, each, seconds)
        found = tuple(
            group_averages(group, measure(evaluator, checkpoints, group), study.settings.confidence) for group in chosen
        )
    except SpecError as error:
        reasons = "; ".join(error.faults)
        return Averages(
            network=network.name, groups=(), chance=None, note=f"Averages could not be measured: {reasons}."
        )
    chance = None if study.classes is None else 1 - 1 / study.classes
    return Averages(network=network.name, groups=found, chance=chance, note=_left_out(groups, chosen))


def group_averages(group: SeedGroup, solutions: pd.DataFrame, confidence: float) -> GroupAverages:
    """Means with intervals over averages that share no run.

    Args:
        group: the runs.
        solutions: from `analysis.weight_averages.measure`.
        confidence: nominal coverage.

    Returns:
        The qualities; an interval is NaN where there is one average only.
    """
    qualities = []
    for (kind, count), part in solutions.groupby(["kind", "count"], sort=False):
        error, excess, loss = (
            mean_estimate(part[name].to_numpy(dtype=float), np.arange(len(part)), confidence)
            for name in ("test_error", "excess", "train_loss")
        )
        qualities.append(
            AverageQuality(
                kind=Kind(str(kind)),
                count=int(str(count)),
                error=_inside(error, 0.0, 1.0),
                excess=_inside(excess, -1.0, 1.0),
                train_loss=_inside(loss, 0.0, np.inf),
            )
        )
    return GroupAverages(group=group, qualities=tuple(qualities), solutions=solutions)


def _inside(estimate: Estimate, low: float, high: float) -> Estimate:
    """An interval without what cannot be: Student's of two averages may reach beyond."""
    start, stop = np.clip(estimate.interval, low, high).tolist()  # NaN stays NaN
    return Estimate(estimate.value, start, stop, estimate.n, estimate.confidence)


def _left_out(groups: tuple[SeedGroup, ...], chosen: tuple[SeedGroup, ...]) -> str:
    if groups == chosen:
        return ""
    most, fewer = max(len(group.seeds) for group in groups), max(len(group.seeds) for group in chosen)
    runs = f"at most {fewer} of {most} runs" if fewer < most else f"all {most} runs"
    return f"So that the report need not wait, {runs} of {len(chosen)} of {len(groups)} schedules were averaged."
