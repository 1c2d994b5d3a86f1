"""Sharpness: the exact maximum of a quadratic over a ball, closed-form averages, invariance, cost."""

import numpy as np
import pytest
from closed_forms import normed_network, of_function, of_quadratic, relu_network, untouched
from scipy.optimize import brentq

from analysis.landscape.objective import Objective
from analysis.landscape.sharpness import asam, random_sharpness, sam, sharpness
from trainables.spec import SpecError


def _maximum(curvature, slope, rho):
    """Of slope e + e H e / 2 over |e| <= rho, where it lies on the sphere: (mu - H) e = slope with mu above H."""
    values, vectors = np.linalg.eigh(curvature)
    g = vectors.T @ slope
    mu = brentq(lambda m: np.linalg.norm(g / (m - values)) - rho, values[-1] + 1e-12, values[-1] + 1e6, xtol=1e-14)
    e = g / (mu - values)
    return g @ e + (values * e**2).sum() / 2


def _quadratic(seed, size=30, least=-2.0):
    generator = np.random.default_rng(seed)
    vectors = np.linalg.qr(generator.standard_normal((size, size)))[0]
    values = np.concatenate([[5.0, 4.0, least], generator.uniform(0, 1, size - 3)])
    return (vectors * values) @ vectors.T, 0.1 * generator.standard_normal(size), generator.standard_normal(size)


@pytest.mark.parametrize("seed", range(5))
def test_sam_is_a_close_lower_bound_of_the_maximum_of_an_indefinite_quadratic(seed):
    curvature, slope, at = _quadratic(seed)
    found = sam(of_quadratic(curvature, slope, at), rho=0.3, steps=20)
    exact = _maximum(curvature, slope, 0.3)
    assert 0.99 * exact <= found.value <= exact * (1 + 1e-9)
    assert found.first_order < 0.9 * exact
    e = 0.3 * slope / np.linalg.norm(slope)
    assert found.first_order == pytest.approx(slope @ e + e @ curvature @ e / 2, rel=1e-9)


def test_a_negative_curvature_as_large_as_the_positive_one_does_not_win():
    curvature, slope, at = _quadratic(7, least=-5.0)
    exact = _maximum(curvature, slope, 0.3)
    assert sam(of_quadratic(curvature, slope, at), rho=0.3, steps=15).value >= 0.98 * exact


@pytest.mark.parametrize("seed", range(3))
def test_asam_is_the_maximum_in_the_weights_own_units(seed):
    curvature, slope, at = _quadratic(seed)
    found = asam(of_quadratic(curvature, slope, at), rho=0.3, steps=20)
    sizes = np.abs(at)
    exact = _maximum(sizes[:, None] * curvature * sizes, sizes * slope, 0.3)
    assert 0.99 * exact <= found.value <= exact * (1 + 1e-9)


def test_at_a_minimum_without_any_gradient_random_starts_find_the_largest_curvature():
    curvature, _, at = _quadratic(1)
    found = sam(of_quadratic(curvature, np.zeros(30), at), rho=0.3, steps=40, restarts=1)
    assert found.first_order == 0
    assert found.value == pytest.approx(5.0 * 0.09 / 2, rel=0.01)


def test_asam_does_not_change_when_layers_are_scaled_against_each_other_but_sam_does():
    found = [Objective(*relu_network(scale=scale)) for scale in (1.0, 50.0)]
    adaptive = [asam(objective).value for objective in found]
    raw = [sam(objective).value for objective in found]
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-8)
    assert raw[1] > 1.5 * raw[0]


def test_asam_does_not_change_when_scale_invariant_weights_are_scaled():
    found = [asam(Objective(*normed_network(scale=scale), parameters=["0.weight"])).value for scale in (1.0, 3.0)]
    assert found[1] == pytest.approx(found[0], rel=1e-8)


def test_random_sharpness_is_half_the_mean_curvature():
    curvature, slope, at = _quadratic(2)
    objective = of_quadratic(curvature, 50 * slope, at)  # the gradient, however large, cancels between opposites
    found = random_sharpness(objective, rho=0.3, pairs=300)
    exact = 0.09 * np.trace(curvature) / 60
    assert abs(found.value - exact) < 3 * found.standard_error
    assert found.standard_error < 0.05 * exact


def test_the_interval_of_random_sharpness_covers():
    curvature, slope, at = _quadratic(3)
    objective = of_quadratic(curvature, slope, at)
    exact = 0.09 * np.trace(curvature) / 60
    found = [random_sharpness(objective, rho=0.3, pairs=4, seed=seed) for seed in range(200)]
    assert 0.92 < np.mean([one.low < exact < one.high for one in found]) < 0.98


def test_rows_hold_the_rise_relative_to_the_loss_where_there_is_one():
    objective = of_function(lambda w: 2 + w @ w, [1.0, 1.0])
    rows = sharpness(objective, rho=0.1).as_rows()
    assert rows["sam"] == pytest.approx((2**0.5 + 0.1) ** 2 - 2, rel=1e-6)
    assert rows["sam_relative"] == pytest.approx(rows["sam"] / 4)
    assert rows["random_low"] <= rows["random"] <= rows["random_high"]
    assert "sam_relative" not in sharpness(of_quadratic(np.eye(2), np.ones(2))).as_rows()  # a loss of 0


def test_it_costs_what_it_says(monkeypatch):
    calls = {"gradient": 0, "value": 0}
    for name in calls:
        method = getattr(Objective, name)

        def counted(self, weights=None, *, name=name, method=method):
            calls[name] += 1
            return method(self, weights)

        monkeypatch.setattr(Objective, name, counted)
    module, *data = relu_network()
    objective = Objective(module, *data)
    calls |= {"gradient": 0, "value": 0}
    with untouched(module):
        found = sharpness(objective)
    assert calls == {"gradient": 22, "value": 15}  # the solution's own loss is computed once
    assert found.sam.gradients + found.asam.gradients == 22


def test_wrong_settings_are_refused():
    objective = of_quadratic(np.eye(2), np.ones(2))
    for call in (lambda: sam(objective, rho=0.0), lambda: random_sharpness(objective, rho=float("nan"))):
        with pytest.raises(SpecError, match="rho must be positive"):
            call()
    with pytest.raises(SpecError, match="pairs must be at least 2"):
        random_sharpness(objective, pairs=1)
    with pytest.raises(SpecError, match="at least 1, found 0 and 2"):
        asam(objective, steps=0)
