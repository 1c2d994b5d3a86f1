"""`python -m analysis`: every name, JSON, files, and faults with exit code 2."""

import json

import pytest
from planted import digits_like, tick_like

from analysis import ANALYSES
from analysis.__main__ import main


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return digits_like(tmp_path_factory.mktemp("cli"), seeds=3)


@pytest.fixture(scope="module")
def tick(tmp_path_factory):
    return tick_like(tmp_path_factory.mktemp("cli-tick"), draws=3)


def test_band_prints_words_and_json(digits, capsys):
    assert main(["band", str(digits)]) == 0
    assert "the best initial learning rate is 8e-3" in capsys.readouterr().out
    assert main(["band", str(digits), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["optimum_lr"] == 8e-3
    assert len(data["arms"]) == 2


def test_regimes_lists_members_by_arm(digits, capsys):
    assert main(["regimes", str(digits), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["budget_steps"] == 20000
    assert [len(arm["members"]) for arm in data["arms"]] == [36, 36]
    assert {member["regime"] for member in data["members"]} == {"convergence", "chaotic_equilibrium"}


def test_features_table(tick, capsys, tmp_path):
    out = tmp_path / "features.json"
    assert main(["features", str(tick), "--json", "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    data = json.loads(out.read_text())
    assert data["quality"] == "finetune@3.2e-5"
    assert len(data["table"]) == 12
    assert main(["features", str(tick)]) == 0
    assert "n_eff" in capsys.readouterr().out


def test_report_prints_the_page(tick, capsys):
    assert main(["report", str(tick)]) == 0
    assert str(tick / "report" / "index.html") in capsys.readouterr().out


@pytest.mark.parametrize("name", ["patterns", "flatness", "importance", "bands"])
def test_unknown_names_list_the_known_ones(name, digits, capsys):
    assert main([name, str(digits)]) == 2
    error = capsys.readouterr().err
    assert "known analyses: " + ", ".join(ANALYSES) in error
    assert "Traceback" not in error


def test_faults_are_sentences(digits, tmp_path, capsys):
    assert main(["band", str(tmp_path / "nowhere")]) == 2
    assert main(["features", str(digits)]) == 2
    assert main(["geometry", str(digits)]) == 2
    assert main(["band", str(digits), "--out", str(tmp_path / "no" / "file")]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 4
    assert "holds no checkpoints" in error
    assert "no checkpoints" in error
