"""The verdict over all tests, case by case; results as JSON."""

import json

import numpy as np
import pytest

from analysis.invariance.verdict import TestResult, Verdict, missing, overall, p_text

E, D, X = Verdict.EQUIVALENT, Verdict.DIFFERENT, Verdict.INCONCLUSIVE
NOT_MADE = None


def results(**verdicts):
    return [
        missing(key, "title", "nothing there.", "run it")
        if verdict is NOT_MADE
        else TestResult(key=key, title="title", verdict=verdict, reason=f"because of {key}.", numbers={})
        for key, verdict in verdicts.items()
    ]


@pytest.mark.parametrize(
    ("verdicts", "control", "wanted", "word"),
    [
        ({"T0": E, "T1": E, "T2": E, "T3": E}, 1e-9, E, "T0, T1, T2 and T3"),
        ({"T1": E, "T2": E}, 1e-9, E, "negative control was rejected"),
        ({"T0": NOT_MADE, "T1": E, "T2": E, "T3": X, "T4": NOT_MADE}, 0.0, E, "p < 1e-300"),
        ({"T1": E, "T2": E}, None, X, "no negative control"),
        ({"T1": E, "T2": E}, float("nan"), X, "no negative control"),
        ({"T1": E, "T2": E}, 1e-6, X, "not rejected"),
        ({"T0": X, "T1": E, "T2": E}, 1e-9, X, "T0 did not decide"),
        ({"T1": E, "T2": X}, 1e-9, X, "because of T2"),
        ({"T1": E, "T2": NOT_MADE}, 1e-9, X, "T2 could not be made: nothing there."),
        ({"T1": E}, 1e-9, X, "T2 could not be made"),
        ({"T1": E, "T2": E, "T4": D}, 1e-9, X, "T4 found a difference"),
        ({"T0": D, "T1": E, "T2": E}, 1e-9, D, "T0 found a difference"),
        ({"T1": D, "T2": X}, None, D, "because of T1"),
        ({"T1": X, "T2": D}, 0.5, D, "because of T2"),
        ({}, None, X, "T1 could not be made"),
    ],
)
def test_overall(verdicts, control, wanted, word):
    found = overall(results(**verdicts), control)
    assert found.verdict is wanted
    assert word in found.reason


def test_what_could_not_be_made_says_what_to_run():
    assert overall(results(T1=E, T2=NOT_MADE), 1e-9).to_run == "run it"
    assert missing("T3", "title", "why", "run it").made is False


def test_numbers_are_json_without_nan():
    numbers = {
        "a": np.float64("nan"),
        "b": [np.int64(3), (1.5, float("inf"))],
        "c": {"d": np.array([1.0, np.nan])},
        "e": X,
        1e-3: np.bool_(True),
    }
    found = TestResult(key="T1", title="t", verdict=E, reason="r", numbers=numbers).as_json()
    assert json.loads(json.dumps(found, allow_nan=False))["numbers"] == {
        "a": None,
        "b": [3, [1.5, None]],
        "c": {"d": [1.0, None]},
        "e": "INCONCLUSIVE",
        "0.001": True,
    }


def test_p_values_in_words():
    assert [p_text(p) for p in (0.034, 2e-19, 0.0, float("nan"))] == [
        "p = 0.034",
        "p = 2e-19",
        "p < 1e-300",
        "p not known",
    ]
