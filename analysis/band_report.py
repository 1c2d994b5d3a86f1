"""The report of a band study: which initial learning rates lead to the best solution."""

import pandas as pd

from analysis.answer import study_answer
from analysis.band_page import page, section
from analysis.content import Content
from analysis.exhibit import csv_bytes, exhibit_files
from analysis.exhibits import exhibits
from analysis.features import feature_records
from analysis.figures.final_quality import seeds_table
from analysis.findings import Findings, find
from analysis.study import Study
from trainables.spec import SpecError

__all__ = ["analyse", "band_content", "measured_geometry"]

_GEOMETRY_SEEDS = 8
"""Seeds per learning rate whose basins the report measures; `python -m analysis geometry DIR` measures all."""
_GEOMETRY_SECONDS = 60.0
"""Time that the report takes for it; where networks are large, fewer seeds are measured."""


def analyse(study: Study) -> list[Findings]:
    """Analyse every arm.

    Args:
        study: the study.

    Returns:
        Findings in the order of `study.arms`.
    """
    return [find(study, arm) for arm in study.arms]


def band_content(study: Study) -> Content:
    """Make the report of a band study.

    Args:
        study: the study.

    Returns:
        The report.

    Raises:
        SpecError: the sweep's metric names no final quality of the study.
    """
    findings = analyse(study)
    data = study_answer(study, findings)
    headline = findings[study.headline.number]
    sections, files = [], dict[str, bytes]()
    for found in [headline, *(found for found in findings if found is not headline)]:
        measured, note = measured_geometry(study, found) if found is headline else (None, "")
        drawn = list(exhibits(found, measured))
        files |= exhibit_files(drawn)
        suffix = "" if found is headline else f"-arm{found.arm.number}"
        for name, table in _seed_tables(found, measured).items():
            files[f"{name}{suffix}.csv"] = csv_bytes(table)
        sections.append(section(found, drawn, note))
    return Content(sentence=data["sentence"], data=data, html=page(study, headline, sections, data), files=files)


def measured_geometry(
    study: Study, found: Findings, seeds_per_rate: int | None = _GEOMETRY_SEEDS
) -> tuple[pd.DataFrame | None, str]:
    """An arm's geometry where its weights are there.

    Args:
        study: the study.
        found: the arm's findings.
        seeds_per_rate: as in `analysis.geometry.geometry`.

    Returns:
        The table, or None and a sentence that says why there is none.
    """
    folder = study.directory / "checkpoints"
    if not any(folder.glob("*.json")):
        return None, "Angles and barriers need weights; this folder holds no checkpoints."
    from analysis.geometry import geometry
    from trainables.checkpoint import Checkpoints

    try:
        limit = None if seeds_per_rate is None else _GEOMETRY_SECONDS
        measured = geometry(found.arm, Checkpoints(folder), seeds_per_rate=seeds_per_rate, seconds=limit)
    except SpecError as error:
        return None, f"Angles and barriers could not be measured: {'; '.join(error.faults)}"
    note = (
        "Angles and barriers need the weights of two finished solutions of one pre-training; there are none (members "
        "that ended early have no solution, and a run.checkpoint_budget may have left weights out)."
    )
    return measured, "" if measured is not None else note


def _seed_tables(found: Findings, measured: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """Tables of single seeds, for those who want to go on from here."""
    tables = {"seeds": seeds_table(found)}
    if found.features is not None:
        confidence = found.study.settings.confidence
        tables["features-seeds"] = feature_records(found.features, found.arm, found.feature_quality, confidence)
    if measured is not None:
        tables["geometry-seeds"] = measured.drop(columns=["unit", "place"])
    return tables
