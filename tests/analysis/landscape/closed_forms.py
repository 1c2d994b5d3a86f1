"""Losses whose geometry is known, and a check that a module is left as it was."""

import copy
from contextlib import contextmanager

import torch
from torch import nn

from analysis.landscape.objective import Objective


class Function(nn.Module):
    """A loss that is a function of the weights alone, the same for every sample."""

    def __init__(self, function, at):
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.as_tensor(at, dtype=torch.float64))

    def forward(self, x):
        return self.function(self.w).expand(len(x))


def of_function(function, at, samples=2):
    data = torch.zeros(samples, 1, dtype=torch.float64)
    return Objective(Function(function, at), lambda out, _: out, data, data)


def of_quadratic(curvature, slope, at=None):
    """L(w) = slope (w - at) + (w - at) H (w - at) / 2, looked at from `at`."""
    h, g = (torch.as_tensor(a, dtype=torch.float64) for a in (curvature, slope))
    at = torch.ones(len(g), dtype=torch.float64) if at is None else torch.as_tensor(at, dtype=torch.float64)
    return of_function(lambda w: g @ (w - at) + (w - at) @ h @ (w - at) / 2, at)


def planted_gradients(gradients):
    """Per-sample gradients are the rows, at every place: L_i(w) = gradient_i w."""
    x = torch.as_tensor(gradients, dtype=torch.float64)
    module = nn.Linear(x.shape[1], 1, bias=False).double()
    return Objective(module, lambda out, _: out.flatten(), x, x)


def relu_network(seed=0, scale=1.0):
    """Two linear layers, fairly sure of the right labels; `scale` moves size between them and changes nothing."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(5, 7, bias=False), nn.ReLU(), nn.Linear(7, 3, bias=False)).double()
    x = torch.randn(60, 5, dtype=torch.float64)
    with torch.no_grad():
        y = module(x).argmax(1)
        module[0].weight *= scale
        module[2].weight *= 8 / scale
    return module, cross_entropy, x, y


def normed_network(seed=0, scale=1.0):
    """A network with batch norm whose first weight is scale-invariant."""
    torch.manual_seed(seed)
    norm = nn.BatchNorm1d(7, affine=False, eps=1e-14)
    module = nn.Sequential(nn.Linear(5, 7, bias=False), norm, nn.ReLU(), nn.Linear(7, 3)).double()
    with torch.no_grad():
        module[0].weight *= scale
    x, y = torch.randn(60, 5, dtype=torch.float64), torch.randint(3, (60,))
    return module, cross_entropy, x, y


def cross_entropy(out, y):
    return nn.functional.cross_entropy(out, y, reduction="none")


@contextmanager
def untouched(module):
    """The module's state, mode and flags and the global random state are the same afterwards."""
    state = copy.deepcopy(module.state_dict())
    modes = [part.training for part in module.modules()]
    flags = [(p.requires_grad, p.grad) for p in module.parameters()]
    random = torch.random.get_rng_state()
    yield
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert [(p.requires_grad, p.grad) for p in module.parameters()] == flags
    assert torch.equal(torch.random.get_rng_state(), random)
