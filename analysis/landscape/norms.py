"""Putting a network into the state in which it is looked at: batch-norm statistics by policy."""

import torch
from torch import Tensor, nn

from analysis.landscape.policy import Norms
from trainables.norm_statistics import averaging_norms, even_batches

__all__ = ["batch_norms", "with_norms"]


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
    elif norms is Norms.REESTIMATED and any(layer.track_running_stats for layer in layers):
        _reestimate(module, inputs)
    return module


@torch.no_grad()
def _reestimate(module: nn.Module, inputs: Tensor) -> None:
    device = next(module.parameters(), inputs).device
    with averaging_norms(module) as layers:
        for layer in layers:
            layer.reset_running_stats()
        for part in even_batches(len(inputs)):
            module(inputs[part].to(device))
