"""Relative flatness: the closed form of a softmax layer, and invariance."""

import pytest
import torch
from closed_forms import relu_network, untouched

from analysis.landscape.flatness import relative_flatness
from analysis.landscape.objective import Objective
from trainables.spec import SpecError


def _closed_form(module, x):
    """Mean over samples of |phi|^2 (sum_s p_s |w_s|^2 - |sum_s p_s w_s|^2)."""
    with torch.no_grad():
        features = module[:2](x)
        p, w = module(x).softmax(1), module[2].weight
        return (features.square().sum(1) * (p @ w.square().sum(1) - (p @ w).square().sum(1))).mean().item()


def test_it_is_the_closed_form_of_a_softmax_layer():
    module, loss, x, y = relu_network()
    objective = Objective(module, loss, x, y, parameters=["2.weight"])
    with untouched(module):
        found = relative_flatness(objective, probes=600)
    exact = _closed_form(module, x)
    assert abs(found.value - exact) < 3 * found.standard_error
    assert found.standard_error < 0.06 * exact
    assert found.as_rows()["relative_flatness_low"] < exact < found.as_rows()["relative_flatness_high"]


def test_it_does_not_change_when_layers_are_scaled_against_each_other():
    found, raw = [], []
    for scale in (1.0, 4.0):
        objective = Objective(*relu_network(scale=scale), parameters=["2.weight"])
        found.append(relative_flatness(objective).value)
        raw.append(objective.hessian(torch.ones(21, dtype=torch.float64)).norm().item())
    assert found[1] == pytest.approx(found[0], rel=1e-10)
    assert raw[1] == pytest.approx(16 * raw[0], rel=1e-10)


def test_it_needs_one_matrix_and_two_probes():
    objective = Objective(*relu_network())
    with pytest.raises(SpecError, match=r"one weight matrix, found 2 parameters, 0\.weight \(\d+, \d+\), 2\.weight"):
        relative_flatness(objective)
    objective = Objective(*relu_network(), parameters=["2.weight"])
    with pytest.raises(SpecError, match="at least 2"):
        relative_flatness(objective, probes=1)
