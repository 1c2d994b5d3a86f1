"""Closed forms against steps that are really made: random gradients orthogonal to the weights, and autograd."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis.laws import (
    equilibrium_angle,
    equilibrium_effective_lr,
    equilibrium_norm_sq,
    equilibrium_steps,
    function_steps,
    intrinsic_lr,
    norm_sq_step,
    recovery_steps_after_drop,
)

positive = st.floats(1e-4, 1e2)


def test_norm_after_a_step_is_that_of_a_normalised_network():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    x, y = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((20, 6), (20,)))
    ((torch.tanh(x @ (w / w.norm())) - y) ** 2).mean().backward()
    assert w.grad is not None
    before, gradient = w.detach().numpy(), w.grad.numpy()
    after = before - 0.3 * (gradient + 0.05 * before)
    norm_sq = float(before @ before)
    found = norm_sq_step(norm_sq, 0.3, 0.05, float(gradient @ gradient) * norm_sq)
    assert found == pytest.approx(float(after @ after), rel=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_equilibrium_of_noisy_descent(momentum):
    """Gradients of norm sqrt(G) / ||w||, of random direction orthogonal to the weights: nothing but noise."""
    rng = np.random.default_rng(3)
    runs, size, lr, decay, unit = 20, 40, 0.05, 0.02 * (1 - momentum), 3.0
    w = rng.normal(size=(runs, size))
    w *= (equilibrium_norm_sq(lr, decay, unit, momentum) ** 0.5) / np.linalg.norm(w, axis=1, keepdims=True)
    velocity = np.zeros_like(w)
    norms, angles = [], []
    for step in range(4000):
        noise = rng.normal(size=w.shape)
        square = (w * w).sum(1, keepdims=True)
        noise -= (noise * w).sum(1, keepdims=True) / square * w
        gradient = noise / np.linalg.norm(noise, axis=1, keepdims=True) * np.sqrt(unit / square)
        velocity = momentum * velocity + gradient + decay * w
        after = w - lr * velocity
        if step >= 1500:
            cosine = (after * w).sum(1) / np.linalg.norm(after, axis=1) / np.sqrt(square[:, 0])
            norms.append(square.mean())
            angles.append((np.arccos(np.minimum(cosine, 1.0)) ** 2).mean())
        w = after
    assert np.mean(norms) == pytest.approx(equilibrium_norm_sq(lr, decay, unit, momentum), rel=0.02)
    assert np.sqrt(np.mean(angles)) == pytest.approx(equilibrium_angle(lr, decay, momentum), rel=0.02)


def steps_until(norm_sq, target, lr, decay, unit, tolerance):
    """Iterate the identity until ||w||^4 is within the tolerance."""
    count = 0
    while abs(norm_sq**2 / target**2 - 1) > tolerance:
        norm_sq = norm_sq_step(norm_sq, lr, decay, unit)
        count += 1
    return count


@pytest.mark.parametrize("start_ratio", [2.856, 0.01, 50.0])
@pytest.mark.parametrize("tolerance", [0.1, 0.03])
def test_time_to_equilibrium_is_that_of_the_iterated_identity(start_ratio, tolerance):
    lr, decay, unit = 0.02, 0.01, 4.0
    target = equilibrium_norm_sq(lr, decay, unit)
    counted = steps_until(target * start_ratio**0.5, target, lr, decay, unit, tolerance)
    assert equilibrium_steps(intrinsic_lr(lr, decay), start_ratio, tolerance) == pytest.approx(counted, rel=0.01)


def test_recovery_after_a_drop_is_that_of_the_iterated_identity():
    lr, decay, unit, factor = 0.02, 0.01, 4.0, 0.1
    old, new = (equilibrium_norm_sq(rate, decay, unit) for rate in (lr, lr * factor))
    counted = steps_until(old, new, lr * factor, decay, unit, 0.1)
    assert recovery_steps_after_drop(intrinsic_lr(lr, decay), factor) == pytest.approx(counted, rel=0.01)


@given(positive, st.floats(1e-6, 1e-1), positive, st.floats(0, 0.95), st.floats(0.1, 10))
def test_only_the_product_acts(lr, decay, unit, momentum, scale):
    """(c^2 eta, lambda / c^2) from c w is the same run: same rate, angle and effective LR, norm times c."""
    other = lr * scale**2, decay / scale**2
    assert intrinsic_lr(*other, momentum) == pytest.approx(intrinsic_lr(lr, decay, momentum))
    assert equilibrium_angle(*other, momentum) == pytest.approx(equilibrium_angle(lr, decay, momentum))
    effective = equilibrium_effective_lr(lr, decay, unit, momentum)
    assert equilibrium_effective_lr(*other, unit, momentum) == pytest.approx(effective)
    norm = equilibrium_norm_sq(lr, decay, unit, momentum)
    assert equilibrium_norm_sq(*other, unit, momentum) == pytest.approx(norm * scale**2)
    assert effective == pytest.approx(lr / norm)


def test_published_planning_numbers():
    rate = intrinsic_lr(0.1, 5e-4)
    assert rate == pytest.approx(5e-5)
    assert intrinsic_lr(0.1, 5e-4, 0.9) == pytest.approx(5e-4)
    assert recovery_steps_after_drop(rate, 0.1) == pytest.approx(225_000, rel=0.001)
    assert function_steps(rate) == pytest.approx((40_000, 80_000))


def test_arrays_go_through_and_numbers_stay_numbers():
    lr = np.array([0.1, 0.2])
    np.testing.assert_allclose(equilibrium_angle(lr, lr), np.sqrt(2) * lr)
    assert type(equilibrium_angle(0.1, 0.1)) is float


def test_without_decay_there_is_no_equilibrium():
    assert equilibrium_norm_sq(0.1, 0.0, 1.0) == math.inf
    assert equilibrium_steps(0.0, 2.0) == math.inf
    assert function_steps(0.0) == (math.inf, math.inf)
    assert equilibrium_steps(1e-3, 1.05) == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: intrinsic_lr(0.1, 0.1, 1.0),
        lambda: equilibrium_angle(0.1, 0.1, -0.1),
        lambda: equilibrium_steps(1e-3, 2.0, 0.0),
        lambda: equilibrium_steps(-1e-3, 2.0),
        lambda: recovery_steps_after_drop(1e-3, 10.0),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError, match="got"):
        call()
