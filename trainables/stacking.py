"""Many copies of one network as a single batched function.

A module made of known layers is read once into a tuple of small descriptions; the batched forward then applies them
to parameters with a leading member axis, so that K networks cost one batched matrix product per layer. Weights of
linear maps are held transposed, `[K, in, out]`: forward and weight gradient then need no transposed copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "NotStackable", "Stacked", "batched_form", "stack"]


class NotStackable(TypeError):
    """The module holds a layer that has no batched form here; the sentence names it."""


@dataclass(frozen=True, slots=True)
class _Linear:
    weight: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class _LayerNorm:
    shape: tuple[int, ...]
    eps: float
    weight: str | None
    bias: str | None


@dataclass(frozen=True, slots=True)
class _Activation:
    name: str


@dataclass(frozen=True, slots=True)
class _Flatten:
    pass


_Layer = _Linear | _LayerNorm | _Activation | _Flatten
ACTIVATIONS: Mapping[type[nn.Module], str] = {nn.ReLU: "relu", nn.GELU: "gelu", nn.Tanh: "tanh", nn.SiLU: "silu"}
"""Modules that are one function of torch.nn.functional, and its name."""


def _read(module: nn.Module, prefix: str) -> tuple[_Layer, ...]:
    """The module as layer descriptions, in order of application."""
    if isinstance(module, nn.Sequential):
        return tuple(layer for name, child in module.named_children() for layer in _read(child, f"{prefix}{name}."))
    if type(module) is nn.Linear:
        return (_Linear(f"{prefix}weight", None if module.bias is None else f"{prefix}bias"),)
    if type(module) is nn.LayerNorm:
        weight = f"{prefix}weight" if module.elementwise_affine else None
        bias = f"{prefix}bias" if module.elementwise_affine and module.bias is not None else None
        return (_LayerNorm(tuple(module.normalized_shape), module.eps, weight, bias),)
    if type(module) is nn.GELU and module.approximate != "none":
        raise NotStackable(f"no batched form of GELU(approximate={module.approximate!r})")
    if type(module) in ACTIVATIONS:
        return (_Activation(ACTIVATIONS[type(module)]),)
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return (_Flatten(),)
    if type(module) is nn.Identity:
        return ()
    raise NotStackable(f"no batched form of {type(module).__name__} ({prefix.rstrip('.') or 'the model itself'})")


@dataclass(frozen=True)
class Stacked:
    """The batched form of one architecture.

    Attributes:
        layers: what is applied, in order.
    """

    layers: tuple[_Layer, ...]

    @property
    def transposed(self) -> frozenset[str]:
        """Names of the parameters held as `[K, in, out]`."""
        return frozenset(layer.weight for layer in self.layers if isinstance(layer, _Linear))

    def __call__(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Apply K networks to K batches.

        Args:
            parameters: name to `[K, *shape]`, linear weights transposed.
            x: inputs, `[K, B, ...]`.

        Returns:
            Outputs, `[K, B, C]`.
        """
        for layer in self.layers:
            if isinstance(layer, _Linear):
                x = torch.bmm(x, parameters[layer.weight])
                if layer.bias is not None:
                    x = x + parameters[layer.bias].unsqueeze(1)
            elif isinstance(layer, _LayerNorm):
                x = nn.functional.layer_norm(x, layer.shape, eps=layer.eps)
                if layer.weight is not None:
                    x = x * parameters[layer.weight].unsqueeze(1)
                if layer.bias is not None:
                    x = x + parameters[layer.bias].unsqueeze(1)
            elif isinstance(layer, _Activation):
                x = getattr(nn.functional, layer.name)(x)
            else:
                x = x.flatten(2)
        return x


def stack(module: nn.Module) -> Stacked:
    """Read a module into its batched form.

    Args:
        module: any module; only its structure is read.

    Returns:
        The batched form.

    Raises:
        NotStackable: a layer has no batched form, or two layers share a parameter.
    """
    layers = _read(module, "")
    if len(list(module.parameters())) != len(list(module.named_parameters(remove_duplicate=False))):
        raise NotStackable("no batched form of a model whose layers share parameters")
    return Stacked(layers)


def batched_form(module: nn.Module) -> Stacked | None:
    """The module's batched form, if it has one.

    Args:
        module: any module.

    Returns:
        None where a layer has no batched form.
    """
    try:
        return stack(module)
    except NotStackable:
        return None
