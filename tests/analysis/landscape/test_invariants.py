"""The edge of stability against simulated training; effective forms against dense curvature."""

import numpy as np
import pytest
import torch
from closed_forms import normed_network
from torch.autograd.functional import hessian
from torch.func import functional_call

from analysis.landscape.invariants import (
    InvariantMeasure,
    edge_ratio,
    effective_curvature,
    effective_gradient,
    invariant_measure,
)
from trainables.spec import SpecError


def _growth(lr, curvature, momentum, nesterov):
    """Largest factor by which a step of torch's SGD multiplies (w, v) on a quadratic."""
    velocity = np.array([curvature, momentum])  # v' of (w, v)
    step = curvature * np.array([1.0, 0.0]) + momentum * velocity if nesterov else velocity
    return np.abs(np.linalg.eigvals([np.array([1.0, 0.0]) - lr * step, velocity])).max()


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_training_is_stable_below_ratio_1_and_not_above(momentum, nesterov):
    per_rate = edge_ratio(1.0, 3.0, momentum=momentum, nesterov=nesterov)
    assert _growth(0.999 / per_rate, 3.0, momentum, nesterov) < 1
    assert _growth(1.001 / per_rate, 3.0, momentum, nesterov) > 1


def test_plain_gradient_descent_has_half_of_lr_times_curvature():
    assert edge_ratio(0.1, 20.0) == pytest.approx(1.0)


def test_every_wrong_number_is_named():
    with pytest.raises(SpecError) as fault:
        edge_ratio(-1.0, 1.0, momentum=1.0)
    assert len(fault.value.faults) == 2


def test_effective_forms_do_not_change_when_scale_invariant_weights_are_scaled():
    curvatures, gradients, raw = [], [], []
    for scale in (1.0, 0.5):
        module, loss, x, y = normed_network(scale=scale)
        module.train()
        module[1].track_running_stats = False  # changing them in place is nothing to differentiate
        module[1].running_mean = module[1].running_var = None
        weight = module[0].weight.detach()

        def value(w, module=module, loss=loss, x=x, y=y):
            return loss(functional_call(module, {"0.weight": w}, (x,)), y).mean()

        norm = weight.norm().item()
        dense = hessian(value, weight).reshape(weight.numel(), weight.numel())
        raw.append(torch.linalg.eigvalsh(dense)[-1].item())
        curvatures.append(effective_curvature(raw[-1], norm))
        slope = torch.autograd.functional.jacobian(value, weight).norm().item()
        gradients.append(effective_gradient(slope, norm))
    assert raw[1] == pytest.approx(4 * raw[0], rel=1e-6)
    assert curvatures[1] == pytest.approx(curvatures[0], rel=1e-8)
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-8)


def test_the_effective_form_is_for_weights_that_are_all_scale_invariant():
    assert invariant_measure(["a"], ("a", "b")) is InvariantMeasure.EFFECTIVE
    assert invariant_measure(["a", "c"], ("a", "b")) is InvariantMeasure.ADAPTIVE
    assert invariant_measure(["a"], ()) is InvariantMeasure.ADAPTIVE
    assert invariant_measure([], ("a",)) is InvariantMeasure.ADAPTIVE
