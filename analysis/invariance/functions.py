"""T4: are runs of equal intrinsic learning rate the same in function space, wherever they came from?

Schedules that reach the same intrinsic LR must give the same distribution of trained functions from O(1 / lambda_e)
steps on (the Fast Equilibrium Conjecture); four units are allowed for here. Equal schedules must not be told apart by
the permutation test of `label_distance`, and schedules of unequal intrinsic LR must be: only that shows that the test
could have seen a difference. It sees what accuracy cannot.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from analysis.invariance.design import Design, matched
from analysis.invariance.label_distance import FunctionDistance, function_distance
from analysis.invariance.student import holm
from analysis.invariance.verdict import FEWEST_SEEDS, TestResult, Verdict, missing, p_text
from analysis.laws import function_steps

__all__ = ["LEAST_RUNS", "FunctionDistance", "FunctionPair", "Snapshot", "function_distance", "functions_test"]

TITLE = "Are runs of equal product the same functions in distribution, whatever their past?"
LEAST_RUNS = 64
ALPHA = 0.05
CONTROL_ALPHA = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """What the runs of one schedule predict at one step.

    Attributes:
        schedule: its name.
        intrinsic_lr: lambda_e of the schedule from step 0 on.
        step: steps since the schedules' last change.
        labels: [runs, inputs] predicted class; the same inputs in every snapshot.
        seeds: [runs] seed of each run, no seed twice.
    """

    schedule: str
    intrinsic_lr: float
    step: int
    labels: npt.NDArray[np.integer]
    seeds: npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class FunctionPair:
    """Two schedules compared at one step.

    Attributes:
        schedules: names.
        step: of both.
        equal: whether their intrinsic LRs are equal.
        judged: whether the verdict rests on it: an equal pair past the steps after which it must agree, or a positive
            control at such a step.
        design: whether they share their seeds.
        found: the comparison.
    """

    schedules: tuple[str, str]
    step: int
    equal: bool
    judged: bool
    design: Design
    found: FunctionDistance

    def as_json(self) -> dict[str, object]:
        """The numbers of the report."""
        return {
            "schedules": list(self.schedules),
            "step": self.step,
            "equal": self.equal,
            "judged": self.judged,
            "design": self.design,
            "distance": self.found.distance,
            "null_mean": self.found.null_mean,
            "null_high": self.found.null_high,
            "p": self.found.p,
            "disagreement": list(self.found.disagreement),
            "runs": list(self.found.runs),
        }


def functions_test(
    snapshots: Sequence[Snapshot], generator: np.random.Generator, permutations: int = 999
) -> TestResult:
    """T4 with its verdict.

    EQUIVALENT where every pair of equal intrinsic LR has p > 0.05 after Holm's correction at all steps past
    4 / lambda_e, every pair of unequal intrinsic LR (the positive controls) has p < 0.01 at those steps, and there are
    64 runs of each schedule. DIFFERENT where an equal pair is rejected. Earlier steps are reported and not judged.

    Args:
        snapshots: of two schedules or more, at common steps.
        generator: for the permutations.
        permutations: at least so many; more are drawn where Holm's correction over the judged pairs needs them.

    Returns:
        The result; `numbers["pairs"]` holds every pair at every step.
    """
    levels = matched([each.intrinsic_lr for each in snapshots])
    places = [
        (a, b)
        for a, b in combinations(range(len(snapshots)), 2)
        if snapshots[a].step == snapshots[b].step and snapshots[a].schedule != snapshots[b].schedule
    ]
    judged = [(a, b) for a, b in places if levels[a] == levels[b] and _late(snapshots[a])]
    if not judged:
        return missing(
            "T4",
            TITLE,
            "No two schedules of equal intrinsic learning rate were both seen 4 / (learning rate x weight decay) steps "
            "after their last change.",
            f"two schedules of equal and one of another intrinsic learning rate, {LEAST_RUNS} runs each, with the "
            "labels of an evaluation set kept that late",
        )
    draws = max(permutations, int(np.ceil(2 * len(judged) / ALPHA)))  # else the smallest p, corrected, cannot reject
    steps = {snapshots[a].step for a, _ in judged}
    pairs = [
        _pair(snapshots[a], snapshots[b], bool(levels[a] == levels[b]), steps, generator, draws) for a, b in places
    ]
    equal = [pair for pair in pairs if pair.equal and pair.judged]
    controls = [pair for pair in pairs if not pair.equal and pair.judged]
    adjusted = holm([pair.found.p for pair in equal])
    verdict, reason, to_run = _verdict(equal, adjusted, controls)
    return TestResult(
        key="T4",
        title=TITLE,
        verdict=verdict,
        reason=reason,
        to_run=to_run,
        numbers={
            "pairs": [pair.as_json() for pair in pairs],
            "smallest_p_equal": adjusted.min(),
            "largest_p_control": max((pair.found.p for pair in controls), default=np.nan),
            "runs": min(min(pair.found.runs) for pair in equal),
            "permutations": draws,
            "rule": {"alpha": ALPHA, "control_alpha": CONTROL_ALPHA, "runs": LEAST_RUNS},
        },
    )


def _late(snapshot: Snapshot) -> bool:
    return snapshot.step >= function_steps(snapshot.intrinsic_lr)[1] * (1 - 1e-9)  # the quotient may round up


def _pair(
    first: Snapshot, second: Snapshot, equal: bool, steps: AbstractSet[int], generator: np.random.Generator, draws: int
) -> FunctionPair:
    a, b = np.argsort(first.seeds), np.argsort(second.seeds)
    design = Design.CROSSED if np.array_equal(first.seeds[a], second.seeds[b]) else Design.INDEPENDENT
    return FunctionPair(
        schedules=(first.schedule, second.schedule),
        step=first.step,
        equal=equal,
        judged=first.step in steps and (not equal or _late(first)),
        design=design,
        found=function_distance(first.labels[a], second.labels[b], generator, draws, design),
    )


def _verdict(
    equal: Sequence[FunctionPair], adjusted: npt.NDArray[np.float64], controls: Sequence[FunctionPair]
) -> tuple[Verdict, str, str]:
    """Verdict, reason, and what to run where it is open."""
    fewest = min(min(pair.found.runs) for pair in equal)
    if fewest < FEWEST_SEEDS:
        few = f"Some schedule has {fewest} of the {FEWEST_SEEDS} runs without which nothing can be said."
        return Verdict.INCONCLUSIVE, few, f"{LEAST_RUNS} runs of each schedule"
    closest = equal[int(adjusted.argmin())]
    smallest = float(adjusted.min())
    if smallest <= ALPHA:
        return (
            Verdict.DIFFERENT,
            f"{_named(closest)} are {_distance(closest)} ({p_text(smallest)} over {len(equal)} pairs) although their "
            "intrinsic learning rates are equal.",
            "",
        )
    if fewest < LEAST_RUNS:
        few = (
            f"No difference was found, but some schedule has {fewest} of the {LEAST_RUNS} runs needed to call it none."
        )
        return Verdict.INCONCLUSIVE, few, f"{LEAST_RUNS} runs of each schedule"
    if not controls:
        return (
            Verdict.INCONCLUSIVE,
            "There is no schedule of another intrinsic learning rate, so nothing shows that one would be seen.",
            f"a schedule of another intrinsic learning rate, {LEAST_RUNS} runs",
        )
    loosest = max(controls, key=lambda pair: pair.found.p)
    if loosest.found.p >= CONTROL_ALPHA:
        return (
            Verdict.INCONCLUSIVE,
            f"{_named(loosest)} have different intrinsic learning rates and were not told apart "
            f"({p_text(loosest.found.p)}): the test sees too little.",
            "more runs, or more evaluation inputs",
        )
    return (
        Verdict.EQUIVALENT,
        f"Equal schedules are not told apart ({len(equal)} pairs, smallest {p_text(smallest)}; {_named(closest)} are "
        f"{_distance(closest)}), unequal ones are (largest {p_text(loosest.found.p)}).",
        "",
    )


def _named(pair: FunctionPair) -> str:
    return f"{pair.schedules[0]} and {pair.schedules[1]} at step {pair.step}"


def _distance(pair: FunctionPair) -> str:
    return f"{pair.found.distance:.4f} apart, {pair.found.null_mean:.4f} by chance"
