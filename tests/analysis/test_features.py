"""Features of planted solutions: accuracies, the share locked and what each group achieves."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from measured_features import joined
from planted import tick_like
from scipy import stats

from analysis.features import feature_order, feature_records, feature_rows, feature_table
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


def test_how_many_features_are_above_chance_and_where_none_is(found):
    rows = {row.lr: row for row in found.feature_rows}
    accuracy = found.features.accuracy[:, list(found.arm.lrs).index(1e-2), found.qualities.index("finetune@3.2e-5")]
    p = stats.binom.sf(np.rint(1000 * accuracy) - 1, 1000, 0.5)
    first = p.min(axis=1) <= 0.05 / 16
    assert rows[1e-2].resolved.value == first.mean()
    assert not rows[1e-2].is_noise
    assert rows[1e-2].used.value >= rows[1e-2].resolved.value
    assert rows[1e-2].effective_rank.value > rows[1e-2].n_eff.value


def test_networks_that_guess_are_called_noise(found):
    hits = np.random.default_rng(0).binomial(1000, 0.5, found.features.accuracy.shape)
    guesses = replace(found.features, accuracy=hits / 1000)
    rows = feature_rows(guesses, found.qualities, found.arm, found.feature_quality, 0.999)
    assert sum(row.is_noise for row in rows) >= 11
    assert all(row.n_eff.value == pytest.approx(16 / np.pi, rel=0.25) for row in rows)
    np.testing.assert_allclose(guesses.usage(0.75), np.clip((hits / 1000 - 0.5) / 0.25, 0, 1))


def test_variants_are_kept_apart(found):
    probes = found.study.tables.probes
    one = probes[(probes["probe"] == "feature_accuracy") & (probes["key"] == "feature_03")]
    other = one.assign(split="resampled", value=one["value"] + 0.1, n=500)
    tables = replace(found.study.tables, probes=joined(probes, other))
    study = replace(found.study, tables=tables)
    published, resampled = feature_table(study, found.arm), feature_table(study, found.arm, split="resampled")
    np.testing.assert_array_equal(published.accuracy, found.features.accuracy)
    assert (published.samples, resampled.samples) == (1000, 500)
    assert resampled.names == ("feature_03",)
    np.testing.assert_allclose(resampled.accuracy[..., 0], published.accuracy[..., 3] + 0.1)
    assert feature_table(study, found.arm, probe="band_accuracy", split="published") is None


def test_bands_come_by_frequency():
    keys = pd.Series(["high", "low", "background", "mid", "whole"])
    assert feature_order(keys) == ("whole", "background", "low", "mid", "high")
    assert feature_order(pd.Series(["ring_2", "dc", "ring_1"])) == ("dc", "ring_1", "ring_2")
