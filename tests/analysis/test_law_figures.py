"""Figures of the invariance analysis: what is drawn against closed forms, and that all of it is drawn."""

import itertools

import numpy as np
import pandas as pd
import pytest
from lawful import LAYERS, PRODUCTS, RATIOS, lawful_runs, lawful_times, made_up_pairs
from scipy import stats

from analysis.figures.angle_law import angle_law_table, draw_angle_law
from analysis.figures.collapse import collapse_table, draw_collapse
from analysis.figures.equilibrium_time import draw_equilibrium_time, equilibrium_time_table, time_laws
from analysis.figures.function_distance import draw_function_distance, function_distance_table
from analysis.figures.norm_ratio import draw_norm_ratio, norm_ratio_table, norm_slopes
from analysis.figures.series import shortened, shown_layers, sidestep
from analysis.figures.style import render
from analysis.invariance.label_distance import function_distance


def _svg(figure) -> str:
    drawing = render(figure)
    assert drawing.png.startswith(b"\x89PNG")
    return drawing.svg.decode()


def test_collapse_table_holds_students_interval_of_each_cell():
    runs = lawful_runs(seeds=6)
    table = collapse_table({"net": runs, "control": lawful_runs(follows="weight_decay")}, "loss", 0.9)
    assert list(table["network"].unique()) == ["net", "control"]
    assert len(table) == 2 * len(PRODUCTS) * len(RATIOS)
    row = table.query("network == 'net' and ratio == 10 and intrinsic_lr == 0.004").iloc[0]
    values = runs.query("ratio == 10 and intrinsic_lr == 0.004")["loss"]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (row["metric_mean"], row["metric_low"], row["metric_high"]) == pytest.approx((values.mean(), *expected))
    assert (row["lr"], row["weight_decay"], row["n"]) == pytest.approx((0.2, 0.02, 6))


def test_cells_are_matched_over_rounding_and_lost_runs_left_out():
    runs = lawful_runs(seeds=4)
    jitter = 1 + 1e-12 * np.arange(len(runs))
    runs = runs.assign(ratio=runs["ratio"] * jitter, intrinsic_lr=runs["intrinsic_lr"] * jitter)
    runs.loc[0, "loss"] = np.nan
    table = collapse_table({"net": runs}, "loss", 0.95)
    assert sorted(table["n"]) == [3] + [4] * 11


def test_collapse_shows_each_network_each_ratio_and_the_product():
    table = collapse_table(
        {"net": lawful_runs(), "control": lawful_runs(seeds=6, follows="weight_decay")}, "loss", 0.95
    )
    svg = _svg(draw_collapse(table, "batch loss", "η λ / (1 - β)"))
    for text in ("net: 10 seeds per point", "control: 6 seeds per point", "ratio η / λ", "batch loss", ">100<"):
        assert text in svg
    assert "intrinsic learning rate η λ / (1 - β)" in svg
    figure = draw_collapse(table, "batch loss")
    marks = [np.sort(line.get_ydata()) for line in figure.axes[2].lines[:3]]
    assert np.allclose(marks[0], marks[1], rtol=0.05)
    assert np.allclose(marks[0], marks[2], rtol=0.05)
    assert figure.axes[0].get_shared_y_axes().joined(figure.axes[0], figure.axes[2])


def test_wide_ranges_of_a_metric_are_drawn_on_a_log_axis():
    runs = lawful_runs(spread=0.0)
    narrow = draw_collapse(collapse_table({"net": runs}, "loss", 0.95), "loss")
    wide = draw_collapse(collapse_table({"net": runs.assign(loss=runs["loss"] ** 4)}, "loss", 0.95), "loss")
    assert [figure.axes[0].get_yscale() for figure in (narrow, wide)] == ["linear", "log"]


def test_norm_table_holds_norms_that_are_not_squared():
    runs = lawful_runs(spread=0.0, seeds=3)
    table = norm_ratio_table(runs, LAYERS, 0.95)
    expected = (table["ratio"] * table["layer"].map({LAYERS[0]: 3.0, LAYERS[1]: 5.0}) / 2) ** 0.25
    assert table["norm_mean"].to_numpy() == pytest.approx(expected.to_numpy())
    assert set(table["n"]) == {3}
    svg = _svg(draw_norm_ratio(table, norm_slopes(runs, LAYERS, 0.95)))
    for text in ("layers.0", "layers.3", "theory: 0.25", "fit: 0.250 [0.250, 0.250]", "36 runs", "intrinsic LR"):
        assert text in svg


def test_equilibrium_times_stand_beside_the_theory():
    times = lawful_times(spread=0.0)
    times.loc[0, "steps"] = np.nan
    table = equilibrium_time_table(times)
    at_one = table[table["intrinsic_lr"] == 1e-3]["theory_steps"]
    assert at_one.to_numpy() == pytest.approx(np.log((1.3**4 - 1) / 0.1) / 4e-3)
    assert np.log(1.3**4 / 0.1 - 10) == pytest.approx(np.log(18.561))
    laws = time_laws(table)
    assert laws[LAYERS[1]].slope == pytest.approx(-1)
    svg = _svg(draw_equilibrium_time(table, laws))
    for text in ("theory, kick 1.3", "fit, slope -1.000", "119 runs, 1 never arrived", "120 runs", "one mark per"):
        assert text in svg


def test_each_kick_has_a_line_of_its_own():
    times = pd.concat([lawful_times(), lawful_times(kick=2.0)], ignore_index=True)
    table = equilibrium_time_table(times)
    svg = _svg(draw_equilibrium_time(table, time_laws(table)))
    assert "theory, kick 1.3" in svg
    assert "theory, kick 2<" in svg


def test_angle_and_norm_stand_over_their_predictions():
    runs = lawful_runs(spread=0.0)
    table = angle_law_table(runs, LAYERS, 0.95)
    assert table[["angle_mean", "norm_mean"]].to_numpy() == pytest.approx(1.0)
    assert len(table) == 2 * 12
    off = runs.assign(**{f"angle:{LAYERS[0]}": 1.1 * runs[f"angle:{LAYERS[0]}"]})
    ratios = angle_law_table(off, LAYERS, 0.95).groupby("layer")["angle_mean"].mean()
    assert ratios.to_dict() == pytest.approx({LAYERS[0]: 1.1, LAYERS[1]: 1.0})
    svg = _svg(draw_angle_law(angle_law_table(lawful_runs(), LAYERS, 0.95)))
    for text in ("angle / predicted", "norm² / predicted", "layers.3", "10 seeds per"):
        assert text in svg


def test_momentum_enters_both_predictions():
    runs = lawful_runs(spread=0.0)
    table = angle_law_table(runs, LAYERS, 0.95, momentum=0.9)
    assert table["angle_mean"].to_numpy() == pytest.approx(np.sqrt(1.9))
    assert table["norm_mean"].to_numpy() == pytest.approx(np.sqrt(0.1))


def test_function_distances_show_equal_pairs_first_with_p_values():
    pairs = made_up_pairs(equal=1, unequal=2)[::-1]
    table = function_distance_table(pairs)
    assert list(table.columns) == ["pair", "equal", "step", "distance", "null_mean", "null_high", "p"]
    assert list(table["equal"]) == [True] * 5 + [False] * 10
    assert table.loc[0, "pair"] == "LR 0.2, WD 0.02 (0) | LR 0.632, WD 0.00632, weights x 3 (0)"
    figure = draw_function_distance(table)
    faces = [panel.lines[1].get_markerfacecolor() for panel in figure.axes]
    assert [face == "white" for face in faces] == [True, False, False]
    svg = _svg(figure)
    for text in (
        "a  equal product",
        "b  unequal product",
        "95 % of permutations",
        ">.001<",
        "l1 distance",
        "weights x 3",
    ):
        assert text in svg
    assert f"{table.loc[4, 'p']:.3f}"[1:] in svg


@pytest.mark.parametrize("seed", range(12))
def test_a_distance_beyond_95_percent_of_the_permutations_is_one_with_a_small_p(seed):
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 3 + part * (seed % 2), size=(16, 30)) for part in (0, 1))
    found = function_distance(first, second, rng, permutations=999)
    assert found.null_mean < found.null_high
    assert (found.distance > found.null_high) == (found.p < 0.0505)


def test_many_layers_are_thinned_with_first_and_last_and_names_cut_in_the_middle():
    names = [f"stages.{i}.blocks.0.conv1.weight" for i in range(31)]
    assert shown_layers(names) == [names[0], names[10], names[20], names[30]]
    assert shown_layers(names[:2] * 3) == names[:2]
    assert shortened("stages.3.blocks.0.conv1", 11) == "stage…conv1"
    assert shortened("short", 11) == "short"


def test_series_step_aside_by_less_than_half_the_way_to_the_next_level():
    levels = pd.Series(PRODUCTS)
    moved = [sidestep(levels, number, 5) for number in range(5)]
    assert moved[2].to_numpy() == pytest.approx(levels.to_numpy())
    assert all((low < high).all() for low, high in itertools.pairwise(moved))
    assert (moved[4] < levels * np.sqrt(2)).all()


@pytest.mark.parametrize(
    "rows", ["seed == 0", "ratio == 10", "intrinsic_lr == 0.002", "ratio == 10 and intrinsic_lr == 0.002 and seed == 0"]
)
def test_small_designs_are_drawn_too(rows):
    runs, times = lawful_runs().query(rows), lawful_times().query(rows)
    _svg(draw_collapse(collapse_table({"net": runs}, "loss", 0.95), "loss"))
    _svg(draw_norm_ratio(norm_ratio_table(runs, LAYERS, 0.95), norm_slopes(runs, LAYERS, 0.95)))
    _svg(draw_angle_law(angle_law_table(runs, LAYERS, 0.95)))
    table = equilibrium_time_table(times)
    _svg(draw_equilibrium_time(table, time_laws(table)))
    _svg(draw_function_distance(function_distance_table(made_up_pairs(equal=1, unequal=0)[:1])))
