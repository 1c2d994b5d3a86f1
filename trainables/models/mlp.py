"""Multilayer perceptrons."""

import math

import torch
from torch import nn

__all__ = ["mlp", "mlp_si"]


def mlp(shape: tuple[int, ...], outputs: int, *, width: int, depth: int, norm: str, dropout: float) -> nn.Sequential:
    """Ordinary MLP: layers with bias, an optional norm with scale and shift, and ReLU; every parameter trained.

    Args:
        shape: of one input.
        outputs: logits.
        width: units of each hidden layer.
        depth: hidden layers.
        norm: `"none"`, `"layer"` or `"batch"`.
        dropout: after each ReLU.

    Returns:
        A module with torch's default initial weights.
    """
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    for fan_in in [math.prod(shape), *[width] * (depth - 1)]:
        layers.append(nn.Linear(fan_in, width))
        if norm == "layer":
            layers.append(nn.LayerNorm(width))
        elif norm == "batch":
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def mlp_si(
    shape: tuple[int, ...], outputs: int, *, width: int, depth: int, head_norm: float, norm_eps: float
) -> nn.Sequential:
    """Scale-invariant MLP (Sadrtdinov et al., NeurIPS 2024): the loss depends on the direction of its weights only.

    Each hidden layer is a linear map without bias, a LayerNorm without affine parameters and a ReLU. The last linear
    map is scaled once to a given norm and never trained.

    Args:
        shape: of one input.
        outputs: logits.
        width: units of each hidden layer.
        depth: hidden layers.
        head_norm: Frobenius norm of the frozen last layer.
        norm_eps: added to the variance in LayerNorm; must be small against it for invariance to hold.

    Returns:
        A module; its hidden weights are normal with the variance 1/fan-in, so a random direction.
    """
    inputs = math.prod(shape)
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    for fan_in in [inputs, *[width] * (depth - 1)]:
        linear = nn.Linear(fan_in, width, bias=False)
        nn.init.normal_(linear.weight, std=fan_in**-0.5)
        layers += [linear, nn.LayerNorm(width, eps=norm_eps, elementwise_affine=False), nn.ReLU()]
    head = nn.Linear(width, outputs, bias=False)
    nn.init.normal_(head.weight)
    with torch.no_grad():
        head.weight *= head_norm / head.weight.norm()
    head.weight.requires_grad_(False)
    return nn.Sequential(*layers, head)
