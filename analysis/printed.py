"""Each analysis as a command prints it: words for people, the same as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.answer import study_answer
from analysis.arms import lr_text
from analysis.band_report import analyse, fault_words
from analysis.basin import basin_of
from analysis.basin_exhibits import converged
from analysis.decay.report import decay_content
from analysis.feature_exhibits import learned_when
from analysis.features import feature_rows, feature_table
from analysis.figures.band_use import band_use_table
from analysis.figures.basin_geometry import basin_geometry_table
from analysis.figures.feature_use import feature_use_table
from analysis.figures.final_quality import final_quality_table
from analysis.figures.measures import measures_table
from analysis.figures.regime_map import regime_map_table
from analysis.findings import Findings
from analysis.invariance.answer import invariance_answer
from analysis.invariance.find import find_invariance
from analysis.invariance.words import network_sentence
from analysis.probing.frames import fault_frame, pair_frame, solution_frame
from analysis.report import write_report
from analysis.study import Study, load_study
from analysis.words import border_words, sentence, threshold_words
from trainables.spec import SpecError

__all__ = ["PRINTED"]

Printed = tuple[str, Any]

_REGIME_KEYS = (
    "regimes",
    "convergence_threshold",
    "convergence_threshold_ci",
    "divergence_threshold",
    "divergence_threshold_ci",
    "budget_steps",
    "n_seeds",
)


def _regimes(directory: Path) -> Printed:
    study, findings, answer = _answered(directory)

    def one(found: Findings) -> Printed:
        members = regime_map_table(found)
        table = members.groupby(["lr", "regime"]).size().unstack(fill_value=0)
        own = _own(answer, found)
        data = {**{key: own[key] for key in _REGIME_KEYS}, "members": _records(members)}
        return f"{threshold_words(found.convergence, found.arm.budget)}\n{_text(table.reset_index())}", data

    return _by_arm(study, findings, one)


def _band(directory: Path) -> Printed:
    _, findings, answer = _answered(directory)
    words = []
    for found in findings:
        table = final_quality_table(found)
        table = table[table["quality"] == found.metric]
        words.append(f"{sentence(found)}\n{_text(table.drop(columns='quality'))}")
    return "\n\n".join(words), answer


def _invariance(directory: Path) -> Printed:
    found = find_invariance(load_study(directory))
    words = []
    for each in found.networks:
        lines = [network_sentence(each)]
        for test in each.tests:
            lines.append(f"  {test.key}  {test.verdict if test.made else 'not made'}: {test.reason}")
            lines += [f"      to run: {test.to_run}"] if test.to_run else []
        lines += [f"  note: {each_one.found} Remedy: {each_one.remedy}." for each_one in each.confounders]
        words.append("\n".join(lines))
    return "\n\n".join(words), invariance_answer(found)


def _decay(directory: Path) -> Printed:
    content = decay_content(load_study(directory))
    return content.sentence, dict(content.data)


def _features(directory: Path) -> Printed:
    study, findings, _ = _answered(directory)
    confidence = study.settings.confidence

    def one(found: Findings) -> Printed:
        words, data = list[str](), dict[str, Any](quality=found.feature_quality)
        if found.feature_rows:
            table = feature_use_table(found)
            shown = table[[name for name in _FEATURE_COLUMNS if name in table]]
            words.append(f"solutions: {found.feature_quality}\n{_text(shown)}")
            data["table"] = _records(table)
        resampled = feature_table(study, found.arm, split="resampled")
        if resampled is not None:
            rows = feature_rows(resampled, found.qualities, found.arm, found.feature_quality, confidence)
            other = feature_use_table(replace(found, feature_rows=rows))
            words.append(f"the others resampled\n{_text(other[[n for n in _FEATURE_COLUMNS if n in other]])}")
            data["resampled"] = _records(other)
        bands = band_use_table(study, found.arm, found.feature_quality, confidence)
        if not bands.empty:
            wide = bands.pivot_table(index=["variant", "lr"], columns="band", values="accuracy", observed=True)
            words.append(f"accuracy on Fourier bands\n{_text(wide.reset_index().rename_axis(columns=None))}")
            data["bands"] = _records(bands)
        for probe in ("representation", "linear_probe", "collapse", "cka"):
            series = "pair" if probe == "cka" else "solution"
            frame = (pair_frame if probe == "cka" else solution_frame)(study, found.arm, probe)
            if not frame.empty:
                table = measures_table(frame, found.arm, confidence, series)
                words.append(f"{probe}: medians over seeds\n{_blocks(table, series)}")
                data[probe] = {"table": _records(table), "members": _records(frame.drop(columns=["unit", "place"]))}
        when = learned_when(found)
        if when is not None:
            data["learned_when"] = _records(when)
        faults = fault_frame(study, found.arm)
        words += [_MORE] if words else []
        if not any((directory / "checkpoints").glob("*.json")):
            words += [_NO_WEIGHTS] if words else []
        words += fault_words(faults)
        data["faults"] = _records(faults)
        if not words:
            raise SpecError([f"features need kept weights or probe sets; {str(directory)!r} has neither"])
        return "\n\n".join(words), data

    return _by_arm(study, findings, one)


_FEATURE_COLUMNS = (
    "lr",
    "n",
    "locked",
    "accuracy_locked",
    "accuracy_free",
    "used",
    "share",
    "n_eff",
    "effective_rank",
    "gini",
    "hoyer",
)


def _geometry(directory: Path) -> Printed:
    study, findings, _ = _answered(directory)
    confidence = study.settings.confidence

    def one(found: Findings) -> Printed:
        basin = basin_of(found)
        words, data = list[str](), dict[str, Any]()
        if not basin.pairs.empty:
            table = basin_geometry_table(basin.pairs, found.arm, confidence)
            shown = table[["pair", "lr", "n", "angle", "train_error", "test_error", "train_loss", "test_loss"]]
            words.append(f"medians over seeds; errors as fractions\n{_text(shown)}")
            data |= {"table": _records(table), "members": _records(basin.pairs.drop(columns=["unit", "place"]))}
            data["barriers"] = _records(basin.barriers.drop(columns=["unit", "place"]))
        for probe, frame in basin.singles.items():
            shown = converged(frame) if probe == "llc" else frame
            table = measures_table(shown, found.arm, confidence, "solution")
            words.append(f"{probe}: medians over seeds\n{_blocks(table, 'solution')}")
            data[probe] = {"table": _records(table), "members": _records(frame.drop(columns=["unit", "place"]))}
        words += [_MORE] if words else ["nothing was measured"]
        words += fault_words(basin.faults)
        data["faults"] = _records(basin.faults)
        if basin.border is not None:
            words.append(border_words(basin.border))
            data["border_2a_2b"] = basin.border.as_json() | {"sensitivity": _records(basin.sensitivity)}
        return "\n\n".join(words), data

    return _by_arm(study, findings, one)


_NO_WEIGHTS = (
    "This folder has no checkpoints: ranks, linear probes, neural collapse and CKA are measured on kept weights."
)
_MORE = "Intervals, single seeds and further numbers: --json."
_WIDTH = 118
_FURTHER = ("_low", "_high", "_se", "_rho")
"""What stands beside a number and not for itself; whether it has converged is shown."""


def _blocks(table: pd.DataFrame, series: str) -> str:
    """Medians, one column for each number, in tables that fit a terminal."""
    plain = table[~table["key"].str.endswith(_FURTHER)]
    wide = plain.pivot_table(index=[series, "lr"], columns="key", values="median", observed=True)
    blocks: list[list[str]] = [[]]
    for key in wide.columns:
        wider = _text(wide[[*blocks[-1], key]].reset_index().rename_axis(columns=None))
        if blocks[-1] and max(map(len, wider.splitlines())) > _WIDTH:
            blocks.append([])
        blocks[-1].append(key)
    return "\n".join(_text(wide[block].reset_index().rename_axis(columns=None)) for block in blocks if block)


def _report(directory: Path) -> Printed:
    answer = write_report(directory)
    return f"{answer.sentence}\n{answer.page}", answer.data


PRINTED: Mapping[str, Callable[[Path], Printed]] = {
    "regimes": _regimes,
    "band": _band,
    "invariance": _invariance,
    "decay": _decay,
    "features": _features,
    "geometry": _geometry,
    "report": _report,
}
"""Every name in `analysis.ANALYSES`, as a function of the results folder that gives words and JSON."""


def _answered(directory: Path) -> tuple[Study, list[Findings], dict[str, Any]]:
    study = load_study(directory)
    findings = analyse(study)
    return study, findings, study_answer(study, findings)


def _own(answer: Mapping[str, Any], found: Findings) -> Mapping[str, Any]:
    own: Mapping[str, Any] = answer["arms"][found.arm.number] if "arms" in answer else answer
    return own


def _by_arm(study: Study, findings: list[Findings], one: Callable[[Findings], Printed]) -> Printed:
    """One arm's output as it is; several under `arms`, the headline's at the top level too."""
    made = [one(found) for found in findings]
    if len(made) == 1:
        return made[0]
    words = "\n\n".join(f"{found.arm.label}: {text}" for found, (text, _) in zip(findings, made, strict=True))
    arms = [{"arm": dict(found.arm.axes), **data} for found, (_, data) in zip(findings, made, strict=True)]
    return words, {**made[study.headline.number][1], "arm": dict(study.headline.axes), "arms": arms}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON: what is not a finite number becomes null."""
    finite = table.replace({np.inf: np.nan, -np.inf: np.nan})
    plain = finite.astype(object).where(finite.notna(), None)
    return [
        {str(key): value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
        for row in plain.to_dict("records")
    ]


_ROUNDING = 1e-12
"""What is smaller is what is left of a difference of equal numbers."""


def _text(table: pd.DataFrame) -> str:
    text: str = table.to_string(
        index=False,
        na_rep="-",
        formatters={"lr": lr_text} if "lr" in table else None,
        float_format=lambda x: f"{x:.4g}" if abs(x) > _ROUNDING else "0",
    )
    return text
