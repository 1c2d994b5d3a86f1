"""Neural collapse of planted features: closed forms, and the definitions with dense pseudo-inverses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.representation.collapse import collapse
from trainables.spec import SpecError

NAMES = ("nc1", "nc2_norms", "nc2_angles", "nc3", "nc4")


def _simplex(classes, units, seed=0):
    """Vertices of a simplex around 0, all of length 1, in a random orientation, [classes, units]."""
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(units, classes)))[0].T
    return np.sqrt(classes / (classes - 1)) * (frame - frame.mean(0))


def _values(found):
    return np.array([getattr(found, name).value for name in NAMES])


def _collapse(h, labels, weight, predictions=None):
    predictions = labels if predictions is None else predictions
    return collapse(*(torch.from_numpy(np.asarray(a)) for a in (h, labels, weight, predictions)))


def _random(seed=0, classes=4, units=7, counts=(30, 50, 20, 41)):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(classes), counts))
    h = generator.normal(size=(classes, units))[labels] * 2 + generator.normal(size=(len(labels), units)) + 3
    return h, labels, generator.normal(size=(classes, units)), generator.integers(0, classes, len(labels))


@pytest.mark.parametrize(("classes", "units"), [(2, 5), (4, 3), (10, 32)])
def test_a_simplex_without_spread_and_its_own_classifier_is_collapse(classes, units):
    vertices = _simplex(classes, max(classes, units))[:, : max(classes, units)]
    labels = np.tile(np.arange(classes), 6)
    found = _collapse(5 + 3 * vertices[labels], labels, 0.1 * vertices)
    np.testing.assert_allclose(_values(found), 0, atol=1e-12)
    assert (found.n, found.classes) == (6 * classes, classes)


def test_round_noise_about_a_simplex_has_the_variability_of_the_closed_form():
    classes, units, sigma, length = 5, 12, 0.7, 2.0
    generator = np.random.default_rng(0)
    labels = np.tile(np.arange(classes), 4_000)
    h = length * _simplex(classes, units)[labels] + sigma * generator.normal(size=(len(labels), units))
    truth = sigma**2 * (classes - 1) ** 2 / (length**2 * classes)
    found = _collapse(h, labels, _simplex(classes, units)).nc1
    assert found.value == pytest.approx(truth, rel=0.02)
    assert found.low < truth < found.high
    assert found.high - found.low < 0.05 * truth


def test_definitions_with_dense_pseudo_inverses_and_classes_that_count_alike():
    h, labels, weight, predictions = _random()
    means = np.stack([h[labels == c].mean(0) for c in range(4)])
    centred = means - means.mean(0)

    def variability(kept):
        centres = np.stack([h[kept & (labels == c)].mean(0) for c in range(4)])
        within = np.mean([np.cov(h[kept & (labels == c)].T, bias=True) for c in range(4)], axis=0)
        between = np.mean([np.outer(m, m) for m in centres - centres.mean(0)], axis=0)
        return np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 4

    place = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
    groups = min(20, np.bincount(labels).min())
    left_out = np.mean([variability(place % groups != g) for g in range(groups)])
    lengths = np.array([np.sqrt(m @ m) for m in centred])
    cosines = [a @ b / np.sqrt(a @ a * (b @ b)) for i, a in enumerate(centred) for b in centred[:i]]
    nearest = np.array([np.argmin([np.sum((x - m) ** 2) for m in means]) for x in h])
    oracle = [
        groups * variability(labels >= 0) - (groups - 1) * left_out,
        lengths.std() / lengths.mean(),
        np.abs(np.array(cosines) + 1 / 3).mean(),
        np.sum((weight / np.linalg.norm(weight) - centred / np.linalg.norm(centred)) ** 2),
        (nearest != predictions).mean(),
    ]
    np.testing.assert_allclose(_values(_collapse(h, labels, weight, predictions)), oracle, rtol=1e-10)


def test_few_samples_of_a_class_do_not_make_a_network_look_collapsed():
    classes, units, generator = 10, 64, np.random.default_rng(0)
    centres = 0.7 * generator.normal(size=(classes, units))
    centred = centres - centres.mean(0)
    between = centred.T @ centred / classes
    truth = np.trace(np.linalg.pinv(between, rcond=1e-9)) / classes  # noise of covariance 1
    found = []
    for _ in range(40):
        labels = np.repeat(np.arange(classes), 20)
        found.append(_collapse(centres[labels] + generator.normal(size=(len(labels), units)), labels, centres).nc1)
    assert np.mean([f.value for f in found]) == pytest.approx(truth, rel=0.02)
    assert np.mean([f.low < truth < f.high for f in found]) >= 0.85  # of a nominal 0.95; without the correction 0.3


def test_one_logit_is_two_with_opposite_weights():
    h, labels, weight, predictions = _random(classes=2, counts=(30, 40))
    one = _collapse(h, labels, weight[:1], predictions)
    two = _collapse(h, labels, np.concatenate([-weight[:1], weight[:1]]) / 2, predictions)
    assert one == two
    right_way = (h[labels == 1].mean(0) - h[labels == 0].mean(0))[None]
    assert _collapse(h, labels, right_way).nc3.value == pytest.approx(0, abs=1e-12)
    assert _collapse(h, labels, -right_way).nc3.value == pytest.approx(4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 500), st.floats(0.01, 100))
def test_a_common_rotation_shift_and_scales_do_not_matter(seed, scale):
    h, labels, weight, predictions = _random(seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(7, 7)))[0]
    moved = _collapse(scale * h @ turn - 2 * scale, labels, 3 * weight @ turn, predictions)
    np.testing.assert_allclose(
        _values(moved), _values(_collapse(h, labels, weight, predictions)), rtol=1e-7, atol=1e-12
    )


def test_the_spread_over_draws_is_what_the_intervals_say():
    centres = np.random.default_rng(0).normal(size=(3, 6)) * 2
    labels, generator = np.tile(np.arange(3), 60), np.random.default_rng(1)
    weight = centres + np.random.default_rng(2).normal(size=(3, 6))
    found = [_collapse(centres[labels] + generator.normal(size=(180, 6)), labels, weight) for _ in range(120)]
    for name in NAMES[:4]:
        halves = np.mean([getattr(f, name).high - getattr(f, name).value for f in found])
        spread = np.std([getattr(f, name).value for f in found])
        assert 0.85 < halves / (2.09 * spread) < 1.2, name


def test_rows_and_faults():
    h, labels, weight, predictions = _random()
    rows = _collapse(h, labels, weight, predictions).as_rows()
    assert set(rows) == {name + end for name in NAMES for end in ("", "_low", "_high")}
    few = np.where(labels == 3, 2, labels)
    few[0] = 3
    cases = [
        ((h, few, weight), "at least 2 samples of each of 4 classes, found"),
        ((h, labels, weight[:3]), "each of 3 classes, found \\[30, 50, 20, 41\\]"),
        ((h, labels, weight[:, :5]), "\\(4, 5\\), \\(141, 7\\)"),
        ((np.ones_like(h), labels, weight), "class means that differ"),
        ((h * np.nan, labels, weight), "activations must be finite"),
        ((h, labels, weight * np.inf), "finite weights"),
    ]
    for case, words in cases:
        with pytest.raises(SpecError, match=words):
            _collapse(*case)
