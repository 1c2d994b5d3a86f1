"""T0: does the network obey the law at all? Tried out on the network itself, in float64, with its own data."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.invariance.courses import Course
from analysis.invariance.verdict import TestResult, Verdict, missing
from trainables.spec import Recipe, SpecError

if TYPE_CHECKING:
    from trainables.exact_pair import ExactPair

__all__ = ["ExactTest", "exact_test"]

TITLE = "Is training with (lr, weight decay, w) the same as with (c^2 lr, weight decay / c^2, c w)?"
LARGEST = 1e-10
"""Difference in loss below which two runs are one; rounding alone gives about 1e-14."""
LEAST_STEPS = 20
"""Steps below which the comparison says little."""
STEPS = 200
SECONDS = 15.0
"""Of each of the two comparisons; large networks take fewer steps."""


@dataclass(frozen=True, kw_only=True)
class ExactTest:
    """T0 and what goes with it.

    Attributes:
        result: the test, with the eps of norm layers at 0.
        own_eps: worst difference in loss with the network's own eps, where that with eps 0 is none; else None.
    """

    result: TestResult
    own_eps: float | None


def exact_test(recipe: Recipe | None, course: Course | None, *, seconds: float = SECONDS) -> ExactTest:
    """Train scaled pairs of a recipe's network.

    Args:
        recipe: None where the manifest does not hold it.
        course: a run whose learning rate, weight decay and momentum are used; None where there is none with both.
        seconds: after which a comparison stops.

    Returns:
        EQUIVALENT below a difference of 1e-10 at the factors that rounding does not see, else DIFFERENT; not made where
        the network cannot be built here or the law is not about it.
    """
    if recipe is None or course is None:
        why = "No run has a constant learning rate and weight decay." if course is None else "The recipe is not known."
        return _not_made(why, "runs with weight decay")
    from trainables.exact_pair import exact_pair

    level = course.schedule.last
    try:
        pairs = [
            exact_pair(
                recipe,
                data_seed=course.data_seed,
                seed=course.seed,
                lr=level.lr,
                weight_decay=level.weight_decay,
                momentum=course.schedule.momentum,
                steps=STEPS,
                norm_eps=eps,
                seconds=seconds,
            )
            for eps in (0.0, None)
        ]
    except SpecError as error:
        return _not_made(_sentence("; ".join(error.faults)), "a network with norms after its layers, trained by SGD")
    except (ImportError, OSError) as error:
        return _not_made(f"The network or its data cannot be had here ({error}).", "the analysis where the data are")
    exact, own = pairs
    verdict = Verdict.EQUIVALENT if _without_rounding(exact) < LARGEST else Verdict.DIFFERENT
    if exact.steps < LEAST_STEPS:
        verdict = Verdict.INCONCLUSIVE
    reason = (
        f"Over {exact.steps} steps in float64 losses of scaled runs differ by at most {exact.loss_difference:.1e} with "
        f"norm eps 0 (allowed {LARGEST:g}); with the network's own eps by {own.loss_difference:.1e}."
    )
    if verdict is Verdict.EQUIVALENT and exact.loss_difference >= LARGEST:
        reason += (
            " Factors that are powers of 2, which make no rounding, agree: the rest is rounding that training grew."
        )
    if exact.nonfinite_step is not None:
        reason += f" With eps 0 numbers were not finite at step {exact.nonfinite_step}."
    numbers = {
        "steps": exact.steps,
        "loss_difference": exact.loss_difference,
        "norm_error": exact.norm_error,
        "by_scale": dict(zip(map("{:.4g}".format, exact.scales), exact.by_scale, strict=True)),
        "loss_difference_own_eps": own.loss_difference,
        "steps_own_eps": own.steps,
        "scale_invariant_numbers": exact.scale_invariant,
        "lr": level.lr,
        "weight_decay": level.weight_decay,
    }
    to_run = "" if verdict is not Verdict.INCONCLUSIVE else "the analysis on a faster machine: its time was up"
    result = TestResult(key="T0", title=TITLE, verdict=verdict, reason=reason, numbers=numbers, to_run=to_run)
    return ExactTest(result=result, own_eps=own.loss_difference if verdict is Verdict.EQUIVALENT else None)


def _without_rounding(pair: "ExactPair") -> float:
    """The difference at powers of 2, or of all factors where none is one.

    Unstable training multiplies whatever rounding there is, so that other factors part even where the law is exact.
    """
    powers = [found for scale, found in zip(pair.scales, pair.by_scale, strict=True) if math.frexp(scale)[0] == 0.5]
    return max(powers or pair.by_scale)


def _not_made(why: str, to_run: str) -> ExactTest:
    return ExactTest(result=missing("T0", TITLE, why, to_run), own_eps=None)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
