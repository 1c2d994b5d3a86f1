"""T0's verdict on pairs whose differences are known."""

from types import SimpleNamespace
from typing import Any

import pytest

import trainables.exact_pair
from analysis.invariance.exact import exact_test
from analysis.invariance.verdict import Verdict
from trainables.exact_pair import ExactPair

RECIPE: Any = object()
COURSE: Any = SimpleNamespace(
    data_seed=0,
    seed=0,
    schedule=SimpleNamespace(last=SimpleNamespace(lr=0.1, weight_decay=0.01), momentum=0.0),
)


@pytest.mark.parametrize(
    ("by_scale", "steps", "verdict"),
    [
        ((0.0, 0.0, 1e-15), 200, Verdict.EQUIVALENT),
        ((0.0, 0.0, 1e-6), 200, Verdict.EQUIVALENT),  # unstable training grows rounding, of which powers of 2 have none
        ((1e-3, 0.0, 0.0), 200, Verdict.DIFFERENT),
        ((1e-3, 1e-3, 1e-3), 200, Verdict.DIFFERENT),
        ((0.0, float("inf"), 0.0), 200, Verdict.DIFFERENT),
        ((0.0, 0.0, 0.0), 5, Verdict.INCONCLUSIVE),
    ],
)
def test_verdict(
    by_scale: tuple[float, float, float], steps: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pair(*_: object, norm_eps: float | None, **__: object) -> ExactPair:
        return ExactPair(
            steps=steps,
            scales=trainables.exact_pair.SCALES,
            by_scale=by_scale,
            norm_error=0.0,
            norm_eps=norm_eps,
            scale_invariant=10,
        )

    monkeypatch.setattr(trainables.exact_pair, "exact_pair", pair)
    found = exact_test(RECIPE, COURSE).result
    assert found.verdict is verdict
    assert ("rounding that training grew" in found.reason) == (verdict is Verdict.EQUIVALENT and max(by_scale) > 1e-10)
