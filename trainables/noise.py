"""Randomness inside networks as a function of (seed, step, site, element) and of nothing else.

torch's own generator has a state that every draw moves on, so what one network draws would depend on its neighbours in
the pack, and a captured CUDA graph would have to carry the state along. Here each site hashes the step's key instead
(`draws.py`): a resumed, moved or re-packed run draws the same numbers, and there is nothing to save.

`prepare` turns an ordinary network into one that draws so; names of parameters and buffers stay as they are.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.draws import dropout, normal
from trainables.spec import SpecError

__all__ = ["KeyedDropout", "NoiseSite", "gradient_noise", "keyed", "needs_key", "prepare"]

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.RMSNorm,
)
_RELUS = (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_DROPPED_AXES = {nn.Dropout: None, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}


def gradient_noise(like: Tensor, key: Tensor, salt: int) -> Tensor:
    """Standard normal noise for the gradients of one parameter of K networks.

    Args:
        like: the gradients, `[K, ...]`.
        key: of the step, `[K]`.
        salt: index of the parameter.

    Returns:
        Of the shape and type of `like`.
    """
    # a network's own sites count from 0 and the step's key is the same: keep clear of them
    drawn: Tensor = _uncompiled_normal(key, list(like.shape[1:]), (1 << 32) + salt)
    return drawn.to(like.dtype)


@torch.library.custom_op("lratlas::normal", mutates_args=())
def _uncompiled_normal(key: Tensor, shape: list[int], salt: int) -> Tensor:
    """`normal` as one operation that a compiled step calls and does not look into.

    The loops that torch 2.15 generates for it on a CPU write whole vectors where part of one is left (pytorch issue
    196681): wrong numbers for 36 elements, a damaged heap for 144.
    """
    return normal(key, shape, salt).contiguous()  # an odd number is cut from an even one, and keeps its strides


@_uncompiled_normal.register_fake
def _(key: Tensor, shape: list[int], salt: int) -> Tensor:
    return key.new_empty((*key.shape, *shape), dtype=torch.float32)


class _Current:
    """What the sites of one network draw with at this moment."""

    key: Tensor | None = None
    level: Tensor | None = None


class KeyedDropout(nn.Dropout):
    """Dropout that draws with the current key; the same law as the layer it stands for.

    Args:
        p: probability of a zero.
        salt: number of the site in its network.
        current: shared by the sites of a network.
        axes: spatial axes that share one choice (`Dropout2d`: 2); None for a choice of each element's own.
    """

    def __init__(self, p: float, salt: int, current: _Current, axes: int | None = None) -> None:
        super().__init__(p)
        self.salt = salt
        self.current = current
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of one network's activations, of any shape, in training only."""
        if not self.training or self.p == 0:
            return x
        if self.current.key is None:
            raise RuntimeError("a network with dropout was run in training mode without a key; use noise.keyed(...)")
        dropped = None
        if self.axes is not None:
            dropped = (*x.shape[: x.dim() - self.axes], *[1] * self.axes)
        return dropout(x, self.p, self.current.key, self.salt, dropped=dropped)


class NoiseSite(nn.Module):
    """Adds noise between a norm layer and the ReLU that reads it (Li, Wei, Ma, NeurIPS 2019), in training only.

    Images `[B, C, H, W]` get level * N(0, 1) of shape `[1, 1, H, W]`, one map shared by all samples and channels, as
    published. Other outputs have no spatial axes: `[B, F]` gets one number for each feature, shared by the samples,
    and what a LayerNorm makes of `[B, T, F]` one for each token and feature.

    Args:
        salt: number of the site in its network.
        current: shared by the sites of a network.
        channels: the output's second axis holds channels, which share the noise where spatial axes follow.
    """

    def __init__(self, salt: int, current: _Current, *, channels: bool) -> None:
        super().__init__()
        self.salt = salt
        self.current = current
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Add the current noise to the output of a norm layer, `[B, ...]`."""
        if not self.training or self.current.level is None:
            return x
        if self.current.key is None:
            raise RuntimeError("a network with activation noise was run in training mode without a key")
        shape = (1, 1, *x.shape[2:]) if self.channels and x.dim() > 2 else (1, *x.shape[1:])
        return x + (self.current.level * normal(self.current.key, shape, self.salt)).to(x.dtype)


def _through_site(norm: nn.Module, _: tuple[Any, ...], out: Tensor) -> Tensor:
    noisy: Tensor = norm.activation_noise(out)  # type: ignore[operator]
    return noisy


class _ReadByRelu(TorchFunctionMode):
    """Notes which of the tensors it is told about go into a ReLU, called as a module or as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[int, tuple[str, Tensor]] = {}  # the tensor is held so that its id stays its own
        self.found: list[str] = []

    def note(self, name: str, out: Tensor) -> None:
        self.outputs[id(out)] = (name, out)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RELUS:
            name, _ = self.outputs.get(id(args[0] if args else kwargs["input"]), (None, None))
            if name is not None and name not in self.found:
                self.found.append(name)
        return func(*args, **kwargs)


def _norms_before_relus(module: nn.Module, example: Tensor) -> list[str]:
    """Names of the norm layers whose output goes straight into a ReLU, in order of use: found by running a copy."""
    probe, mode = copy.deepcopy(module).eval(), _ReadByRelu()
    for name, layer in probe.named_modules():
        if isinstance(layer, _NORMS):
            layer.register_forward_hook(lambda _, __, out, name=name: mode.note(name, out))
    with torch.no_grad(), mode:
        probe(example)
    return mode.found


def prepare(module: nn.Module, *, activation_noise: bool = False, example: Tensor | None = None) -> nn.Module:
    """Make a network draw with keys: dropout layers are replaced, noise sites put in; in place.

    Names of parameters and buffers stay as they are. Dropout that a network calls as a function, and AlphaDropout, are
    not seen and go on drawing from torch's generator.

    Args:
        module: any network.
        activation_noise: put a site at each norm layer whose output goes straight into a ReLU.
        example: inputs of one or more samples, as the network takes them; needed for `activation_noise`.

    Returns:
        `module`, or what stands for it where it is a dropout layer itself.

    Raises:
        SpecError: activation noise for a network without a place for it.
        ValueError: activation noise without an example.
    """
    current, salt = _Current(), 0
    if activation_noise:
        if example is None:
            raise ValueError("activation noise needs an example input, found None")
        names = _norms_before_relus(module, example)
        if not names:
            raise SpecError(
                [
                    "activation_noise needs a network in which a ReLU directly follows a norm layer, found none in "
                    f"{type(module).__name__}; leave it out or set it to 0"
                ]
            )
        for name in names:
            norm = module.get_submodule(name)
            channels = not isinstance(norm, (nn.LayerNorm, nn.RMSNorm))
            norm.add_module("activation_noise", NoiseSite(salt, current, channels=channels).train(norm.training))
            norm.register_forward_hook(_through_site)
            salt += 1
    done: dict[nn.Module, KeyedDropout] = {}
    for name, layer in list(module.named_modules(remove_duplicate=False)):
        if type(layer) not in _DROPPED_AXES:
            continue
        if layer not in done:
            done[layer] = KeyedDropout(layer.p, salt, current, _DROPPED_AXES[type(layer)]).train(layer.training)
            salt += 1
        parent, _, attribute = name.rpartition(".")
        if not name:
            module = done[layer]
        else:
            setattr(module.get_submodule(parent), attribute, done[layer])
    if salt:
        module._current_noise = current  # type: ignore[assignment]
    return module


def needs_key(module: nn.Module) -> bool:
    """Whether a prepared network draws anything.

    Args:
        module: from `prepare`.

    Returns:
        True if it has a site, and so must be run inside `keyed`.
    """
    return hasattr(module, "_current_noise")


@contextmanager
def keyed(module: nn.Module, key: Tensor, level: Tensor | None = None) -> Iterator[None]:
    """Run a prepared network's training step with a key.

    Tensors are held, not read: under CUDA graph capture the graph reads them again at each replay.

    Args:
        module: from `prepare`; one that draws nothing is left alone.
        key: of the step, int64, 0-dim (`order.step_keys`).
        level: of the activation noise, 0-dim; none is added if None.

    Yields:
        Nothing.
    """
    current = getattr(module, "_current_noise", None)
    if not isinstance(current, _Current):
        yield
        return
    before = current.key, current.level
    current.key, current.level = key, level
    try:
        yield
    finally:
        current.key, current.level = before
