"""Linear probes on planted layers: known best accuracies, the control task, paired intervals."""

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from analysis.estimates import share_estimate
from analysis.representation.linear_probes import _difference, control_labels, linear_probe
from trainables.spec import SpecError


def _labels(n, classes=2, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, classes, n))


def _around(labels, units, distance, seed=1):
    """Unit Gaussians whose means lie `distance` apart along the first unit."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(labels), units)))
    x[:, 0] += distance * labels
    return x


def test_best_possible_accuracy_of_two_gaussians_is_reached_and_chance_without_them():
    labels, control = _labels(4000), _labels(4000, seed=5)
    found = linear_probe(_around(labels, 5, 2.0), labels, control)
    assert found.n == 1200
    assert found.accuracy.low < ndtr(1.0) < found.accuracy.high
    assert found.control.low < 0.5 < found.control.high
    assert found.selectivity.value == pytest.approx(found.accuracy.value - found.control.value)
    assert found.selectivity.low < ndtr(1.0) - 0.5 < found.selectivity.high


def test_scales_and_dead_units_do_not_matter():
    labels, control = _labels(300, 3), _labels(300, 3, seed=5)
    x = _around(labels, 4, 3.0)
    scaled = torch.cat([x * torch.tensor([1e-3, 1.0, 1e4, 7.0]) + 9.0, torch.full((300, 2), 0.1)], dim=1)
    assert linear_probe(scaled, labels, control).accuracy == linear_probe(x, labels, control).accuracy


def test_where_noise_outnumbers_the_samples_a_strong_penalty_is_chosen():
    labels = _labels(200)
    x = _around(labels, 300, 1.5)
    x[:, 1:20] += 0.8 * labels[:, None]
    assert linear_probe(x, labels, labels).strength < 0.1
    assert linear_probe(_around(_labels(4000), 2, 6.0), _labels(4000), _labels(4000)).accuracy.value > 0.99


def test_where_the_difference_of_two_like_units_tells_the_class_a_weak_penalty_is_chosen():
    labels = _labels(600)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(600, 1))).repeat(1, 2)
    x[:, 1] += 0.05 * (2 * labels - 1)
    found = linear_probe(x, labels, labels)
    assert found.accuracy.value > 0.99
    assert found.strength >= 1


def test_a_layer_that_knows_the_type_does_the_control_task():
    types = _labels(2000, 10)
    labels = _labels(2000, 2, seed=3)
    control = control_labels(torch.empty(2000, 0), labels, types=types, seed=1)
    assert all(len(control[types == t].unique()) == 1 for t in range(10))
    assert sorted(control[(types == t)][0].item() for t in range(10)) == [0] * 5 + [1] * 5
    found = linear_probe(torch.nn.functional.one_hot(types, 10).double(), labels, control)
    assert found.control.value == 1
    assert found.accuracy.low < 0.5 < found.accuracy.high
    assert found.selectivity.high < -0.4


def test_types_of_inputs_are_cells_and_the_function_follows_the_seed():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    labels = _labels(400, 4)
    control = control_labels(x, labels, seed=2)
    assert torch.equal(control, control_labels(x, labels, seed=2))
    assert not torch.equal(control, control_labels(x, labels, seed=3))
    distances = torch.cdist(x, x).fill_diagonal_(torch.inf)
    alike = (control == control[distances.argmin(1)]).double().mean()
    assert alike > 0.5  # neighbours share a type far more often than the 1/4 of unrelated labels
    twice = control_labels(torch.cat([x, x]), torch.cat([labels, labels]), seed=2)
    assert torch.equal(twice[:400], twice[400:])


def test_the_same_seed_gives_the_same_probe_and_no_random_state_moves():
    labels = _labels(100)
    x, control = _around(labels, 3, 1.0), _labels(100, seed=4)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not move)
    assert linear_probe(x, labels, control, seed=3) == linear_probe(x, labels, control, seed=3)
    assert linear_probe(x, labels, control, seed=3) != linear_probe(x, labels, control, seed=4)
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_paired_intervals_hold_the_true_difference_as_often_as_they_say():
    generator = np.random.default_rng(0)
    inside, widths = 0, []
    for _ in range(2000):
        both = generator.random(60)
        a, b = both < 0.85, (both < 0.6) | (generator.random(60) < 0.1)  # right together more often than not
        found = _difference(*(share_estimate(int(r.sum()), 60, 0.95) for r in (a, b)), a, b)
        truth = 0.85 - (0.6 + 0.4 * 0.1)
        inside += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert 0.935 < inside / 2000 < 0.975
    unpaired = 2 * 1.96 * np.sqrt((0.85 * 0.15 + 0.64 * 0.36) / 60)
    assert np.mean(widths) < 0.9 * unpaired


def test_rows_and_faults():
    labels = _labels(100)
    rows = linear_probe(_around(labels, 3, 1.0), labels, labels).as_rows()
    names = ("accuracy", "control", "selectivity")
    assert set(rows) == {name + end for name in names for end in ("", "_low", "_high")}
    with pytest.raises(SpecError, match="at least 20 samples with labels, found 19"):
        linear_probe(torch.zeros(19, 2), labels[:19], labels[:19])
    with pytest.raises(SpecError, match="two classes or more, found one"):
        linear_probe(torch.zeros(100, 2), torch.zeros(100), labels)
    with pytest.raises(SpecError, match="must be finite"):
        linear_probe(torch.full((100, 2), torch.nan), labels, labels)
