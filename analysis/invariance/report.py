"""The report of an invariance study: verdicts first, then each network with its tests, figures and confounders."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.arms import lr_text
from analysis.averages import measured_averages
from analysis.averages_section import averages_section
from analysis.content import Content
from analysis.estimates import Estimate
from analysis.exhibit import csv_bytes
from analysis.invariance.answer import invariance_answer
from analysis.invariance.cells import cells_of, seeds_by_cell
from analysis.invariance.exhibits import exhibits_of
from analysis.invariance.find import InvarianceFindings, NetworkFindings, find_invariance
from analysis.invariance.margins import Margins
from analysis.invariance.verdict import LEAST_SEEDS
from analysis.invariance.words import network_sentence
from analysis.sections import PageTable, Section, section_files, sections_page
from analysis.study import Study

__all__ = ["invariance_content", "tests_table"]

_NONE = "\N{EN DASH}"

_METHOD = (
    (
        "The law.",
        "With weights whose scale the loss does not feel, SGD with learning rate eta and weight decay lambda depends "
        "on their product alone, and on the scale of the first weights (Li, Lyu & Arora, NeurIPS 2020, arXiv "
        "2010.02916). At equilibrium ||w||^4 = eta E[G] / (2 lambda), a step turns the weights by sqrt(2 eta lambda), "
        "and E[G] is the mean squared gradient of a mini-batch at unit norm.",
    ),
    (
        "T0, exact pair.",
        "The network itself is trained in float64 from w and from c w with c^2 eta and lambda / c^2, on the same "
        "batches and with eps 0 in its norm layers: losses must agree to rounding.",
    ),
    (
        "T1, variance split.",
        "Analysis of variance over runs: share explained by the product, and what the ratio adds within a product, "
        "with the F test of the increment (seeds are blocks where they are crossed with cells). Passed with at least "
        "90 %, at most 1 % added, p > 0.01, and enough power to have seen 5 %.",
    ),
    (
        "T2, equivalence.",
        "Two one-sided tests (5 %) of every two ratios at each product, within margins: {margins}. All must pass.",
    ),
    (
        "T3, time.",
        "After a kick, log time to equilibrium against log product: first crossing, least squares, jackknife over "
        "seeds. Slope -1 must lie in an interval narrower than 0.2, and the ratio must not matter.",
    ),
    (
        "T4, functions.",
        "Distance between label distributions of two schedules against permutations of their runs, Holm over pairs; "
        "schedules of unequal product must be told apart.",
    ),
    (
        "T5, drops.",
        "After eta / k or lambda / k from one equilibrium: effective rate at once, angle and effective rate at the "
        "end, equal end losses, each within its margin.",
    ),
    (
        "Verdicts.",
        "EQUIVALENT needs T0, T1 and T2, no test against it, at least 5 seeds in a cell, and a negative control that "
        "T1 rejects with p < 1e-6. What is merely not significant is INCONCLUSIVE.",
    ),
)


def invariance_content(study: Study) -> Content:
    """Make the report.

    Args:
        study: the study.

    Returns:
        The report.
    """
    found, margins = find_invariance(study), Margins.of(study.settings.margins)
    data = invariance_answer(found)
    averages = measured_averages(found.headline.network)
    data["averages"] = averages.as_json() if averages else None
    sections = [_verdicts(found), *(_section(found, each) for each in found.networks)]
    sections += [averages_section(averages)] if averages else []
    files = section_files(sections)
    for each in found.networks:
        if len(each.runs.table):
            files[f"runs{each.network.suffix}.csv"] = csv_bytes(each.runs.table)
    html = sections_page(
        study,
        sentence=data["sentence"],
        warnings=_warnings(found),
        facts=_facts(found),
        sections=sections,
        method_paragraphs=[(head, text.format(margins=margins.words)) for head, text in _METHOD],
        data=data,
    )
    return Content(sentence=data["sentence"], data=data, html=html, files=files)


def tests_table(found: NetworkFindings) -> pd.DataFrame:
    """Every test of a network in words.

    Args:
        found: the network's findings.

    Returns:
        Columns `test, verdict, what decides, what to run`.
    """
    return pd.DataFrame(
        [
            {
                "test": test.key,
                "verdict": str(test.verdict) if test.made else "not made",
                "what decides": test.reason,
                "what to run": test.to_run or _NONE,
            }
            for test in found.tests
        ]
    )


def _verdicts(found: InvarianceFindings) -> Section:
    """All networks beside each other."""
    rows = []
    for each in found.networks:
        verdict = each.verdict.verdict if each.verdict else f"control ({each.test('T1').verdict})"
        tests = {test.key: str(test.verdict) if test.made else _NONE for test in each.tests}
        rows.append({"network": each.network.name or "the network", "verdict": str(verdict), **tests})
    return Section(
        title="Verdicts",
        sentence="",
        tables=(
            PageTable(
                name="verdicts",
                title="By network and test",
                caption="A dash: the data do not allow the test; below it says what to run.",
                frame=pd.DataFrame(rows),
            ),
        ),
    )


def _section(found: InvarianceFindings, each: NetworkFindings) -> Section:
    suffix = each.network.suffix
    tables = [
        PageTable(
            name=f"tests{suffix}",
            title="Tests",
            caption="Each test with its own verdict; the questions are explained at the end of the page.",
            frame=tests_table(each),
            words=("what decides", "what to run"),
        )
    ]
    if each.confounders:
        tables.append(
            PageTable(
                name=f"confounders{suffix}",
                title="What would break or hide the law",
                caption="Looked for in the network, the recipe and the data.",
                frame=pd.DataFrame([confounder.as_json() for confounder in each.confounders]),
                words=("found", "remedy"),
            )
        )
    if len(each.runs.table):
        tables.append(_cells(each))
    if needed := each.test("T2").numbers.get("seeds_needed"):
        tables.append(_seeds_needed(each, needed))
    return Section(
        title=each.network.name or "Results",
        sentence=network_sentence(each),
        tables=tuple(tables),
        exhibits=tuple(exhibits_of(found, each)),
        notes=tuple(_notes(each)),
    )


def _seeds_needed(each: NetworkFindings, needed: Mapping[str, Mapping[str, Any]]) -> PageTable:
    """How many seeds the margins need, from the spread that was seen."""
    rows = [
        {
            "metric": metric,
            "margin": str(found["margin_words"]),
            "spread between seeds": f"{found['sd']:.3g}",
            "seeds for one pair": str(found["seeds"] or "over a million"),
            "seeds for all pairs": str(found["seeds_all"] or "over a million"),
        }
        for metric, found in needed.items()
    ]
    return PageTable(
        name=f"seeds-needed{each.network.suffix}",
        title="Seeds that each margin needs",
        caption="With so many seeds in each cell T2 passes with probability 0.9 where the truth is equality, by the "
        "spread of the noisiest product here (of the difference between two ratios, on the margin's scale).",
        frame=pd.DataFrame(rows),
    )


def _cells(each: NetworkFindings) -> PageTable:
    """Means of every cell as text, all numbers as data."""
    table, confidence = each.runs.table, each.network.study.settings.confidence
    layers = [layer for layer in each.network.layers if f"log_elr:{layer}" in table]
    shown = {"loss": "loss", "error": "error, %"}
    shown |= {f"log_elr:{layer}": f"log ELR {layer}" for layer in layers[:2]}
    shown |= {f"angle:{layer}": f"angle {layer}" for layer in layers[:2]}
    rows = []
    for cell in cells_of(table, list(shown), confidence):
        row = {"intrinsic LR": lr_text(cell.intrinsic_lr), "LR/WD": f"{cell.ratio:.3g}"}
        row |= {"start": f"x {cell.start_scale:.3g}"} if (table["start_scale"] != 1).any() else {}
        row["n"] = str(cell.seeds)
        for metric, head in shown.items():
            row[head] = _number(cell.means[metric], 100 if metric == "error" else 1)
        rows.append(row)
    return PageTable(
        name=f"cells{each.network.suffix}",
        title="Cells",
        caption=f"Means over the end of the runs and seeds, with {100 * confidence:g} % intervals (Student); ELR is "
        "the effective learning rate eta / ||w||^2. The CSV holds every run.",
        frame=pd.DataFrame(rows),
        data=table,
    )


def _number(value: Estimate, times: float) -> str:
    if value.n == 0:
        return _NONE
    half = (value.high - value.low) / 2
    spread = f" \N{PLUS-MINUS SIGN} {times * half:.2g}" if half == half else ""
    return f"{times * value.value:.4g}{spread}"


def _notes(each: NetworkFindings) -> list[str]:
    notes = []
    if each.runs.lost:
        notes.append(
            f"{each.runs.lost} runs are left out of the tests of equilibrium: they overflowed or have not finished."
        )
    scales = sorted(set(each.runs.table["start_scale"]) - {1.0}) if len(each.runs.table) else []
    if scales:
        listed = ", ".join(f"{scale:.3g}" for scale in scales)
        notes.append(
            f"Runs whose initial weights were multiplied by {listed} stand in T1 and T2 at the ratio they amount to: "
            "by the exact pair a factor c is the same as dividing the ratio by c^4."
        )
    return notes


def _warnings(found: InvarianceFindings) -> list[tuple[str, str]]:
    fewest = min(seeds_by_cell(found.headline.runs.table), default=LEAST_SEEDS)
    if fewest >= LEAST_SEEDS:
        return []
    only = f"{fewest} seed{'' if fewest == 1 else 's'} only:"
    return [(only, f"below {LEAST_SEEDS} seeds in each cell nothing is called equivalent.")]


def _facts(found: InvarianceFindings) -> list[tuple[str, str]]:
    study, table = found.study, found.headline.runs.table
    verdict = found.headline.verdict
    facts = [(str(verdict.verdict), "the verdict")] if verdict else []
    if len(table):
        cells = seeds_by_cell(table)
        facts += [(str(len(cells)), "cells of product, ratio and start"), (str(min(cells)), "seeds in each, at least")]
    facts += [
        (f"{len(study.tables.members):,}", "trained networks"),
        (f"{study.member_steps:,}", "member-steps, the cost"),
    ]
    return facts
