"""What the invariance tests promise: each case draws data of a known truth and says whether the event happened."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from _simulated import Truth, drops, grid, labels, times, values

from analysis.invariance.anova import increment
from analysis.invariance.design import Design, matched
from analysis.invariance.drop import drop_test
from analysis.invariance.equilibrium_time import equilibrium_time_test, time_law
from analysis.invariance.equivalence import equivalence_test, margin_of
from analysis.invariance.label_distance import function_distance
from analysis.invariance.sample_size import seeds_needed, tost_power
from analysis.invariance.student import one_sample, paired, welch
from analysis.invariance.variance_split import variance_split_test
from analysis.invariance.verdict import Verdict

__all__ = ["CASES", "Case", "Rule"]

Generator = np.random.Generator

CROSSED, INDEPENDENT = Design.CROSSED, Design.INDEPENDENT
UNEQUAL = (0.01, 0.02, 0.04, 0.08)
LOSS = margin_of("loss").width  # type: ignore[union-attr]


class Rule(StrEnum):
    """How a measured share is judged against the promised one."""

    EQUAL = "equal"
    AT_MOST = "at most"
    AT_LEAST = "at least"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One promise.

    Attributes:
        test: T1 to T5.
        name: what is drawn and what is counted.
        promised: probability of the event.
        rule: whether the true probability must equal it or stay on one side.
        event: draws data and says whether the event happened.
    """

    test: str
    name: str
    promised: float
    rule: Rule = Rule.EQUAL
    event: Callable[[Generator], bool]

    def count(self, simulations: int) -> int:
        """How often the event happens; the case's own random numbers, the same at every call."""
        generator = np.random.default_rng([*self.name.encode()])
        return sum(self.event(generator) for _ in range(simulations))

    def holds(self, happened: int, simulations: int, confidence: float) -> tuple[bool, float, float]:
        """Whether the binomial (Clopper-Pearson) interval of the count allows the promise, and the interval."""
        from scipy.stats import binomtest

        low, high = binomtest(happened, simulations).proportion_ci(confidence, method="exact")
        below, above = low <= self.promised, self.promised <= high
        fine = {Rule.EQUAL: below and above, Rule.AT_MOST: below, Rule.AT_LEAST: above}[self.rule]
        return fine, float(low), float(high)


def split_rejects(truth: Truth, alpha: float, lost: float = 0.0) -> Callable[[Generator], bool]:
    """T1's F tests reject; a share of the runs may be lost."""
    frame = grid(truth)
    levels, ratios, seeds = matched(frame["intrinsic_lr"]), matched(frame["ratio"]), frame["seed"].to_numpy()

    def event(generator: Generator) -> bool:
        kept = generator.random(len(frame)) >= lost
        y = values(truth, generator)[kept]
        return increment(y, levels[kept], ratios[kept], seeds[kept], truth.design).p < alpha

    return event


def split_power(truth: Truth, alpha: float) -> float:
    """Power of T1's F tests from the true noise and effect."""
    frame = grid(truth)
    levels, ratios, seeds = matched(frame["intrinsic_lr"]), matched(frame["ratio"]), frame["seed"].to_numpy()
    part = increment(np.random.default_rng(0).normal(size=len(frame)), levels, ratios, seeds, truth.design)
    if truth.design is INDEPENDENT:
        spreads = np.sqrt(np.square(truth.noise) + truth.seed_spread**2 + truth.level_seed_spread**2)
    else:
        spreads = np.array(truth.noise)
    exact = [
        replace(level, within=level.df_within * spread**2) for level, spread in zip(part.levels, spreads, strict=True)
    ]
    effect = truth.violation * np.linspace(-0.5, 0.5, truth.ratios)
    return replace(part, levels=tuple(exact), total=1.0).power(
        truth.seeds * len(truth.noise) * float(effect @ effect), alpha
    )


def split_says(truth: Truth, verdict: Verdict) -> Callable[[Generator], bool]:
    """T1 over three metrics comes to a verdict."""
    frame = grid(truth)

    def event(generator: Generator) -> bool:
        drawn = {f"log_elr:{place}": values(truth, generator) for place in range(3)}
        return variance_split_test(frame.assign(**drawn)).verdict is verdict

    return event


def tost_passes(
    sizes: tuple[int, int], spreads: tuple[float, float], gap: float, alike: float
) -> Callable[[Generator], bool]:
    """TOST of two cells passes; `alike` is the spread of a term that both share, and makes it a paired test."""

    def event(generator: Generator) -> bool:
        first, second = (generator.normal(size=n) * sd for n, sd in zip(sizes, spreads, strict=True))
        if alike:
            common = generator.normal(size=sizes[0]) * alike
            found = paired(first + common + gap, second + common)
        else:
            found = welch(first + gap, second)
        return found.p_within(LOSS) < 0.05

    return event


def beyond(n: int, sd: float, gap: float, margin: float = LOSS) -> Callable[[Generator], bool]:
    """One difference is found beyond the margin."""

    def event(generator: Generator) -> bool:
        return one_sample(gap + sd * generator.normal(size=n)).p_beyond(margin) < 0.05

    return event


def beyond_power(n: int, sd: float, gap: float) -> float:
    """Probability of it by the noncentral t distribution; the far tail left out."""
    from scipy.special import stdtrit
    from scipy.stats import nct

    return float(nct.sf(stdtrit(n - 1, 0.95), n - 1, (gap - LOSS) / sd * np.sqrt(n)))


def equivalence_says(truth: Truth, verdict: Verdict) -> Callable[[Generator], bool]:
    """T2 on losses comes to a verdict."""
    frame = grid(truth)

    def event(generator: Generator) -> bool:
        return equivalence_test(frame.assign(loss=np.exp(values(truth, generator)))).verdict is verdict

    return event


def slope_covered(truth: Truth, slope_spread: float = 0.0) -> Callable[[Generator], bool]:
    """T3's 95 % interval holds the true slope."""

    def event(generator: Generator) -> bool:
        low, high = time_law(times(truth, generator, -1.0, slope_spread)).interval
        return low <= -1.0 <= high

    return event


def time_says(truth: Truth, slope: float, verdict: Verdict) -> Callable[[Generator], bool]:
    """T3 comes to a verdict."""
    return lambda generator: equilibrium_time_test(times(truth, generator, slope)).verdict is verdict


def functions_reject(alpha: float, sizes: tuple[int, int], shift: float, alike: bool) -> Callable[[Generator], bool]:
    """T4's permutation test rejects; runs of one seed lean the same way where they are alike."""

    def event(generator: Generator) -> bool:
        start = generator.normal(size=sizes[0]) if alike else None
        first = labels(sizes[0], 40, generator, start=start)
        second = labels(sizes[1], 40, generator, shift, start)
        return function_distance(first, second, generator, 199, CROSSED if alike else INDEPENDENT).p <= alpha

    return event


def drop_says(verdict: Verdict, spread: float = 0.02, seeds: int = 8, **off: float) -> Callable[[Generator], bool]:
    """T5 comes to a verdict."""
    return lambda generator: drop_test(drops(seeds, generator, spread=spread, **off)).verdict is verdict


def _t1() -> list[Case]:
    cases = []
    for name, truth, lost in (
        ("crossed seeds, 10", Truth(seeds=10), 0.0),
        ("crossed seeds, 5", Truth(seeds=5), 0.0),
        ("independent seeds, 5", Truth(seeds=5, design=INDEPENDENT), 0.0),
        ("crossed seeds, 5, noise 1 : 2 : 4 : 8", Truth(seeds=5, noise=UNEQUAL), 0.0),
        ("crossed seeds, 6, a tenth of the runs lost", Truth(seeds=6, noise=UNEQUAL), 0.1),
    ):
        for alpha in (0.05, 0.01):
            title = f"F tests reject at {alpha}, no effect, {name}"
            cases.append(Case(test="T1", name=title, promised=alpha, event=split_rejects(truth, alpha, lost)))
    for name, truth in (
        ("crossed, 5 seeds, noise 10 %", Truth(seeds=5, noise=(0.1,) * 4, violation=0.1)),
        ("crossed, 8 seeds, noise 6 to 12 %", Truth(seeds=8, noise=(0.06, 0.08, 0.1, 0.12), violation=0.1)),
        ("independent, 6 seeds, noise 9 %", Truth(seeds=6, noise=(0.08,) * 4, violation=0.1, design=INDEPENDENT)),
    ):
        title = f"F tests find a violation of 10 % at 0.01, {name}"
        power = split_power(truth, 0.01)
        cases.append(Case(test="T1", name=title, promised=power, event=split_rejects(truth, 0.01)))
    weak = Truth(seeds=5, step=0.05)
    title = "says DIFFERENT of 3 metrics without effect whose levels hardly differ"
    cases.append(
        Case(test="T1", name=title, promised=0.01, rule=Rule.AT_MOST, event=split_says(weak, Verdict.DIFFERENT))
    )
    return cases


def _t2() -> list[Case]:
    cases = []
    for name, sizes, spreads, gap, alike in (
        ("Welch, 10 and 10 seeds", (10, 10), (0.02, 0.02), LOSS, 0.0),
        ("Welch, 5 and 5 seeds", (5, 5), (0.02, 0.02), LOSS, 0.0),
        ("Welch, 6 and 10 seeds, spread 1 : 3", (6, 10), (0.01, 0.03), LOSS, 0.0),
        ("paired, 5 seeds", (5, 5), (0.01, 0.01), -LOSS, 0.05),
    ):
        title = f"TOST passes at 0.05 a difference equal to its margin, {name}"
        rule = Rule.EQUAL if alike or sizes == (10, 10) else Rule.AT_MOST
        event = tost_passes(sizes, spreads, gap, alike)
        cases.append(Case(test="T2", name=title, promised=0.05, rule=rule, event=event))
    for design, sd in ((INDEPENDENT, 0.03), (CROSSED, 0.03 * np.sqrt(2))):
        n = seeds_needed(sd, LOSS, design=design)
        alike = 0.1 if design is CROSSED else 0.0
        event = tost_passes((n, n), (0.03, 0.03), 0.0, alike)
        title = f"TOST passes equal cells with the {n} seeds asked for, {design}"
        cases.append(Case(test="T2", name=f"{title}: at least 0.9", promised=0.9, rule=Rule.AT_LEAST, event=event))
        cases.append(
            Case(test="T2", name=f"{title}: exact power", promised=tost_power(n, sd, LOSS, design), event=event)
        )
    one = beyond(6, 0.04, LOSS)
    cases.append(Case(test="T2", name="a difference equal to its margin found beyond it", promised=0.05, event=one))
    none = beyond(6, 0.04, 0.0, 0.0)
    cases.append(Case(test="T2", name="no difference found beyond a margin of 0", promised=0.05, event=none))
    power = beyond_power(8, 0.03, 0.1)
    found = beyond(8, 0.03, 0.1)
    cases.append(Case(test="T2", name="a violation of 10 % found beyond 5 %, 8 pairs", promised=power, event=found))
    # Two ratios: every pair lies at the margin, the worst case for both verdicts.
    edge = Truth(seeds=6, noise=(0.03,) * 4, ratios=2, violation=LOSS)
    for verdict in (Verdict.EQUIVALENT, Verdict.DIFFERENT):
        for design in Design:
            name = f"says {verdict} of 4 pairs at their margins, {design}"
            event = equivalence_says(replace(edge, design=design), verdict)
            cases.append(Case(test="T2", name=name, promised=0.05, rule=Rule.AT_MOST, event=event))
    single = Truth(seeds=6, noise=(0.03,), ratios=2, violation=LOSS)
    event = equivalence_says(single, Verdict.EQUIVALENT)
    cases.append(
        Case(test="T2", name="says EQUIVALENT of one pair at its margin", promised=0.05, rule=Rule.AT_MOST, event=event)
    )
    planted = Truth(seeds=8, noise=(0.03,) * 4, violation=0.1)
    event = equivalence_says(planted, Verdict.EQUIVALENT)
    cases.append(
        Case(test="T2", name="says EQUIVALENT of a violation of 10 %", promised=0.05, rule=Rule.AT_MOST, event=event)
    )
    return cases


def _t3() -> list[Case]:
    cases = []
    for name, truth, spread in (
        ("independent runs, 5 seeds", Truth(seeds=5, noise=(0.1,) * 4, design=INDEPENDENT), 0.0),
        ("crossed, 5 seeds", Truth(seeds=5, noise=(0.1,) * 4, seed_spread=0.1), 0.0),
        ("crossed, 8 seeds whose slopes spread", Truth(seeds=8, noise=(0.1,) * 4, seed_spread=0.1), 0.1),
        ("crossed, 8 seeds, spread 1 : 2 : 4 : 8", Truth(seeds=8, noise=(0.03, 0.06, 0.12, 0.24)), 0.0),
    ):
        title = f"the slope's 95 % interval covers, {name}"
        cases.append(Case(test="T3", name=title, promised=0.95, event=slope_covered(truth, spread)))
    title = "the slope's 95 % interval covers, independent runs, spread 1 : 2 : 4 : 8"
    uneven = Truth(seeds=6, noise=(0.03, 0.06, 0.12, 0.24), seed_spread=0.0, level_seed_spread=0.0, design=INDEPENDENT)
    cases.append(Case(test="T3", name=title, promised=0.95, event=slope_covered(uneven)))
    edge = Truth(seeds=6, noise=(0.1,) * 4)
    event = time_says(edge, -0.85, Verdict.DIFFERENT)
    cases.append(
        Case(test="T3", name="says DIFFERENT of slope -0.85, the edge", promised=0.025, rule=Rule.AT_MOST, event=event)
    )
    good = Truth(seeds=8, noise=(0.1,) * 4)
    event = time_says(good, -1.0, Verdict.EQUIVALENT)
    # -1 lies outside 5 % of the intervals, and the F tests of the ratio reject 1 % of the rest.
    promised = 0.95 * 0.99
    cases.append(
        Case(test="T3", name="says EQUIVALENT of slope -1, 8 seeds, noise 10 %", promised=promised, event=event)
    )
    return cases


def _t4() -> list[Case]:
    cases = []
    for alpha in (0.05, 0.01):
        for name, sizes, alike in (
            ("free", (24, 24), False),
            ("unequal groups", (16, 30), False),
            ("paired", (24, 24), True),
        ):
            title = f"permutation test rejects at {alpha}, equal functions, {name}"
            cases.append(Case(test="T4", name=title, promised=alpha, event=functions_reject(alpha, sizes, 0.0, alike)))
    event = functions_reject(0.01, (64, 64), 0.4, False)
    cases.append(
        Case(test="T4", name="finds a shifted function, 64 runs", promised=0.9, rule=Rule.AT_LEAST, event=event)
    )
    return cases


def _t5() -> list[Case]:
    width = float(np.log(1.03))
    cases = [
        Case(
            test="T5",
            name=f"says EQUIVALENT where the {what} misses by its margin",
            promised=0.05,
            rule=Rule.AT_MOST,
            event=drop_says(Verdict.EQUIVALENT, **{key: margin}),
        )
        for what, key, margin in (
            ("effective LR just after", "after", width),
            ("angle at the end", "angle", -width),
            ("effective LR at the end", "end", 0.05),
            ("end loss of one arm", "loss", LOSS),
        )
    ]
    everywhere = drop_says(Verdict.DIFFERENT, after=width, angle=width, end=0.05, loss=LOSS)
    name = "says DIFFERENT where every check lies at its margin"
    cases.append(Case(test="T5", name=name, promised=0.05, rule=Rule.AT_MOST, event=everywhere))
    name = "says EQUIVALENT where theory holds, 8 seeds, noise 1.5 %"
    # Seven checks, the end loss paired: its spread is that of two runs' noise.
    passing = [tost_power(8, 0.015, margin, CROSSED) for margin in (width, width, width, width, 0.05, 0.05)]
    power = float(np.prod(passing)) * tost_power(8, 0.015 * np.sqrt(2), LOSS, CROSSED)
    cases.append(Case(test="T5", name=name, promised=power, event=drop_says(Verdict.EQUIVALENT, spread=0.015)))
    return cases


CASES: tuple[Case, ...] = (*_t1(), *_t2(), *_t3(), *_t4(), *_t5())
