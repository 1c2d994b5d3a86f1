"""Putting a network into the state in which it is looked at: batch-norm statistics by policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from analysis.landscape.policy import Norms

__all__ = ["batch_norms", "frozen_norms", "with_norms"]

SAMPLES = 500  # a batch whose statistics are taken; their plain average is kept


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Every batch norm of a module."""
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def with_norms(module: nn.Module, norms: Norms, inputs: Tensor) -> nn.Module:
    """Put a module into the state in which it shall be looked at, in place.

    Args:
        module: a copy that may be changed.
        norms: the policy.
        inputs: network inputs, `[n, ...]`, on which statistics are computed anew.

    Returns:
        The module.
    """
    module.eval()
    layers = batch_norms(module)
    if norms is Norms.BATCH:
        for layer in layers:
            layer.track_running_stats = False
            layer.running_mean = layer.running_var = None
            layer.train()
    elif norms is Norms.REESTIMATED:
        tracking = [layer for layer in layers if layer.track_running_stats]
        if tracking:
            _reestimate(module, tracking, inputs)
    return module


@contextmanager
def frozen_norms(module: nn.Module) -> Iterator[None]:
    """Let batch norms with fixed statistics compute what they are, a scale and a shift.

    The derivatives of torch's own batch norm in eval mode are those of the general formula: a curvature product takes
    about a fifth longer with them.

    Args:
        module: a network of the caller's own; as before at the end.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # no subclasses: what these do is known
    fixed = [layer for layer in batch_norms(module) if type(layer) in kinds and _fixed(layer)]
    for layer in fixed:
        layer.forward = partial(_scale_and_shift, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in fixed:
            del layer.forward


def _fixed(layer: nn.modules.batchnorm._BatchNorm) -> bool:
    return not layer.training and layer.running_mean is not None and "forward" not in vars(layer)


def _scale_and_shift(layer: nn.modules.batchnorm._BatchNorm, x: Tensor) -> Tensor:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = torch.rsqrt(layer.running_var + layer.eps)
    if layer.weight is not None:
        scale = layer.weight * scale
    shift = -layer.running_mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias
    shape = [-1] + [1] * (x.dim() - 2)
    return x * scale.view(shape) + shift.view(shape)


@torch.no_grad()
def _reestimate(module: nn.Module, layers: list[nn.modules.batchnorm._BatchNorm], inputs: Tensor) -> None:
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's name for a cumulative average
        layer.train()
    start = 0
    while start < len(inputs):
        left = len(inputs) - start
        stop = len(inputs) if left <= SAMPLES + 1 else start + SAMPLES  # a last one of a single sample has no variance
        module(inputs[start:stop])
        start = stop
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
