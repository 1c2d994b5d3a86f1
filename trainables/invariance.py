"""Which parameters the loss does not feel the scale of: measured, never guessed from names."""

import copy

import torch
from torch import nn
from torch.func import functional_call

from trainables.tasks.base import Task, as_dtype

__all__ = ["scale_invariant_parameters"]

SCALES = (0.5, 2.0)
TOLERANCE = 1e-3  # of the loss; the eps of ordinary norm layers costs up to about 1e-4, a real dependence 1e-2 and more
SAMPLES = 64


def scale_invariant_parameters(task: Task, *, seed: int = 0) -> tuple[str, ...]:
    """Find the trained parameters p with loss(c p) = loss(p) for c in {1/2, 2}, one tensor at a time.

    The test is made in float64 on a fresh network whose parameters are moved off special values first (a bias at its
    initial zero is "invariant" only there). A parameter that the loss does not depend on at all is not counted.

    Args:
        task: its `scale_invariant`, where given, is returned as it is.
        seed: of the test network.

    Returns:
        Parameter names, in the module's order.
    """
    if task.scale_invariant is not None:
        return tuple(task.scale_invariant)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = task.model().double().train()
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * parameter.abs().mean().clamp_min(0.1))
        for layer in module.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0  # noise would hide the comparison
        x, y = as_dtype(task.train.x[:SAMPLES], torch.float64), task.train.y[:SAMPLES]
        y = as_dtype(y, torch.float64)
        parameters = dict(module.named_parameters())

        def loss(name: str, value: torch.Tensor) -> torch.Tensor:
            trial = copy.deepcopy(module)  # a forward pass may change buffers
            return task.loss(functional_call(trial, {name: value}, (x,)), y)

        found = []
        for name, parameter in parameters.items():
            if not parameter.requires_grad:
                continue
            here = loss(name, parameter)
            unit = here.abs().mean()
            moved = loss(name, parameter + 0.5 * parameter.abs().mean() * torch.randn_like(parameter))
            if (moved - here).abs().mean() <= TOLERANCE * unit:
                continue
            if all((loss(name, scale * parameter) - here).abs().mean() <= TOLERANCE * unit for scale in SCALES):
                found.append(name)
    return tuple(found)
