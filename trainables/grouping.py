"""A few copies of one convolutional network as a single one, by grouped convolutions.

On a CPU narrow networks leave vector registers half empty: eight channels fill half a register. Two or three networks
side by side in the channel axis fill it, and every pass over the activations serves all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.models.layers import GlobalAveragePool, GlobalMaxPool
from trainables.stacking import ACTIVATIONS

__all__ = ["Grouped", "grouped_form"]


class _NotGroupable(TypeError):
    """The module holds a layer that has no grouped form here."""


@dataclass(frozen=True, slots=True)
class _Conv:
    weight: str
    bias: str | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _BatchNorm:
    weight: str | None
    bias: str | None
    mean: str
    var: str
    count: str
    momentum: float
    eps: float


@dataclass(frozen=True, slots=True)
class _MaxPool:
    kernel: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _GlobalPool:
    largest: bool


@dataclass(frozen=True, slots=True)
class _Activation:
    name: str


@dataclass(frozen=True, slots=True)
class _Flatten:
    pass


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: str
    bias: str | None


_Layer = _Conv | _BatchNorm | _MaxPool | _GlobalPool | _Activation | _Flatten | _Linear


def _conv(layer: nn.Conv2d, at: str) -> _Conv:
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _NotGroupable(at)
    bias = None if layer.bias is None else f"{at}bias"
    return _Conv(f"{at}weight", bias, layer.stride, layer.padding, layer.dilation)


def _batch_norm(layer: nn.BatchNorm2d, at: str) -> _BatchNorm:
    if not layer.track_running_stats or layer.momentum is None:
        raise _NotGroupable(at)
    weight, bias = (f"{at}weight", f"{at}bias") if layer.affine else (None, None)
    counts = f"{at}running_mean", f"{at}running_var", f"{at}num_batches_tracked"
    return _BatchNorm(weight, bias, *counts, layer.momentum, layer.eps)


def _read(module: nn.Module, at: str) -> tuple[_Layer, ...]:
    """The module as layer descriptions, in order of application."""
    kind = type(module)
    if isinstance(module, nn.Sequential):
        return tuple(layer for name, child in module.named_children() for layer in _read(child, f"{at}{name}."))
    if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
        return (_conv(module, at),)
    if isinstance(module, nn.BatchNorm2d) and kind is nn.BatchNorm2d:
        return (_batch_norm(module, at),)
    if isinstance(module, nn.MaxPool2d) and kind is nn.MaxPool2d:
        if module.dilation != 1 or module.ceil_mode or module.return_indices:
            raise _NotGroupable(at)
        return (_MaxPool(module.kernel_size, module.stride, module.padding),)
    if isinstance(module, GlobalMaxPool | GlobalAveragePool):
        return (_GlobalPool(largest=isinstance(module, GlobalMaxPool)),)
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        return (_Linear(f"{at}weight", None if module.bias is None else f"{at}bias"),)
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return (_Flatten(),)
    if kind in ACTIVATIONS and getattr(module, "approximate", "none") == "none":
        return (_Activation(ACTIVATIONS[kind]),)
    raise _NotGroupable(at)


@dataclass(frozen=True)
class Grouped:
    """The grouped form of one architecture, in training mode.

    Attributes:
        layers: what is applied, in order.
    """

    layers: tuple[_Layer, ...]

    def __call__(self, state: Mapping[str, Tensor], x: list[Tensor]) -> Tensor:
        """Apply G networks to G batches; running statistics of norms are updated in place.

        Args:
            state: parameter and buffer names to `[G, *shape]`; buffers contiguous.
            x: inputs of each network, `[B, C, H, W]`.

        Returns:
            Outputs, `[G, B, outputs]`.
        """
        groups, batch = len(x), len(x[0])
        z = torch.cat(x, 1)  # [B, G*C, H, W] up to the first flattening, [G, B, F] from there on
        for layer in self.layers:
            match layer:
                case _Conv(weight, bias, stride, padding, dilation):
                    offset = None if bias is None else state[bias].flatten()
                    kernel = state[weight].flatten(0, 1)
                    z = nn.functional.conv2d(z, kernel, offset, stride, padding, dilation, groups)
                case _BatchNorm(weight, bias, mean, var, count, momentum, eps):
                    state[count].add_(1)
                    scale, shift = (None if name is None else state[name].flatten() for name in (weight, bias))
                    running = state[mean].view(-1), state[var].view(-1)
                    z = nn.functional.batch_norm(z, *running, scale, shift, True, momentum, eps)
                case _MaxPool(kernel_size, stride, padding):
                    z = nn.functional.max_pool2d(z, kernel_size, stride, padding)
                case _GlobalPool(largest):
                    z = z.amax((2, 3)) if largest else z.mean((2, 3))
                    z = z.view(batch, groups, -1).transpose(0, 1)
                case _Activation(name):
                    z = getattr(nn.functional, name)(z)
                case _Flatten():
                    z = z.reshape(batch, groups, -1).transpose(0, 1) if z.dim() == 4 else z
                case _Linear(weight, bias):
                    z = torch.bmm(z, state[weight].transpose(1, 2))
                    z = z if bias is None else z + state[bias].unsqueeze(1)
        return z


def grouped_form(module: nn.Module) -> Grouped | None:
    """The grouped form of a module, if it has one.

    Args:
        module: any module; only its structure is read.

    Returns:
        None where a layer has no grouped form, where layers share parameters, or where there is no convolution to gain
        from.
    """
    try:
        layers = _read(module, "")
    except _NotGroupable:
        return None
    shared = len(list(module.parameters())) != len(list(module.named_parameters(remove_duplicate=False)))
    images = any(isinstance(layer, _Conv) for layer in layers) and not isinstance(layers[0], _Flatten | _Linear)
    return None if shared or not images else Grouped(layers)
