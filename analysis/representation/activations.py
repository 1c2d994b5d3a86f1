"""The outputs of a network's layers on given inputs, taken in one pass by forward hooks on a copy."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from trainables.spec import SpecError

__all__ = ["PENULTIMATE", "SMALL", "Layer", "Maps", "Recording", "activations", "layer_of", "record"]

PENULTIMATE = "penultimate"
"""Name of the input of the last linear layer."""
SMALL = 0.01
"""An activation counts as small up to this share of its sample's root mean square over the layer."""
MOST_UNITS = 1 << 14  # of one layer: 1000 samples of them take 64 MB

_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardsigmoid,
)
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.InstanceNorm1d)
_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding, nn.MultiheadAttention)


class Maps(StrEnum):
    """What a unit is where a layer says something at every place of an image, or of every token."""

    MEAN = "mean"
    """A channel, averaged over the places."""
    FLAT = "flat"
    """A channel at one place."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer says of n samples.

    Attributes:
        units: one number for each sample and unit, `[n, units]`.
        zeros: of each sample, the share of activations (at every place of every channel) that are exactly 0, `[n]`.
        small: of each sample, the share that is at most `SMALL` times its root mean square, `[n]`.
        alive: units that are not exactly 0 everywhere, `[units]`, bool.
    """

    units: Tensor
    zeros: Tensor
    small: Tensor
    alive: Tensor


@dataclass(frozen=True, slots=True)
class Recording:
    """One pass of samples through a network.

    Attributes:
        layers: in order of use.
        outputs: of the network, `[n, ...]`.
        head: weight of the last linear layer, `[outputs, units]`; None where the network's output is not its output.
    """

    layers: dict[str, Layer]
    outputs: Tensor
    head: Tensor | None


def activations(
    module: nn.Module,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    maps: Maps = Maps.MEAN,
    samples: int | None = None,
    batch_size: int = 250,
) -> dict[str, Tensor]:
    """The outputs of a network's layers.

    Args:
        module: the network; it is run in eval mode, as a copy. Batch norms normalise with the running statistics they
            have (`analysis.landscape.norms.with_norms` computes them anew).
        x: network inputs, `[n, ...]`.
        layers: names as in `named_modules`, and `penultimate` for the input of the last linear layer. None takes every
            activation function that is a module (ReLU, GELU, ...), where there is none every norm, where there is none
            either every linear map and convolution but the last; and `penultimate`. Those that do not give a tensor
            with a row for each sample are left out, and what is the same as `penultimate` is listed under that name
            alone. A layer that is used several times has further entries `name#2`, `name#3`.
        maps: what a unit of images `[n, channels, ...]` of 4 or more axes, of signals `[n, channels, places]` or of
            tokens `[n, tokens, channels]` is. Three axes are signals behind a one-dimensional convolution or its norm,
            and tokens at the start and behind a linear map, an embedding, attention or a layer norm.
        samples: look at the first of `x` only; None for all.
        batch_size: samples at once. Held are `batch_size` samples of the whole network's forward pass, and of each
            layer `[samples, units]`.

    Returns:
        Name to `[samples, units]`, on the CPU, float64 where the layer is, else float32; in order of use.

    Raises:
        SpecError: no such layer, or one that does not give a tensor with a row for each sample; no samples; a layer
            with too many units; activations that are not finite; a network that returns no tensor.
    """
    seen = record(module, x, layers, maps=maps, samples=samples, batch_size=batch_size)
    return {name: layer.units for name, layer in seen.layers.items()}


@torch.no_grad()
def record(
    module: nn.Module,
    x: Tensor,
    layers: Sequence[str] | None = None,
    *,
    maps: Maps = Maps.MEAN,
    samples: int | None = None,
    batch_size: int = 250,
) -> Recording:
    """As `activations`, with the shares of zeros, the network's output and the weight of its last linear layer."""
    if not len(x) or (samples is not None and samples < 1):
        raise SpecError([f"activations need at least one sample, found {len(x)} and a budget of {samples}"])
    if batch_size < 1:
        raise SpecError([f"batch_size must be at least 1, found {batch_size}"])
    network = copy.deepcopy(module).eval()
    named = dict(network.named_modules())
    wanted = _default(network) if layers is None else list(layers)
    unknown = [name for name in wanted if name not in named and name != PENULTIMATE]
    if unknown:
        raise SpecError([f"layers must be names of the module's own, found {unknown}; it has {list(named)[1:9]} ..."])
    watch = _Watch(maps)
    for layer in network.modules():
        if isinstance(layer, (*_CHANNELS_FIRST, *_CHANNELS_LAST)):
            layer.register_forward_hook(watch.order(last=isinstance(layer, _CHANNELS_LAST)))
    for name in wanted:
        if name != PENULTIMATE:
            named[name].register_forward_hook(watch.layer(name))
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(watch.linear)
    parameter = next(network.parameters(), x)
    cuda = [parameter.device] if parameter.is_cuda else []
    outputs = []
    with torch.random.fork_rng(devices=cuda):
        for part in torch.split(x[:samples], batch_size):
            watch.begin(len(part))
            outputs.append(network(part.to(parameter.device)))
            watch.end(outputs[-1], layers)
    found = {name: _joined(name, parts) for name, parts in watch.parts.items()}
    silent = [name for name in layers or () if name not in found]
    if silent:
        raise SpecError([f"layers must give a tensor with a row for each sample, found {silent} that do not"])
    if layers is None:
        found = _without_double(found, watch.head)
    return Recording(found, torch.cat(outputs).cpu(), None if watch.head is None else watch.head.weight.detach().cpu())


def layer_of(output: Tensor, maps: Maps = Maps.MEAN, *, tokens: bool = True) -> Layer:
    """What a layer's output `[n, channels, ...]`, `[n, units]` or `[n]` says of n samples.

    Args:
        output: the numbers.
        maps: what a unit is.
        tokens: three axes are `[n, tokens, channels]`, not `[n, channels, places]`.

    Returns:
        Units and zeros.
    """
    values = output if output.dtype == torch.float64 else output.float()
    if values.dim() == 3 and tokens:
        values = values.transpose(1, 2)
    flat = values.reshape(len(values), -1)
    channels = values.reshape(*values.shape[:2], -1) if values.dim() > 1 else flat[:, :, None]
    threshold = SMALL * flat.square().mean(1, keepdim=True).sqrt()
    size = flat.shape[1]
    if maps is Maps.MEAN:
        units, alive = channels.mean(2), (channels != 0).any(2).any(0)
    else:
        units, alive = flat.clone(), (flat != 0).any(0)  # what runs next may write into its input
    return Layer(
        units=units.cpu(),
        zeros=(1 - flat.count_nonzero(1) / size).cpu(),
        small=((flat.abs() <= threshold).sum(1) / size).cpu(),
        alive=alive.cpu(),
    )


class _Watch:
    """Collects what passes through the layers of one network, batch by batch."""

    def __init__(self, maps: Maps) -> None:
        self.parts: dict[str, list[Layer]] = {}
        self.head: nn.Linear | None = None
        self._maps = maps
        self._tokens = True
        self._samples = 0
        self._batch: dict[str, Layer] = {}
        self._last: tuple[nn.Linear, Tensor, Tensor] | None = None

    def layer(self, name: str) -> Callable[..., None]:
        """A hook that takes the output of a layer."""

        def hook(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
            uses = sum(key == name or key.startswith(f"{name}#") for key in self._batch)
            self._take(f"{name}#{uses + 1}" if uses else name, out)

        return hook

    def order(self, *, last: bool) -> Callable[..., None]:
        """A hook that remembers where the layers to come have their channels, where they have three axes."""

        def hook(_: nn.Module, __: tuple[Any, ...], ___: Any) -> None:
            self._tokens = last

        return hook

    def linear(self, layer: nn.Linear, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        """A hook that remembers the last linear layer to run."""
        self._last = layer, inputs[0], out

    def begin(self, samples: int) -> None:
        """Open a batch."""
        self._samples, self._tokens = samples, True

    def end(self, output: Any, layers: Sequence[str] | None) -> None:
        """Close a batch that gave `output`."""
        if not isinstance(output, Tensor):
            raise SpecError(
                [f"a network must return one tensor, found a {type(output).__name__}; wrap it in one that does"]
            )
        self.head = None
        if self._last is not None:
            layer, features, logits = self._last
            if layers is None or PENULTIMATE in layers:
                self._tokens = True
                self._take(PENULTIMATE, features)
            if output.dim() == 2 and (output is logits or torch.equal(output, logits)):
                self.head = layer
        for name, seen in self._batch.items():
            self.parts.setdefault(name, []).append(seen)
        self._batch, self._last = {}, None

    def _take(self, name: str, out: Any) -> None:
        if not isinstance(out, Tensor) or not out.dim() or len(out) != self._samples:
            return
        channels = out.shape[-1] if out.dim() == 3 and self._tokens else out.shape[1:2].numel()
        units = out[0].numel() if self._maps is Maps.FLAT else channels
        if units > MOST_UNITS:
            way = "average over the places (maps mean)" if self._maps is Maps.FLAT else "name other layers"
            raise SpecError([f"a layer may have at most {MOST_UNITS} units, found {units} in {name!r}; {way}"])
        self._batch[name] = layer_of(out, self._maps, tokens=self._tokens)


def _default(network: nn.Module) -> list[str]:
    """Names of the layers that are looked at unasked."""
    leaves = [(name, layer) for name, layer in network.named_modules() if not list(layer.children())]
    for family in (_ACTIVATIONS, _NORMS, _LINEAR):
        names = [name for name, layer in leaves if isinstance(layer, family)]
        if names:
            return names if family is not _LINEAR else names[:-1]
    return []


def _joined(name: str, parts: list[Layer]) -> Layer:
    units = torch.cat([part.units for part in parts])
    if not bool(torch.isfinite(units).all()):
        raise SpecError([f"activations must be finite, found NaN or infinity in {name!r}; this network says nothing"])
    alive = torch.stack([part.alive for part in parts]).any(0)
    return Layer(units, torch.cat([p.zeros for p in parts]), torch.cat([p.small for p in parts]), alive)


def _without_double(found: dict[str, Layer], head: nn.Linear | None) -> dict[str, Layer]:
    """The input of the last linear layer is often the output of the last activation function: listed once."""
    last = found.get(PENULTIMATE)
    others = [name for name in found if name != PENULTIMATE]
    if last is None or not others:
        return found
    other = found[others[-1]]
    same = torch.equal(other.units, last.units) and torch.equal(other.zeros, last.zeros)
    return {name: layer for name, layer in found.items() if name != others[-1]} if same else found
