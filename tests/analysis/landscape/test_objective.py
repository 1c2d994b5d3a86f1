"""Curvature products: exact on uneven batches by every kernel, within memory, and the caller's module untouched."""

import copy
import re

import pytest
import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from small_nets import CROSS_ENTROPY, convnet, dense, digits, same, state
from torch import nn

from analysis.landscape.kernels import Kernel
from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from trainables.spec import SpecError

EXACT = {torch.float32: 1e-5, torch.float64: 1e-10}
WAYS = [Kernel.FRESH, Kernel.RETAINED, Kernel.LINEARISED]


@pytest.fixture(scope="module")
def case():
    return digits()


def distance(a, b):
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize(
    ("kernel", "dtype"),
    [
        (Kernel.FRESH, torch.float32),
        (Kernel.FRESH, torch.float64),
        (Kernel.RETAINED, torch.float32),
        (Kernel.RETAINED, torch.float64),
        pytest.param(Kernel.LINEARISED, torch.float64, marks=pytest.mark.slow),
    ],
)
def test_products_equal_those_of_curvlinops_on_900_and_100_samples(case, kernel, dtype):
    module, x = copy.deepcopy(case.module).to(dtype), case.x.to(dtype)
    objective = Objective(module, CROSS_ENTROPY, x, case.y, kernel=kernel, batch_size=900)
    vector = torch.randn(objective.size, dtype=dtype, generator=torch.Generator().manual_seed(2))
    parts = [(x[:900], case.y[:900]), (x[900:], case.y[900:])]
    for operator, product in (
        (HessianLinearOperator, objective.hessian),
        (GGNLinearOperator, objective.gauss_newton),
    ):
        loss = nn.CrossEntropyLoss()
        peer = operator(module, loss, list(module.parameters()), parts, check_deterministic=False)
        for _ in range(2):  # the second time a kept graph is used
            assert distance(product(vector), peer @ vector) < EXACT[dtype]
    assert objective.products == 4


@pytest.mark.parametrize(
    "kernel", [Kernel.FRESH, Kernel.RETAINED, pytest.param(Kernel.LINEARISED, marks=pytest.mark.slow)]
)
def test_hessian_equals_the_dense_one_with_batch_norm(kernel):
    case = convnet(samples=24)
    objective = Objective(case.module, CROSS_ENTROPY, case.x, case.y, norms=Norms.STORED, kernel=kernel, batch_size=15)
    vector = torch.randn(objective.size, generator=torch.Generator().manual_seed(3))
    whole = dense(copy.deepcopy(case.module).eval(), case.x, case.y)
    assert distance(objective.hessian(vector), whole @ vector.double()) < 1e-5


def test_gauss_newton_is_exact_for_any_loss(case):
    def loss(outputs, y):  # neither convex in the outputs nor of a known kind
        return torch.sin(outputs).pow(3).sum(1) * (1 + y)

    module = copy.deepcopy(case.module).double()
    x, y = case.x[:9].double(), case.y[:9]
    names = [name for name, _ in module.named_parameters()]

    def outputs(*pieces):
        return torch.func.functional_call(module, dict(zip(names, pieces, strict=True)), (x,))

    jacobian = torch.autograd.functional.jacobian(outputs, tuple(module.parameters()))
    flat = torch.cat([part.reshape(90, -1) for part in jacobian], 1)
    curved = torch.autograd.functional.hessian(lambda out: loss(out, y).mean(), module(x).detach()).reshape(90, 90)
    vector = torch.randn(flat.shape[1], generator=torch.Generator().manual_seed(4)).double()
    for kernel in WAYS:
        objective = Objective(module, loss, x, y, kernel=kernel, batch_size=4)
        assert distance(objective.gauss_newton(vector), flat.T @ (curved @ (flat @ vector))) < 1e-10


@pytest.mark.parametrize("kernel", [*WAYS, Kernel.AUTO])
def test_unused_and_linear_weights_have_no_curvature(kernel):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x @ self.used

    objective = Objective(Odd(), lambda out, y: out - y, torch.randn(7, 3), torch.zeros(7), kernel=kernel)
    assert torch.equal(objective.hessian(torch.ones(5)), torch.zeros(5))
    assert torch.equal(objective.gradient()[3:], torch.zeros(2))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("norms", Norms)
def test_the_callers_module_and_random_state_stay(mode, norms):
    case = convnet()
    case.module.train(mode)
    case.module[0].weight.requires_grad_(False)
    before, random = state(case.module), torch.random.get_rng_state()
    objective = Objective(case.module, CROSS_ENTROPY, case.x, case.y, norms=norms, batch_size=35)
    vector = torch.ones(objective.size)
    for work in (objective.gradient, objective.losses, objective.cost, lambda: objective.drift):
        work()
    objective.hessian(vector)
    objective.gauss_newton(vector)
    assert same(before, state(case.module))
    assert torch.equal(random, torch.random.get_rng_state())
    assert "0.weight" not in objective.names


def test_a_loss_that_changes_by_itself_is_refused_with_both_values(case):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(case.module)

        def forward(self, x):
            return self.inner(nn.functional.dropout(x, 0.1, training=True))

    torch.manual_seed(5)
    random = torch.random.get_rng_state()
    with pytest.raises(SpecError, match="the same twice") as caught:
        Objective(Noisy(), CROSS_ENTROPY, case.x, case.y)
    first, second = map(float, re.findall(r"\d+\.\d+", str(caught.value))[:2])
    assert first != second
    assert torch.equal(random, torch.random.get_rng_state())
    # the layer that obeys eval mode is no reason to refuse
    Objective(nn.Sequential(nn.Dropout(0.5), case.module), CROSS_ENTROPY, case.x, case.y)


def test_weights_that_are_not_finite_are_refused(case):
    module = copy.deepcopy(case.module)
    with torch.no_grad():
        module[0].weight[0, 0] = float("nan")
    with pytest.raises(SpecError, match="NaN"):
        Objective(module, CROSS_ENTROPY, case.x, case.y)


def test_stored_statistics_that_lag_behind_are_told():
    case = convnet()
    case.module[1].running_var.mul_(100)
    objective = Objective(case.module, CROSS_ENTROPY, case.x, case.y)
    assert objective.drift is not None
    assert f"{objective.stored_loss:.4g}" in objective.drift
    assert f"{objective.loss:.4g}" in objective.drift
    assert Objective(case.module, CROSS_ENTROPY, case.x, case.y, norms=Norms.STORED).drift is None
    case.module[1].load_state_dict(objective._module[1].state_dict())
    case.module[5].load_state_dict(objective._module[5].state_dict())
    assert Objective(case.module, CROSS_ENTROPY, case.x, case.y).drift is None


def test_memory_bounds_batches_and_graphs(case):
    module = digits(hidden=24).module
    vector = torch.ones(sum(p.numel() for p in module.parameters()))
    reference = Objective(module, CROSS_ENTROPY, case.x, case.y).hessian(vector)
    plans = []
    for memory in (10_000_000, 400_000, 160_000):
        objective = Objective(module, CROSS_ENTROPY, case.x, case.y, memory_bytes=memory)
        assert distance(objective.hessian(vector), reference) < 1e-5
        plans.append(objective._plan)
        assert plans[-1].memory_bytes <= memory
        assert objective._footprint(plans[-1].batch).peak <= memory
    assert [plan.batch for plan in plans] == sorted({plan.batch for plan in plans}, reverse=True)
    assert plans[0].retained == 1
    assert 0 < plans[-1].retained * plans[-1].batch < 1000
    with pytest.raises(SpecError, match="memory"):
        Objective(module, CROSS_ENTROPY, case.x, case.y, memory_bytes=10_000).hessian(vector)


def test_counted_memory_is_that_of_the_tensors_made():
    from analysis.landscape.cost import footprint

    x = torch.randn(1000)
    found = footprint(lambda: [x + 1, (x * 2).sum(), x.view(10, 100)], [x])
    assert (found.kept, found.peak) == (4004, 8004)


def test_graphs_are_kept_and_released(case):
    with Objective(case.module, CROSS_ENTROPY, case.x, case.y, batch_size=400) as objective:
        vector = torch.ones(objective.size)
        first = objective.hessian(vector)
        assert len(objective._kept) == 3
        objective.release()
        assert torch.equal(objective.hessian(vector), first)
    assert not objective._kept
    single = Objective(case.module, CROSS_ENTROPY, case.x, case.y, expected_products=1)
    single.hessian(vector)
    assert not single._kept


def test_cost_is_told_in_words_before_products_are_made(case):
    objective = Objective(case.module, CROSS_ENTROPY, case.x, case.y, batch_size=300)
    cost = objective.cost(60)
    assert objective.products == 0
    assert (cost.kernel, cost.batches, cost.retained) == (Kernel.RETAINED, 4, 4)
    assert 0 < cost.seconds_per_product < 5
    assert cost.vector_bytes == 4 * 1066
    assert re.match(r"about [\d.]+ (ms|s) and \d+ MB per product, retained graph; 60 products: [\d.]+ ", cost.words)
