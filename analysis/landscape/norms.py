"""Putting a network into the state in which it is looked at: batch-norm statistics by policy."""

import torch
from torch import Tensor, nn

from analysis.landscape.policy import Norms

__all__ = ["batch_norms", "with_norms"]

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
