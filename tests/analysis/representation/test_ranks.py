"""Ranks against closed forms and plain singular values; their intervals against refits and repeated draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.representation.ranks import ranks
from analysis.sparsity import effective_number
from trainables.spec import SpecError

NAMES = ("effective_rank", "covariance_effective_rank", "participation_ratio", "stable_rank")


def _values(found):
    return np.array([getattr(found, name).value for name in NAMES])


def _orthogonal(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def _with_singular_values(singular, n=12, p=8):
    """A centred matrix [n, p] with these singular values."""
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.random.default_rng(1).normal(size=(n, n - 1))]))[0][:, 1:]
    k = len(singular)
    return torch.from_numpy(basis[:, :k] * np.array(singular) @ _orthogonal(p)[:k])


def test_equal_directions_count_alike_and_one_counts_alone():
    np.testing.assert_allclose(_values(ranks(_with_singular_values([2.0] * 5))), 5.0)
    np.testing.assert_allclose(_values(ranks(_with_singular_values([3.0]))), 1.0, atol=1e-6)


def test_two_directions_by_hand():
    found = ranks(_with_singular_values([3.0, 1.0]) + 7.0)  # the mean does not matter
    by_singular = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    by_eigenvalue = np.exp(-(0.9 * np.log(0.9) + 0.1 * np.log(0.1)))
    np.testing.assert_allclose(_values(found), [by_singular, by_eigenvalue, 100 / 82, 10 / 9])
    assert (found.n, found.units) == (12, 8)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.sampled_from([(30, 6), (8, 20)]))
def test_rotation_and_scale_do_not_matter(seed, scale, shape):
    x = np.random.default_rng(seed).normal(size=shape) ** 3
    turned = scale * x @ _orthogonal(shape[1], seed)
    np.testing.assert_allclose(_values(ranks(torch.from_numpy(turned))), _values(ranks(torch.from_numpy(x))), rtol=1e-6)


def test_more_units_than_samples_give_the_same_as_the_space_they_span():
    x = np.random.default_rng(0).normal(size=(20, 7)) * np.arange(1, 8)
    wide = torch.from_numpy(np.hstack([x, np.zeros((20, 30))]) @ _orthogonal(37))
    low, high = ranks(torch.from_numpy(x)), ranks(wide)
    for name in NAMES:
        assert getattr(high, name).interval == pytest.approx(getattr(low, name).interval, rel=1e-5)


def _by_singular_values(x):
    """[4] from the definitions, by numpy alone."""
    s = np.linalg.svd(x - x.mean(0), compute_uv=False)
    rank = [np.exp(-(p * np.log(p)).sum()) for p in (s / s.sum(), s**2 / (s**2).sum())]
    return np.array([*rank, effective_number(s**2), (s**2).sum() / s[0] ** 2])


def test_standard_errors_are_those_of_the_jackknife_by_refits():
    n = 300
    x = np.random.default_rng(2).standard_t(8, size=(n, 4)) * [3, 2, 1, 0.5]
    left_out = np.stack([_by_singular_values(np.delete(x, i, axis=0)) for i in range(n)])
    refits = np.sqrt((n - 1) / n * ((left_out - left_out.mean(0)) ** 2).sum(0))
    found = ranks(torch.from_numpy(x))
    halves = np.array([getattr(found, name).high - getattr(found, name).value for name in NAMES])
    np.testing.assert_allclose(halves, 1.968 * refits, rtol=0.03)
    np.testing.assert_allclose(_values(found), _by_singular_values(x))


def test_intervals_hold_the_truth_as_often_as_they_say():
    scales = np.array([2.0, 1.5, 1.0, 0.5])
    truth = _by_singular_values(np.vstack([np.diag(scales), -np.diag(scales)]))
    generator = np.random.default_rng(3)
    inside = np.zeros(4)
    for _ in range(300):
        found = ranks(torch.from_numpy(generator.normal(size=(400, 4)) * scales))
        inside += [getattr(found, n).low <= t <= getattr(found, n).high for n, t in zip(NAMES, truth, strict=True)]
    assert (inside / 300 > 0.91).all(), inside / 300
    assert (inside / 300 < 0.985).all(), inside / 300


def test_few_samples_of_many_units_give_too_low_a_participation_ratio():
    x = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    assert ranks(x).participation_ratio.value == pytest.approx(50, rel=0.05)
    wider = torch.randn(4000, 100, generator=torch.Generator().manual_seed(0))
    assert ranks(wider).participation_ratio.value == pytest.approx(100 / (1 + 100 / 4000), rel=0.01)


def test_rows_and_faults():
    rows = ranks(_with_singular_values([3.0, 1.0])).as_rows()
    assert set(rows) == {name + end for name in NAMES for end in ("", "_low", "_high")}
    assert rows["participation_ratio_low"] <= rows["participation_ratio"] <= rows["participation_ratio_high"]
    with pytest.raises(SpecError, match="constant"):
        ranks(torch.full((50, 3), 0.1))
    with pytest.raises(SpecError, match="at least 3 samples, found 2"):
        ranks(torch.eye(2))
    with pytest.raises(SpecError, match="must be finite"):
        ranks(torch.full((5, 2), torch.inf))
