"""Everything that is said about a study's decays, computed once."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.decay.events import Event, events_of
from analysis.decay.jumps import Jump, find_jumps, traces_of, whole_group
from analysis.decay.necessity import Comparison, decays_needed, find_comparisons
from analysis.decay.outcomes import Outcomes, outcomes_of
from analysis.decay.rebounds import Rebound, courses_of, find_rebounds
from analysis.decay.runs import DecayArm, runs_of
from analysis.decay.timing import Timing, find_timings
from analysis.study import Study

__all__ = ["ArmDecays", "DecayFindings", "find_decays"]


@dataclass(frozen=True, kw_only=True)
class ArmDecays:
    """What was found in one arm.

    Attributes:
        arm: the arm.
        events: its decays.
        jumps: of every layer at every decay.
        rebounds: of loss and error at every decay.
        outcomes: final errors.
        timings: decay times compared, the largest comparison first.
        comparisons: schedules with more decays against those with fewer.
        notes: what could not be said, and what it would take.
    """

    arm: DecayArm
    events: tuple[Event, ...]
    jumps: tuple[Jump, ...]
    rebounds: tuple[Rebound, ...]
    outcomes: Outcomes
    timings: tuple[Timing, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    @property
    def timing(self) -> Timing | None:
        """The comparison of decay times that the answer is about."""
        return self.timings[0] if self.timings else None

    @property
    def needed(self) -> int | None:
        """The number of decays that are needed; None where it is not known."""
        return decays_needed(self.comparisons)

    @property
    def seeds(self) -> int:
        """Seeds with any final error; all seeds while there is none."""
        measured = int(np.isfinite(self.outcomes.error).any(axis=1).sum()) if self.outcomes.error.size else 0
        return measured or len(self.arm.seeds)

    @property
    def shown(self) -> tuple[Event, ...]:
        """One event for each kind of drop: that which comes nearest to its new equilibrium, an early decay if equal."""
        best: dict[str, Event] = {}
        for event in self.events:
            known = best.get(event.decay.words)
            if known is None or _worth(event) > _worth(known):
                best[event.decay.words] = event
        return tuple(best.values())

    def jump(self, event: Event) -> Jump | None:
        """The jump of all traced tensors together at a decay."""
        return next((jump for jump in whole_group(self.jumps) if jump.event is event), None)

    def rebound(self, event: Event, quantity: str) -> Rebound | None:
        """The course of one quantity around a decay: `error` or `loss`."""
        return next(
            (each for each in self.rebounds if each.event is event and each.is_error == (quantity == "error")), None
        )


@dataclass(frozen=True, kw_only=True)
class DecayFindings:
    """What was found in a study.

    Attributes:
        study: the study.
        arms: one entry for each arm; empty where the members' schedules are not known.
        traces: the probes behind the jumps, from `traces_of`.
        courses: the curves behind the rebounds, from `courses_of`.
        notes: what concerns the study as a whole.
    """

    study: Study
    arms: tuple[ArmDecays, ...]
    traces: pd.DataFrame
    courses: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def headline(self) -> ArmDecays | None:
        """The arm that the answer is about: that which the sweep names, else the first with a decay."""
        wanted = self.study.sweep.get("headline") or {}
        named = [
            each
            for each in self.arms
            if wanted
            and all(each.arm.axes.get(name) == value for name, value in wanted.items() if name in each.arm.axes)
        ]
        with_decays = [each for each in (named or self.arms) if each.events or each.timings]
        return next(iter(with_decays or named or self.arms), None)


def find_decays(study: Study) -> DecayFindings:
    """Analyse the decays of a study.

    Args:
        study: the study.

    Returns:
        The findings; equal input gives equal findings, the bootstrap included. What a study lacks is a note.
    """
    arms = runs_of(study)
    events = [events_of(arm) for arm in arms]
    members = sorted({name for each in events for event in each for name in event.members})
    traces, courses = traces_of(study, members), courses_of(study, members)
    found = tuple(_of_arm(study, arm, each, traces, courses) for arm, each in zip(arms, events, strict=True))
    notes = []
    if not arms:
        notes.append("The table of members has no column 'phases': schedules are not known, so no decay can be found.")
    elif not members and not any(each.timings for each in found):
        notes.append(
            "No completed run has a decay, a fall of learning rate or weight decay between two constant stretches: add "
            "decay times to the sweep."
        )
    elif traces.empty:
        notes.append(
            "Norms, gradients and angles were not traced, so the jump of the effective learning rate at a decay is not "
            "known: measure the probe 'trace'."
        )
    return DecayFindings(study=study, arms=found, traces=traces, courses=courses, notes=tuple(notes))


def _of_arm(
    study: Study, arm: DecayArm, events: tuple[Event, ...], traces: pd.DataFrame, courses: pd.DataFrame
) -> ArmDecays:
    settings = study.settings
    generator = np.random.default_rng([20241, arm.number])
    outcomes = outcomes_of(study, arm)
    margin, confidence = settings.margin, settings.confidence
    found = ArmDecays(
        arm=arm,
        events=events,
        jumps=find_jumps(traces, events, confidence),
        rebounds=find_rebounds(courses, events, margin=margin, confidence=confidence, generator=generator),
        outcomes=outcomes,
        timings=find_timings(outcomes, margin=margin, confidence=confidence, generator=generator),
        comparisons=find_comparisons(outcomes, margin=margin, confidence=confidence, generator=generator),
        notes=(),
    )
    return replace(found, notes=tuple(_notes(found)))


def _worth(event: Event) -> tuple[bool, float, int]:
    """What is shown of a kind of drop: an equilibrium at both ends, then as much of the recovery as possible."""
    length = event.decay.after.tail - event.decay.step
    reach = min(1.0, length / event.recovery) if event.recovery > 0 else 1.0
    return (event.settled and event.reached, reach, -event.number)


def _notes(found: ArmDecays) -> list[str]:
    arm, outcomes = found.arm, found.outcomes
    notes = []
    if len(set(arm.clusters.tolist())) < 2:
        notes.append(
            "One seed leaves no interval, and every best was chosen on the seed it was read on: run two or more."
        )
    apart = sum(not run.schedule.only_decays for run in arm.runs)
    if apart:
        notes.append(
            f"{apart} of {len(arm.runs)} runs have schedules that change otherwise than by decays; their final errors "
            "are not compared."
        )
    if found.events and not found.timings:
        notes.append(_no_times(outcomes))
    numbers = {config.decays for config in outcomes.configs}
    if max(numbers, default=0) > 1 and 1 not in numbers:
        notes.append("No schedule has a single decay: whether several are needed cannot be said without one.")
    slow = [event for event in found.shown if np.isfinite(event.recovery) and not event.reached]
    for event in slow:
        notes.append(
            f"{event.label}: the new equilibrium is {event.recovery:,.0f} steps away, and the last 30 % of the "
            f"{event.decay.after.steps:,} that were trained begin before it: the end is not the equilibrium."
        )
    if any(np.isinf(event.recovery) for event in found.shown):
        notes.append(
            "Without weight decay there is no equilibrium: nothing is predicted for the end after such a decay."
        )
    if any(not event.settled for event in found.shown if np.isfinite(event.recovery)):
        notes.append(
            "Some runs decay before 4 / (intrinsic learning rate) steps: what they leave is not yet an equilibrium."
        )
    if any(jump.group == "trained" for jump in found.jumps):
        notes.append("The network has no scale-invariant weights: the predictions of the jump do not apply to it.")
    return notes


def _no_times(outcomes: Outcomes) -> str:
    if not np.isfinite(outcomes.error).any():
        return "No final error has been measured yet."
    times = sorted({config.decay_steps[0] for config in outcomes.configs if config.decays == 1})
    if len(times) == 1:
        return f"Only one decay time was tried (step {times[0]:,}), so nothing can be recommended: add others."
    return "No two schedules differ in the time of a single decay alone, so none can be recommended."
