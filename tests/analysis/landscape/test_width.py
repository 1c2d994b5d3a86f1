"""Width: closed forms of bowls and wells, caps, errors that rise in steps, invariance, cost."""

import math

import numpy as np
import pytest
import torch
from closed_forms import normed_network, of_function, of_quadratic, relu_network, untouched
from hypothesis import given
from hypothesis import strategies as st

from analysis.landscape.objective import Objective
from analysis.landscape.width import Direction, _crossing, random_width, width_towards
from trainables.spec import SpecError


@given(st.floats(0.5, 6), st.floats(-6, 6), st.floats(-3, 3))
def test_the_distance_of_any_power_law_is_found_in_few_looks(power, log_scale, log_start):
    looks = []

    def rise(distance):
        looks.append(distance)
        return (distance / scale) ** power

    scale, start = 10**log_scale, 10 ** (log_scale + log_start)
    distance, reached = _crossing(rise, 0.1, start, math.inf, 0.01)
    assert reached
    assert distance == pytest.approx(scale * 0.1 ** (1 / power), rel=0.025)  # a rise within 1 % at the smallest power
    assert len(looks) <= 14


@given(st.floats(0.01, 100))
def test_the_place_of_a_step_is_found_by_halving(place):
    distance, reached = _crossing(lambda d: float(d >= place), 0.5, 1.0, 1000.0, 0.01)
    assert reached
    assert distance == pytest.approx(place, rel=0.011)


def test_a_bowl_is_as_wide_as_its_curvature_says():
    found = random_width(of_quadratic(3 * np.eye(6), np.zeros(6)), rise=0.1, directions=3, tolerance=1e-4)
    assert found.value == pytest.approx(math.sqrt(0.2 / 3), rel=1e-3)
    assert found.standard_error < 1e-3 * found.value
    assert found.capped == 0
    assert found.as_rows()["unit_relative"] == pytest.approx(found.value / math.sqrt(6))


def test_the_mean_over_directions_and_its_interval_are_those_of_independent_draws():
    values = np.geomspace(0.1, 10, 12)
    objective = of_quadratic(np.diag(values), np.zeros(12))
    drawn = np.random.default_rng(0).standard_normal((20000, 12))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    exact = np.sqrt(0.2 / (drawn**2 @ values)).mean()
    found = [random_width(objective, directions=4, tolerance=1e-3, seed=seed) for seed in range(120)]
    assert np.mean([one.value for one in found]) == pytest.approx(exact, rel=0.03)
    assert 0.92 < np.mean([one.low < exact < one.high for one in found]) < 0.99


def test_where_the_loss_does_not_rise_the_cap_is_told():
    found = random_width(of_function(lambda w: 0 * w.sum(), [3.0, 4.0]), farthest=2.0)
    assert found.capped == found.directions
    assert found.value == found.cap == 10.0
    assert found.as_rows()["unit_capped"] == 4


def test_a_loss_that_is_not_finite_has_risen():
    found = random_width(of_function(lambda w: torch.where(w @ w > 9, math.nan, 0 * w[0]), [0.0, 0.1]), farthest=100.0)
    assert found.value == pytest.approx(3.0, rel=0.05)
    assert found.capped == 0


def test_an_error_gives_the_width_by_error():
    module, _, x, y = relu_network()
    objective = Objective(module, lambda out, y: (out.argmax(1) != y).double(), x, y)
    with untouched(module):
        found = random_width(objective, rise=0.1, directions=2)
    assert found.capped == 0
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(objective.size, generator=generator, dtype=torch.float64)
    direction /= direction.norm()
    beyond = objective.value(objective.weights + 1.02 * found.high * direction) - objective.value()
    assert beyond >= 0.1 - 1 / 60


def test_adaptive_widths_do_not_change_when_layers_are_scaled_against_each_other_but_unit_ones_do():
    found = [Objective(*relu_network(scale=scale)) for scale in (1.0, 5.0)]
    adaptive, unit = (
        [random_width(objective, direction=direction, tolerance=1e-3).value for objective in found]
        for direction in (Direction.ADAPTIVE, Direction.UNIT)
    )
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-6)
    assert unit[1] < 0.7 * unit[0]


def test_the_relative_width_does_not_change_when_scale_invariant_weights_are_scaled():
    rows = [
        random_width(Objective(*normed_network(scale=scale), parameters=["0.weight"])).as_rows() for scale in (1.0, 3.0)
    ]
    assert rows[1]["unit_relative"] == pytest.approx(rows[0]["unit_relative"], rel=1e-8)
    assert rows[1]["unit"] == pytest.approx(3 * rows[0]["unit"], rel=1e-8)


def test_towards_the_other_side_of_a_double_well():
    objective = of_function(lambda w: (w[0] ** 2 - 1) ** 2 + w[1] ** 2, [-1.0, 0.0])
    found = width_towards(objective, torch.tensor([1.0, 0.0]), rise=0.36, tolerance=1e-5)
    assert found.value == pytest.approx(1 - math.sqrt(0.4), rel=1e-4)
    assert found.share == pytest.approx(found.value / 2)
    assert not found.capped


def test_towards_a_solution_in_the_same_basin_nothing_rises():
    found = width_towards(of_quadratic(np.eye(2), np.zeros(2)), torch.tensor([1.1, 1.0]), rise=0.1)
    assert found.capped
    assert found.as_rows() == pytest.approx({"towards": 0.1, "towards_share": 1.0, "towards_capped": 1.0})


@pytest.mark.parametrize("direction", Direction)
def test_the_default_looks_are_few_and_counted(monkeypatch, direction):
    module, *data = relu_network()
    objective = Objective(module, *data)
    looks = []
    value = Objective.value

    def counted(self, weights=None):
        looks.append(weights)
        return value(self, weights)

    monkeypatch.setattr(Objective, "value", counted)
    found = random_width(objective, direction=direction)
    assert len(looks) == found.losses <= 26


def test_wrong_settings_are_refused():
    objective = of_quadratic(np.eye(2), np.zeros(2))
    with pytest.raises(SpecError, match="rise must be positive"):
        random_width(objective, rise=0.0)
    with pytest.raises(SpecError, match="at least 2"):
        random_width(objective, directions=1)
    with pytest.raises(SpecError, match="weights that are all 0"):
        random_width(of_quadratic(np.eye(2), np.zeros(2), at=np.zeros(2)))
    with pytest.raises(SpecError, match=r"must hold 2 weights, found the shape \[3\]"):
        width_towards(objective, torch.zeros(3))
    with pytest.raises(SpecError, match="the same weights"):
        width_towards(objective, torch.ones(2))
