"""Multilayer perceptrons."""

import math
from collections.abc import Callable

import torch
from torch import nn

from trainables.models.layers import batch_norm_eps

__all__ = ["mlp", "mlp_norm", "mlp_si"]


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
        layers += [_hidden(fan_in, width), nn.LayerNorm(width, eps=norm_eps, elementwise_affine=False), nn.ReLU()]
    return nn.Sequential(*layers, _head(width, outputs, norm=head_norm, generator=None).requires_grad_(False))


def mlp_norm(
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int,
    depth: int,
    norm: str,
    trains: str,
    head_norm: float,
    norm_eps: float,
    head_seed: int,
) -> nn.Sequential:
    """MLP without biases for tests of the intrinsic learning rate (Li, Lyu, Arora, NeurIPS 2020, arXiv 2010.02916).

    Hidden layers are a linear map, a norm and a ReLU. With a norm the loss depends on the direction of each hidden
    weight only; what else is trained, and whether there is a norm at all, makes the arms of a study.

    Args:
        shape: of one input.
        outputs: logits.
        width: units of each hidden layer.
        depth: hidden layers.
        norm: `"batch"`, `"layer"` or `"none"`.
        trains: `"hidden"` trains the hidden weights alone: norms have no scale and shift, the last layer stays as it
            is. `"all"` trains the last layer and the norms' scale and shift, too.
        head_norm: Frobenius norm at which the last layer starts.
        norm_eps: added to the variance in norms; must be small against it for invariance to hold.
        head_seed: fixes the last layer for networks of every seed; -1 draws it with the rest of the network.

    Returns:
        A module; its hidden weights are normal with the variance 1/fan-in, and do not depend on `head_seed`.
    """
    affine = trains == "all"
    norms: dict[str, Callable[[], list[nn.Module]]] = {
        "batch": lambda: [nn.BatchNorm1d(width, eps=batch_norm_eps(norm_eps), affine=affine)],
        "layer": lambda: [nn.LayerNorm(width, eps=norm_eps, elementwise_affine=affine)],
        "none": list,
    }
    layers: list[nn.Module] = [nn.Flatten()] if len(shape) > 1 else []
    for fan_in in [math.prod(shape), *[width] * (depth - 1)]:
        layers += [_hidden(fan_in, width), *norms[norm](), nn.ReLU()]
    generator = None if head_seed < 0 else torch.Generator().manual_seed(head_seed)
    return nn.Sequential(*layers, _head(width, outputs, norm=head_norm, generator=generator).requires_grad_(affine))


def _hidden(inputs: int, outputs: int) -> nn.Linear:
    """A linear map without bias, its weights normal with the variance 1/fan-in."""
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(linear.weight, std=inputs**-0.5)
    return linear


def _head(inputs: int, outputs: int, *, norm: float, generator: torch.Generator | None) -> nn.Linear:
    """A linear map without bias in a random direction, its weights scaled to a Frobenius norm."""
    head = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(head.weight, generator=generator)
    with torch.no_grad():
        head.weight *= norm / head.weight.norm()
    return head
