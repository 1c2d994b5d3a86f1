"""Planted curves give planted regimes; the rule for each regime at its edge."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted import TICK_LRS, digits_like, tick_like

from analysis.findings import find
from analysis.regimes import Plateau, Regime, classify, majority, plateau
from analysis.study import load_study

C, X, D, U = Regime.CONVERGENCE, Regime.CHAOTIC_EQUILIBRIUM, Regime.DIVERGENCE, Regime.UNKNOWN


@pytest.fixture(scope="module")
def tick(tmp_path_factory):
    return load_study(tick_like(tmp_path_factory.mktemp("tick"), draws=6))


def test_planted_regimes_and_thresholds_come_out(tick):
    found = find(tick, tick.headline)
    by_rate = dict(zip(TICK_LRS, found.majority, strict=True))
    assert all(by_rate[lr] == C for lr in TICK_LRS if lr <= 7.5e-3)
    assert all(by_rate[lr] == X for lr in TICK_LRS if 8.7e-3 <= lr <= 3.2e-2)
    assert by_rate[5.6e-2] == D
    assert 7.5e-3 <= found.convergence.value <= 8.7e-3
    assert found.convergence.low <= 8.1e-3 <= found.convergence.high
    assert found.divergence.value == pytest.approx(np.sqrt(3.2e-2 * 5.6e-2))
    assert tick.headline.budget == 40000


def test_arms_have_their_own_thresholds(tmp_path):
    study = load_study(digits_like(tmp_path))
    clean, noisy = (find(study, arm) for arm in study.arms)
    assert 8e-3 <= clean.convergence.value <= 1.1e-2
    assert 2.8e-3 <= noisy.convergence.value <= 4e-3
    assert study.headline is noisy.arm


def _one(study, **changes):
    """Regime of a single value of each plateau measure, at the study's first cell."""
    shape = study.headline.shape
    measures = {"end_loss": 0.3, "loss": 0.3, "train_error": 0.1, "watched_error": 0.25, "nonfinite": 0.0} | changes
    return classify(
        study, study.headline, Plateau(**{name: np.full(shape, value) for name, value in measures.items()})
    )[0, 0]


@pytest.mark.parametrize(
    ("changes", "regime"),
    [
        ({"end_loss": 0.0099}, C),
        ({"end_loss": 0.0101}, X),
        ({"end_loss": 0.001, "watched_error": 0.5}, C),  # random labels, learnt by heart
        ({"loss": 0.75, "train_error": 0.39, "watched_error": 0.48}, X),  # loss above ln 2 but still learning
        ({"loss": 0.75, "train_error": 0.50, "watched_error": 0.44}, X),  # generalises
        ({"loss": 3.7, "train_error": 0.495, "watched_error": 0.49}, D),
        ({"loss": 0.693, "train_error": 0.5, "watched_error": 0.5}, D),  # a network that died: a constant guess
        ({"loss": 0.5, "train_error": 0.5, "watched_error": 0.5}, X),  # better than a blind guess
        ({"end_loss": np.nan, "nonfinite": 1.0}, D),
        ({"end_loss": np.nan}, U),
    ],
)
def test_the_rule_at_its_edges(tick, changes, regime):
    assert _one(tick, **changes) == regime


def test_ten_classes_at_a_quarter_accuracy_are_not_divergence(tmp_path):
    study = load_study(digits_like(tmp_path, seeds=1))
    assert _one(study, loss=2.3, train_error=0.8, watched_error=0.8) == X
    assert _one(study, loss=2.5, train_error=0.895, watched_error=0.9) == D


def test_a_slow_rate_below_a_converged_one_is_regime_one(tick):
    shape = tick.headline.shape
    end = np.full(shape, 0.3)
    end[:, 2:4] = 1e-4
    flat = Plateau(
        end_loss=end,
        loss=end,
        train_error=np.full(shape, 0.1),
        watched_error=np.full(shape, 0.3),
        nonfinite=np.zeros(shape),
    )
    codes = classify(tick, tick.headline, flat)
    assert (codes[:, :4] == C).all()
    assert (codes[:, 4:] == X).all()


def test_majority_and_unfinished_members():
    codes = np.array([[C, C, U], [X, C, U], [X, D, U]], dtype=np.int8)
    assert majority(codes).tolist() == [X, C, U]


def test_an_unfinished_first_phase_is_unknown(tmp_path):
    tick_like(tmp_path, draws=2)
    for path in (tmp_path / "epochs").glob("*.parquet"):
        frame = pq.read_table(path).to_pandas()
        pq.write_table(pa.Table.from_pandas(frame[frame["step"] < 30000], preserve_index=False), path)
    members = pd.read_parquet(tmp_path / "members.parquet").assign(status="running")
    members.to_parquet(tmp_path / "members.parquet")
    study = load_study(tmp_path)
    found = find(study, study.headline)
    assert (found.codes == U).all()
    assert found.convergence.n == 0
    assert found.convergence.json_value is None


def test_with_a_validation_split_regimes_are_judged_by_it(tmp_path):
    folder = tick_like(tmp_path, draws=2)
    plain = load_study(folder)
    expected = classify(plain, plain.headline, plateau(plain, plain.headline))
    for path in (folder / "epochs").glob("*.parquet"):
        rows = pd.read_parquet(path)
        rows["valid_error"], rows["test_error"] = rows["test_error"], np.nan
        rows.to_parquet(path)
    for path in (folder / "probes").glob("*.parquet"):
        rows = pd.read_parquet(path)
        valid = rows[rows["split"] == "test"].assign(split="valid")
        pd.concat([rows, valid]).to_parquet(path)
    study = load_study(folder)
    assert study.watched == "valid"
    found = classify(study, study.headline, plateau(study, study.headline))
    assert (found == expected).all()
    assert Regime.DIVERGENCE in found
