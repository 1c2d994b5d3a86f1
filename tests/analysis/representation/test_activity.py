"""Activation sparsity of planted layers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.representation.activations import layer_of
from analysis.representation.activity import activity


def test_planted_zeros_dead_units_and_one_speaker():
    units = torch.zeros(4, 10)
    units[:, 3] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    found = activity(layer_of(units))
    assert (found.zeros.value, found.small.value, found.hoyer.value) == pytest.approx((0.9, 0.9, 1.0))
    assert found.gini.value == pytest.approx(1 - 1 / 10)
    assert found.dead == pytest.approx(0.9)
    assert found.n == 4


def test_values_of_both_signs_count_by_size_and_equal_ones_are_not_sparse():
    found = activity(layer_of(torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 3)))
    assert (found.zeros.value, found.small.value, found.gini.value, found.hoyer.value, found.dead) == (0, 0, 0, 0, 0)


def test_a_silent_layer_has_no_unevenness():
    found = activity(layer_of(torch.zeros(5, 4)))
    assert (found.zeros.value, found.dead) == (1, 1)
    assert np.isnan([found.gini.value, found.hoyer.value]).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-4, 1e4), st.integers(0, 100))
def test_scale_does_not_matter(scale, seed):
    units = torch.randn(20, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).relu()
    assert activity(layer_of(scale * units)).as_rows() == pytest.approx(
        activity(layer_of(units)).as_rows(), nan_ok=True
    )


def test_the_interval_of_zeros_is_over_samples_not_over_activations():
    generator = torch.Generator().manual_seed(0)
    units = (torch.rand(200, 1, generator=generator) < 0.5).double().expand(200, 50)  # all units of a sample agree
    found = activity(layer_of(units)).zeros
    assert found.high - found.low == pytest.approx(2 * 1.97 * np.sqrt(0.25 / 200), rel=0.02)
