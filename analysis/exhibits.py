"""The exhibits of an arm's report section: a drawn figure, its caption and its table."""

from collections.abc import Iterator

from analysis.basin import Basin
from analysis.basin_exhibits import basin_exhibits
from analysis.captions import exhibit_name, interval_words, seeds_words
from analysis.exhibit import Exhibit
from analysis.feature_exhibits import feature_exhibits
from analysis.figures.final_quality import draw_final_quality, final_quality_table, seeds_table
from analysis.figures.gains import draw_gains, gains_table
from analysis.figures.learning_curves import draw_learning_curves, learning_curves_table
from analysis.figures.regime_map import draw_regime_map, regime_map_table
from analysis.figures.style import marks_of, render
from analysis.findings import Findings
from analysis.words import margin_words, quality_words

__all__ = ["exhibits"]


def exhibits(found: Findings, basin: Basin) -> Iterator[Exhibit]:
    """Draw everything there is to show of one arm.

    Args:
        found: the arm's findings.
        basin: its geometry.

    Yields:
        The exhibits in the published study's order: regimes, final quality, geometry, features; those without data are
        left out.
    """
    for make in (_regime_map, _learning_curves, _final_quality, _gain):
        exhibit = make(found)
        if exhibit is not None:
            yield exhibit
    yield from basin_exhibits(found, basin)
    yield from feature_exhibits(found)


def _final_quality(found: Findings) -> Exhibit | None:
    table = final_quality_table(found)
    if table.empty:
        return None
    return Exhibit(
        name=exhibit_name(found, "final-quality"),
        title="Final quality by initial learning rate",
        caption=f"Mean test accuracy over {seeds_words(found)} with {interval_words(found)} (Student). Grey points: "
        f"the seeds of the metric ({quality_words(found.metric)}). Bar on the axis: the band, within "
        f"{margin_words(found.study.settings.margin)} of the best mean, its edges read off between grid points. "
        "Hatched: the thresholds' intervals. Accuracies more than 30 points below the best are cut off.",
        drawing=render(draw_final_quality(table, seeds_table(found), marks_of(found), found.metric)),
        table=table,
    )


def _regime_map(found: Findings) -> Exhibit | None:
    table = regime_map_table(found)
    if table.empty:
        return None
    return Exhibit(
        name=exhibit_name(found, "regime-map"),
        title="Training regimes",
        caption=f"End of the first phase after {found.arm.budget:,} steps, one mark per network (shifted sideways a "
        "little so that seeds do not hide each other). Dashed: the thresholds; hatched: their intervals.",
        drawing=render(draw_regime_map(table, marks_of(found), found.study.settings.converged_loss)),
        table=table,
    )


def _gain(found: Findings) -> Exhibit | None:
    table = gains_table(found)
    if table.empty:
        return None
    return Exhibit(
        name=exhibit_name(found, "gain"),
        title="Gain over regime 1",
        caption="Best learning rate outside regime 1 minus the best solution of regime 1, by way to finish (* the "
        f"metric); {seeds_words(found)}, {interval_words(found)}. Each seed's gain is measured at the choices that the "
        "other seeds make, so picking the winner does not inflate it. Cross: what choosing and measuring on the same "
        "seeds would have claimed.",
        drawing=render(draw_gains(table, found.metric)),
        table=table,
    )


def _learning_curves(found: Findings) -> Exhibit | None:
    table = learning_curves_table(found)
    if table.empty:
        return None
    return Exhibit(
        name=exhibit_name(found, "learning-curves"),
        title="Learning curves of the first phase",
        caption=f"Means over {seeds_words(found)}; up to 12 learning rates are shown, the table holds all.",
        drawing=render(draw_learning_curves(table, found.study.settings.converged_loss)),
        table=table,
    )
