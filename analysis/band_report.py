"""The report of a band study: which initial learning rates lead to the best solution."""

import pandas as pd

from analysis.answer import study_answer
from analysis.arms import lr_text
from analysis.band_page import page, section
from analysis.basin import Basin, basin_of
from analysis.content import Content
from analysis.exhibit import csv_bytes, exhibit_files
from analysis.exhibits import exhibits
from analysis.features import feature_records
from analysis.figures.final_quality import seeds_table
from analysis.findings import Findings, find
from analysis.probing.jobs import pending, spec_of, study_jobs
from analysis.probing.run import first_guess, run_within
from analysis.probing.spec import GeometryMeasure, GeometrySpec, ProbeSpec
from analysis.study import Study, load_study
from trainables.spec import SpecError

__all__ = ["analyse", "band_content", "fault_words", "with_geometry"]

_GEOMETRY_SECONDS = 60.0
"""Time that the report takes for angles and barriers; where networks are large, fewer seeds are measured."""
_NO_PAIR = (
    "Angles and barriers need the weights of two finished solutions of one pre-training; there are none (members that "
    "ended early have no solution, and a run.checkpoint_budget may have left weights out)."
)


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
    study, note = with_geometry(study)
    findings = analyse(study)
    data = study_answer(study, findings)
    headline = findings[study.headline.number]
    sections, files = [], dict[str, bytes]()
    for found in [headline, *(found for found in findings if found is not headline)]:
        basin = basin_of(found)
        drawn = list(exhibits(found, basin))
        files |= exhibit_files(drawn)
        suffix = "" if found is headline else f"-arm{found.arm.number}"
        for name, table in _seed_tables(found, basin).items():
            files[f"{name}{suffix}.csv"] = csv_bytes(table)
        notes = [note] if found is headline and note else []
        sections.append(section(found, drawn, [*notes, *fault_words(basin.faults)]))
        border = {"border_2a_2b": basin.border.as_json() if basin.border else None}
        for answer in ([data] if found is headline else []) + data.get("arms", [])[found.arm.number :][:1]:
            answer |= border
    return Content(sentence=data["sentence"], data=data, html=page(study, headline, sections, data), files=files)


def with_geometry(study: Study) -> tuple[Study, str]:
    """A study with the angles and barriers that a report can wait for.

    What has been measured before, by the sweep's `probes` or by `python -m analysis geometry DIR`, is there already.

    Args:
        study: the study.

    Returns:
        The study, read again where something was measured, and a sentence on what is missing; empty where nothing is.
    """
    try:
        if spec_of(study.sweep).geometry is not None:
            left = len(pending(study.directory, study_jobs(study, spec_of(study.sweep))))
            words = f"{left} parts of the sweep's probes are not measured yet: `lratlas resume {study.directory}`."
            return study, words if left else ""
        spec = ProbeSpec(geometry=GeometrySpec(measures=(GeometryMeasure.BARRIER,)))
        jobs = study_jobs(study, spec, [study.headline])
        if not jobs:
            return study, _NO_PAIR
        note = run_within(study.directory, jobs, _GEOMETRY_SECONDS, first_guess(study.directory))
    except Exception as error:  # tasks and models are the user's own code: a report is made without their geometry
        reason = " ".join(error.faults) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}"
        return study, f"Angles and barriers could not be measured: {reason}"
    return load_study(study.directory), note


def fault_words(faults: pd.DataFrame) -> list[str]:
    """What could not be measured of single solutions, a sentence for each reason.

    Args:
        faults: from `analysis.probing.frames.fault_frame`.

    Returns:
        The sentences, with how many solutions each is about.
    """
    words = []
    for sentence, rows in faults.groupby("key", sort=False):
        first = rows.iloc[0]
        where = f"{first['solution']} from {lr_text(first['lr'])}, seed {first['seed']}"
        others = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        words.append(f"Not measured ({where}{others}): {sentence}")
    return words


def _seed_tables(found: Findings, basin: Basin) -> dict[str, pd.DataFrame]:
    """Tables of single seeds, for those who want to go on from here."""
    tables = {"seeds": seeds_table(found)}
    if found.features is not None:
        confidence = found.study.settings.confidence
        tables["features-seeds"] = feature_records(found.features, found.arm, found.feature_quality, confidence)
    if not basin.pairs.empty:
        tables["geometry-seeds"] = basin.pairs.drop(columns=["unit", "place"])
    for probe, frame in basin.singles.items():
        tables[f"{probe}-seeds"] = frame.drop(columns=["unit", "place"])
    return tables
