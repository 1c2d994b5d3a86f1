"""Many copies of one network as a single batched function.

A module made of known layers is read once into a tuple of small descriptions; the batched forward then applies them
to parameters with a leading member axis, so that K networks cost one batched matrix product per layer. Weights of
linear maps are held transposed, `[K, in, out]`: forward and weight gradient then need no transposed copy.

A batch norm has two forms: measured, it normalises with its running statistics; in training with those of the batch,
and its running statistics move on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

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
class _BatchNorm:
    eps: float
    momentum: float | None  # None: running statistics are the average over all batches so far, as torch has it
    weight: str | None
    bias: str | None
    mean: str
    var: str
    count: str

    def measured(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Normalised with the running statistics."""
        wide = _wide(x)
        mean, var = (_channels(parameters[name], wide) for name in (self.mean, self.var))
        return self._scaled(parameters, (wide - mean) * torch.rsqrt(var + self.eps)).to(x.dtype)

    def trained(self, parameters: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised with the batch's own statistics, and the running ones after it."""
        wide = _wide(x)
        axes = (1, *range(3, x.dim()))  # all but members and channels
        values = x.shape[1] * math.prod(x.shape[3:])
        if values < 2:
            raise ValueError("batch norm in training needs more than one value of each channel, found one")
        mean = wide.mean(axes, keepdim=True)
        centred = wide - mean
        var = centred.square().mean(axes, keepdim=True)
        out = self._scaled(parameters, centred * torch.rsqrt(var + self.eps)).to(x.dtype)
        count = parameters[self.count] + 1
        running = parameters[self.mean], parameters[self.var]
        share = (1 / count.to(running[0].dtype)).unsqueeze(1) if self.momentum is None else self.momentum
        unbiased = var * (values / (values - 1))
        moved = [
            (1 - share) * old + share * new.detach().reshape(old.shape).to(old.dtype)
            for old, new in zip(running, (mean, unbiased), strict=True)
        ]
        return out, {self.mean: moved[0], self.var: moved[1], self.count: count}

    def _scaled(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        if self.weight is not None:
            x = x * _channels(parameters[self.weight], x)
        return x if self.bias is None else x + _channels(parameters[self.bias], x)


def _wide(x: Tensor) -> Tensor:
    """At least float32: statistics of a batch in bfloat16 would have two digits."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _channels(value: Tensor, like: Tensor) -> Tensor:
    """`[K, C]` as `[K, 1, C, 1, ...]`, to act on the channels of `like`."""
    return value.view(value.shape[0], 1, value.shape[1], *[1] * (like.dim() - 3))


@dataclass(frozen=True, slots=True)
class _Activation:
    name: str


@dataclass(frozen=True, slots=True)
class _Flatten:
    pass


_Layer = _Linear | _LayerNorm | _BatchNorm | _Activation | _Flatten
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
    if type(module) is nn.BatchNorm1d:
        return (_read_batch_norm(module, prefix),)
    if type(module) is nn.GELU and module.approximate != "none":
        raise NotStackable(f"no batched form of GELU(approximate={module.approximate!r})")
    if type(module) in ACTIVATIONS:
        return (_Activation(ACTIVATIONS[type(module)]),)
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return (_Flatten(),)
    if type(module) is nn.Identity:
        return ()
    raise NotStackable(f"no batched form of {type(module).__name__} ({prefix.rstrip('.') or 'the model itself'})")


def _read_batch_norm(layer: nn.BatchNorm1d, prefix: str) -> _BatchNorm:
    if not layer.track_running_stats or layer.momentum is None:
        what = "momentum=None" if layer.track_running_stats else "track_running_stats=False"
        raise NotStackable(f"no batched form of BatchNorm1d({what})")
    weight, bias = (f"{prefix}weight", f"{prefix}bias") if layer.affine else (None, None)
    statistics = f"{prefix}running_mean", f"{prefix}running_var", f"{prefix}num_batches_tracked"
    return _BatchNorm(layer.eps, layer.momentum, weight, bias, *statistics)


def _applied(
    layer: _Linear | _LayerNorm | _Activation | _Flatten, parameters: Mapping[str, Tensor], x: Tensor
) -> Tensor:
    """One layer that does the same in training as when it is measured."""
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

    @property
    def statistics(self) -> tuple[str, ...]:
        """Names of the buffers that training moves on: batch norms' running statistics."""
        norms = [layer for layer in self.layers if isinstance(layer, _BatchNorm)]
        return tuple(name for norm in norms for name in (norm.mean, norm.var, norm.count))

    def averaging(self) -> "Stacked":
        """The same form with running statistics that are the plain average over all batches, whatever their order.

        Returns:
            What re-estimates statistics, once they are set to zero.
        """
        return Stacked(
            tuple(replace(layer, momentum=None) if isinstance(layer, _BatchNorm) else layer for layer in self.layers)
        )

    def __call__(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Apply K networks to K batches as they are measured: batch norms with their running statistics.

        Args:
            parameters: parameter and buffer names to `[K, *shape]`, linear weights transposed.
            x: inputs, `[K, B, ...]`.

        Returns:
            Outputs, `[K, B, C]`.
        """
        for layer in self.layers:
            x = layer.measured(parameters, x) if isinstance(layer, _BatchNorm) else _applied(layer, parameters, x)
        return x

    def train(self, parameters: Mapping[str, Tensor], x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Apply K networks to K batches as in training: batch norms with the statistics of the batch.

        Args:
            parameters: as in `__call__`; nothing in it is changed.
            x: as in `__call__`.

        Returns:
            Outputs, `[K, B, C]`, and the running statistics after this batch, name to `[K, *shape]`, as torch has them
            (unbiased variances); none for a network without batch norms.

        Raises:
            ValueError: a batch norm sees one value of each channel, of which there is no variance.
        """
        moved: dict[str, Tensor] = {}
        for layer in self.layers:
            if isinstance(layer, _BatchNorm):
                x, fresh = layer.trained(parameters, x)
                moved |= fresh
            else:
                x = _applied(layer, parameters, x)
        return x, moved


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
