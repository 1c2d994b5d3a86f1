"""The report: the contract's keys, a page that needs nothing outside it, and sweeps that are small or not finished."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted import Plan, Truth, digits_like, plant, tick_like

from analysis.report import write_report
from trainables.spec import SpecError

KEYS = {
    "metric",
    "optimum_lr",
    "band",
    "band_ci",
    "regimes",
    "convergence_threshold",
    "convergence_threshold_ci",
    "budget_steps",
    "gain_over_regime_1",
    "gain_ci",
    "n_seeds",
    "member_steps",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = digits_like(tmp_path_factory.mktemp("digits"))
    return folder, write_report(folder)


def test_answer_has_the_contracts_keys_in_every_arm(digits):
    folder, answer = digits
    data = json.loads((folder / "report" / "answer.json").read_text())
    assert data == answer.data
    assert data.keys() >= KEYS | {"arms"}
    assert len(data["arms"]) == 2
    for arm in data["arms"]:
        assert arm.keys() >= KEYS | {"arm"}
        assert all({"name", "lr_low", "lr_high"} <= regime.keys() for regime in arm["regimes"])
        assert np.shape(arm["band"]) == (2,)
        assert np.shape(arm["band_ci"]) == (2, 2)
    headline = next(arm for arm in data["arms"] if arm["arm"] == {"label_noise": 0.2})
    assert all(data[key] == headline[key] for key in KEYS - {"member_steps"})
    assert data["member_steps"] == json.loads((folder / "manifest.json").read_text())["member_steps"]


def test_planted_truth_comes_out(digits):
    _, answer = digits
    clean, noisy = answer.data["arms"]
    assert noisy["metric"] == "swa"
    assert noisy["optimum_lr"] == 8e-3
    assert 5e-3 < noisy["band"][0] < 8e-3 < noisy["band"][1] < 1.3e-2
    assert 0.09 < noisy["gain_over_regime_1"] < 0.13
    assert noisy["gain_ci"][0] > 0.05
    assert 0 < noisy["gains"]["finetune@1e-4"]["value"] < 0.04
    assert [regime["name"] for regime in noisy["regimes"]] == ["convergence", "chaotic_equilibrium"]
    assert 2.8e-3 <= noisy["convergence_threshold"] <= 4e-3
    assert "no gain" in clean["gain_in_words"]
    assert "a gain of" in noisy["gain_in_words"]
    assert "no gain" in answer.sentence
    assert "8 seeds" in answer.sentence


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.images, self.text = [], 0, []

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.links += [value for name, value in attrs if name in ("src", "href")]
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_self_contained_and_says_the_answer_first(digits):
    _, answer = digits
    page = answer.page.read_text()
    parser = _Links()
    parser.feed(page)
    assert all(
        link.startswith(("data:image/svg+xml;base64,", "data:text/csv", "data:application/json"))
        for link in parser.links
    )
    assert parser.images >= 8
    assert "@import" not in page
    assert not re.search(r"url\(", page)
    text = " ".join(" ".join(parser.text).split())
    assert text.index("the best initial learning rate is 8e-3") < text.index("Final quality by initial")
    assert "there is no validation split" in text
    assert "20,000" in text
    assert "{{" not in text


def test_every_figure_has_png_svg_and_csv(digits):
    folder, _ = digits
    report = folder / "report"
    pictures = sorted(path.stem for path in report.glob("*.png"))
    assert {"final-quality", "regime-map", "gain", "learning-curves", "gain-arm0"} <= set(pictures)
    for name in pictures:
        assert (report / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (report / f"{name}.svg").read_bytes()
        with (report / f"{name}.csv").open() as file:
            assert len(list(csv.reader(file))) > 2
    errors = pd.read_csv(report / "seeds.csv")["error"]
    assert errors.between(0, 1).all()
    assert len(errors) == 8 * 12 * 4


def test_row_order_and_stale_attempts_change_nothing(digits, tmp_path):
    _, expected = digits
    digits_like(tmp_path)
    for name, column in (("epochs", "train_loss"), ("probes", "value")):
        path = next((tmp_path / name).glob("*.parquet"))
        table = pq.read_table(path)
        frame = table.to_pandas()
        stale = frame.head(500).assign(**{column: 0.5}, attempt=0)
        pq.write_table(
            table.from_pandas(pd.concat([stale, frame[::-1]]), schema=table.schema, preserve_index=False), path
        )
    assert write_report(tmp_path).data == expected.data


def test_report_is_replaced_as_a_whole(tmp_path):
    digits_like(tmp_path, seeds=2)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "stale.txt").write_text("old")
    write_report(tmp_path)
    assert not (tmp_path / "report" / "stale.txt").exists()
    assert not list(tmp_path.glob(".report*"))


def test_features_study_shows_the_groups(tmp_path):
    answer = write_report(tick_like(tmp_path))
    assert "arms" not in answer.data
    row = next(row for row in answer.data["table"] if row["lr"] == 1e-2)
    assert row["groups"]["bimodal"]
    assert 0.3 < row["features"]["locked"]["value"] < 0.9
    assert "not significant with 24 seeds" in answer.data["gain_in_words"]
    assert "12 data draws" in answer.sentence
    assert (tmp_path / "report" / "features-seeds.csv").exists()
    assert "Two groups of outcomes" in answer.page.read_text()


def test_a_half_finished_sweep_is_reported_as_such(tmp_path):
    digits_like(tmp_path, seeds=4)
    members = pd.read_parquet(tmp_path / "members.parquet")
    late = members["seed"] >= 2
    members.assign(status=np.where(late, "running", members["status"])).to_parquet(tmp_path / "members.parquet")
    for name in ("epochs", "probes"):
        for path in (tmp_path / name).glob("*.parquet"):
            table = pq.read_table(path)
            frame = table.to_pandas()
            kept = frame[~frame["member_id"].isin(members.loc[late, "member_id"])]
            pq.write_table(table.from_pandas(kept, schema=table.schema, preserve_index=False), path)
    answer = write_report(tmp_path)
    assert answer.data["n_seeds"] == 2
    assert answer.data["by_status"]["running"] == int(late.sum())
    assert "Not finished" in answer.page.read_text()


def test_nothing_finished_yet_is_an_answer_too(tmp_path):
    digits_like(tmp_path, seeds=2)
    for name in ("epochs", "probes"):
        for path in (tmp_path / name).glob("*.parquet"):
            path.unlink()
    members = pd.read_parquet(tmp_path / "members.parquet")
    members.assign(status="running").to_parquet(tmp_path / "members.parquet")
    answer = write_report(tmp_path)
    assert answer.data["optimum_lr"] is None
    assert answer.data["member_steps"] == 0
    assert "no solution is finished yet" in answer.sentence


def test_a_single_phase_without_averages_one_seed_and_an_overflow(tmp_path):
    truth = Truth(accuracy={"final": [0.8, 0.9, 0.7]}, converges_below=5e-3)
    plan = Plan(
        lrs=(1e-3, 1e-2, 1e-1),
        units=[(0, 0)],
        arms=[({}, truth)],
        finetunes=(),
        windows=(),
        analysis={"metric": "auto"},
    )
    plant(tmp_path, plan)
    members = pd.read_parquet(tmp_path / "members.parquet")
    dead = members["lr"] == 1e-1
    members.assign(status=np.where(dead, "nonfinite", "completed")).to_parquet(tmp_path / "members.parquet")
    for path in (tmp_path / "probes").glob("*.parquet"):
        table = pq.read_table(path)
        kept = table.to_pandas().query("not member_id.str.endswith('-2')")
        pq.write_table(table.from_pandas(kept, schema=table.schema, preserve_index=False), path)
    answer = write_report(tmp_path)
    assert answer.data["metric"] == "final"
    assert answer.data["optimum_lr"] == 1e-2
    assert [regime["name"] for regime in answer.data["regimes"]][-1] == "divergence"
    assert answer.data["table"][2]["error"]["final"]["value"] == pytest.approx(0.9)
    assert answer.data["gain_verdict"] == "unknown"
    assert "1 seed only" in answer.page.read_text()


def test_an_unknown_metric_names_the_legal_ones(tmp_path):
    tick_like(tmp_path, draws=2, analysis={"metric": "finetune@1e-1"})
    with pytest.raises(SpecError, match=r"legal: auto, swa, final, finetune@3.2e-5"):
        write_report(tmp_path)


@pytest.mark.slow
def test_the_largest_study_is_reported_within_a_minute(tmp_path):
    import time

    lrs = [
        10 ** (k / 8) for k in (-36, -34, -32, -30, -28, -26, -24, -22, -20, *range(-18, -10), -10, -8, -6, -4, -2, 0)
    ]
    tick_like(tmp_path, draws=5, repeats=10, lrs=lrs, finetunes=[(f"finetune@{lr:.3g}", lr) for lr in lrs[:11]])
    start = time.process_time()
    write_report(tmp_path)
    assert time.process_time() - start < 60


def test_importing_the_package_is_light():
    check = "import sys, analysis; print([m for m in ('torch', 'ray', 'pandas', 'mlflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
