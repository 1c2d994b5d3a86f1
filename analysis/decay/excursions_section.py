"""Runs that leave a solution again, as a section of the report and in words."""

from collections.abc import Iterator, Sequence

import pandas as pd

from analysis.decay.excursions import Excursions
from analysis.estimates import finite_or_none
from analysis.sections import PageTable, Section
from analysis.study import Study

__all__ = ["excursion_sentences", "excursions_json", "excursions_section"]


def excursions_section(left: Sequence[Excursions], study: Study) -> Iterator[Section]:
    """A section for runs that left a low loss again.

    Args:
        left: from `excursions_of`.
        study: the study.

    Yields:
        The section; nothing where none left.
    """
    if not left:
        return
    rows = [
        {
            "network": each.arm.label or "the network",
            "stretch": f"{each.words}, steps {each.level.start:,} to {each.level.stop:,}",
            "runs": str(each.runs),
            "below": f"{each.reached}, first at {each.first:,.0f}" if each.reached else "0",
            "lowest loss": f"{each.lowest:.2g}",
            "leaves": f"{each.crossings:.3g}",
            "in the last 3/4": f"{each.late:.3g}",
            "loss at the end": f"{each.end:.2g}",
        }
        for each in left
    ]
    yield Section(
        title="Leaving a solution again",
        sentence=" ".join(excursion_sentences(left, study)),
        tables=(
            PageTable(
                name="excursions",
                title="Crossings of the training loss",
                caption=f"How often the training loss crosses {study.settings.converged_loss:g} upwards, mean over "
                "runs; the loss at the end is the largest of the runs.",
                frame=pd.DataFrame(rows),
                data=pd.DataFrame([excursions_json(each) for each in left]),
                words=("stretch",),
            ),
        ),
    )


def excursion_sentences(left: Sequence[Excursions], study: Study) -> list[str]:
    """What happens with weight decay, and once it is off.

    Args:
        left: from `excursions_of`.
        study: the study.

    Returns:
        One sentence for each stretch that there is something to say of.
    """
    said = []
    for each in left:
        name = f"{each.arm.label}: " if each.arm.label else ""
        level = f"{study.settings.converged_loss:g}"
        if each.late >= 1:  # every run, on average
            said.append(
                f"{name}with {each.words} the training loss gets below {level} (lowest {each.lowest:.2g}) and leaves "
                f"again {each.late:.3g} times in the last three quarters of {each.level.steps:,} steps."
            )
        elif each.level.weight_decay == 0 and each.reached:
            said.append(f"{name}with {each.words} it does not leave again (loss at the end {each.end:.2g}).")
    return said


def excursions_json(each: Excursions) -> dict[str, object]:
    """One stretch as `answer.json` holds it."""
    return {
        "arm": each.arm.label,
        "lr": each.level.lr,
        "weight_decay": each.level.weight_decay,
        "start": each.level.start,
        "stop": each.level.stop,
        "runs": each.runs,
        "reached": each.reached,
        "first": finite_or_none(each.first),
        "lowest": finite_or_none(each.lowest),
        "crossings": each.crossings,
        "crossings_in_last_three_quarters": each.late,
        "loss_at_end": finite_or_none(each.end),
    }
