"""Which feature is learned when, on planted accuracies whose first steps are known."""

from dataclasses import replace

import numpy as np
import pytest
from measured_features import measured
from planted import tick_like

from analysis.estimates import bootstrap_weights
from analysis.figures.learned_when import draw_learned_when, learned_when_table
from analysis.figures.style import render
from analysis.learned_when import Mark, Order, first_steps, learning_order, timeline
from analysis.study import load_study

STEPS = (0, 100, 200, 400, 800)
LRS = (1e-3, 1e-2)
FEATURES = 4
NEVER = 99


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return load_study(tick_like(tmp_path_factory.mktemp("when"), draws=6, repeats=2, lrs=LRS))


def planted(study, learned, *, level=0.7, samples=1000, probe="feature_accuracy", split="probe"):
    """`learned[u, l, f]`: number of the kept step at which the feature is first at `level`, NEVER for not at all."""
    arm, rows = study.headline, []
    for member in arm.pretrain.itertuples():
        for number, step in enumerate(STEPS):
            for feature in range(FEATURES):
                value = level if learned[member.unit, member.place, feature] <= number else 0.5
                group = "end" if step == STEPS[-1] else f"step@{step}"
                row = {"member_id": member.member_id, "step": step, "group": group, "key": f"feature_{feature:02d}"}
                rows.append(row | {"value": value, "n": samples})
    return measured(study, rows, probe=probe, split=split)


@pytest.fixture(scope="module")
def learned(study):
    rng = np.random.default_rng(0)
    first = np.array([rng.permutation([0, 1, 3, NEVER]) for _ in range(24)]).reshape(12, 2, FEATURES)
    first[:, 1, 0] = 1  # at the second rate feature 0 always comes at step 100
    first[:5, 1, 1], first[5:, 1, 1] = 2, NEVER  # in 5 of 12 networks
    return first


@pytest.mark.parametrize(("mark", "level"), [(Mark.ABOVE_CHANCE, 0.56), (Mark.LOCKED, 0.61)])
def test_first_steps_are_the_planted_ones(study, learned, mark, level):
    own = planted(study, learned, level=level)
    line = timeline(own, own.headline)
    assert line.steps.tolist() == list(STEPS)
    assert line.accuracy.shape == (12, 2, len(STEPS), FEATURES)
    expected = np.where(learned == NEVER, np.inf, np.array([*STEPS, *[np.inf] * 100])[learned])
    np.testing.assert_array_equal(first_steps(line, mark, 0.95), expected)


def test_what_is_above_chance_need_not_be_locked(study, learned):
    own = planted(study, learned, level=0.58)
    line = timeline(own, own.headline)
    assert np.isfinite(first_steps(line, Mark.ABOVE_CHANCE, 0.95)).any()
    assert np.isinf(first_steps(line, Mark.LOCKED, 0.95)).all()


def test_networks_that_guess_learn_nothing_at_any_of_the_steps(study):
    own = planted(study, np.full((12, 2, FEATURES), NEVER))
    line = timeline(own, own.headline)
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(40):
        line.accuracy[:] = rng.binomial(1000, 0.5, line.accuracy.shape) / 1000
        wrong += int(np.isfinite(first_steps(line, Mark.ABOVE_CHANCE, 0.95)).any(axis=2).sum())
    share = wrong / (40 * 24)
    assert 0.01 < share < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 960)


def test_order_by_name_counts_censored_networks(study, learned):
    own = planted(study, learned)
    line = timeline(own, own.headline)
    table = learning_order(
        line,
        own.headline,
        mark=Mark.LOCKED,
        order=Order.NAME,
        confidence=0.95,
        generator=np.random.default_rng(1),
    ).set_index(["lr", "feature"])
    sure, rare = table.loc[(1e-2, "feature_00")], table.loc[(1e-2, "feature_01")]
    assert (sure["step"], sure["step_low"], sure["step_high"], sure["learned"]) == (100, 100, 100, 1)
    assert sure["n"] == 12
    assert rare["learned"] == 5 / 12
    assert rare["learned_low"] < 5 / 12 < rare["learned_high"] < 1
    assert rare["step"] == np.inf
    assert rare["step_low"] == 200  # half may well have learned it
    assert rare["step_high"] == np.inf
    places = table.loc[1e-2]["place"]
    assert places.sum() == pytest.approx(1 + 2 + 3 + 4)
    order = np.where(learned[:, 1] == NEVER, 10**6, learned[:, 1])
    by_hand = [(order < order[:, [f]]).sum(1) + ((order == order[:, [f]]).sum(1) + 1) / 2 for f in range(FEATURES)]
    np.testing.assert_allclose(places, np.mean(by_hand, axis=1))


def test_order_by_rank_is_each_networks_own(study, learned):
    own = planted(study, learned)
    table = learning_order(
        timeline(own, own.headline),
        own.headline,
        mark=Mark.LOCKED,
        order=Order.RANK,
        confidence=0.95,
        generator=np.random.default_rng(1),
    )
    first = table[table["lr"] == 1e-3]
    assert first["feature"].tolist() == ["1", "2", "3", "4"]
    assert first["step"].tolist() == [0, 100, 400, np.inf]
    assert first["learned"].tolist() == [1, 1, 1, 0]


def test_interval_of_the_median_covers_it():
    from analysis.learned_when import _median

    rng, hits = np.random.default_rng(4), 0
    for _ in range(300):
        values = rng.exponential(size=15)
        values[values > 1.5] = np.inf
        clusters = np.arange(15)
        _, low, high = _median(values, clusters, bootstrap_weights(15, 400, rng), 0.9)
        hits += low <= np.log(2) <= high
    assert 0.87 < hits / 300 < 0.99


def test_unmeasured_networks_are_unknown_and_one_step_is_no_course(study, learned):
    own = planted(study, learned)
    probes, arm = own.tables.probes, own.headline
    member = arm.pretrain.iloc[0]
    fewer = replace(own.tables, probes=probes[probes["member_id"] != member["member_id"]])
    line = timeline(replace(own, tables=fewer), arm)
    first = first_steps(line, Mark.LOCKED, 0.95)
    assert np.isnan(first[member["unit"], member["place"]]).all()
    assert np.isnan(first).sum() == FEATURES
    assert timeline(study, study.headline) is None
    assert timeline(own, arm, probe="band_accuracy", split="published") is None


def test_later_phases_have_their_own_course(study, learned):
    own = planted(study, learned)
    assert timeline(own, own.headline, quality="finetune@3.2e-5") is None


@pytest.mark.parametrize("order", Order)
def test_figure_data_are_means_over_seeds(study, learned, order):
    own = planted(study, learned, level=0.7)
    arm, line = own.headline, timeline(own, own.headline)
    table = learned_when_table(line, arm, order, 0.95)
    assert len(table) == 2 * FEATURES * len(STEPS)
    cell = table[(table["lr"] == 1e-3) & (table["step"] == 100)].set_index("feature")["accuracy"]
    if order is Order.NAME:
        share = (learned[:, 0] <= 1).mean(axis=0)
        np.testing.assert_allclose(cell, 0.5 + 0.2 * share)
    else:
        assert cell.index.tolist() == ["1", "2", "3", "4"]
        assert cell["4"] == 0.5  # the feature that is never learned
        assert cell[["1", "2", "3"]].sum() == pytest.approx(0.5 + 2 * 0.7)  # two of the three are learned by then
    first = learning_order(
        line, arm, mark=Mark.LOCKED, order=order, confidence=0.95, generator=np.random.default_rng(0)
    )
    drawing = render(draw_learned_when(table, first))
    assert b"step" in drawing.svg
    assert drawing == render(draw_learned_when(table, first))
