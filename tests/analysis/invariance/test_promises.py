"""Size, power and coverage: the benchmark's cases with fewer simulations, and that they can fail."""

from dataclasses import replace

import numpy as np
import pytest
from _verdict_cases import CASES, Rule

CONFIDENCE = 0.999
SIMULATIONS = 300


def whole_verdicts(case):
    """Whether a simulation takes milliseconds: a verdict over a frame, or a law of many runs."""
    return "says" in case.name or "covers" in case.name


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if whole_verdicts(case) else [], id=case.name) for case in CASES],
)
def test_promise_is_kept(case):
    kept, low, high = case.holds(case.count(SIMULATIONS), SIMULATIONS, CONFIDENCE)
    assert kept, f"{case.rule} {case.promised:.4f} promised, [{low:.4f}, {high:.4f}] found"


@pytest.mark.parametrize(
    ("rule", "promised", "kept"),
    [
        (Rule.EQUAL, 0.05, True),
        (Rule.EQUAL, 0.2, False),
        (Rule.EQUAL, 0.01, False),
        (Rule.AT_MOST, 0.2, True),
        (Rule.AT_MOST, 0.01, False),
        (Rule.AT_LEAST, 0.01, True),
        (Rule.AT_LEAST, 0.2, False),
    ],
)
def test_a_broken_promise_is_seen(rule, promised, kept):
    case = replace(CASES[0], promised=promised, rule=rule, event=lambda generator: generator.random() < 0.05)
    assert case.holds(case.count(1000), 1000, CONFIDENCE)[0] is kept


def test_names_differ_and_so_do_their_random_numbers():
    assert len({case.name for case in CASES}) == len(CASES)
    drawn = {float(np.random.default_rng([*case.name.encode()]).random()) for case in CASES}
    assert len(drawn) == len(CASES)
