"""Batch norms with fixed statistics as what they are, a scale and a shift, taken up by the convolution before them."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, fx, nn

from analysis.landscape.norms import batch_norms

__all__ = ["Convolution", "Norm", "affine_norms", "foldable"]

Norm = nn.modules.batchnorm._BatchNorm
"""Any batch norm."""
Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
"""One that can take up a batch norm."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # no subclasses of either: what these do is known


def foldable(module: nn.Module) -> dict[Norm, Convolution]:
    """Batch norms with fixed statistics that a convolution before them can take up.

    The graph must show that a convolution's output goes into the batch norm and nowhere else, and that both are called
    once; hooks on either could see the difference. A network whose graph depends on its data shows none.

    Args:
        module: a copy that may be called; a forward pass of its own code runs, on no data.

    Returns:
        Batch norm to convolution.
    """
    layers = dict(module.named_modules())
    if not any(isinstance(layer, _CONVOLUTIONS) for layer in layers.values()):
        return {}
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # of the network's own code, which runs on proxies
            nodes = list(fx.Tracer().trace(module).nodes)
    except Exception:  # the network's own code on proxies may raise anything; nothing is folded then
        return {}
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    pairs: dict[Norm, Convolution] = {}
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        norm, convolution = layers[str(node.target)], layers[str(before.target)]
        if (
            isinstance(norm, Norm)
            and _is_affine(norm)
            and isinstance(convolution, _CONVOLUTIONS)
            and type(convolution) in _CONVOLUTIONS
            and calls[node.target] == calls[before.target] == 1
            and not any(_watched(layer) for layer in (norm, convolution))
        ):
            pairs[norm] = convolution
    return pairs


@contextmanager
def affine_norms(module: nn.Module, folded: Mapping[Norm, Convolution]) -> Iterator[None]:
    """Let batch norms with fixed statistics compute what they are.

    The derivatives of torch's own batch norm in eval mode are those of the general formula: a curvature product takes
    about a fifth longer with them. Where the convolution takes up the scale, whole passes over its output are saved.

    Args:
        module: a network of the caller's own; as before at the end.
        folded: what `foldable` found in it.
    """
    fixed = [layer for layer in batch_norms(module) if _is_affine(layer)]
    changed: list[nn.Module] = [*fixed, *(folded[layer] for layer in fixed if layer in folded)]
    for layer in fixed:
        if (convolution := folded.get(layer)) is not None:
            convolution.forward = partial(_scaled, convolution, layer)  # type: ignore[method-assign]
            layer.forward = nn.Identity().forward  # type: ignore[method-assign]
        else:
            layer.forward = partial(_scale_and_shift, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for one in changed:
            del one.forward


def _is_affine(layer: Norm) -> bool:
    own = type(layer) in _NORMS and "forward" not in vars(layer)
    return own and not layer.training and layer.running_mean is not None


def _watched(layer: nn.Module) -> bool:
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks) or "forward" in vars(layer)


def _factors(layer: Norm) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, `[C]`."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    scale = torch.rsqrt(layer.running_var + layer.eps)
    if layer.weight is not None:
        scale = layer.weight * scale
    shift = -layer.running_mean * scale
    return scale, shift if layer.bias is None else shift + layer.bias


def _scale_and_shift(layer: Norm, x: Tensor) -> Tensor:
    scale, shift = _factors(layer)
    shape = [-1] + [1] * (x.dim() - 2)
    return x * scale.view(shape) + shift.view(shape)


def _scaled(convolution: Convolution, layer: Norm, x: Tensor) -> Tensor:
    """The convolution and the batch norm after it, in one."""
    scale, shift = _factors(layer)
    weight = convolution.weight * scale.view([-1] + [1] * (convolution.weight.dim() - 1))
    bias = shift if convolution.bias is None else shift + convolution.bias * scale
    output: Tensor = convolution._conv_forward(x, weight, bias)
    return output
