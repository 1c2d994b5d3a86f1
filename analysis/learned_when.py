"""Which feature is learned when: accuracies at the kept steps, first steps above chance or locked, and their order.

A first step is known to within the kept steps: the feature was learned after the kept step before it. A network in
which a feature is never seen above the mark is censored: its first step is infinite, not missing.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.above_chance import above_chance
from analysis.arms import FINAL, Arm, positions
from analysis.estimates import bootstrap_weights, mean_estimate, percentiles, share_estimate, weighted_median
from analysis.features import LOCKED, feature_order
from analysis.study import Study

__all__ = ["Mark", "Order", "Timeline", "first_steps", "learning_order", "timeline"]

Floats = npt.NDArray[np.float64]

DRAWS = 2000


class Mark(StrEnum):
    """What counts as learned."""

    ABOVE_CHANCE = "above_chance"
    """Significantly above chance by an exact binomial test, corrected by Holm over all steps and features."""
    LOCKED = "locked"
    """Accuracy above `analysis.features.LOCKED`, the mark of a network locked on a feature."""


class Order(StrEnum):
    """What is followed from network to network."""

    NAME = "name"
    """Features by name: Fourier bands, which mean the same in every network."""
    RANK = "rank"
    """The first, second, ... feature that each network learns: features made alike, of which each picks its own."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Per-feature accuracies along training.

    Attributes:
        names: [F] features.
        steps: [T] schedule steps, ascending.
        accuracy: [U, L, T, F] accuracies as fractions; NaN where not measured.
        samples: behind each accuracy.
        chance: accuracy of a guess.
    """

    names: tuple[str, ...]
    steps: npt.NDArray[np.int64]
    accuracy: Floats
    samples: int
    chance: float


def timeline(
    study: Study, arm: Arm, *, quality: str = FINAL, probe: str = "feature_accuracy", split: str = "probe"
) -> Timeline | None:
    """Collect the accuracies of an arm's members at their kept steps (groups `step@N`) and ends.

    Args:
        study: the study.
        arm: one of its arms.
        quality: which members: `final` for those of the first phase, else a later phase's.
        probe: `feature_accuracy` or `band_accuracy`.
        split: which variant.

    Returns:
        The accuracies; None where nothing was measured, or at one step only.
    """
    rows = study.tables.probes
    rows = rows[(rows["probe"] == probe) & (rows["split"] == split)]
    groups = rows["group"].astype(str)
    rows = rows[(groups == "end") | groups.str.startswith("step@")]
    members = arm.members[arm.members["quality"] == quality]
    place = positions(rows, members)
    rows, owners = rows[place >= 0], members.iloc[place[place >= 0]]
    steps = np.unique(rows["step"].to_numpy(dtype=np.int64))
    if len(steps) < 2:
        return None
    names = feature_order(rows["key"])
    accuracy = np.full((*arm.shape, len(steps), len(names)), np.nan)
    where = np.searchsorted(steps, rows["step"].to_numpy())
    feature = rows["key"].astype(str).map({name: number for number, name in enumerate(names)}).to_numpy()
    accuracy[owners["unit"].to_numpy(), owners["place"].to_numpy(), where, feature] = rows["value"]
    return Timeline(
        names=names,
        steps=steps,
        accuracy=accuracy,
        samples=int(rows["n"].max()),
        chance=1 / (study.classes or 2),
    )


def first_steps(line: Timeline, mark: Mark, confidence: float) -> Floats:
    """The first kept step at which each feature is learned.

    Args:
        line: accuracies along training.
        mark: what counts as learned.
        confidence: of the test; a network that guesses throughout learns any feature with probability at most
            1 - confidence.

    Returns:
        [U, L, F] schedule steps; infinite where never learned, NaN where never measured.
    """
    if mark is Mark.LOCKED:
        learned = np.nan_to_num(line.accuracy) > LOCKED
    else:
        flat = line.accuracy.reshape(*line.accuracy.shape[:2], -1)
        learned = above_chance(flat, line.samples, line.chance, confidence).reshape(line.accuracy.shape)
    first = np.where(learned.any(axis=2), line.steps[learned.argmax(axis=2)].astype(np.float64), np.inf)
    return np.where(np.isfinite(line.accuracy).any(axis=2), first, np.nan)


def learning_order(
    line: Timeline, arm: Arm, *, mark: Mark, order: Order, confidence: float, generator: np.random.Generator
) -> pd.DataFrame:
    """When features are learned, by learning rate.

    Args:
        line: accuracies along training.
        arm: its arm.
        mark: what counts as learned.
        order: whether features are followed by name or by the order in which each network learns them.
        confidence: nominal coverage.
        generator: for the bootstrap of medians over whole clusters.

    Returns:
        One row for each learning rate and feature, in the order `lr`, then feature. Columns: `lr`, `feature` (its name,
        or `first`, `second`, ... as `1`, `2`, ...), `n` (networks), `learned, learned_low, learned_high` (share in
        which it is, Wilson), `step, step_low, step_high` (median first step; infinite where half the networks or more
        never learn it), `place, place_low, place_high` (mean place in the order of learning, 1 for the first; features
        learned at one step share places, and so do those never learned; Student).
    """
    first = first_steps(line, mark, confidence)
    rows = []
    for number, lr in enumerate(arm.lrs):
        steps = first[:, number]
        known = ~np.isnan(steps).any(axis=1)
        if not known.any():
            continue
        steps, clusters = steps[known], arm.clusters[known]
        names = list(line.names)
        if order is Order.RANK:
            steps, names = np.sort(steps, axis=1), [str(rank + 1) for rank in range(len(names))]
        places = _places(steps)
        weights = _cluster_weights(clusters, generator)
        for column, name in enumerate(names):
            own = steps[:, column]
            learned = share_estimate(int(np.isfinite(own).sum()), len(own), confidence)
            place = mean_estimate(places[:, column], clusters, confidence)
            median, low, high = _median(own, clusters, weights, confidence)
            rows.append(
                {
                    "lr": float(lr),
                    "feature": name,
                    "n": len(own),
                    **_columns("learned", learned.value, learned.low, learned.high),
                    **_columns("step", median, low, high),
                    **_columns("place", place.value, place.low, place.high),
                }
            )
    return pd.DataFrame(rows)


def _columns(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _places(steps: Floats) -> Floats:
    """[N, F] place of each feature in its network's order, ties sharing their mean place."""
    from scipy.stats import rankdata

    places: Floats = rankdata(steps, axis=1)
    return places


def _cluster_weights(clusters: npt.NDArray[np.int64], generator: np.random.Generator) -> Floats:
    _, codes = np.unique(clusters, return_inverse=True)
    return bootstrap_weights(int(codes.max()) + 1, DRAWS, generator)[:, codes]


def _median(
    values: Floats, clusters: npt.NDArray[np.int64], weights: Floats, confidence: float
) -> tuple[float, float, float]:
    """Upper median of values that may be infinite, with an expanded bootstrap interval over whole clusters."""
    count = len(np.unique(clusters))
    value = float(weighted_median(values, np.ones((1, len(values))), upper=True)[0])
    low, _ = percentiles(weighted_median(values, weights, upper=False), count, confidence)
    _, high = percentiles(weighted_median(values, weights, upper=True), count, confidence)
    return value, low, high
