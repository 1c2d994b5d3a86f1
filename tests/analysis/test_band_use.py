"""Bands by learning rate: planted accuracies come back averaged, apart by variant."""

import numpy as np
import pytest
from measured_features import measured
from planted import digits_like
from scipy import stats

from analysis.figures.band_use import BAND_VARIANTS, band_use_table, draw_band_use
from analysis.figures.style import Marks, render
from analysis.study import load_study

BANDS = ("whole", "background", "low", "mid", "high")
LEVEL = {"whole": 0.8, "background": 0.1, "low": 0.5, "mid": 0.3, "high": 0.1}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    study = load_study(digits_like(tmp_path_factory.mktemp("bands"), seeds=5))
    rng, rows = np.random.default_rng(0), []
    for member in study.headline.pretrain.itertuples():
        common = {"member_id": member.member_id, "step": 20000, "group": "end", "n": 400}
        for variant, bands in (("published", BANDS[1:]), ("randomised", BANDS)):
            rows += [
                common | {"split": variant, "key": band, "value": LEVEL[band] + 0.01 * rng.normal()} for band in bands
            ]
    return measured(study, rows, probe="band_accuracy")


def test_means_and_intervals_by_band(found):
    arm = found.headline
    table = band_use_table(found, arm, "final", 0.95)
    assert len(table) == 12 * (4 + 5)
    assert table[table["variant"] == "randomised"]["band"].unique().tolist() == list(BANDS)
    row = table[(table["variant"] == "published") & (table["band"] == "low") & (table["lr"] == arm.lrs[3])].iloc[0]
    probes = found.tables.probes
    members = arm.pretrain[arm.pretrain["place"] == 3]["member_id"]
    mine = probes["member_id"].isin(members) & (probes["split"] == "published") & (probes["key"] == "low")
    values = probes.loc[mine, "value"].to_numpy()
    assert row["n"] == 5
    assert row["accuracy"] == pytest.approx(values.mean())
    oracle = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    np.testing.assert_allclose([row["low"], row["high"]], oracle)
    assert row["usage"] == pytest.approx((values.mean() - 0.1) / 0.9)
    assert row["chance"] == 0.1
    assert row["above_chance"] == 1
    at_chance = table[(table["variant"] == "published") & (table["band"] == "high")]
    assert at_chance["above_chance"].mean() < 0.1


def test_nothing_measured_is_an_empty_table(found):
    assert band_use_table(found, found.headline, "swa@20", 0.95).empty


def test_every_variant_has_its_panel(found):
    arm = found.headline
    table = band_use_table(found, arm, "final", 0.95)
    marks = Marks(lrs=tuple(map(float, arm.lrs)), convergence=(3e-3, 2.5e-3, 3.5e-3), divergence=None, band=None)
    drawing = render(draw_band_use(table, marks))
    for variant, words in BAND_VARIANTS.items():
        assert (words.encode() in drawing.svg) == (variant in ("published", "randomised"))
    assert b"mean colour" in drawing.svg
