"""Small networks whose whole Hessian fits into memory, and that Hessian in float64."""

import copy
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call

CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


@dataclass(frozen=True)
class Case:
    module: nn.Module
    x: Tensor
    y: Tensor


def digits(steps: int = 30, samples: int = 1000, hidden: int = 12) -> Case:
    """A perceptron of 1066 weights (at 12 hidden units), trained a little on digits."""
    torch.manual_seed(0)
    data = load_digits()
    x, y = torch.tensor(data.data[:samples] / 16).float(), torch.tensor(data.target[:samples])
    layers = [nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10)]
    module = nn.Sequential(*layers)
    train(module, x, y, steps)
    return Case(module, x, y)


def convnet(width: int = 4, samples: int = 60, steps: int = 5) -> Case:
    """A convolutional network with batch norms on noise with class means, in train mode."""
    torch.manual_seed(0)
    y = torch.arange(samples) % 4
    x = torch.randn(samples, 3, 8, 8) + torch.randn(4, 3, 1, 1)[y]
    module = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, 4),
    )
    train(module, x, y, steps)
    return Case(module, x, y)


def train(module: nn.Module, x: Tensor, y: Tensor, steps: int) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (64,), generator=generator)
        optimizer.zero_grad()
        CROSS_ENTROPY(module(x[rows]), y[rows]).mean().backward()
        optimizer.step()


def dense(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The Hessian of the mean loss in float64, `[P, P]`, row by row, in the module's mode."""
    module, x = copy.deepcopy(module).double(), x.double()
    names, shapes = zip(*((name, p.shape) for name, p in module.named_parameters()), strict=True)
    weights = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).requires_grad_(True)
    cut = torch.split(weights, [shape.numel() for shape in shapes])
    own = {name: piece.view(shape) for name, piece, shape in zip(names, cut, shapes, strict=True)}
    loss = CROSS_ENTROPY(functional_call(module, own, (x,)), y).mean()
    (gradient,) = torch.autograd.grad(loss, weights, create_graph=True)
    rows = torch.autograd.grad(gradient, weights, torch.eye(len(weights)).double(), is_grads_batched=True)[0]
    return (rows + rows.T) / 2


def state(module: nn.Module) -> dict[str, object]:
    """Everything of a module that must not change."""
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = {name: (p.requires_grad, p.grad is None) for name, p in module.named_parameters()}
    return {"tensors": tensors, "flags": flags, "modes": [layer.training for layer in module.modules()]}


def same(a: dict[str, object], b: dict[str, object]) -> bool:
    tensors = all(torch.equal(a["tensors"][name], b["tensors"][name]) for name in a["tensors"])
    return tensors and a["flags"] == b["flags"] and a["modes"] == b["modes"]
