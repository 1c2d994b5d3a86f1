"""T5: do a drop of the learning rate and the same drop of the weight decay end at the same place, by different ways?

The norm cannot jump. A learning rate multiplied by f multiplies the effective learning rate by f at once, a weight
decay leaves it; from then on both have the same product, so both must end at angle sqrt(f) of the old one, with equal
loss, and at an effective learning rate of sqrt(f / r), r being how E[G] changed on the way (for r = 1 the well-known
sqrt(f)). Every one of these is a test within a margin, not a look at an estimate.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.design import matched
from analysis.invariance.margins import Margins
from analysis.invariance.student import Difference, holm, one_sample, paired, welch
from analysis.invariance.verdict import FEWEST_SEEDS, LEAST_SEEDS, TestResult, Verdict, missing, p_text

__all__ = ["LR", "WEIGHT_DECAY", "Check", "checks_of", "drop_test", "drop_words"]

TITLE = "Do a drop of the learning rate and one of the weight decay lead to the same end?"
LR, WEIGHT_DECAY = "lr", "weight_decay"
ALPHA = 0.05
JUST_AFTER = float(np.log(1.03))
"""Margin of the effective LR just after a drop: two recorded intervals beside each other, whatever a study allows."""

_MEASURED = ("elr_before", "elr_last", "elr_after", "elr_end", "angle_before", "angle_end", "noise_before", "noise_end")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number against what it must be.

    Attributes:
        what: in words.
        arm: the drop it belongs to; `both` for the comparison of the ends.
        layer: name; empty for the loss.
        factor: of the drop.
        expected: the ratio that theory demands; where it depends on each run's E[G], its mean.
        difference: log of the ratio found over the ratio demanded, mean over seeds.
        margin: largest log ratio that counts as none.
    """

    what: str
    arm: str
    layer: str
    factor: float
    expected: float
    difference: Difference
    margin: float

    def as_json(self) -> dict[str, object]:
        """The numbers of the report; `found` and `interval` are ratios."""
        low, high = self.difference.interval(1 - 2 * ALPHA)
        return {
            "what": self.what,
            "arm": self.arm,
            "layer": self.layer,
            "factor": self.factor,
            "expected": self.expected,
            "found": self.expected * np.exp(self.difference.value),
            "interval": [self.expected * np.exp(low), self.expected * np.exp(high)],
            "margin": self.margin,
            "p_within": self.difference.p_within(self.margin),
            "p_beyond": self.difference.p_beyond(self.margin),
            "seeds": self.difference.n,
        }

    def words(self) -> str:
        """What, where, found and expected."""
        place = f" of {self.layer}" if self.layer else ""
        arm = "" if self.arm == "both" else f" ({drop_words(self.arm, self.factor)})"
        low, high = self.expected * np.exp(np.array(self.difference.interval(1 - 2 * ALPHA)))
        found = self.expected * np.exp(self.difference.value)
        return f"{self.what}{place}{arm} {found:.4g} [{low:.4g}, {high:.4g}] against {self.expected:.4g}"


def drop_words(arm: str, factor: float) -> str:
    """A drop as reports name it.

    Args:
        arm: `lr`, `weight_decay`, or `both` for a comparison of the two.
        factor: by which it is multiplied.

    Returns:
        As in `LR x 0.1`.
    """
    return {LR: f"LR x {factor:g}", WEIGHT_DECAY: f"WD x {factor:g}"}.get(arm, arm)


def checks_of(frame: pd.DataFrame, margins: Margins | None = None) -> list[Check]:
    """Every check that the runs allow.

    Args:
        frame: as for `drop_test`.
        margins: likewise.

    Returns:
        Per factor, arm and layer three checks, and per factor the comparison of the end losses where both arms ran.

    Raises:
        ValueError: a column is missing, a factor is not in (0, 1), or an arm is not known.
    """
    _validate(frame)
    allowed = margins or Margins()
    table = frame.assign(factor=matched(frame["factor"]))
    checks: list[Check] = []
    for factor in table["factor"].unique():
        here = table[table["factor"] == factor]
        for arm in (LR, WEIGHT_DECAY):
            runs = here[here["arm"] == arm]
            for layer in _layers(frame) if len(runs) else ():
                checks.extend(_layer_checks(runs, arm, layer, float(factor), allowed))
        if here["arm"].nunique() == 2:
            checks.append(_losses(here, float(factor), allowed))
    return checks


def drop_test(frame: pd.DataFrame, margins: Margins | None = None) -> TestResult:
    """T5 with its verdict.

    EQUIVALENT where every check passes two one-sided tests at 0.05: the effective LR just after the drop against that
    just before (3 %), the angle at the end (3 %), the effective LR at the end (0.05 in the log), and the end losses of
    both arms (5 %); five seeds are needed. DIFFERENT where one lies significantly beyond its margin (Holm over all
    checks). Runs of one seed and factor are averaged: they are no independent units.

    Args:
        frame: one row per run: `arm` (`lr` or `weight_decay`), `factor` by which it was multiplied, in (0, 1), `seed`,
            `loss_end`, and for every layer `elr_before:<layer>` (equilibrium), `elr_last:<layer>` (last interval
            before the drop), `elr_after:<layer>` (first one after it), `elr_end:<layer>`, `angle_before:<layer>`,
            `angle_end:<layer>`, `noise_before:<layer>` and `noise_end:<layer>` (E[G]); NaN where not measured.
        margins: of loss, effective LR at the end and angle, where they are not those named above.

    Returns:
        The result; `numbers["checks"]` holds every check.

    Raises:
        ValueError: a column is missing, a factor is not in (0, 1), or an arm is not known.
    """
    checks = checks_of(frame, margins)
    both = [check for check in checks if check.arm == "both"]
    if not both:
        return missing(
            "T5",
            TITLE,
            "There are no runs of both arms with the same factor.",
            f"a drop of the learning rate and one of the weight decay by the same factor, {LEAST_SEEDS} seeds each",
        )
    beyond = holm([check.difference.p_beyond(check.margin) for check in checks])
    within = np.array([check.difference.p_within(check.margin) for check in checks])
    fewest = min(check.difference.n for check in checks)
    verdict, reason, to_run = _verdict(checks, within, beyond, fewest)
    return TestResult(
        key="T5",
        title=TITLE,
        verdict=verdict,
        reason=reason,
        to_run=to_run,
        numbers={
            "checks": [check.as_json() for check in checks],
            "passed": [int((within < ALPHA).sum()), len(checks)],
            "seeds": fewest,
            "alpha": ALPHA,
        },
    )


def _verdict(checks: list[Check], within: Floats, beyond: Floats, fewest: int) -> tuple[Verdict, str, str]:
    """Verdict, reason, and what to run where it is open."""
    more = f"{LEAST_SEEDS} seeds or more in both arms"
    if fewest < FEWEST_SEEDS:
        few = f"Some check rests on {fewest} of the {FEWEST_SEEDS} seeds without which nothing can be said."
        return Verdict.INCONCLUSIVE, few, more
    if beyond.min() < ALPHA:
        worst = checks[int(beyond.argmin())]
        reason = f"{worst.words()}: beyond its margin ({p_text(float(beyond.min()))} over {len(checks)} checks)."
        return Verdict.DIFFERENT, reason, ""
    worst, passed = checks[int(within.argmax())], int((within < ALPHA).sum())
    if passed < len(checks):
        reason = f"{passed} of {len(checks)} checks lie within their margins; the worst does not: {worst.words()}."
        return Verdict.INCONCLUSIVE, reason, "more seeds, or longer runs after the drop"
    if fewest < LEAST_SEEDS:
        few = f"All checks lie within their margins, but some rest on {fewest} of {LEAST_SEEDS} seeds."
        return Verdict.INCONCLUSIVE, few, more
    reason = f"All {len(checks)} checks lie within their margins; the worst is: {worst.words()}."
    return Verdict.EQUIVALENT, reason, ""


def _validate(frame: pd.DataFrame) -> None:
    columns = [
        "arm",
        "factor",
        "seed",
        "loss_end",
        *(f"{name}:{layer}" for layer in _layers(frame) for name in _MEASURED),
    ]
    absent = [name for name in columns if name not in frame]
    if absent:
        raise ValueError(f"the runs have no columns {absent}")
    if not frame["factor"].between(0, 1, inclusive="neither").all():
        raise ValueError(f"a drop's factor must be in (0, 1), got {sorted(frame['factor'].unique())}")
    unknown = sorted(set(frame["arm"]) - {LR, WEIGHT_DECAY})
    if unknown:
        raise ValueError(f"an arm is {LR!r} or {WEIGHT_DECAY!r}, got {unknown}")


def _layers(frame: pd.DataFrame) -> list[str]:
    start = f"{_MEASURED[0]}:"
    return [str(name).removeprefix(start) for name in frame.columns if str(name).startswith(start)]


def _layer_checks(runs: pd.DataFrame, arm: str, layer: str, factor: float, margins: Margins) -> Iterator[Check]:
    logs = {name: _logs(runs[f"{name}:{layer}"]) for name in _MEASURED}
    noise = logs["noise_end"] - logs["noise_before"]
    at_once = factor if arm == LR else 1.0
    end = (np.log(factor) - noise) / 2
    wanted: dict[str, tuple[Floats, npt.ArrayLike, float]] = {
        "effective LR just after the drop": (logs["elr_after"] - logs["elr_last"], np.log(at_once), JUST_AFTER),
        "angle at the end": (logs["angle_end"] - logs["angle_before"], np.log(factor) / 2, np.log(1 + margins.angle)),
        "effective LR at the end": (logs["elr_end"] - logs["elr_before"], end, margins.effective_lr),
    }
    for what, (found, expected, margin) in wanted.items():
        demanded = np.broadcast_to(np.asarray(expected, dtype=np.float64), found.shape)
        known = demanded[np.isfinite(found)]
        yield Check(
            what=what,
            arm=arm,
            layer=layer,
            factor=factor,
            expected=float(np.exp(np.mean(known))) if len(known) else np.nan,
            difference=one_sample(_by_seed(found - demanded, runs["seed"])),
            margin=float(margin),
        )


def _losses(here: pd.DataFrame, factor: float, margins: Margins) -> Check:
    """End loss of the learning-rate arm over that of the weight-decay arm, paired where the seeds are the same."""
    arms = [here[here["arm"] == arm].groupby("seed")["loss_end"].mean() for arm in (LR, WEIGHT_DECAY)]
    shared = arms[0].index.intersection(arms[1].index)
    if 2 * len(shared) >= max(len(arm) for arm in arms):
        difference = paired(*(_logs(arm.loc[shared]) for arm in arms))
    else:
        difference = welch(*(_logs(arm) for arm in arms))
    return Check(
        what="end loss, learning-rate arm over weight-decay arm",
        arm="both",
        layer="",
        factor=factor,
        expected=1.0,
        difference=difference,
        margin=float(np.log(1 + margins.loss)),
    )


def _by_seed(values: Floats, seeds: pd.Series) -> Floats:
    """Means over the runs of each seed."""
    return np.asarray(pd.Series(values).groupby(seeds.to_numpy()).mean(), dtype=np.float64)


def _logs(column: pd.Series) -> Floats:
    values = column.to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.log(values), np.nan)
