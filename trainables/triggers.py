"""Schedules that wait for the training loss: when they look, and what they see."""

from collections.abc import Sequence

from trainables.cohorts import Cohort
from trainables.population import Population
from trainables.spec import Segment

__all__ = ["checks", "trigger"]


def checks(cohort: Cohort, segments: Sequence[Segment]) -> dict[int, list[int]]:
    """At which steps of a cohort which rows' schedules look whether the training loss is low enough.

    Args:
        cohort: the cohort.
        segments: its segments, in row order.

    Returns:
        Schedule step to rows.
    """
    found: dict[int, list[int]] = {}
    for row, segment in enumerate(segments):
        curve = segment.phase.curve
        if curve.waits:
            first = (cohort.start - segment.phase_start) // curve.check_every + 1
            for step in range(segment.phase_start + first * curve.check_every, cohort.stop + 1, curve.check_every):
                found.setdefault(step, []).append(row)
    return found


def trigger(population: Population, segments: Sequence[Segment], rows: Sequence[int]) -> None:
    """Compare some rows' mean training loss since the last look with what their schedules wait for.

    Args:
        population: the rows; `triggered` and `window` are updated.
        segments: of the cohort, in row order.
        rows: those whose look is due.
    """
    for row in rows:
        curve = segments[row].phase.curve
        # a comparison with nan is False: a row that is not finite any more never triggers
        assert curve.below is not None
        population.triggered[row] |= population.window[row] / curve.check_every < curve.below
        population.window[row] = 0.0
