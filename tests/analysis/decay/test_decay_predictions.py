"""Predictions against SGD's discrete identity, run to the end, and against the published special cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.decay.predictions import angle_ratio, course, equilibrium_ratio, just_after, recovery_steps, settled
from analysis.decay.schedules import Decay, Level, parse_schedule


def _decay(lr=0.1, wd=0.01, f=0.1, g=1.0, kick=1.0):
    before = Level(start=0, stop=1000, lr=lr, weight_decay=wd)
    return Decay(before=before, after=Level(start=1000, stop=9000, lr=f * lr, weight_decay=g * wd, kick=kick))


def _simulated(decay, steps, momentum=0.0, noise=1.0):
    """Effective LR by its old equilibrium, n' = (1 - lr wd)^2 n + lr^2 G / n, momentum as lr/(1 - m)."""
    lr, wd = decay.before.lr / (1 - momentum), decay.before.weight_decay
    n = np.sqrt(lr / (2 * wd))
    for _ in range(20000):
        n = (1 - lr * wd) ** 2 * n + lr**2 / n
    old = decay.before.lr / n
    n *= decay.after.kick**2
    lr, wd, out = decay.after.lr / (1 - momentum), decay.after.weight_decay, []
    for _ in range(steps):
        out.append(decay.after.lr / n / old)
        n = (1 - lr * wd) ** 2 * n + lr**2 * noise / n
    return np.array(out)


@given(
    f=st.floats(0.1, 1.0),
    g=st.one_of(st.just(0.0), st.floats(0.1, 1.0)),
    kick=st.sampled_from([1.0, 1.3]),
    momentum=st.sampled_from([0.0, 0.5]),
    noise=st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=20, deadline=None)
def test_the_course_is_that_of_the_norms(f, g, kick, momentum, noise):
    decay = _decay(f=f, g=g, kick=kick)
    found = course(decay, momentum, np.arange(1500.0), noise)
    np.testing.assert_allclose(found, _simulated(decay, 1500, momentum, noise), rtol=6e-3)
    assert found[0] == pytest.approx(just_after(decay))


@pytest.mark.parametrize(("f", "g", "kick"), [(0.1, 1, 1), (0.5, 1, 1), (1, 0.1, 1), (0.2, 0.5, 1), (1, 0.999, 1.3)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_recovery_ends_where_gamma_is_within_a_tenth(f, g, kick, momentum):
    decay = _decay(f=f, g=g, kick=kick)
    steps = recovery_steps(decay, momentum)
    gamma = course(decay, momentum, np.array([steps])) ** -2
    assert abs(gamma[0] / equilibrium_ratio(decay) ** -2 - 1) == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize("k", [2.0, 10.0])
def test_published_special_cases(k):
    """Protocol: LR/k gives 1/k at once, 1/sqrt(k) in the end, after ln((k - 1)/tol) k / (4 lambda_e) steps."""
    rate, drop = _decay(f=1 / k), _decay(f=1.0, g=1 / k)
    assert (just_after(rate), just_after(drop)) == pytest.approx((1 / k, 1.0))
    assert angle_ratio(rate) == angle_ratio(drop) == pytest.approx(k**-0.5)
    assert equilibrium_ratio(rate, noise=1.89) == pytest.approx((1 / k / 1.89) ** 0.5)
    assert recovery_steps(rate, 0.0) == pytest.approx(np.log((k - 1) / 0.1) * k / (4 * 1e-3))
    assert recovery_steps(rate, 0.9) == pytest.approx(recovery_steps(rate, 0.0) / 10)
    assert recovery_steps(rate, 0.0, tolerance=k) == 0


def test_without_weight_decay_there_is_no_equilibrium():
    off, without = _decay(f=1.0, g=0.0), parse_schedule([{"steps": 9, "lr": 1.0}, {"steps": 9, "lr": 0.1}]).decays[0]
    for decay in (off, without):
        assert np.isnan(equilibrium_ratio(decay))
        assert recovery_steps(decay, 0.0) == np.inf
    assert np.isnan(course(without, 0.0, np.arange(3.0))).all()
    assert (np.diff(course(off, 0.0, np.arange(9000.0))) < 0).all()


@pytest.mark.parametrize(("steps", "momentum", "expected"), [(3999, 0, False), (4001, 0, True), (401, 0.9, True)])
def test_four_units_of_time_settle_a_level(steps, momentum, expected):
    assert settled(Level(start=0, stop=steps, lr=0.1, weight_decay=0.01), momentum) is expected
