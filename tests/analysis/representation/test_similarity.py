"""CKA against its definition over tuples of samples, its invariances, and what unrelated activations give."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.representation.similarity import linear_cka
from trainables.spec import SpecError


def _cka(x, y):
    return linear_cka(torch.from_numpy(x), torch.from_numpy(y))


def _rotation(units, seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(units, units)))[0]


def _hsic_over_tuples(x, y):
    """The U-statistic whose mean is HSIC: an average over four different samples at a time."""
    k, l_ = x @ x.T, y @ y.T
    terms = [
        k[i, j] * l_[i, j] + k[i, j] * l_[q, r] - 2 * k[i, j] * l_[i, q]
        for i, j, q, r in permutations(range(len(x)), 4)
    ]
    return np.mean(terms)


def _by_tuples(x, y):
    return _hsic_over_tuples(x, y) / np.sqrt(_hsic_over_tuples(x, x) * _hsic_over_tuples(y, y))


@pytest.mark.parametrize("p", [2, 12])
def test_definition_over_tuples_of_samples_and_the_jackknife_by_refits(p):
    generator = np.random.default_rng(0)
    common = generator.normal(size=(7, 2))
    x, y = common @ generator.normal(size=(2, p)) + 1, common + 0.3 * generator.normal(size=(7, 2))
    found = _cka(x, y)
    assert found.cka.value == pytest.approx(_by_tuples(x, y))
    refits = np.array([_by_tuples(np.delete(x, i, 0), np.delete(y, i, 0)) for i in range(7)])
    error = np.sqrt(6 / 7 * ((refits - refits.mean()) ** 2).sum())
    assert found.cka.value - found.cka.low == pytest.approx(2.4469 * error, rel=1e-4)


def test_the_biased_estimate_is_the_published_one():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(30, 4)), generator.normal(size=(30, 50))
    u, v = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    assert _cka(x, y).biased == pytest.approx(norm(v.T @ u) ** 2 / (norm(u.T @ u) * norm(v.T @ v)))


@pytest.mark.parametrize("units", [3, 40])
def test_identical_layers_are_alike(units):
    x = np.random.default_rng(2).normal(size=(20, units))
    found = _cka(x, x)
    assert (*found.cka.interval, found.cka.value, found.biased) == pytest.approx((1, 1, 1, 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 500), st.floats(1e-3, 1e3), st.sampled_from([3, 25]))
def test_rotation_scale_shift_and_order_of_the_two_do_not_matter(seed, scale, units):
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(15, 3))
    x, y = common @ generator.normal(size=(3, units)), common + generator.normal(size=(15, 3))
    moved = _cka(y @ _rotation(3, seed) - 4, scale * x @ _rotation(units, seed) + scale)
    plain = _cka(x, y)
    assert (moved.cka.value, *moved.cka.interval) == pytest.approx((plain.cka.value, *plain.cka.interval), rel=1e-6)
    assert moved.biased == pytest.approx(plain.biased, rel=1e-6)


def test_unrelated_layers_of_many_units_are_alike_by_the_biased_estimate_only():
    generator = np.random.default_rng(3)
    found = [_cka(generator.normal(size=(20, 300)), generator.normal(size=(20, 400))) for _ in range(100)]
    values = np.array([f.cka.value for f in found])
    assert abs(values.mean()) < 3 * values.std() / 10
    assert values.min() < 0
    assert min(f.biased for f in found) > 0.85


def test_intervals_hold_the_truth_of_gaussians_as_often_as_they_say():
    mix = np.array([[1.0, 0.5], [0.0, 1.0], [0.3, -0.4]])
    own, cross = mix @ mix.T, mix @ np.diag([1.0, 2.0]).T
    other = np.diag([1.0, 4.0]) + 0.5 * np.eye(2)
    truth = (cross**2).sum() / np.sqrt((own**2).sum() * (other**2).sum())
    generator, inside = np.random.default_rng(4), 0
    for _ in range(300):
        common = generator.normal(size=(200, 2))
        y = common * [1, 2] + np.sqrt(0.5) * generator.normal(size=(200, 2))
        low, high = _cka(common @ mix.T, y).cka.interval
        inside += low <= truth <= high
    assert 0.91 < inside / 300 < 0.985


def test_faults():
    x = np.random.default_rng(5).normal(size=(10, 3))
    for a, b, words in [
        (x, x[:9], "found 10 and 9"),
        (x[:4], x[:4], "at least 5"),
        (x, np.full((10, 2), 0.1), "noise or a constant"),
        (x, x * np.nan, "must be finite"),
    ]:
        with pytest.raises(SpecError, match=words):
            _cka(a, b)
