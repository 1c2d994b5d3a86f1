"""Everything the report says about one arm, computed once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from analysis.arms import FINAL, Arm
from analysis.band import Band, curve, find_band
from analysis.estimates import Estimate
from analysis.features import FeatureRow, FeatureTable, feature_quality, feature_rows, feature_table
from analysis.gain import Gain, find_gain
from analysis.mixture import Mixture, two_groups
from analysis.quality import Qualities, qualities, resolve_metric
from analysis.regimes import Codes, Plateau, Regime, chance_error, classify, majority, plateau
from analysis.study import Study
from analysis.thresholds import Threshold, threshold

__all__ = ["Findings", "find"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found in one arm.

    Attributes:
        study: the study.
        arm: the arm.
        end: how the first phase ended.
        codes: [U, L] regimes.
        convergence: threshold between regimes 1 and 2.
        divergence: threshold between regimes 2 and 3.
        qualities: final errors.
        metric: the quality the answer is about.
        curves: mean error by learning rate, for every quality.
        bands: the band, for every quality that has been measured.
        gains: the gain over regime 1, for every quality that can be compared.
        from_optimum: the same for the other ways to finish from the metric's best learning rate, where that rate is
            outside regime 1: what of the gain is left then.
        gain: the answer's gain.
        mixtures: two-group view of the metric, by place of the learning rate; only where 6 or more seeds are measured.
        features: per-feature accuracies, if measured.
        feature_quality: which solutions `feature_rows` looks at.
        feature_rows: features by learning rate.
    """

    study: Study
    arm: Arm
    end: Plateau
    codes: Codes
    convergence: Threshold
    divergence: Threshold
    qualities: Qualities
    metric: str
    curves: dict[str, list[Estimate]]
    bands: dict[str, Band]
    gains: dict[str, Gain]
    from_optimum: dict[str, Gain]
    gain: Gain | None
    mixtures: dict[int, Mixture]
    features: FeatureTable | None
    feature_quality: str
    feature_rows: list[FeatureRow]

    @cached_property
    def majority(self) -> Codes:
        """[L] the commonest regime of each learning rate."""
        return majority(self.codes)

    @property
    def band(self) -> Band | None:
        """The band of the metric."""
        return self.bands.get(self.metric)

    @property
    def error(self) -> Floats:
        """[U, L] errors of the metric."""
        return self.qualities.error[..., self.qualities.index(self.metric)]

    @property
    def seeds(self) -> int:
        """Seeds with at least one finished solution; all seeds while there is none."""
        measured = np.isfinite(self.qualities.error).any(axis=(1, 2)).sum()
        return int(measured) or len(self.arm.seeds)

    @property
    def clusters(self) -> int:
        """Independent units: data draws where seeds share them, else seeds."""
        return len(np.unique(self.arm.clusters))

    @property
    def metric_label(self) -> str:
        """The metric as the sweep file writes it, or the quality that `auto` came to."""
        asked = self.study.settings.metric
        return self.metric if asked == "auto" else asked


def find(study: Study, arm: Arm) -> Findings:
    """Analyse one arm.

    Args:
        study: the study.
        arm: one of its arms.

    Returns:
        The findings; equal input gives equal findings, the bootstrap included.

    Raises:
        SpecError: the sweep's metric names no final quality of the study.
    """
    settings = study.settings
    generator = np.random.default_rng([20240, arm.number])
    end = plateau(study, arm)
    codes = classify(study, arm, end)
    chaos, diverged = codes == Regime.CHAOTIC_EQUILIBRIUM, codes == Regime.DIVERGENCE
    converged = codes == Regime.CONVERGENCE
    shared = (arm.lrs, arm.clusters, settings.confidence, generator)
    convergence = threshold(converged, chaos | diverged, *shared)
    divergence = threshold(converged | chaos, diverged, *shared)
    found = qualities(study, arm, chance_error(study, end))
    metric = resolve_metric(settings.metric, found)
    bands = {name: _band(study, arm, found, name, generator) for name in found.names}
    everywhere = np.ones(len(arm.lrs), dtype=bool)
    gains = {name: _gain(study, arm, found, codes, [name], everywhere, generator) for name in found.names}
    best = bands[metric]
    optimum = np.zeros_like(everywhere) if best is None else arm.lrs == best.optimum_lr
    others = [name for name in found.names if name not in (metric, FINAL) and not name.startswith("swa@")]
    from_optimum = {name: _gain(study, arm, found, codes, [name], optimum, generator) for name in others}
    chosen = list(found.names) if settings.metric == "auto" else [metric]
    table = feature_table(study, arm)
    looked_at = feature_quality(arm, metric)
    error = found.error[..., found.index(metric)]
    return Findings(
        study=study,
        arm=arm,
        end=end,
        codes=codes,
        convergence=convergence,
        divergence=divergence,
        qualities=found,
        metric=metric,
        curves={
            name: curve(found.error[..., q], arm.clusters, settings.confidence) for q, name in enumerate(found.names)
        },
        bands={name: band for name, band in bands.items() if band is not None},
        gains={name: gain for name, gain in gains.items() if gain is not None},
        from_optimum={name: gain for name, gain in from_optimum.items() if gain is not None},
        gain=_gain(study, arm, found, codes, chosen, everywhere, generator),
        mixtures=_mixtures(error, found.samples),
        features=table,
        feature_quality=looked_at,
        feature_rows=[] if table is None else feature_rows(table, found, arm, looked_at, settings.confidence),
    )


def _band(study: Study, arm: Arm, found: Qualities, name: str, generator: np.random.Generator) -> Band | None:
    error, choosing = found.error[..., found.index(name)], found.choosing[..., found.index(name)]
    return find_band(
        error,
        error if found.chosen_on == "test" else choosing,
        arm.lrs,
        arm.clusters,
        margin=study.settings.margin,
        confidence=study.settings.confidence,
        generator=generator,
    )


def _gain(
    study: Study,
    arm: Arm,
    found: Qualities,
    codes: Codes,
    names: list[str],
    places: npt.NDArray[np.bool_],
    generator: np.random.Generator,
) -> Gain | None:
    """Best of `names` at `places` outside regime 1 against the best of anything in regime 1."""
    regime = majority(codes)
    allowed = np.isin(found.names, names)
    return find_gain(
        found.error,
        found.choosing,
        (places & (regime > Regime.CONVERGENCE))[:, None] & allowed,
        (regime == Regime.CONVERGENCE)[:, None] & np.ones(len(allowed), dtype=bool),
        arm.lrs,
        arm.clusters,
        margin=study.settings.margin,
        confidence=study.settings.confidence,
        generator=generator,
    )


def _mixtures(error: Floats, samples: int) -> dict[int, Mixture]:
    """The two-group view of accuracies, with the binomial noise of the test set as the narrowest group."""
    mixtures = {}
    for place in range(error.shape[1]):
        accuracy = 1 - error[:, place]
        mean = accuracy[np.isfinite(accuracy)].mean() if np.isfinite(accuracy).any() else 0.5
        noise = float(np.sqrt(mean * (1 - mean) / samples)) if samples else 0.0
        mixture = two_groups(accuracy, noise=noise)
        if mixture is not None:
            mixtures[place] = mixture
    return mixtures
