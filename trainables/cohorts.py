"""Which segments of a pack train side by side, and in which order."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainables.spec import Measure, Pack, Segment, SpecError, Swa

__all__ = ["Cohort", "cohorts", "swa_marks"]


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


def events(cohort: Cohort, measure: Measure, marks: Iterable[int], trace_every: int = 0) -> list[int]:
    """Schedule steps at which the host looks at the networks.

    Args:
        cohort: what trains.
        measure: what is recorded.
        marks: other steps at which something is due.
        trace_every: steps between two looks at norms and angles of the weights; 0 for none.

    Returns:
        Ascending; the last is the cohort's end.
    """

    def multiples(every: int) -> range:
        return range((cohort.start // every + 1) * every, cohort.stop, every)

    labels = measure.labels.steps if measure.labels else ()
    inside = {step for step in [*measure.keep, *labels, *marks] if cohort.start < step < cohort.stop}
    traces = multiples(trace_every) if trace_every else ()
    return sorted({*multiples(measure.report_every), *traces, *inside, cohort.stop})
