"""Which features the solutions use, learning rate by learning rate.

A feature's accuracy is measured on a set in which it alone is informative. A solution is *locked* on a feature when
its best accuracy exceeds 60 %. Inside the band outcomes fall into two groups, locked and not, so the report shows the
share locked and the accuracy of each group beside the mean.

Measures of sparsity (`analysis.sparsity`) are biased by noise: each accuracy carries a binomial error, of which the cut
at chance keeps the positive half. So beside them stands how many features are significantly above chance; where none
is, the measures say nothing (`FeatureRow.is_noise`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import sparsity
from analysis.above_chance import above_chance
from analysis.arms import FINAL, Arm, positions
from analysis.estimates import Estimate, mean_estimate, share_estimate, wilson
from analysis.quality import Qualities
from analysis.study import Study

__all__ = [
    "LOCKED",
    "FeatureRow",
    "FeatureTable",
    "feature_order",
    "feature_quality",
    "feature_records",
    "feature_rows",
    "feature_table",
]

Floats = npt.NDArray[np.float64]

LOCKED = 0.6
"""Accuracy of its best feature above which a solution counts as locked on it."""


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Per-feature accuracies of all solutions; Fourier bands count as features.

    Attributes:
        names: [F] features.
        accuracy: [U, L, Q, F] accuracies, as fractions.
        samples: size of each feature's set.
        chance: accuracy of a guess.
    """

    names: tuple[str, ...]
    accuracy: Floats
    samples: int
    chance: float

    @property
    def best(self) -> Floats:
        """[U, L, Q] accuracy of each solution's best feature; NaN where not measured."""
        best: Floats = self.accuracy.max(axis=-1)
        return best

    def usage(self, ceiling: float | Floats = 1.0) -> Floats:
        """[U, L, Q, F] usage of each feature; arguments and meaning as in `analysis.sparsity.usage`."""
        return sparsity.usage(self.accuracy, self.chance, ceiling)


@dataclass(frozen=True, kw_only=True)
class FeatureRow:
    """One learning rate's solutions of one final quality.

    Attributes:
        lr: initial learning rate.
        sorted_accuracy: [F] accuracies, each solution's own in descending order, averaged over seeds.
        share: mean share of the best feature.
        n_eff: mean effective number of features (participation ratio).
        effective_rank: mean effective rank by entropy.
        gini: mean Gini coefficient.
        hoyer: mean Hoyer sparsity.
        locked: share of solutions locked on a feature.
        accuracy_locked: mean test accuracy of those.
        accuracy_free: mean test accuracy of the others.
        used: mean number of features significantly above chance.
        resolved: share of solutions with at least one such feature.
    """

    lr: float
    sorted_accuracy: Floats
    share: Estimate
    n_eff: Estimate
    effective_rank: Estimate
    gini: Estimate
    hoyer: Estimate
    locked: Estimate
    accuracy_locked: Estimate
    accuracy_free: Estimate
    used: Estimate
    resolved: Estimate

    @property
    def is_noise(self) -> bool:
        """Whether no solution has a feature significantly above chance: the measures of sparsity are noise then."""
        return self.resolved.value == 0


_FREQUENCY = {"background": 1, "low": 2, "mid": 3, "high": 4}


def feature_order(keys: pd.Series) -> tuple[str, ...]:
    """Names of features, each once: bands by frequency behind `whole` images, others in the order of their names.

    Args:
        keys: the column `key` of some probes.

    Returns:
        [F] names.
    """
    return tuple(sorted(map(str, keys.unique()), key=lambda name: (_FREQUENCY.get(name, 0), name)))


def feature_table(
    study: Study, arm: Arm, *, probe: str = "feature_accuracy", split: str = "probe"
) -> FeatureTable | None:
    """Collect per-feature accuracies of an arm's solutions at their ends.

    Args:
        study: the study.
        arm: one of its arms.
        probe: `feature_accuracy` or `band_accuracy`.
        split: which variant: `probe` (the other features switched off), `resampled`; of bands `published`,
            `renormalised`, `radial`, `randomised`.

    Returns:
        The accuracies; None where the study did not measure any.
    """
    probes = study.tables.probes
    probes = probes[(probes["probe"] == probe) & (probes["split"] == split)]
    members = arm.members
    place = positions(probes, members)
    probes = probes[place >= 0]
    if probes.empty:
        return None
    names = feature_order(probes["key"])
    column = {name: number for number, name in enumerate(names)}
    rows = members.loc[place[place >= 0]]
    numbers = {name: q for q, name in enumerate(arm.qualities)}
    groups = probes["group"].astype(str).to_numpy()
    labels = np.where(groups == "end", rows["quality"].to_numpy(dtype=object), groups)
    wanted = (groups == "end") | (rows["quality"] == FINAL).to_numpy()
    q = np.array([numbers.get(label, -1) for label in labels])
    feature = probes["key"].astype(str).map(column).to_numpy()
    kept = wanted & (q >= 0)
    accuracy = np.full((*arm.shape, len(arm.qualities), len(names)), np.nan)
    accuracy[rows["unit"].to_numpy()[kept], rows["place"].to_numpy()[kept], q[kept], feature[kept]] = probes["value"][
        kept
    ]
    return FeatureTable(names=names, accuracy=accuracy, samples=int(probes["n"].max()), chance=1 / (study.classes or 2))


def feature_quality(arm: Arm, metric: str) -> str:
    """Which solutions to look at.

    Args:
        arm: an arm of a study.
        metric: its final quality.

    Returns:
        The metric where it is a later phase, else the later phase at the lowest rate, else the metric.
    """
    tuned = [name for name in arm.qualities if name != FINAL and not name.startswith("swa@")]
    return metric if metric in tuned or not tuned else tuned[0]


def feature_records(table: FeatureTable, arm: Arm, quality: str, confidence: float) -> pd.DataFrame:
    """Every accuracy of one final quality, with its binomial interval.

    Args:
        table: per-feature accuracies.
        arm: their arm.
        quality: which solutions.
        confidence: nominal coverage.

    Returns:
        Columns `lr, data_seed, seed, feature, accuracy, low, high, n`.
    """
    accuracy = table.accuracy[:, :, arm.qualities.index(quality)]
    unit, place, feature = np.nonzero(np.isfinite(accuracy))
    values = accuracy[unit, place, feature]
    low, high = wilson(values, np.full(len(values), table.samples), confidence)
    return pd.DataFrame(
        {
            "lr": arm.lrs[place],
            "data_seed": arm.data_seeds[unit],
            "seed": arm.seeds[unit],
            "feature": np.array(table.names)[feature],
            "accuracy": values,
            "low": low,
            "high": high,
            "n": table.samples,
        }
    )


def feature_rows(table: FeatureTable, found: Qualities, arm: Arm, quality: str, confidence: float) -> list[FeatureRow]:
    """Summarise one final quality by learning rate.

    Args:
        table: per-feature accuracies.
        found: final errors.
        arm: the arm of both.
        quality: which solutions.
        confidence: nominal coverage.

    Returns:
        One row for each learning rate at which features were measured.
    """
    q = found.index(quality)
    rows = []
    for place, lr in enumerate(arm.lrs):
        accuracy = table.accuracy[:, place, q]
        known = np.isfinite(accuracy).all(axis=1)
        if not known.any():
            continue
        accuracy, clusters, test = accuracy[known], arm.clusters[known], 1 - found.error[known, place, q]
        d = sparsity.excess(accuracy, table.chance)
        locked = accuracy.max(axis=1) > LOCKED
        used = above_chance(accuracy, table.samples, table.chance, confidence)
        rows.append(
            FeatureRow(
                lr=float(lr),
                sorted_accuracy=np.sort(accuracy, axis=1)[:, ::-1].mean(axis=0),
                share=mean_estimate(sparsity.best_share(d), clusters, confidence),
                n_eff=mean_estimate(sparsity.effective_number(d), clusters, confidence),
                effective_rank=mean_estimate(sparsity.effective_rank(d), clusters, confidence),
                gini=mean_estimate(sparsity.gini(d), clusters, confidence),
                hoyer=mean_estimate(sparsity.hoyer(d), clusters, confidence),
                locked=share_estimate(int(locked.sum()), len(locked), confidence),
                accuracy_locked=mean_estimate(test[locked], clusters[locked], confidence),
                accuracy_free=mean_estimate(test[~locked], clusters[~locked], confidence),
                used=mean_estimate(used.sum(axis=1).astype(np.float64), clusters, confidence),
                resolved=share_estimate(int(used.any(axis=1).sum()), len(used), confidence),
            )
        )
    return rows
