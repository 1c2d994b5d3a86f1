"""The density against the whole spectrum, and its summaries against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, wasserstein_distance
from small_nets import dense, digits

from analysis.landscape.density import density
from trainables.spec import SpecError


@pytest.fixture(scope="module")
def mlp():
    case = digits()
    whole = dense(case.module, case.x, case.y)
    return whole.float(), torch.linalg.eigvalsh(whole).numpy()


def test_distance_to_the_whole_spectrum_at_160_products(mlp):
    matrix, exact = mlp
    found = [density(lambda v: matrix @ v, 1066, seed=seed) for seed in range(6)]
    assert {one.products for one in found} == {160}
    distances = [one.wasserstein(exact) / np.ptp(exact) for one in found]
    assert np.mean(distances) <= 1.6e-3
    # one copy of the largest eigenvalue in each run, however many steps there are beyond its convergence
    long = density(lambda v: matrix @ v, 1066, runs=2, steps=160)
    assert [(abs(nodes / exact[-1] - 1) < 0.01).sum() for nodes in long.nodes] == [1, 1]


def test_wasserstein_distance_equals_scipys():
    found = density(torch.linspace(-1, 3, 50).mul, 50, runs=3, steps=9)
    others = np.random.default_rng(0).normal(size=20)
    expected = wasserstein_distance(found.nodes.ravel(), others, found.weights.ravel())
    assert found.wasserstein(others) == pytest.approx(expected, rel=1e-9)


def test_whole_space_is_the_spectrum_seen_from_the_start_vector():
    values = torch.arange(12.0)
    found = density(lambda v: values * v, 12, runs=5, steps=100)
    assert found.nodes.shape == (5, 12)
    np.testing.assert_allclose(found.nodes, np.tile(np.arange(12.0), (5, 1)), atol=1e-4)
    np.testing.assert_allclose(found.weights.sum(1), 1)


def test_intervals_of_the_distribution_function_hold(mlp):
    matrix, exact = mlp
    points = np.quantile(exact, [0.2, 0.5, 0.8, 0.95, 0.99]) + 1e-3
    true = np.searchsorted(exact, points, side="right") / len(exact)
    held = []
    for seed in range(40):
        band = density(lambda v: matrix @ v, 1066, runs=4, steps=30, seed=seed).cdf(points)
        held.append((band.low <= true) & (true <= band.high))
        assert ((band.low >= 0) & (band.high <= 1) & (band.low <= band.value) & (band.value <= band.high)).all()
    assert np.mean(np.array(held)[:, 3:]) >= 0.85  # further in, quadrature steps of the bulk add to the spread


def test_smoothed_density_and_quantiles():
    values = torch.cat([torch.zeros(900), torch.full((100,), 5.0)])
    found = density(lambda v: values * v, 1000, runs=30, steps=6)
    grid = np.array([0.0, 2.5, 5.0])
    band = found.smoothed(grid, 0.5)
    np.testing.assert_allclose(band.value, 0.9 * norm.pdf(grid, 0, 0.5) + 0.1 * norm.pdf(grid, 5, 0.5), rtol=0.06)
    assert (band.low < band.high).all()
    fine = np.linspace(-4, 9, 2001)
    assert np.trapezoid(found.smoothed(fine, 0.5).value, fine) == pytest.approx(1, rel=1e-6)
    assert [found.quantile(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0, 0, 5], abs=1e-4)
    assert np.isnan(density(values.mul, 1000, runs=1, steps=3).cdf(grid).low).all()


def test_bad_input_is_one_sentence():
    for arguments in ({"runs": 0}, {"steps": 0}):
        with pytest.raises(SpecError):
            density(torch.clone, 10, **arguments)
    found = density(torch.clone, 10)
    with pytest.raises(SpecError):
        found.quantile(1.5)
    with pytest.raises(SpecError):
        found.smoothed(np.zeros(2), 0.0)
