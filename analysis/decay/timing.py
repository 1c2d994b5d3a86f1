"""When to decay: the final error by the time of a single decay, for every initial learning rate and weight decay.

A line is everything fixed but the time of the decay; a schedule without one stands at the line's end, for a decay at
the last step changes nothing. Times are compared with the best by multiple comparisons (`contrasts`): a time may be the
best where its excess over the best is not surely positive. The interval of the recommended time is the span of all
times that may be the best, over all lines together, for the line was chosen from the same seeds.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.contrasts import cluster_means, excess_bounds
from analysis.decay.choice import Choice, choose
from analysis.decay.outcomes import Config, Outcomes, drop_words
from analysis.estimates import Estimate, finite_or_none, mean_estimate

__all__ = ["Line", "Timing", "find_timings"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Line:
    """Schedules that differ in the time of their single decay.

    Attributes:
        initial_lr: learning rate before the decay.
        weight_decay: weight decay before the decay.
        scale: factor on the initial weights.
        drop: what falls, in words.
        places: [T] the configurations' places in the outcomes, by rising time.
        times: [T] steps done before the decay; the schedule's length where there is none.
        never: [T] whether there is none.
        errors: [T] mean final error.
        excess_low: [T] lower bound of the error above the line's best; NaN with fewer than two clusters.
        excess_high: [T] upper bound.
        choice: the best time, and its error on seeds that did not choose it.
        interval: from the earliest to the latest time of the line that may be its best.
        within_margin: times whose mean error is within the margin of the best.
    """

    initial_lr: float
    weight_decay: float
    scale: float
    drop: str
    places: tuple[int, ...]
    times: tuple[int, ...]
    never: tuple[bool, ...]
    errors: tuple[Estimate, ...]
    excess_low: tuple[float, ...]
    excess_high: tuple[float, ...]
    choice: Choice
    interval: tuple[float, float]
    within_margin: tuple[int, ...]

    @property
    def best_time(self) -> int:
        """The time with the lowest mean error."""
        return self.times[self.choice.place]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The decay times of schedules that can be compared.

    Attributes:
        outcomes: what they were computed from.
        steps: what the schedules have in common: their total length, or that of the part after the decay.
        equal_total: whether it is the total length.
        lines: by initial learning rate, weight decay and drop.
        line: place of the line that holds the best schedule of all.
        choice: the best schedule (a place in `outcomes.configs`), its error on seeds that did not choose it.
        single: likewise, of those with a decay.
        interval: span of the decay times of all schedules that may be the best; NaN with fewer than two clusters.
        margin: practical size of a difference.
    """

    outcomes: Outcomes
    steps: int
    equal_total: bool
    lines: tuple[Line, ...]
    line: int
    choice: Choice
    single: Choice
    interval: tuple[float, float]
    margin: float

    @property
    def best_line(self) -> Line:
        """The line of the best schedule."""
        return self.lines[self.line]

    @property
    def config(self) -> Config:
        """The best schedule."""
        return self.outcomes.configs[self.choice.place]

    @property
    def single_config(self) -> Config:
        """The best schedule with a decay."""
        return self.outcomes.configs[self.single.place]

    @property
    def decay_at(self) -> int | None:
        """The recommended time; None where the best schedule has no decay."""
        return self.config.decay_steps[0] if self.config.decays else None

    @property
    def significant(self) -> bool:
        """Whether the data tell the recommended time from all others."""
        return bool(self.interval[0] == self.interval[1])

    @property
    def seeds(self) -> int:
        """Seeds with any of its schedules measured."""
        places = [place for line in self.lines for place in line.places]
        return int(np.isfinite(self.outcomes.error[:, places]).any(axis=1).sum())

    def grid_json(self) -> list[dict[str, Any]]:
        """Every cell of the grids, as JSON holds it."""
        return [
            {
                "initial_lr": line.initial_lr,
                "weight_decay": line.weight_decay,
                "scale": line.scale,
                "drop": line.drop,
                "decay_at": None if never else time,
                "error": error.as_json(),
                "excess": [finite_or_none(low), finite_or_none(high)],
            }
            for line in self.lines
            for time, never, error, low, high in zip(
                line.times, line.never, line.errors, line.excess_low, line.excess_high, strict=True
            )
        ]


def find_timings(
    outcomes: Outcomes, *, margin: float, confidence: float, generator: np.random.Generator
) -> tuple[Timing, ...]:
    """Compare the decay times of an arm.

    Args:
        outcomes: the arm's final errors.
        margin: practical size of a difference.
        confidence: nominal coverage of the intervals.
        generator: for the bootstrap.

    Returns:
        One for each total length that was tried with two times or more (no decay counts as one), that with the most
        schedules first. Where every length has one time only, one for each length of the part after the decay.
    """
    singles = [outcomes.configs[place] for place in outcomes.where(decays=1)]
    frames = [(steps, True, _places(outcomes, steps)) for steps in sorted({config.steps for config in singles})]
    if not any(_has_times(outcomes, places) for _, _, places in frames):
        tails = sorted({config.tail for config in singles})
        frames = [(tail, False, outcomes.where(decays=1, tail=tail)) for tail in tails]
    found = [
        _timing(outcomes, steps, equal_total, places, margin, confidence, generator)
        for steps, equal_total, places in frames
        if _has_times(outcomes, places)
    ]
    return tuple(sorted(found, key=lambda timing: -sum(len(line.places) for line in timing.lines)))


def _places(outcomes: Outcomes, steps: int) -> Ints:
    return np.sort(np.concatenate([outcomes.where(decays=decays, steps=steps) for decays in (0, 1)]))


def _time(config: Config) -> int:
    return config.decay_steps[0] if config.decays else config.steps


def _lines(outcomes: Outcomes, places: Ints) -> dict[tuple[Any, ...], list[int]]:
    """Places by line, each line by rising time; a schedule without a decay belongs to every line it fits."""
    configs = [outcomes.configs[place] for place in places]
    lines: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    words = drop_words(configs)

    def start(config: Config) -> tuple[Any, ...]:
        return (config.initial_lr, config.weight_decay, config.kicks[0], config.warmup)

    for place, config, drop in zip(places, configs, words, strict=True):
        if config.decays:
            lines[(*start(config), drop)].append(int(place))
    for place, config in zip(places, configs, strict=True):
        if not config.decays:
            for key in list(lines):
                if key[:-1] == start(config):
                    lines[key].append(int(place))
    return {key: sorted(line, key=lambda place: _time(outcomes.configs[place])) for key, line in sorted(lines.items())}


def _has_times(outcomes: Outcomes, places: Ints) -> bool:
    return any(len(line) > 1 for line in _lines(outcomes, places).values())


def _timing(
    outcomes: Outcomes,
    steps: int,
    equal_total: bool,
    places: Ints,
    margin: float,
    confidence: float,
    generator: np.random.Generator,
) -> Timing:
    laid = _lines(outcomes, places)
    lines = tuple(_line(outcomes, key, line, margin, confidence, generator) for key, line in laid.items())
    places = np.array(sorted({place for line in lines for place in line.places}), dtype=np.int64)
    clusters = outcomes.arm.clusters
    choice = _choice(outcomes, places, confidence, generator)
    single = places[[outcomes.configs[place].decays > 0 for place in places]]
    lower, _ = excess_bounds(cluster_means(outcomes.error[:, places], clusters), confidence, generator)
    times = np.array([_time(outcomes.configs[place]) for place in places])
    holding = [number for number, line in enumerate(lines) if choice.place in line.places]
    return Timing(
        outcomes=outcomes,
        steps=steps,
        equal_total=equal_total,
        lines=lines,
        line=min(holding, key=lambda number: min(error.value for error in lines[number].errors)),
        choice=choice,
        single=_choice(outcomes, single, confidence, generator),
        interval=_span(times, lower, int(np.searchsorted(places, choice.place))),
        margin=margin,
    )


def _choice(outcomes: Outcomes, places: Ints, confidence: float, generator: np.random.Generator) -> Choice:
    """The best of some configurations, its place being that among all."""
    error, choosing = outcomes.error[:, places], outcomes.choosing[:, places]
    chosen = choose(error, choosing, outcomes.arm.clusters, confidence, generator)
    return replace(chosen, place=int(places[chosen.place]))


def _line(
    outcomes: Outcomes,
    key: tuple[Any, ...],
    line: list[int],
    margin: float,
    confidence: float,
    generator: np.random.Generator,
) -> Line:
    clusters, error = outcomes.arm.clusters, outcomes.error[:, line]
    choice = choose(error, outcomes.choosing[:, line], clusters, confidence, generator)
    errors = tuple(mean_estimate(column, clusters, confidence) for column in error.T)
    lower, upper = excess_bounds(cluster_means(error, clusters), confidence, generator)
    configs = [outcomes.configs[place] for place in line]
    times = tuple(_time(config) for config in configs)
    # The lowest of noisy means lies too low: the level of the best is that on seeds that did not choose it, if higher.
    level = float(np.fmax(choice.error.value, errors[choice.place].value))
    return Line(
        initial_lr=key[0],
        weight_decay=key[1],
        scale=key[2],
        drop=key[-1],
        places=tuple(line),
        times=times,
        never=tuple(not config.decays for config in configs),
        errors=errors,
        excess_low=tuple(map(float, lower)),
        excess_high=tuple(map(float, upper)),
        choice=choice,
        interval=_span(np.array(times), lower, choice.place),
        within_margin=tuple(time for time, each in zip(times, errors, strict=True) if each.value <= level + margin),
    )


def _span(times: Ints, lower: Floats, best: int) -> tuple[float, float]:
    """From the earliest to the latest time that may be the best."""
    if np.isnan(lower).any():
        return (np.nan, np.nan)
    kept = times[(lower <= 0) | (np.arange(len(times)) == best)]
    return (float(kept.min()), float(kept.max()))
