"""Gradients: norms against NumPy, noise against planted covariances, coverage, invariance."""

import copy

import numpy as np
import pytest
import torch
from closed_forms import normed_network, planted_gradients, untouched
from torch import nn

from analysis.landscape.gradients import gradient_statistics, statistics_of
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from trainables.norm_statistics import batches_of
from trainables.spec import SpecError

MEAN = np.array([0.5, -0.3, 0.2, 0.0])
SPREAD = np.array([1.0, 0.5, 2.0, 0.1])


def _drawn(generator, samples=60, mean=MEAN):
    return mean + SPREAD * generator.standard_normal((samples, 4))


def _statistics(gradients, batch_size):
    """Of samples with given gradients, cut into batches."""
    parts = list(batches_of(len(gradients), batch_size))
    means = torch.tensor(np.array([gradients[part].mean(axis=0) for part in parts]))
    return statistics_of(means, [part.stop - part.start for part in parts], torch.ones(4))


def test_batches_are_in_order_and_a_single_sample_joins_the_one_before():
    assert list(batches_of(10, 4)) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert list(batches_of(9, 4)) == [slice(0, 4), slice(4, 9)]
    assert list(batches_of(1, 4)) == [slice(0, 1)]


def test_norms_are_those_of_numpy_with_uneven_batches():
    gradients = _drawn(np.random.default_rng(0), samples=58)
    found = gradient_statistics(planted_gradients(gradients), batch_size=16)
    norms = [np.linalg.norm(gradients[i : i + 16].mean(axis=0)) for i in range(0, 58, 16)]
    assert found.batches == 4
    assert found.norm == pytest.approx(np.linalg.norm(gradients.mean(axis=0)), rel=1e-12)
    assert found.batch_norm == pytest.approx(np.mean(norms), rel=1e-12)
    assert found.batch_norm_se == pytest.approx(np.std(norms, ddof=1) / 2, rel=1e-12)


def test_noise_is_unbiased_over_random_orders_with_uneven_batches():
    generator = np.random.default_rng(1)
    gradients = _drawn(generator, samples=37)
    exact = np.trace(np.cov(gradients.T))
    found = [_statistics(generator.permutation(gradients), 5).noise for _ in range(400)]
    assert abs(np.mean(found) - exact) < 3.5 * np.std(found) / 15
    assert np.std(found) / 15 < 0.05 * exact  # so that a wrong weight of the last batch would be seen


def test_intervals_cover():
    generator = np.random.default_rng(2)
    trace = (SPREAD**2).sum()
    scale = trace / (MEAN**2).sum()
    covered = np.zeros(2)
    for _ in range(250):
        found = _statistics(_drawn(generator, samples=200), 10)
        covered += [
            found.noise_low < trace < found.noise_high,
            (found.noise_scale_low or np.inf) < scale < (found.noise_scale_high or np.inf),
        ]
    assert (covered / 250 > 0.92).all()
    assert (covered / 250 < 0.98).all()


def test_the_squared_gradient_is_freed_of_its_noise():
    generator = np.random.default_rng(3)
    squared = []
    for _ in range(225):
        found = _statistics(_drawn(generator), 6)
        squared.append(found.norm**2 - found.noise / 60)
        if found.noise_scale is not None:
            assert found.noise / found.noise_scale == pytest.approx(squared[-1], rel=1e-9)
    exact = (MEAN**2).sum()
    assert abs(np.mean(squared) - exact) < 3 * np.std(squared) / 15
    assert 3 * np.std(squared) / 15 < 0.5 * (SPREAD**2).sum() / 60  # so that noise left in it would be seen


def test_noise_of_a_single_batch_has_no_upper_end():
    found = statistics_of(torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), [4, 4, 4], torch.ones(2))
    assert found.noise == pytest.approx(4 * (2 / 9 + 4 / 9) / 2)
    assert found.noise_low == 0
    assert "noise_high" not in found.as_rows()


def test_a_gradient_of_zero_has_no_noise_scale_and_rows_without_it():
    gradients = _drawn(np.random.default_rng(4), mean=np.zeros(4))
    gradients -= gradients.mean(axis=0)
    found = gradient_statistics(planted_gradients(gradients), batch_size=6)
    assert found.noise_scale is None
    assert found.noise_scale_high is None
    rows = found.as_rows()
    assert "noise_scale" not in rows
    assert all(np.isfinite(value) for value in rows.values())


def test_equal_gradients_have_no_noise():
    found = gradient_statistics(planted_gradients(np.tile(MEAN, (12, 1))), batch_size=4)
    assert found.noise == pytest.approx(0, abs=1e-12)
    assert found.batch_norm == pytest.approx(np.linalg.norm(MEAN))


@pytest.mark.parametrize("norms", [Norms.REESTIMATED, Norms.BATCH])
def test_effective_forms_do_not_change_when_scale_invariant_weights_are_scaled(norms):
    rows = []
    for scale in (1.0, 3.0):
        objective = Objective(*normed_network(scale=scale), parameters=["0.weight"], norms=norms)
        rows.append(gradient_statistics(objective, batch_size=15).as_rows())
    for key in ("norm", "batch_norm", "batch_norm_se", "noise", "noise_low", "noise_high"):
        assert rows[1][f"effective_{key}"] == pytest.approx(rows[0][f"effective_{key}"], rel=1e-8)
        assert rows[1][key] < 0.4 * rows[0][key]
    assert rows[1]["noise_scale"] == pytest.approx(rows[0]["noise_scale"], rel=1e-8)


def test_with_batch_statistics_the_norms_are_those_of_a_training_step():
    module, loss, x, y = normed_network()
    objective = Objective(module, loss, x, y, parameters=["0.weight"], norms=Norms.BATCH)
    training = copy.deepcopy(module).train()
    norms = []
    for start in range(0, 60, 20):
        training.zero_grad()
        nn.functional.cross_entropy(training(x[start : start + 20]), y[start : start + 20]).backward()
        norms.append(training[0].weight.grad.norm().item())
    with untouched(module):
        found = gradient_statistics(objective, batch_size=20)
    assert found.batch_norm == pytest.approx(np.mean(norms), rel=1e-10)


def test_too_few_batches_are_refused():
    with pytest.raises(SpecError, match="at least 3 mini-batches of 60 samples, found 30; at most 20 does"):
        gradient_statistics(planted_gradients(np.ones((60, 4))), batch_size=30)
