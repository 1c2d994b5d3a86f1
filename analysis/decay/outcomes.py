"""Final errors of an arm, by seed and configuration: initial learning rate, weight decay and the decays."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from analysis.arms import positions
from analysis.decay.runs import DecayArm, Run
from analysis.study import Study

__all__ = ["Config", "Outcomes", "drop_words", "outcomes_of"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_DIGITS = 9
"""Significant digits to which numbers of two schedules are compared: products of factors differ in the last bits."""


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Config:
    """A schedule that changes by decays alone, as what can be chosen.

    Attributes:
        initial_lr: learning rate before the first decay.
        weight_decay: weight decay before the first decay.
        steps: total length.
        decay_steps: steps done before each decay; empty where there is none.
        lr_factors: new learning rate by old, for each decay.
        wd_factors: new weight decay by old.
        kicks: factors on the weights, at the start and at each decay.
        warmup: steps before the first constant level.
    """

    initial_lr: float
    weight_decay: float
    steps: int
    decay_steps: tuple[int, ...]
    lr_factors: tuple[float, ...]
    wd_factors: tuple[float, ...]
    kicks: tuple[float, ...]
    warmup: int

    @property
    def decays(self) -> int:
        """Number of decays."""
        return len(self.decay_steps)

    @property
    def final_lr(self) -> float:
        """Learning rate at the end."""
        return _round(self.initial_lr * float(np.prod(self.lr_factors)))

    @property
    def tail(self) -> int:
        """Steps from the last decay to the end; 0 without a decay."""
        return self.steps - self.decay_steps[-1] if self.decay_steps else 0


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Final errors of an arm.

    Attributes:
        arm: the arm.
        configs: [K] its configurations, sorted.
        error: [U, K] final error on the test split, as fractions; NaN where not measured.
        choosing: [U, K] error by which configurations are chosen: on the validation split where there is one.
        chosen_on: name of that split.
    """

    arm: DecayArm
    configs: tuple[Config, ...]
    error: Floats
    choosing: Floats
    chosen_on: str

    @cached_property
    def measured(self) -> npt.NDArray[np.bool_]:
        """[K] whether any seed of a configuration has both errors."""
        both = np.isfinite(self.error) & np.isfinite(self.choosing)
        return np.asarray(both.any(axis=0))

    def where(self, *, decays: int | None = None, steps: int | None = None, tail: int | None = None) -> Ints:
        """Places of measured configurations.

        Args:
            decays: with this number of decays.
            steps: of this length.
            tail: with this number of steps after the last decay.

        Returns:
            Places in `configs`, ascending.
        """
        kept = [
            place
            for place, config in enumerate(self.configs)
            if self.measured[place]
            and (decays is None or config.decays == decays)
            and (steps is None or config.steps == steps)
            and (tail is None or config.tail == tail)
        ]
        return np.array(kept, dtype=np.int64)


def outcomes_of(study: Study, arm: DecayArm) -> Outcomes:
    """Collect an arm's final errors.

    A run whose numbers overflowed counts as a guess: 1 - 1/classes, or 1 where the number of classes is not known.

    Args:
        study: the study.
        arm: the arm; runs whose schedules change otherwise than by decays are left out.

    Returns:
        The errors.
    """
    runs = {run.member_id: run for run in arm.runs if run.schedule.only_decays}
    of_run = {member_id: _config(run) for member_id, run in runs.items()}
    configs = tuple(sorted(set(of_run.values())))
    place = {config: number for number, config in enumerate(configs)}
    probes, members = study.tables.probes, study.tables.members
    rows = probes[(probes["probe"] == "final") & (probes["key"] == "error") & (probes["group"] == "end")]
    rows = rows.assign(place=positions(rows, members)).sort_values("step", kind="stable")
    rows = rows[rows["place"] >= 0].drop_duplicates(["place", "split"], keep="last")
    has_valid = bool((rows["split"] == "valid").any())
    shape = (len(arm.seeds), len(configs))
    error, choosing = np.full(shape, np.nan), np.full(shape, np.nan)
    ids = members["member_id"].to_numpy()
    for split, into in (("test", error), ("valid" if has_valid else "test", choosing)):
        of_split = rows[rows["split"] == split]
        for member_id, value in zip(ids[of_split["place"].to_numpy()], of_split["value"], strict=True):
            if member_id in runs:
                into[runs[member_id].unit, place[of_run[member_id]]] = value
    guess = 1 - 1 / study.classes if study.classes else 1.0
    for member_id, run in runs.items():
        if run.status != "nonfinite":
            continue
        for into in (error, choosing):
            where = (run.unit, place[of_run[member_id]])
            into[where] = guess if np.isnan(into[where]) else into[where]
    chosen_on = "valid" if has_valid else "test"
    return Outcomes(arm=arm, configs=configs, error=error, choosing=choosing, chosen_on=chosen_on)


def drop_words(configs: Sequence[Config]) -> list[str]:
    """What falls, in the terms in which the fewest configurations differ: factors of the rate, or final rates.

    A sweep with one factor and one with one final rate are told apart that way: with `final_lr` fixed, every initial
    rate has a factor of its own, which is not a difference between decays.

    Args:
        configs: the configurations.

    Returns:
        For each its words, such as `LR x 0.1 each, WD off`; `no decay` where there is none.
    """
    factors = {config.lr_factors for config in configs if config.decays}
    finals = {config.final_lr for config in configs if config.decays}
    by_final = len(finals) < len(factors)
    return [_words(config, by_final=by_final) for config in configs]


def _words(config: Config, *, by_final: bool) -> str:
    if not config.decays:
        return "no decay"
    parts = []
    if any(factor != 1 for factor in config.lr_factors):
        parts.append(f"LR to {config.final_lr:.3g}" if by_final else f"LR x {_each(config.lr_factors)}")
    if any(factor != 1 for factor in config.wd_factors):
        parts.append("WD off" if config.wd_factors == (0.0,) else f"WD x {_each(config.wd_factors)}")
    if any(kick != 1 for kick in config.kicks[1:]):
        parts.append(f"weights x {_each(config.kicks[1:])}")
    return ", ".join(parts)


def _each(factors: tuple[float, ...]) -> str:
    if len(factors) > 1 and len(set(factors)) == 1:
        return f"{factors[0]:.3g} each"
    return ", ".join(f"{factor:.3g}" for factor in factors)


def _config(run: Run) -> Config:
    schedule = run.schedule
    levels = [level for level in schedule.levels if level.start >= schedule.first.start]
    return Config(
        initial_lr=_round(schedule.first.lr),
        weight_decay=_round(schedule.first.weight_decay),
        steps=schedule.steps,
        decay_steps=tuple(decay.step for decay in schedule.decays),
        lr_factors=tuple(_round(decay.lr_factor) for decay in schedule.decays),
        wd_factors=tuple(_round(decay.wd_factor) for decay in schedule.decays),
        kicks=(_round(schedule.levels[0].kick), *(_round(level.kick) for level in levels[1:])),
        warmup=schedule.first.start,
    )


def _round(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")
