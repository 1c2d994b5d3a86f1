"""Numbers as sentences that claim no more than their intervals allow.

Errors become points (hundredths) here, in the figures and on the page, and nowhere else.
"""

import numpy as np

from analysis.arms import FINAL, lr_text
from analysis.band import Band
from analysis.border import Border
from analysis.estimates import Estimate
from analysis.findings import Findings
from analysis.gain import Gain, Verdict
from analysis.regimes import Regime
from analysis.thresholds import Threshold

__all__ = [
    "band_words",
    "border_words",
    "comparison",
    "gain_words",
    "margin_words",
    "percent",
    "points",
    "quality_words",
    "sentence",
    "threshold_words",
]


def percent(estimate: Estimate, digits: int = 1) -> str:
    """A share with its interval in percent: `82.1 [80.9, 83.3]`; an en dash where nothing was measured."""
    if not np.isfinite(estimate.value):
        return "\N{EN DASH}"
    value = f"{100 * estimate.value:.{digits}f}"
    if not np.isfinite(estimate.low):
        return value
    return f"{value} [{100 * estimate.low:.{digits}f}, {100 * estimate.high:.{digits}f}]"


def points(estimate: Estimate) -> str:
    """A difference with its interval in points: `+1.1 points [-0.5, +2.7]`."""
    interval = f" [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]" if np.isfinite(estimate.low) else ""
    return f"{100 * estimate.value:+.1f} points{interval}"


def margin_words(margin: float) -> str:
    """A margin in points: `1 point`, `0.5 points`."""
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def quality_words(name: str) -> str:
    """A final quality in words."""
    if name == FINAL:
        return "at the end of the first phase"
    if name.startswith("swa@"):
        return f"after averaging the last {name.removeprefix('swa@')} weights (SWA)"
    phase, _, rate = name.partition("@")
    return f"after {phase} at {rate}"


def gain_words(gain: Gain | None, seeds: int) -> str:
    """What may be said about a gain."""
    if gain is None:
        return "nothing to compare: the sweep has no finished solutions on both sides of the threshold"
    if gain.verdict is Verdict.UNKNOWN:
        return f"a difference of {points(gain.estimate)} from too few seeds for an interval, so nothing can be said"
    if gain.verdict is Verdict.GAIN:
        return f"a gain of {points(gain.estimate)}"
    if gain.verdict is Verdict.NO_GAIN:
        return f"no gain ({points(gain.estimate)})"
    return (
        f"a difference that is not significant with {seeds} seed{'' if seeds == 1 else 's'} ({points(gain.estimate)})"
    )


def threshold_words(found: Threshold, budget: int) -> str:
    """The convergence threshold, with the step budget it belongs to."""
    steps = f"{budget:,} steps"
    if found.n == 0 or np.isnan(found.value):
        return f"the convergence threshold is not known yet (budget {steps})"
    if found.value == 0:
        return f"no learning rate of the grid converged within {steps}"
    if np.isinf(found.value):
        return f"every learning rate of the grid converged within {steps}: the threshold lies above the grid"
    return f"the convergence threshold is {lr_text(found.value)} {_interval(found.low, found.high)} for {steps}"


def band_words(band: Band) -> str:
    """The optimum and its band."""
    low = f"{lr_text(band.low)}{' (end of the grid)' if band.open_low else ''}"
    high = f"{lr_text(band.high)}{' (end of the grid)' if band.open_high else ''}"
    return f"{lr_text(band.optimum_lr)} (band within {margin_words(band.margin)}: {low} to {high})"


def border_words(border: Border) -> str:
    """Where 2A ends."""
    if np.isnan(border.value):
        unknown = [rate for rate, height in zip(border.rates, border.barriers, strict=True) if np.isnan(height)]
        sides = f"above {lr_text(border.lower)}" if border.lower > 0 else ""
        sides = f"below {lr_text(border.upper)}" if np.isfinite(border.upper) else sides
        missing = ", ".join(map(lr_text, unknown)) or "some rates"
        return f"Where 2A ends is not known{f', except that it is {sides}' if sides else ''}: no barriers at {missing}."
    rates, seeds = len(border.rates), border.seeds
    behind = f"{rates} rate{'' if rates == 1 else 's'} of regime 2, {seeds} seed{'' if seeds == 1 else 's'}"
    if rates < 2:
        return f"Where 2A ends cannot be told from {behind}: more rates between the thresholds are needed."
    if border.value == 0:
        where = f"No learning rate of regime 2 belongs to 2A: it is 2B from {lr_text(border.upper)} on"
    elif np.isinf(border.value):
        where = f"2A reaches as far as regime 2 does, to {lr_text(border.lower)}"
    else:
        grid = f"between {lr_text(border.lower)} and {lr_text(border.upper)} on the grid"
        where = f"2A ends and 2B begins at {lr_text(border.value)}, {grid}"
    if np.isnan(border.low) or np.isnan(border.high):
        return f"{where} ({behind}: no interval)."
    low = "below regime 2" if border.low == 0 else lr_text(border.low)
    high = "above regime 2" if np.isinf(border.high) else lr_text(border.high)
    return f"{where} (interval from {low} to {high}; {behind} with barriers)."


def comparison(found: Findings) -> str:
    """Another arm's answer in one sentence, to stand after the headline's."""
    best = (
        f"the best initial learning rate is {lr_text(found.band.optimum_lr)}"
        if found.band
        else "nothing is finished yet"
    )
    return (
        f"With {found.arm.label}: {best}, {threshold_words(found.convergence, found.arm.budget)}, and over the best of "
        f"regime 1 there is {gain_words(found.gain, found.seeds)}."
    )


def sentence(found: Findings) -> str:
    """The answer of one arm in a few sentences."""
    prefix = f"With {found.arm.label}: " if found.arm.label else ""
    band = found.band
    if band is None:
        return f"{prefix}no solution is finished yet; {threshold_words(found.convergence, found.arm.budget)}."
    regime = found.majority[int(np.argmin(np.abs(found.arm.lrs - band.optimum_lr)))]
    where = f", in regime {Regime(int(regime)).words}" if regime != Regime.UNKNOWN else ""
    parts = [
        f"{prefix}{quality_words(found.metric)}, the best initial learning rate is {band_words(band)}{where}; "
        f"{threshold_words(found.convergence, found.arm.budget)}.",
        f"Over the best of regime 1: {gain_words(found.gain, found.seeds)}{_how(found)}.",
    ]
    if found.from_optimum:
        names = list(found.from_optimum)
        if len(names) > 3:
            names = [names[0], names[-1]]  # the ends of a long grid; answer.json holds all
        said = "; ".join(
            f"{quality_words(name)}, {gain_words(found.from_optimum[name], found.seeds)}" for name in names
        )
        parts.append(f"Finished otherwise from that same rate: {said}.")
    return _capital(" ".join(parts))


def _how(found: Findings) -> str:
    if found.gain is None:
        return ""
    draws = f" on {found.clusters} data draws" if found.clusters < found.seeds else ""
    return f" ({found.seeds} seeds{draws}, paired; every choice made on the other seeds)"


def _interval(low: float, high: float) -> str:
    if np.isnan(low) or np.isnan(high):
        return "[one seed: no interval]"
    ends = ("below the grid" if low == 0 else lr_text(low), "above the grid" if np.isinf(high) else lr_text(high))
    return f"[{ends[0]}, {ends[1]}]"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
