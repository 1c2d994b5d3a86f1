"""The local learning coefficient against closed forms and quadrature; what is not converged says so."""

import math

import numpy as np
import pytest
import torch
from closed_forms import normed_network, of_function, of_quadratic, relu_network, untouched
from scipy.integrate import quad
from torch import nn

from analysis.landscape.llc import local_learning_coefficient, split_rhat
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from trainables.spec import SpecError


def _temperature(samples):
    return samples / math.log(samples)


def test_a_quadratic_has_half_its_dimensions():
    curvature = np.geomspace(1, 4, 40)
    objective = of_function(lambda w: (torch.as_tensor(curvature) * (w - 1) ** 2).sum() / 2, np.ones(40), samples=1000)
    gamma = 1.0
    held = _temperature(1000) * curvature
    found = local_learning_coefficient(objective, gamma=gamma, seed=1)
    assert found.converged, found.reason
    assert found.value == pytest.approx(20.0, rel=0.1)
    exact = (held / (held + gamma) / (1 - found.step * (held + gamma) / 4)).sum() / 2  # of the dynamics with its step
    assert found.low < exact < found.high
    assert found.gradients in (1000, 1500, 2000)


def test_the_prior_takes_away_directions_flatter_than_itself():
    curvature = np.repeat([3.0, 0.003], 20)
    objective = of_function(lambda w: (torch.as_tensor(curvature) * (w - 1) ** 2).sum() / 2, np.ones(40), samples=1000)
    gamma = 40.0
    held = _temperature(1000) * curvature
    found = local_learning_coefficient(objective, gamma=gamma, draws=150, seed=2)
    assert found.converged, found.reason
    assert found.value == pytest.approx((held / (held + gamma)).sum() / 2, rel=0.1)


def _regression(samples=500, size=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    y = x.sum(1) + torch.randn(samples, generator=generator, dtype=torch.float64)
    module = nn.Linear(size, 1, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.linalg.lstsq(x, y).solution)
    return module, lambda out, y: (out.flatten() - y) ** 2 / 2, x, y


def test_a_linear_regression_has_half_its_coefficients_also_from_mini_batches():
    module, *data = _regression()
    with untouched(module):
        found = local_learning_coefficient(Objective(module, *data), gamma=0.5, draws=150, halvings=4, seed=3)
    assert found.converged, found.reason
    assert found.value == pytest.approx(15.0, rel=0.1)


def _crossing_value(temperature, gamma):
    """E[t w1^2 w2^2] under exp(-t w1^2 w2^2 - gamma |w|^2 / 2): w2 by hand, w1 by quadrature on the log scale."""

    def weight(s):  # integral over w2, with w1 = e^s
        return math.exp(s - gamma * math.exp(2 * s) / 2) / math.sqrt(gamma + 2 * temperature * math.exp(2 * s))

    def energy(s):
        held = 2 * temperature * math.exp(2 * s)
        return weight(s) * held / (held + gamma) / 2

    ends = (-40.0, 6.0)
    return quad(energy, *ends, limit=500)[0] / quad(weight, *ends, limit=500)[0]


def test_the_oracle_of_a_normal_crossing_has_coefficient_a_half_with_multiplicity_two():
    # zeta(z) = integral of (w1^2 w2^2)^z has its largest pole at z = -1/2, of order 2: energy 1/2 - 1/log t + ...
    for temperature in (1e12, 1e20):
        shortfall = 0.5 - _crossing_value(temperature, 1.0)
        assert shortfall * math.log(temperature) == pytest.approx(1.0, rel=0.1)


def test_normal_crossings_have_the_value_of_quadrature():
    objective = of_function(lambda w: (w[:40] * w[40:]).square().sum(), np.zeros(80), samples=1000)
    gamma = 10.0
    exact = 40 * _crossing_value(_temperature(1000), gamma)
    found = local_learning_coefficient(objective, gamma=gamma, step=0.03, draws=150, batch_size=1, seed=4)
    assert found.converged, found.reason
    assert found.value == pytest.approx(exact, rel=0.1)
    assert exact < 20  # half of what 80 regular directions would have


def test_away_from_a_minimum_it_is_not_converged():
    objective = of_function(lambda w: (w @ w) / 2, np.ones(10), samples=1000)
    found = local_learning_coefficient(objective, gamma=1.0)
    assert not found.converged
    assert "lower losses than the solution's" in found.reason
    assert found.value < 0
    assert found.as_rows()["converged"] == 0


def test_a_step_that_is_unstable_is_halved_until_it_is_not():
    objective = of_function(lambda w: 50 * ((w - 1) ** 2).sum(), np.ones(40), samples=1000)
    limit = 4 / (_temperature(1000) * 100)
    found = local_learning_coefficient(objective, gamma=1.0, step=1.5 * limit, halvings=5)
    assert found.converged, found.reason
    assert found.step < limit / 4
    assert found.value == pytest.approx(20.0, rel=0.1)
    stuck = local_learning_coefficient(objective, gamma=1.0, step=500 * limit, draws=200, halvings=1)
    assert not stuck.converged
    assert "range of numbers" in stuck.reason
    assert "value" not in stuck.as_rows()


def test_a_large_step_is_told_by_what_halving_changes():
    objective = of_function(lambda w: 50 * ((w - 1) ** 2).sum(), np.ones(40), samples=1000)
    found = local_learning_coefficient(
        objective, gamma=1.0, step=3.6 / (_temperature(1000) * 100), halvings=1
    )
    assert not found.converged
    assert "halving the step changed the value by" in found.reason


def test_chains_that_have_not_mixed_are_told():
    objective = of_function(lambda w: 0.01 * ((w - 1) ** 2).sum(), np.ones(10), samples=1000)
    found = local_learning_coefficient(objective, gamma=1.0, step=1e-3)
    assert not found.converged
    assert "the chains do not agree" in found.reason


def test_few_dimensions_need_more_draws_and_say_so():
    objective = of_function(lambda w: ((w - 1) ** 2).sum(), np.ones(1), samples=1000)
    found = local_learning_coefficient(objective, gamma=1.0, draws=60)
    assert not found.converged
    assert "more draws" in found.reason


@pytest.mark.slow
def test_the_interval_covers_the_value_of_the_dynamics():
    curvature, gamma = np.full(8, 2.0), 50.0
    held = _temperature(100) * curvature
    step = 0.5 / (held[0] + gamma)
    covered = []
    for seed in range(40):
        objective = of_function(
            lambda w: (torch.as_tensor(curvature) * (w - 1) ** 2).sum() / 2, np.ones(8), samples=100
        )
        found = local_learning_coefficient(
            objective, gamma=gamma, step=step, draws=60, burn_in=15, halvings=1, batch_size=1, seed=1000 * seed
        )
        exact = (held / (held + gamma) / (1 - found.step * (held + gamma) / 4)).sum() / 2
        covered.append(found.low < exact < found.high)
    assert np.mean(covered) > 0.86


def test_it_does_not_change_when_scale_invariant_weights_are_scaled():
    found = []
    for scale in (1.0, 4.0):
        objective = Objective(*normed_network(scale=scale), parameters=["0.weight"])
        found.append(local_learning_coefficient(objective, draws=20, burn_in=5))
    assert found[1].value == pytest.approx(found[0].value, rel=1e-6)
    assert found[1].step == pytest.approx(16 * found[0].step, rel=1e-6)


def test_the_same_seed_gives_the_same_value_and_another_does_not():
    objective = Objective(*relu_network())
    values = [local_learning_coefficient(objective, draws=20, seed=seed).value for seed in (0, 0, 100)]
    assert values[0] == values[1] != values[2]


def test_rhat_is_that_of_the_formula():
    generator = np.random.default_rng(0)
    assert split_rhat(generator.standard_normal((4, 2000))) == pytest.approx(1.0, abs=0.005)
    chains = generator.standard_normal((4, 2000))
    chains[0] += 2
    halves = chains.reshape(8, 1000)
    variances, means = halves.var(axis=1, ddof=1), halves.mean(axis=1)
    expected = math.sqrt((999 / 1000 * variances.mean() + means.var(ddof=1)) / variances.mean())
    assert split_rhat(chains) == pytest.approx(expected)
    assert expected > 1.2
    drifting = generator.standard_normal((4, 2001)) + np.linspace(0, 4, 2001)
    assert split_rhat(drifting) > 1.2  # whole chains agree
    assert split_rhat(np.ones((4, 10))) == 1.0


def test_every_wrong_setting_is_named():
    objective = Objective(*normed_network(), norms=Norms.BATCH)
    with pytest.raises(SpecError) as fault:
        local_learning_coefficient(objective, chains=3, draws=2, halvings=0)
    assert len(fault.value.faults) == 4
    with pytest.raises(SpecError, match="gamma must be given where all weights are 0"):
        local_learning_coefficient(of_quadratic(np.eye(2), np.zeros(2), at=np.zeros(2)))
