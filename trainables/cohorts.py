"""Which segments of a pack train side by side, and in which order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.spec import Measure, Pack, Segment, SpecError, Swa

__all__ = ["Cohort", "cohorts", "events", "swa_marks", "trace_events"]


@dataclass(frozen=True)
class Cohort:
    """Segments of equal start and length, trained as the rows of one population.

    Attributes:
        segments: indices into the pack's segments, in row order.
        start: schedule steps done before.
        steps: length.
    """

    segments: tuple[int, ...]
    start: int
    steps: int

    @property
    def stop(self) -> int:
        """Schedule step at the end."""
        return self.start + self.steps


def _depths(segments: Sequence[Segment]) -> list[int]:
    depths: list[int] = []
    for segment in segments:
        depths.append(0 if segment.parent is None else depths[segment.parent] + 1)
    return depths


def cohorts(pack: Pack) -> list[Cohort]:
    """Cut a pack into cohorts: parents before children, at most `pack.width` rows, chunks of near equal size.

    Args:
        pack: what to train.

    Returns:
        Cohorts in training order.
    """
    groups: dict[tuple[int, int, int, str, bool, bool], list[int]] = {}
    for index, (depth, segment) in enumerate(zip(_depths(pack.segments), pack.segments, strict=True)):
        fresh = segment.start == segment.phase_start and segment.phase.fresh_optimizer
        # one set of averages, one way to begin
        key = (depth, segment.start, segment.steps, segment.phase.name, segment.phase_end, fresh)
        groups.setdefault(key, []).append(index)
    result = []
    for (_, start, steps, *_), indices in sorted(groups.items()):
        chunks = -(-len(indices) // pack.width)
        size = -(-len(indices) // chunks)
        result += [Cohort(tuple(indices[first : first + size]), start, steps) for first in range(0, len(indices), size)]
    return result


def swa_marks(segment: Segment, swa: Swa) -> dict[int, list[int]]:
    """At which schedule steps weights enter which averages.

    Args:
        segment: one that ends its phase.
        swa: the averages wanted.

    Returns:
        Schedule step to the windows that take the weights there.

    Raises:
        SpecError: a window begins before the segment does.
    """
    stop, marks = segment.start + segment.steps, dict[int, list[int]]()
    for window in swa.windows:
        first = stop - (window - 1) * swa.every
        if first <= segment.start:
            raise SpecError(
                [
                    f"swa window {window} x every {swa.every} must fit into the last {segment.steps} steps of phase "
                    f"{segment.phase.name!r}, which begin at step {segment.start}; make it shorter"
                ]
            )
        for offset in swa.offsets(window):
            marks.setdefault(stop - offset, []).append(window)
    return marks


def trace_events(cohort: Cohort, segments: Sequence[Segment], every: int) -> list[int]:
    """Schedule steps at which norms and angles of a cohort's weights are reported.

    Args:
        cohort: what trains.
        segments: its segments.
        every: steps between two reports; 0 for none.

    Returns:
        Ascending: multiples of `every`, the end, and the first step of a phase, which alone shows what its beginning
        (a decay, a kick) does at once.
    """
    if not every:
        return []
    first = [cohort.start + 1] if segments[0].start == segments[0].phase_start else []
    return sorted({*first, *range((cohort.start // every + 1) * every, cohort.stop, every), cohort.stop})


def events(cohort: Cohort, measure: Measure, marks: Iterable[int]) -> list[int]:
    """Schedule steps at which the host looks at the networks.

    Args:
        cohort: what trains.
        measure: what is recorded.
        marks: other steps at which something is due.

    Returns:
        Ascending; the last is the cohort's end.
    """
    every = measure.report_every
    reports = range((cohort.start // every + 1) * every, cohort.stop, every)
    labels = measure.labels.steps if measure.labels else ()
    inside = {step for step in [*measure.keep, *labels, *marks] if cohort.start < step < cohort.stop}
    return sorted({*reports, *inside, cohort.stop})
