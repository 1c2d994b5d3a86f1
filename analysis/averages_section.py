"""Averages along one run and across runs as a section of a report: sentence, table, figure."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.averages import AverageQuality, Averages, GroupAverages
from analysis.estimates import Estimate
from analysis.exhibit import Exhibit
from analysis.figures.averages import averages_table, draw_averages
from analysis.figures.style import render
from analysis.sections import PageTable, Section
from analysis.seed_groups import schedule_words
from analysis.weight_averages import Kind
from analysis.words import percent, points

__all__ = ["averages_section", "averages_sentence"]

_NONE = "\N{EN DASH}"
_MOST_NOTES = 3
"""More schedules than this are told by the table alone."""

_CAPTION = (
    "Before averaging, the scale-invariant weights of all networks are scaled to one norm, which changes none of them; "
    "norm statistics of every network, single ones too, are re-estimated on the training set; units of different runs "
    "are not matched."
)


def averages_section(found: Averages) -> Section:
    """Show what averages are worth.

    Args:
        found: the averages.

    Returns:
        The section; a title and a note where nothing could be measured.
    """
    title = "Averages of weights along one run and across runs"
    notes = [found.note] if found.note else []
    if not found.groups:
        return Section(title=title, sentence="", notes=tuple(notes))
    others = found.groups[1 : 1 + _MOST_NOTES]
    notes = [f"{_label(found, each)}: {averages_sentence(each, None)}" for each in others] + notes
    headline = found.groups[0]
    said = averages_sentence(headline, found.chance)
    said = f"{_label(found, headline)}: {said}" if len(found.groups) > 1 else said[:1].upper() + said[1:]
    suffix = f"-{found.network}" if found.network else ""
    data = averages_table(found)
    confidence = f"{100 * headline.qualities[0].error.confidence:g} % intervals (Student)"
    return Section(
        title=title,
        sentence=said,
        tables=(
            PageTable(
                name=f"averages{suffix}",
                title="Averages",
                caption=f"Means with {confidence} over averages that share no run; the change is against the ends of "
                f"the runs behind each average, paired. {_CAPTION}",
                frame=pd.DataFrame(list(_rows(found))),
                data=pd.concat([_solutions(found, each) for each in found.groups], ignore_index=True),
                words=("schedule", "average of") if len(found.groups) > 1 else ("average of",),
            ),
        ),
        exhibits=(
            Exhibit(
                name=f"weight-averages{suffix}",
                title="Error and loss by the number of weights in an average",
                caption=f"Means with {confidence} over averages that share no run; which runs go together is drawn at "
                "random. " + ("Pale: the other schedules. " if len(found.groups) > 1 else "") + "Dotted: chance.",
                drawing=render(draw_averages(data, found.chance)),
                table=data,
            ),
        ),
        notes=tuple(notes),
    )


def averages_sentence(each: GroupAverages, chance: float | None) -> str:
    """What averaging does to the error, in one sentence.

    Args:
        each: averages of one group of runs.
        chance: error of a guess that knows nothing; None leaves it out.

    Returns:
        A sentence, but for its capital letter.
    """
    end, along, across = each.quality(Kind.END), each.quality(Kind.ALONG), each.quality(Kind.ACROSS)
    runs = len(each.group.seeds)
    first = (
        f"averaging the last {along.count} weights of one run {_verb(along.excess)} the test error from "
        f"{100 * end.error.value:.1f} to {100 * along.error.value:.1f} points ({points(along.excess)}"
        f"{'' if _decided(along.excess) else f', not significant with {runs} runs'})"
    )
    pairs = next((q for q in each.qualities if q.kind is Kind.ACROSS and q.count < runs), None)
    parts = [f"{percent(pairs.error)} with {pairs.count} runs"] if pairs else []
    parts.append(f"{percent(across.error)} with all {runs}")
    guess = "" if chance is None else f" (chance: {100 * chance:.0f})"
    return f"{first}; averaging the ends of different runs gives {' and '.join(parts)}{guess}."


def _decided(excess: Estimate) -> bool:
    return excess.low > 0 or excess.high < 0


def _verb(excess: Estimate) -> str:
    if not _decided(excess):
        return "takes"
    return "lowers" if excess.value < 0 else "raises"


def _label(found: Averages, each: GroupAverages) -> str:
    """What tells a group from the others."""
    words = [(schedule_words(other.group.schedule), other.group.data_seed) for other in found.groups]
    own = (schedule_words(each.group.schedule), each.group.data_seed)
    drawn = f", data draw {each.group.data_seed}" if len({draw for _, draw in words}) > 1 else ""
    named = f" ({each.group.variant})" if words.count(own) > 1 and each.group.variant else ""
    return f"{own[0]}{named}{drawn}"


def _rows(found: Averages) -> Iterator[dict[str, str]]:
    for each in found.groups:
        for quality in each.qualities:
            single = quality.kind is Kind.END
            schedule = {"schedule": _label(found, each)} if len(found.groups) > 1 else {}
            yield {
                **schedule,
                "average of": _made_of(quality),
                "n": str(quality.error.n),
                "test error, %": percent(quality.error),
                "change": _NONE if single else points(quality.excess),
                "train loss": _loss(quality.train_loss),
            }


def _made_of(quality: AverageQuality) -> str:
    return {
        Kind.END: "nothing: the end of one run",
        Kind.ALONG: f"the last {quality.count} weights of one run",
        Kind.ACROSS: f"the ends of {quality.count} runs",
    }[quality.kind]


def _loss(estimate: Estimate) -> str:
    interval = f" [{estimate.low:.3g}, {estimate.high:.3g}]" if np.isfinite(estimate.low) else ""
    return f"{estimate.value:.3g}{interval}"


def _solutions(found: Averages, each: GroupAverages) -> pd.DataFrame:
    """Every measured network; its seeds as text, for a CSV."""
    solutions = each.solutions.assign(runs=[" ".join(map(str, runs)) for runs in each.solutions["runs"]])
    return solutions.rename(columns={"runs": "seeds"}).assign(schedule=_label(found, each))
