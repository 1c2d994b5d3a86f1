"""A caller's mistakes are one sentence, never a wrong number and never a traceback."""

import numpy as np
import pytest
import torch
from torch import nn

from analysis.landscape.angles import angles
from analysis.landscape.gradients import gradient_statistics
from analysis.landscape.lanczos import eigenvalues
from analysis.landscape.line import lines
from analysis.landscape.llc import local_learning_coefficient
from analysis.landscape.mixtures import on_sphere, stacked
from analysis.landscape.objective import Objective
from analysis.landscape.plane import plane
from analysis.landscape.points import ModulePoints
from analysis.landscape.policy import Norms
from analysis.landscape.sharpness import asam, random_sharpness, sam
from analysis.representation.activations import activations
from trainables.spec import SpecError

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")
MODULE = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
X, Y = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), torch.arange(30) % 3
TARGETS = torch.zeros(30, 3)


def objective(**changes):
    given = {"module": MODULE, "loss": CROSS_ENTROPY, "x": X, "y": Y, **changes}
    return Objective(given.pop("module"), given.pop("loss"), given.pop("x"), given.pop("y"), **given)


def points(**changes):
    given = {"loss": CROSS_ENTROPY, "splits": {"train": (X, Y)}, **changes}
    return ModulePoints(MODULE, given.pop("splits"), given.pop("loss"), **given)


def squares(outputs, targets):
    return (outputs - targets) ** 2


OTHER = stacked([nn.Linear(4, 3)] * 3)
OWN = stacked([MODULE] * 3)
FAULTS = {
    "loss for every output": (
        lambda: objective(loss=squares, y=TARGETS),
        r"each of 30 samples, found the shape \(30, 3",
    ),
    "mean loss": (lambda: objective(loss=nn.CrossEntropyLoss()), r"found the shape \(\); .*reduction='none'"),
    "loss that broadcasts": (
        lambda: objective(loss=lambda out, y: (out[:, :1] - y) ** 2),
        r"found the shape \(30, 30\); .*targets of fitting shape",
    ),
    "points, loss for every output": (
        lambda: points(loss=squares, splits={"train": (X, TARGETS)}),
        r"the loss must give one number for each of 60 samples, found the shape \(60, 3\)",
    ),
    "points, mean loss": (lambda: points(loss=nn.CrossEntropyLoss()), "found the shape"),
    "points, error that broadcasts": (
        lambda: points(loss=lambda out, y: out[:, 0], splits={"train": (X, TARGETS[:, :1])}),
        "the error must give one number",
    ),
    "dtype of the inputs": (lambda: objective(x=X.double()), "network and loss must run on the data given, found Run"),
    "shape of the inputs": (lambda: objective(x=X[:, :3]), "must run on the data given, found RuntimeError: .*mat1"),
    "batch of none": (lambda: objective(batch_size=0), "batch_size must be at least 1, found 0"),
    "a name twice": (lambda: objective(parameters=["2.bias", "2.bias"]), r"found \['2.bias'\] more than once"),
    "dtype of a vector": (
        lambda: eigenvalues(objective(module=MODULE.double(), x=X.double()).hessian, 43),
        r"43 numbers of torch.float64, found \(43,\) of torch.float32; .* give that of the weights",
    ),
    "length of a vector": (lambda: objective().hessian(torch.ones(3)), r"43 numbers of torch.float32, found \(3,\)"),
    "mini-batch of none": (lambda: gradient_statistics(objective(), batch_size=0), "found 0; at most 10 does"),
    "mini-batch below none": (lambda: gradient_statistics(objective(), batch_size=-5), "found -5"),
    "one sample": (lambda: local_learning_coefficient(objective(x=X[:1], y=Y[:1])), "samples must be at least 2"),
    "step": (lambda: local_learning_coefficient(objective(), step=-1.0), "step must be positive, found -1"),
    "gamma": (lambda: local_learning_coefficient(objective(), gamma=-50.0), "gamma must be at least 0, found -50"),
    "draws of none": (lambda: local_learning_coefficient(objective(), batch_size=0), "batch_size must be at least 1"),
    "foreign line": (
        lambda: lines(points(), OTHER, [(0, 1)], splits=("train",)),
        "weights of the network .* has no '0",
    ),
    "foreign plane": (lambda: plane(points(), OTHER, splits=("train",)), "weights of the network .* has no '0"),
    "row of a pair": (lambda: angles(OWN, [(0, 9)], ["0.weight"]), "rows of the 3 solutions, found 9"),
    "no solutions": (lambda: stacked([]), "at least one solution"),
    "samples at once": (lambda: activations(MODULE, X, batch_size=0), "batch_size must be at least 1, found 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mistake_is_one_sentence(name):
    work, words = FAULTS[name]
    MODULE.float()
    with pytest.raises(SpecError, match=words) as caught:
        work()
    MODULE.float()
    assert len(caught.value.faults) == 1


class Cliff(nn.Module):
    """Flat at the solution, not a number a little away from it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x.sum(1) * 0 + torch.sqrt(1.0001 - (self.weight - 1).square().sum() * 1e3) - self.weight.sum() * 1e-3


@pytest.mark.parametrize("measure", [sam, asam, random_sharpness])
def test_where_the_loss_explodes_nothing_is_said_to_be_flat(measure):
    cliff = Objective(Cliff(), lambda out, _: out, X, Y)
    with pytest.raises(SpecError, match=r"finite at the distance rho = .*, found nan; take a smaller rho"):
        measure(cliff, rho=0.5)


def test_a_gradient_that_is_not_finite_is_not_left_out():
    class Root(Cliff):
        def forward(self, x):  # a finite loss with an infinite slope at the first sample
            return torch.sqrt((self.weight - 1).sum() * (x[:, 0] == 7)) + x[:, 1] * self.weight[0]

    x = torch.randn(30, 2)
    x[0, 0] = 7.0
    bad = Objective(Root(), lambda out, _: out, x, Y)
    with pytest.raises(SpecError, match=r"NaN or infinity in those of .* of 3 mini-batches"):
        gradient_statistics(bad, batch_size=10)


def test_attention_has_a_gradient_and_a_curvature():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    module = nn.Sequential(layer, nn.Flatten(), nn.Linear(24, 3)).double().eval()
    x = torch.randn(20, 3, 8, dtype=torch.float64)
    attentive = Objective(module, CROSS_ENTROPY, x, Y[:20])
    vector = torch.randn(attentive.size, dtype=torch.float64)
    step = 1e-5
    ends = [attentive.gradient(attentive.weights + sign * step * vector) for sign in (1, -1)]
    torch.testing.assert_close(attentive.hessian(vector), (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_a_last_single_sample_joins_the_batch_before_it():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    one_over = objective(module=module, x=X[:21], y=Y[:21], norms=Norms.BATCH, batch_size=10)
    assert np.isfinite(one_over.loss)
    assert bool(torch.isfinite(one_over.hessian(torch.ones(one_over.size))).all())


def test_tied_weights_are_put_on_a_sphere_as_one():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    module = Tied()
    judge = ModulePoints(module, {"train": (X, Y)}, CROSS_ENTROPY, scale_invariant=["first.weight"])
    scaled = on_sphere(stacked([module]), judge.scale_invariant, 1.0)
    unit = module.first.weight.detach() / module.first.weight.norm()
    loss = CROSS_ENTROPY(X @ unit.T @ unit.T, Y).detach()
    torch.testing.assert_close(judge.samples(scaled, [0], "train").losses[0], loss)
