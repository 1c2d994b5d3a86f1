"""`answer.json`: the answer as data. Errors are fractions, learning rates are in the sweep's own parametrisation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.band import Band
from analysis.estimates import finite_or_none
from analysis.findings import Findings
from analysis.regimes import Regime
from analysis.study import Study
from analysis.words import comparison, gain_words, sentence

__all__ = ["arm_answer", "study_answer"]


def study_answer(study: Study, findings: Sequence[Findings]) -> dict[str, Any]:
    """The whole study's answer.

    Args:
        study: the study.
        findings: of all its arms, in their order.

    Returns:
        The headline arm's answer; with several arms, `arm` and `arms` beside it.
    """
    headline = findings[study.headline.number]
    data = {"name": study.sweep.get("name"), "question": study.sweep.get("question"), **arm_answer(headline)}
    data["member_steps"] = study.member_steps
    data["by_status"] = study.by_status
    if len(findings) > 1:
        others = [comparison(found) for found in findings if found is not headline]
        data["sentence"] = " ".join([data["sentence"], *others])
        data["arm"] = dict(study.headline.axes)
        data["arms"] = [{"arm": dict(found.arm.axes), **arm_answer(found)} for found in findings]
    return data


def arm_answer(found: Findings) -> dict[str, Any]:
    """One arm's answer.

    Args:
        found: what was found in it.

    Returns:
        The contract's keys, then more detail. Null where something is not known (yet).
    """
    band, gain = found.band, found.gain
    return {
        "sentence": sentence(found),
        "metric": found.metric_label,
        "optimum_lr": band.optimum_lr if band else None,
        "band": [band.low, band.high] if band else None,
        "band_ci": _band_ci(band),
        "regimes": _regimes(found),
        "convergence_threshold": found.convergence.json_value,
        "convergence_threshold_ci": found.convergence.ci,
        "budget_steps": found.arm.budget,
        "gain_over_regime_1": finite_or_none(gain.estimate.value) if gain else None,
        "gain_ci": [finite_or_none(end) for end in gain.estimate.interval] if gain else None,
        "n_seeds": found.seeds,
        "member_steps": found.arm.member_steps,
        "quality": found.metric,
        "gain_verdict": str(gain.verdict) if gain else "unknown",
        "gain_in_words": gain_words(gain, found.seeds),
        "gain_if_chosen_on_the_same_seeds": finite_or_none(gain.naive) if gain else None,
        "gains": {name: each.as_json() for name, each in found.gains.items()},
        "gains_from_optimum": {name: each.as_json() for name, each in found.from_optimum.items()},
        "divergence_threshold": found.divergence.json_value,
        "divergence_threshold_ci": found.divergence.ci,
        "optimum_lr_ci": _ends(band.optimum_ci) if band else None,
        "band_open": [band.open_low, band.open_high] if band else None,
        "margin": found.study.settings.margin,
        "confidence": found.study.settings.confidence,
        "n_clusters": found.clusters,
        "chosen_on": found.qualities.chosen_on,
        "table": [_row(found, place) for place in range(len(found.arm.lrs))],
    }


def _band_ci(band: Band | None) -> list[list[float | None]] | None:
    return [_ends(band.low_ci), _ends(band.high_ci)] if band else None


def _ends(ends: tuple[float, float]) -> list[float | None]:
    return [finite_or_none(end) for end in ends]


def _regimes(found: Findings) -> list[dict[str, Any]]:
    """The regimes that occur, from low to high rate, with the thresholds that bound them."""
    lrs, edges = found.arm.lrs, {1: found.convergence, 2: found.divergence}
    out = []
    for regime in (Regime.CONVERGENCE, Regime.CHAOTIC_EQUILIBRIUM, Regime.DIVERGENCE):
        places = np.flatnonzero(found.majority == regime)
        if not len(places):
            continue
        below, above = edges.get(regime), edges.get(regime + 1)
        bounded_below, bounded_above = bool(below and below.inside), bool(above and above.inside)
        out.append(
            {
                "name": regime.label,
                "lr_low": below.json_value if below and bounded_below else float(lrs[places[0]]),
                "lr_high": above.json_value if above and bounded_above else float(lrs[places[-1]]),
                "lr_low_ci": below.ci if below and bounded_below else None,
                "lr_high_ci": above.ci if above and bounded_above else None,
                "lrs": [float(lr) for lr in lrs[places]],
                "n": int((found.codes == regime).sum()),
            }
        )
    return out


def _row(found: Findings, place: int) -> dict[str, Any]:
    """One learning rate: regime shares and every final quality."""
    codes = found.codes[:, place]
    known = int((codes != Regime.UNKNOWN).sum())
    loss = found.end.loss[:, place]
    loss = loss[np.isfinite(loss)]
    row: dict[str, Any] = {
        "lr": float(found.arm.lrs[place]),
        "regime": Regime(int(found.majority[place])).label,
        "train_loss": float(loss.mean()) if len(loss) else None,
        "n": known,
    }
    for regime in (Regime.CONVERGENCE, Regime.CHAOTIC_EQUILIBRIUM, Regime.DIVERGENCE):
        row[f"share_{regime.label}"] = float((codes == regime).sum() / known) if known else None
    row["error"] = {name: _error(found, name, place) for name in found.qualities.names}
    mixture = found.mixtures.get(place)
    row["groups"] = mixture.as_json() if mixture and mixture.bimodal else None
    features = {float(each.lr): each for each in found.feature_rows}.get(float(found.arm.lrs[place]))
    if features is not None:
        row["features"] = {
            "quality": found.feature_quality,
            **{name: getattr(features, name).as_json() for name in _FEATURE_KEYS},
        }
    return row


_FEATURE_KEYS = ("locked", "accuracy_locked", "accuracy_free", "share", "n_eff", "gini", "hoyer")


def _error(found: Findings, name: str, place: int) -> Mapping[str, Any]:
    values = found.qualities.error[:, place, found.qualities.index(name)]
    values = values[np.isfinite(values)]
    return {**found.curves[name][place].as_json(), "median": float(np.median(values)) if len(values) else None}
