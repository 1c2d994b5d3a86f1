"""The report: one self-contained page, figures as PNG and SVG, tables as CSV, and `answer.json`, in DIR/report."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.answer import study_answer
from analysis.exhibits import exhibits
from analysis.features import feature_records
from analysis.figures.final_quality import seeds_table
from analysis.findings import Findings, find
from analysis.page import csv_bytes, page, section
from analysis.study import Study, load_study
from trainables.spec import SpecError

__all__ = ["Answer", "analyse", "measured_geometry", "write_report"]

_GEOMETRY_SEEDS = 8
"""Seeds per learning rate whose basins the report measures; `python -m analysis geometry DIR` measures all."""
_GEOMETRY_SECONDS = 60.0
"""Time that the report takes for it; where networks are large, fewer seeds are measured."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study says.

    Attributes:
        sentence: the answer in words.
        data: `answer.json`.
        page: where the report is.
    """

    sentence: str
    data: dict[str, Any]
    page: Path


def analyse(study: Study) -> list[Findings]:
    """Analyse every arm.

    Args:
        study: the study.

    Returns:
        Findings in the order of `study.arms`.
    """
    return [find(study, arm) for arm in study.arms]


def write_report(directory: Path) -> Answer:
    """Analyse a results folder, finished or not, and write DIR/report.

    The new report is written beside and takes the old one's place when it is whole.

    Args:
        directory: the results folder.

    Returns:
        The answer.

    Raises:
        SpecError: the folder cannot be read or written.
    """
    study = load_study(Path(directory))
    findings = analyse(study)
    data = study_answer(study, findings)
    beside = study.directory / f".report.{os.getpid()}"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        _write(beside, study, findings, data)
        _swap(beside, study.directory / "report")
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        place = str(study.directory)
        fault = f"the report is written into the results folder; {place!r} refused it ({error}): space, write access?"
        raise SpecError([fault]) from None
    return Answer(sentence=data["sentence"], data=data, page=study.directory / "report" / "index.html")


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


def _write(folder: Path, study: Study, findings: list[Findings], data: Mapping[str, Any]) -> None:
    headline = findings[study.headline.number]
    sections = []
    for found in [headline, *(found for found in findings if found is not headline)]:
        measured, note = measured_geometry(study, found) if found is headline else (None, "")
        shown = list(exhibits(found, measured))
        for exhibit in shown:
            (folder / f"{exhibit.name}.png").write_bytes(exhibit.drawing.png)
            (folder / f"{exhibit.name}.svg").write_bytes(exhibit.drawing.svg)
            (folder / f"{exhibit.name}.csv").write_bytes(csv_bytes(exhibit.table))
        suffix = "" if found is headline else f"-arm{found.arm.number}"
        for name, table in _seed_tables(found, measured).items():
            (folder / f"{name}{suffix}.csv").write_bytes(csv_bytes(table))
        sections.append(section(found, shown, note))
    (folder / "answer.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "index.html").write_text(page(study, headline, sections, data), encoding="utf-8")


def _seed_tables(found: Findings, measured: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """Tables of single seeds, for those who want to go on from here."""
    tables = {"seeds": seeds_table(found)}
    if found.features is not None:
        confidence = found.study.settings.confidence
        tables["features-seeds"] = feature_records(found.features, found.arm, found.feature_quality, confidence)
    if measured is not None:
        tables["geometry-seeds"] = measured.drop(columns=["unit", "place"])
    return tables


def _swap(new: Path, place: Path) -> None:
    """Put a finished folder in another's place."""
    old = new.with_name(f"{new.name}.old")
    if place.exists():
        place.replace(old)
    new.replace(place)
    shutil.rmtree(old, ignore_errors=True)
