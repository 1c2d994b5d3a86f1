"""Verdicts: equivalent, different, or not known; and the verdict over all tests."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

__all__ = ["CONTROL_P", "FEWEST_SEEDS", "LEAST_SEEDS", "TestResult", "Verdict", "missing", "overall", "p_text"]

LEAST_SEEDS = 5
"""Seeds per cell below which no test says EQUIVALENT."""
FEWEST_SEEDS = 3
"""Seeds per cell below which no test says anything: two leave one degree of freedom, and no way to doubt it."""
CONTROL_P = 1e-6
"""The variance split must reject the negative control at this level."""

_DECISIVE = ("T0", "T1", "T2")


class Verdict(StrEnum):
    """What a test says. The absence of significance is INCONCLUSIVE, never EQUIVALENT."""

    EQUIVALENT = "EQUIVALENT"
    DIFFERENT = "DIFFERENT"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """What one test came to.

    Attributes:
        key: `T0` to `T5`, or `overall`.
        title: what was asked.
        verdict: the answer.
        reason: one sentence with the numbers that decide.
        numbers: everything behind it, as JSON holds it: NaN and infinity have become None.
        made: False where the data do not allow the test.
        to_run: what to run so that they do.
    """

    __test__ = False  # the name is the field's, and no case for pytest

    key: str
    title: str
    verdict: Verdict
    reason: str
    numbers: Mapping[str, Any]
    made: bool = True
    to_run: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", _as_json(self.numbers))

    def as_json(self) -> dict[str, Any]:
        """The result as `answer.json` holds it."""
        return {
            "title": self.title,
            "verdict": str(self.verdict),
            "reason": self.reason,
            "made": self.made,
            "to_run": self.to_run,
            "numbers": self.numbers,
        }


def missing(key: str, title: str, why: str, to_run: str) -> TestResult:
    """A test that the data do not allow.

    Args:
        key: of the test.
        title: of the test.
        why: what is not there, one sentence.
        to_run: what to run.

    Returns:
        An inconclusive result that was not made.
    """
    return TestResult(
        key=key, title=title, verdict=Verdict.INCONCLUSIVE, reason=why, numbers={}, made=False, to_run=to_run
    )


def overall(tests: Iterable[TestResult], control: float | None) -> TestResult:
    """The verdict over all tests.

    EQUIVALENT needs T1, T2 and, where it was made, T0 to say so, no other test that was made to say DIFFERENT, and a
    negative control (the same sweep on a network without normalisation) that T1 rejects: a method that would pass
    anything proves nothing. DIFFERENT is said where T0, T1 or T2 says so.

    Args:
        tests: at most one result per key.
        control: p-value of T1's F test on the negative control; None where there is no control.

    Returns:
        The result, with key `overall`.
    """
    by_key = {test.key: test for test in tests}
    made = {key: test for key, test in by_key.items() if test.made}
    different = [key for key, test in made.items() if test.verdict is Verdict.DIFFERENT]
    against = [key for key in different if key in _DECISIVE]
    numbers = {
        "tests": {key: test.verdict if test.made else None for key, test in by_key.items()},
        "control_p": control,
        "control_p_needed": CONTROL_P,
    }

    def said(verdict: Verdict, reason: str, to_run: str = "") -> TestResult:
        title = "Do learning rate and weight decay act through their product alone?"
        return TestResult(key="overall", title=title, verdict=verdict, reason=reason, numbers=numbers, to_run=to_run)

    if against:
        return said(Verdict.DIFFERENT, f"{_list(against)} found a difference: {made[against[0]].reason}")
    for key in ("T1", "T2"):
        if key not in made:
            known = by_key.get(key)
            why = known.reason if known else "it is not there"
            return said(Verdict.INCONCLUSIVE, f"{key} could not be made: {why}", known.to_run if known else "")
    open_ones = [key for key in _DECISIVE if key in made and made[key].verdict is Verdict.INCONCLUSIVE]
    if open_ones:
        return said(Verdict.INCONCLUSIVE, f"{_list(open_ones)} did not decide: {made[open_ones[0]].reason}")
    if different:
        return said(Verdict.INCONCLUSIVE, f"{_list(different)} found a difference: {made[different[0]].reason}")
    if control is None or math.isnan(control):
        return said(
            Verdict.INCONCLUSIVE,
            "There is no negative control, so nothing shows that these tests would have seen a dependence.",
            "the same sweep on the network without its normalisation layers",
        )
    if control >= CONTROL_P:
        return said(
            Verdict.INCONCLUSIVE,
            f"The negative control was not rejected ({p_text(control)}, needed below {CONTROL_P:g}): "
            "these tests would not have seen a dependence.",
            "more seeds, or ratios further apart, of the network without normalisation layers",
        )
    agreeing = [key for key, test in made.items() if test.verdict is Verdict.EQUIVALENT]
    return said(
        Verdict.EQUIVALENT,
        f"{_list(agreeing)} found runs of equal product equivalent, and the negative control was rejected "
        f"({p_text(control)}).",
    )


def p_text(p: float) -> str:
    """A p-value in words: `p = 0.34`, `p = 2e-19`, `p < 1e-300`, `p not known`."""
    if math.isnan(p):
        return "p not known"
    return f"p = {p:.2g}" if p >= 1e-300 else "p < 1e-300"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _as_json(value: Any) -> Any:
    """Plain JSON types: numpy numbers unwrapped, arrays as lists, None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
