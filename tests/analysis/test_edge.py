"""The edge of stability where weights have learning rates of their own, against dense curvature and real steps."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from analysis.landscape.objective import Objective
from analysis.landscape.policy import Norms
from analysis.probing.edge import edge_of
from trainables.spec import Group, Recipe
from trainables.update import make_rule

LR = 0.3
INVARIANT = ("0.weight",)


def network():
    torch.manual_seed(0)
    norm = nn.LayerNorm(6, elementwise_affine=False, eps=1e-12)
    return nn.Sequential(nn.Linear(4, 6, bias=False), norm, nn.Tanh(), nn.Linear(6, 3)).double()


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 4, generator=generator, dtype=torch.float64), torch.randint(3, (40,), generator=generator)


def bench(module, **changes):
    recipe = Recipe(task="digits", task_args={}, model=None, model_args={}, batch_size=8, **changes)
    return SimpleNamespace(recipe=recipe, rule=make_rule(recipe, module, INVARIANT), has_batch_norms=False)


def dense(module, x, y):
    names = [name for name, _ in module.named_parameters()]

    def loss(flat):
        cut = torch.split(flat, [p.numel() for p in module.parameters()])
        own = {name: piece.view_as(p) for name, piece, p in zip(names, cut, module.parameters(), strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(module, own, (x,)), y)

    return torch.func.hessian(loss)(torch.cat([p.detach().reshape(-1) for p in module.parameters()]))


CASES = {
    "sphere": ({"sphere_radius": 5.0}, lambda norm: (LR * norm**2, LR, LR)),
    "groups": (
        {"groups": (Group(parameters=("3.bias",), lr_times=0.2), Group(parameters=("@head",), lr=7.0))},
        lambda _: (LR, 7.0, 0.2 * LR),
    ),
    "both": (
        {"sphere_radius": 5.0, "groups": (Group(parameters=("0.weight",), lr=2.0),)},
        lambda norm: (2.0 * (norm / 5) ** 2, LR, LR),
    ),
    "one rate": ({}, lambda _: (LR, LR, LR)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_weight_counts_by_its_own_rate(name):
    changes, rates = CASES[name]
    module, (x, y) = network(), data()
    matrix = dense(module, x, y)
    norm = float(module[0].weight.detach().norm())
    root = torch.cat([torch.full((count,), rate) for count, rate in zip((24, 18, 3), rates(norm), strict=True)]).sqrt()
    truth = float(torch.linalg.eigvalsh(root[:, None] * matrix * root).max()) / 2
    with Objective(module, nn.CrossEntropyLoss(reduction="none"), x, y, norms=Norms.STORED) as objective:
        largest = float(torch.linalg.eigvalsh(matrix).max())
        found = edge_of(objective, largest, SimpleNamespace(lr=LR, momentum=0.0), bench(module, **changes))
    assert found["edge_ratio"] == pytest.approx(truth, rel=1e-2)
    assert ("edge_lambda" in found) == (name == "one rate")


def test_beyond_the_edge_steps_of_those_rates_run_away():
    """Gradient descent on the quadratic at hand, D H, has the ratio as the largest rate at which it is stable."""
    changes, rates = CASES["sphere"]
    module, (x, y) = network(), data()
    matrix = dense(module, x, y)
    with Objective(module, nn.CrossEntropyLoss(reduction="none"), x, y, norms=Norms.STORED) as objective:
        solution = SimpleNamespace(lr=LR, momentum=0.0)
        ratio = edge_of(objective, 0.0, solution, bench(copy.deepcopy(module), **changes))["edge_ratio"]
    values, vectors = torch.linalg.eigh(matrix)
    convex = vectors @ torch.diag(values.clamp_min(0)) @ vectors.T  # directions that fall run away at any rate
    norm = float(module[0].weight.detach().norm())
    scale = torch.cat([torch.full((n,), rate) for n, rate in zip((24, 18, 3), rates(norm), strict=True)]).double()
    for share, grows in ((0.9, False), (1.15, True)):
        place = torch.ones(45, dtype=torch.float64)
        for _ in range(3000):
            place = place - share / ratio * scale * (convex @ place)
        stayed = float(place.norm()) < 1e3  # beyond the range of numbers it is NaN
        assert stayed is not grows
