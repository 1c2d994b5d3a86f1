"""The page, its files and the command line on planted folders."""

import json
import re
from dataclasses import replace

import pytest
from planted_law import Folder, Planted, control, drops, grid, plant

from analysis.__main__ import main
from analysis.report import write_report

SWEEP = {"headline": {"variant": "main"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A grid with kicks, drops and labels, and its control; the recipes are not known, so that nothing is trained."""
    whole = replace(control((0.02, 0.04)), labels=[100], recipes={}, sweep=SWEEP)
    whole = replace(whole, schedules=[*whole.schedules, *drops(level=0.02, before=200, after=900)])
    directory = plant(tmp_path_factory.mktemp("page"), whole)
    return directory, write_report(directory)


def strict(text):
    def refuse(word):
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_the_page_is_whole_with_its_figures(folder):
    directory, answer = folder
    files = {path.name for path in (directory / "report").iterdir()}
    drawn = {"collapse-main", "norm-main", "angle-main", "equilibrium-time-main", "collapse-no-norm"}
    assert {f"{name}.{ending}" for name in drawn for ending in ("png", "svg", "csv")} <= files
    assert {"runs-main.csv", "cells-main.csv", "cells-no-norm.csv", "answer.json", "index.html"} <= files
    assert "angle-no-norm.png" not in files
    html = answer.page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["']https?://""", html)
    assert "nan" not in re.sub(r"<[^>]*>|data:[^\"']*", " ", html.lower()).split()
    for words in ("T0", "T5", "what to run", "error 1 point"):
        assert words in html


@pytest.mark.slow
def test_the_answer_is_json_without_nan(folder):
    directory, answer = folder
    data = strict((directory / "report" / "answer.json").read_text(encoding="utf-8"))
    assert data["sentence"] == answer.sentence
    assert set(data["tests"]) == {"T0", "T1", "T2", "T3", "T4", "T5"}
    assert [arm["arm"] for arm in data["arms"]] == [{"variant": "main"}, {"variant": "no-norm"}]
    assert data["arms"][1]["verdict"] is None
    assert data["control_p"] < 1e-6
    assert sorted({cell["ratio"] for cell in data["cells"]}) == pytest.approx([1.0, 10.0, 100.0])


def test_margins_of_the_sweep_are_on_the_page(tmp_path):
    plant(tmp_path, Folder(schedules=grid((0.04,), (1.0,)), seeds=1, recipes={}, analysis={"margins": {"error": 0.03}}))
    html = write_report(tmp_path).page.read_text(encoding="utf-8")
    assert "error 3 points" in html
    assert "1 seed only" in html


@pytest.mark.parametrize("name", ["invariance", "decay", "report"])
def test_the_command_line_prints_json(name, tmp_path, capsys):
    plant(tmp_path, Folder(schedules=[*grid((0.04,)), *drops(level=0.04, before=100, after=500)], recipes={}))
    assert main([name, str(tmp_path), "--json"]) == 0
    data = strict(capsys.readouterr().out)
    assert data["sentence"]
    assert "T5" in data["tests"]
    assert main([name, str(tmp_path)]) == 0
    assert "T5" in capsys.readouterr().out


def test_words_say_what_to_run_beneath_each_test(tmp_path, capsys):
    plant(tmp_path, Folder(schedules=grid((0.04,)), recipes={}, seeds=1))
    assert main(["invariance", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("  T3  not made"))
    assert lines[place + 1].startswith("      to run: a phase with kick: 1.3")


@pytest.mark.parametrize("name", ["invariance", "decay", "report"])
def test_a_folder_that_is_none_is_a_sentence_and_exit_code_2(name, tmp_path, capsys):
    assert main([name, str(tmp_path / "nowhere"), "--json"]) == 2
    assert main([name, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 2
    assert "Traceback" not in error


def test_names_of_networks_make_names_of_files(tmp_path):
    schedules = [
        Planted(key=f"{name}{each.key}", phases=each.phases, recipe_id=name, variant=f"{name} a/b")
        for name in ("one", "two")
        for each in grid((0.04,), (1.0, 10.0))
    ]
    plant(tmp_path, Folder(schedules=schedules, seeds=2, recipes={}))
    write_report(tmp_path)
    assert (tmp_path / "report" / "runs-one-a-b.csv").is_file()
    assert (tmp_path / "report" / "collapse-two-a-b.svg").is_file()
