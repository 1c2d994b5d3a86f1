"""Error and loss of averages of weights, by how many weights they hold, along one run and across runs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.averages import Averages
from analysis.figures.series import draw_means, plain_log
from analysis.figures.style import GREY, LOOKS, new_figure
from analysis.seed_groups import schedule_words
from analysis.weight_averages import Kind

__all__ = ["averages_table", "draw_averages"]

_NAMES = {Kind.ALONG: "last weights of one run", Kind.ACROSS: "ends of different runs"}


def averages_table(found: Averages) -> pd.DataFrame:
    """What is drawn.

    Args:
        found: the averages.

    Returns:
        One row per group, kind and number of weights: `group, schedule, data_seed, kind, count, n`, and mean, low and
        high of `error`, `excess` (fractions) and `train_loss`; the headline is group 0.
    """
    rows = []
    for number, each in enumerate(found.groups):
        for quality in each.qualities:
            row: dict[str, object] = {
                "group": number,
                "schedule": schedule_words(each.group.schedule),
                "data_seed": each.group.data_seed,
                "kind": str(quality.kind),
                "count": quality.count,
                "n": quality.error.n,
            }
            for name in ("error", "excess", "train_loss"):
                estimate = getattr(quality, name)
                row |= {f"{name}_mean": estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            rows.append(row)
    return pd.DataFrame(rows)


def draw_averages(table: pd.DataFrame, chance: float | None) -> Figure:
    """Draw test error and train loss over the number of weights in an average; both lines begin at one run's end.

    Args:
        table: from `averages_table`; groups but the first are drawn pale, without intervals.
        chance: error of a guess that knows nothing, drawn where it is known.

    Returns:
        The figure.
    """
    figure, panels = new_figure(3.6, columns=2)
    points = table.assign(**{f"error_{end}": 100 * table[f"error_{end}"] for end in ("mean", "low", "high")})
    for group in sorted(set(points["group"]), reverse=True):  # the headline last, on top
        rows = points[points["group"] == group]
        for panel, name in zip(panels, ("error", "train_loss"), strict=True):
            for number, kind in enumerate((Kind.ALONG, Kind.ACROSS)):
                line = rows[rows["kind"].isin([str(Kind.END), str(kind)])].sort_values("count")
                if group:
                    panel.plot(
                        line["count"], line[f"{name}_mean"], **{**LOOKS[number], "ms": 4}, mfc="none", alpha=0.3, lw=1
                    )
                else:
                    draw_means(panel, line["count"], line, name, LOOKS[number], mfc="white", label=_NAMES[kind])
    for panel in panels:
        _count_axis(panel, sorted(set(points["count"])))
    panels[0].set_ylabel("test error, points")
    top = panels[0].get_ylim()[1]
    if chance is not None:
        top = max(top, 108 * chance)
        panels[0].axhline(100 * chance, color=GREY, linestyle=":", linewidth=1.2)
        panels[0].text(points["count"].min(), 101 * chance, "chance", color=GREY, fontsize=8.5)
    panels[0].set_ylim(0, top)
    panels[1].set_ylabel("training loss")
    plain_log(panels[1])
    panels[1].legend(loc="best", fontsize=8.5, framealpha=0.85, edgecolor="none")
    return figure


def _count_axis(axes: Axes, counts: list[int]) -> None:
    """A logarithmic axis of whole numbers, labelled where there is room."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(counts[0] / 1.15, counts[-1] * 1.15)
    labelled: list[int] = []
    for count in counts:
        if not labelled or count > 1.2 * labelled[-1]:
            labelled.append(count)
    axes.xaxis.set_major_locator(FixedLocator(labelled))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    axes.set_xlabel("weights in the average")
