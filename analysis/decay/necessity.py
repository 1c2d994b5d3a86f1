"""How many decays are necessary: schedules with several decays against the best with one, and one against none.

Both sides may be tuned: each is represented by its best initial learning rate and weight decay, chosen on all other
seeds and read on the seed left out, paired (`gain`). At equal total length the number of decays alone is compared; at
unequal length, whether one decay in a longer or shorter run does as well.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.decay.outcomes import Config, Outcomes, drop_words
from analysis.estimates import Estimate
from analysis.gain import find_gain

__all__ = ["Comparison", "Need", "decays_needed", "find_comparisons"]

Ints = npt.NDArray[np.int64]


class Need(StrEnum):
    """What the interval of a comparison allows one to say about the additional decays."""

    NEEDED = "needed"
    NOT_NEEDED = "not needed"
    NOT_SIGNIFICANT = "not significant"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best of some schedules with more decays against the best of those with fewer.

    Attributes:
        schedule: those with more decays, in words.
        decays: their number of decays, the smallest where it differs.
        than: number of decays on the other side: 1, or 0.
        steps: total length of those with more.
        than_steps: total length of those with fewer.
        pooled: whether `schedule` stands for all schedules with more decays of that length.
        gain: error of the best with fewer minus that of the best with more: positive where the decays help.
        naive: what choosing and measuring on the same seeds would have claimed.
        best_more: the best with more decays, as all seeds together choose.
        best_fewer: the best with fewer.
        margin: gains below it are not worth a decay.
    """

    schedule: str
    decays: int
    than: int
    steps: int
    than_steps: int
    pooled: bool
    gain: Estimate
    naive: float
    best_more: Config
    best_fewer: Config
    margin: float

    @property
    def equal_length(self) -> bool:
        """Whether both sides train for the same number of steps."""
        return self.steps == self.than_steps

    @property
    def verdict(self) -> Need:
        """What may be said; a gain that is surely below the margin makes no decay necessary."""
        if not (np.isfinite(self.gain.low) and np.isfinite(self.gain.high)):
            return Need.UNKNOWN
        if self.gain.high < self.margin:
            return Need.NOT_NEEDED
        return Need.NEEDED if self.gain.low > 0 else Need.NOT_SIGNIFICANT

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON holds it."""
        return {
            "schedule": self.schedule,
            "decays": self.decays,
            "than": self.than,
            "steps": self.steps,
            "than_steps": self.than_steps,
            "equal_length": self.equal_length,
            "pooled": self.pooled,
            "gain": self.gain.as_json(),
            "verdict": str(self.verdict),
        }


def find_comparisons(
    outcomes: Outcomes, *, margin: float, confidence: float, generator: np.random.Generator
) -> tuple[Comparison, ...]:
    """Make every comparison that an arm allows.

    Args:
        outcomes: the arm's final errors.
        margin: practical size of a difference.
        confidence: nominal coverage of each interval.
        generator: for the bootstrap.

    Returns:
        For each length: all schedules with several decays together and each by itself against the best with one decay,
        at that length and at every other; then one decay against none.
    """
    lengths = sorted({config.steps for config in outcomes.configs})
    found: list[Comparison | None] = []
    shared = (outcomes, margin, confidence, generator)
    for steps in lengths:
        several = np.array([place for place in outcomes.where(steps=steps) if outcomes.configs[place].decays > 1], int)
        patterns = _patterns(outcomes, several)
        for than_steps in sorted(lengths, key=lambda each: (each != steps, each)):
            singles = outcomes.where(decays=1, steps=than_steps)
            if len(patterns) > 1:
                found.append(_compare("all schedules with several decays", several, singles, 1, True, *shared))
            alone = len(patterns) == 1
            found += [_compare(name, places, singles, 1, alone, *shared) for name, places in patterns.items()]
        one, none = (outcomes.where(decays=decays, steps=steps) for decays in (1, 0))
        found.append(_compare("one decay, at its best,", one, none, 0, True, *shared))
    return tuple(each for each in found if each is not None)


def decays_needed(comparisons: Sequence[Comparison]) -> int | None:
    """The number of decays that the comparisons at equal length show to be needed.

    Args:
        comparisons: from `find_comparisons`.

    Returns:
        0 where one decay is not worth having; 1 where one is, or where none was not tried, and several are not; the
        best schedule's number where several are; None where the seeds do not decide it.
    """
    equal = [each for each in comparisons if each.equal_length and each.pooled]
    several = [each for each in equal if each.than == 1]
    single = [each for each in equal if each.than == 0]
    if any(each.verdict is Need.NEEDED for each in several):
        strongest = max(several, key=lambda each: each.gain.low)
        return strongest.best_more.decays
    if any(each.verdict is not Need.NOT_NEEDED for each in several):
        return None
    if not single:
        return 1 if several else None
    if any(each.verdict is Need.NEEDED for each in single):
        return 1
    return 0 if all(each.verdict is Need.NOT_NEEDED for each in single) else None


def _patterns(outcomes: Outcomes, several: Ints) -> dict[str, Ints]:
    """Schedules with several decays by when they decay and what falls, whatever rate they begin with."""
    configs = [outcomes.configs[place] for place in several]
    places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, config, drop in zip(several, configs, drop_words(configs), strict=True):
        places[(config.decays, config.decay_steps, config.steps, drop)].append(int(place))
    return {
        f"decays at {_listed(steps)} of {total:,} steps ({drop})": np.array(where)
        for (_, steps, total, drop), where in sorted(places.items())
    }


def _listed(steps: Sequence[int]) -> str:
    words = [f"{step:,}" for step in steps]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _compare(
    name: str,
    more: Ints,
    fewer: Ints,
    than: int,
    pooled: bool,
    outcomes: Outcomes,
    margin: float,
    confidence: float,
    generator: np.random.Generator,
) -> Comparison | None:
    """None where one side is empty."""
    if not len(more) or not len(fewer):
        return None
    places = np.concatenate([fewer, more])
    is_more = np.arange(len(places)) >= len(fewer)
    gain = find_gain(
        outcomes.error[:, places, None],
        outcomes.choosing[:, places, None],
        is_more[:, None],
        ~is_more[:, None],
        places.astype(np.float64),  # find_gain hands back what it chose: here the configurations' places
        outcomes.arm.clusters,
        margin=margin,
        confidence=confidence,
        generator=generator,
    )
    if gain is None:
        return None
    best_more, best_fewer = (outcomes.configs[int(place)] for place in (gain.rival_lr, gain.base_lr))
    return Comparison(
        schedule=name,
        decays=min(outcomes.configs[place].decays for place in more),
        than=than,
        steps=best_more.steps,
        than_steps=best_fewer.steps,
        pooled=pooled,
        gain=gain.estimate,
        naive=gain.naive,
        best_more=best_more,
        best_fewer=best_fewer,
        margin=margin,
    )
