"""Pages made of sections, and studies that are about something else than a band."""

import base64
import io
import json
import re

import pandas as pd
import pytest
from lawful import LAYERS, lawful_runs
from planted import Plan, Truth, plant

from analysis import report
from analysis.content import Content
from analysis.exhibit import Exhibit
from analysis.figures.angle_law import angle_law_table, draw_angle_law
from analysis.figures.style import render
from analysis.report import write_report
from analysis.sections import PageTable, Section, section_files, sections_page
from analysis.study import load_study
from trainables.spec import SpecError


def _sections():
    numbers = pd.DataFrame({"test": ["T1", "T2"], "p": [0.5, 1e-60]})
    shown = numbers.assign(p=["0.50", "< 1e-6"], reason=["A <b> & c.", "Another sentence."])
    tests = PageTable(
        name="tests", title="Tests", caption="One row per test.", frame=shown, data=numbers, words=("reason",)
    )
    plain = PageTable(name="plain", title="Plain", caption="No numbers.", frame=pd.DataFrame({"a": ["x"]}))
    table = angle_law_table(lawful_runs(), LAYERS, 0.95)
    angles = Exhibit(
        name="angle-law", title="Angles", caption="Over prediction.", drawing=render(draw_angle_law(table)), table=table
    )
    return [
        Section(
            title="The law", sentence="It holds.", tables=(tests, plain), exhibits=(angles,), notes=("T3 is missing.",)
        ),
        Section(title="Confounders", sentence=""),
    ]


def _content(study):
    data = {"verdict": "EQUIVALENT", "n_seeds": 10}
    html = sections_page(
        study,
        sentence="Only the product matters.",
        warnings=[("No control:", "the verdict is open.")],
        facts=[("10", "seeds per cell"), ("12", "cells")],
        sections=_sections(),
        method_paragraphs=[("TOST.", "Two one-sided tests.")],
        data=data,
    )
    return Content(sentence="Only the product matters.", data=data, html=html, files=section_files(_sections()))


def _folder(path, **changes):
    """A folder whose sweep has axes and members that no band can be made of."""
    plan = Plan(
        lrs=(1e-2, 1e-1), units=[(0, 0), (0, 1)], arms=[({}, Truth(accuracy={"final": [0.8, 0.9]}, converges_below=0))]
    )
    plant(path, plan)
    manifest = json.loads((path / "manifest.json").read_text())
    analysis = {"kind": "invariance", "tail": 0.3, "margin": 0.01, "control": {"variant": "no-norm"}, "metric": None}
    manifest["sweep"] |= {"phases": None, "analysis": analysis} | changes
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_the_kind_of_study_chooses_what_makes_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "CONTENTS", {**report.CONTENTS, "invariance": _content})
    answer = write_report(_folder(tmp_path))
    folder = tmp_path / "report"
    names = {"index.html", "answer.json", "tests.csv", "angle-law.png", "angle-law.svg", "angle-law.csv"}
    assert {path.name for path in folder.iterdir()} == names
    assert answer.page == folder / "index.html"
    assert json.loads((folder / "answer.json").read_text()) == answer.data == {"verdict": "EQUIVALENT", "n_seeds": 10}
    assert len(pd.read_csv(folder / "angle-law.csv")) == 24


def test_an_unknown_kind_lists_the_known_ones_and_writes_nothing(tmp_path):
    _folder(tmp_path, analysis={"kind": "spirals"})
    with pytest.raises(SpecError, match=r"analysis\.kind must be one of band.*'spirals'"):
        write_report(tmp_path)
    assert not (tmp_path / "report").exists()


def test_the_page_shows_everything_and_needs_nothing(tmp_path):
    html = _content(load_study(_folder(tmp_path))).html
    order = [
        "Which initial learning rate leads to the best solution?",
        '<div class="answer">Only the product matters.</div>',
        '<div class="warning"><b>No control:</b> the verdict is open.</div>',
        "<div><b>12</b><span>cells</span></div>",
        "<h2>The law</h2>",
        "<p>It holds.</p>",
        "<h3>Tests</h3>",
        "<h3>Plain</h3>",
        "<h3>Angles</h3>",
        '<p class="soft">T3 is missing.</p>',
        "<h2>Confounders</h2>",
        "<h2>How the numbers were made</h2>",
        "<p><b>TOST.</b> Two one-sided tests.</p>",
        "<pre>lratlas run planted</pre>",
        "commit 0000",
    ]
    places = [html.index(each) for each in order]
    assert places == sorted(places)
    links = re.findall(r'(?:href|src)="([^"]*)"', html)
    assert len(links) == 4
    assert all(link.startswith("data:") for link in links)
    assert "<script" not in html


def test_tables_are_text_with_their_numbers_beside(tmp_path):
    html = _content(load_study(_folder(tmp_path))).html
    assert '<th class="">test</th><th class="">p</th><th class="words">reason</th>' in html
    assert '<td class="words">A &lt;b&gt; &amp; c.</td>' in html
    (held,) = re.findall(r'download="tests.csv" href="data:text/csv;base64,([^"]*)"', html)
    numbers = pd.read_csv(io.BytesIO(base64.b64decode(held)))
    assert list(numbers["p"]) == [0.5, 1e-60]
    assert 'download="plain.csv"' not in html


def test_members_that_have_not_finished_are_told_of(tmp_path):
    _folder(tmp_path)
    members = pd.read_parquet(tmp_path / "members.parquet")
    assert "Not finished" not in _content(load_study(tmp_path)).html
    members.assign(status=["running", *members["status"][1:]]).to_parquet(tmp_path / "members.parquet")
    html = _content(load_study(tmp_path)).html
    assert re.search(r"<b>Not finished:</b> \d+ completed, 1 running of \d+ members\.", html)


def test_a_study_without_initial_rates_is_loaded_and_only_a_band_refuses_it(tmp_path):
    study = load_study(_folder(tmp_path))
    assert study.kind == "invariance"
    assert study.member_steps == json.loads((tmp_path / "manifest.json").read_text())["member_steps"]
    assert study.settings.margin == 0.01
    with pytest.raises(SpecError, match="need a sweep with a phase"):
        _ = study.arms
    tuned = pd.read_parquet(tmp_path / "members.parquet").query("phase == 'finetune'")
    tuned.to_parquet(tmp_path / "members.parquet")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["sweep"]["phases"] = [{"name": "pretrain"}, {"name": "finetune"}]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SpecError, match="end with the first phase, 'pretrain'"):
        _ = load_study(tmp_path).headline


def test_a_sweep_that_names_no_kind_is_about_a_band(tmp_path):
    assert load_study(_folder(tmp_path, analysis=None)).kind == "band"


def test_names_that_would_overwrite_each_other_are_refused():
    first, second = _sections()
    table = PageTable(name="angle-law", title="", caption="", frame=pd.DataFrame(), data=pd.DataFrame())
    with pytest.raises(ValueError, match="angle-law"):
        section_files([first, Section(title="", sentence="", tables=(table,)), second])
    with pytest.raises(ValueError, match="no columns"):
        PageTable(name="t", title="", caption="", frame=pd.DataFrame({"a": []}), words=("b",))
