"""The figures of one arm's section in the report of a decay study."""

from collections.abc import Iterator

from analysis.decay.find import ArmDecays, DecayFindings
from analysis.exhibit import Exhibit
from analysis.figures.decay_course import decay_course_table, draw_decay_course
from analysis.figures.decay_grid import decay_grid_table, draw_decay_grid
from analysis.figures.decay_timing import decay_seeds_table, decay_timing_table, draw_decay_timing
from analysis.figures.style import render

__all__ = ["exhibits_of"]


def exhibits_of(found: DecayFindings, each: ArmDecays, suffix: str) -> Iterator[Exhibit]:
    """Draw everything there is to show of an arm.

    Args:
        found: the study's findings.
        each: the arm's.
        suffix: of file names.

    Yields:
        The exhibits, in reading order; those without data are left out.
    """
    confidence = f"{100 * found.study.settings.confidence:g} % intervals"
    course = decay_course_table(found, each)
    if len(course):
        yield Exhibit(
            name=f"decay-course{suffix}",
            title="Around a decay",
            caption=f"Mean over seeds with {confidence} (Student), decays laid over each other; thin: what theory "
            "predicts.",
            drawing=render(draw_decay_course(course)),
            table=course,
        )
    timing = each.timing
    if timing is None:
        return
    table = decay_timing_table(timing)
    yield Exhibit(
        name=f"decay-timing{suffix}",
        title="Final error by decay time",
        caption=f"Mean final test error over {timing.seeds} seeds with {confidence} (Student), one line for each "
        "initial learning rate and weight decay. Shaded: the times that may be the best.",
        drawing=render(draw_decay_timing(table, decay_seeds_table(timing), timing.best_line.interval, timing.margin)),
        table=table,
    )
    grid = decay_grid_table(timing)
    yield Exhibit(
        name=f"decay-grid{suffix}",
        title="Final error by decay time, initial learning rate and weight decay",
        caption="Mean final test error in points and half its interval; framed: the best.",
        drawing=render(draw_decay_grid(grid)),
        table=grid,
    )
