"""Features of planted solutions: accuracies, the share locked and what each group achieves."""

import numpy as np
import pytest
from planted import tick_like
from scipy import stats

from analysis.features import feature_records
from analysis.findings import find
from analysis.study import load_study


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    study = load_study(tick_like(tmp_path_factory.mktemp("features")))
    return find(study, study.headline)


def test_locked_share_and_groups(found):
    assert found.feature_quality == "finetune@3.2e-5"
    rows = {row.lr: row for row in found.feature_rows}
    assert rows[1e-3].locked.value == 0
    assert np.isnan(rows[1e-3].accuracy_locked.value)
    inside = rows[1e-2]
    hits = round(inside.locked.value * 24)
    oracle = stats.binomtest(hits, 24).proportion_ci(0.95, method="wilson")
    assert (inside.locked.low, inside.locked.high) == pytest.approx((oracle.low, oracle.high))
    assert inside.accuracy_locked.value == pytest.approx(0.81, abs=0.02)
    assert inside.accuracy_free.value == pytest.approx(0.72, abs=0.02)
    assert inside.accuracy_locked.n + inside.accuracy_free.n == 24


def test_sorted_accuracies_and_measures(found):
    row = next(row for row in found.feature_rows if row.lr == 1e-2)
    assert (np.diff(row.sorted_accuracy) <= 0).all()
    assert row.sorted_accuracy[0] == pytest.approx(row.locked.value * 0.78 + (1 - row.locked.value) * 0.56)
    free = next(row for row in found.feature_rows if row.lr == 1e-3)
    assert row.share.value > free.share.value
    assert row.n_eff.value < free.n_eff.value
    assert row.gini.value > free.gini.value


def test_every_accuracy_has_its_binomial_interval(found):
    table = feature_records(found.features, found.arm, found.feature_quality, 0.95)
    assert len(table) == 24 * 12 * 16
    row = table.iloc[100]
    oracle = stats.binomtest(round(row["accuracy"] * 10**6), 10**6).proportion_ci(0.95, method="wilson")
    assert row["low"] < oracle.low < row["accuracy"] < oracle.high < row["high"]
    exact = stats.norm.ppf(0.975) * np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 1000)
    assert (row["high"] - row["low"]) / 2 == pytest.approx(exact, rel=0.01)


def test_bimodal_outcomes_are_seen_inside_the_band_only(found):
    bimodal = {float(found.arm.lrs[place]) for place, mixture in found.mixtures.items() if mixture.bimodal}
    assert bimodal
    assert all(6e-3 < lr < 1.5e-2 for lr in bimodal)
    assert len(bimodal) >= 3
