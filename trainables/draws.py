"""Random numbers as a function of (key, salt, element): no generator, and so no state to share, move on or save.

The counter-based kind of Salmon et al. (SC 2011), with the hash that also makes the batch order: a key is the hash of
(seed, step) (`order.step_keys`), the salt tells apart what is drawn with it, and elements are counted. With K keys at
once, what one draws does not depend on the others.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainables.order import _mix, _shift_right, _signed

__all__ = ["dropout", "normal", "uniform"]

_GOLDEN = _signed(0x9E3779B97F4A7C15)


def _two_uniforms(key: Tensor, pairs: int, salt: int) -> tuple[Tensor, Tensor]:
    """Two independent uniforms for each of `pairs` counters, `[*key.shape, pairs]` each: the halves of one hash."""
    stream = _mix(key + _signed((salt + 1) * 0xD1B54A32D192ED03))
    bits = _mix(stream.unsqueeze(-1) + torch.arange(pairs, device=key.device) * _GOLDEN)
    # 23 bits and a half: every value and its distance from 1 is a float32, and none is 0 or 1
    high, low = _shift_right(bits, 41), _shift_right(bits, 9) & ((1 << 23) - 1)
    return (high.to(torch.float32) + 0.5) * 2.0**-23, (low.to(torch.float32) + 0.5) * 2.0**-23


def _shaped(halves: tuple[Tensor, Tensor], key: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.cat(halves, dim=-1)[..., : math.prod(shape)].reshape(*key.shape, *shape)


def uniform(key: Tensor, shape: Sequence[int], salt: int) -> Tensor:
    """Numbers uniform on (0, 1), in steps of 2**-23.

    Args:
        key: int64, 0-dim or `[K]`.
        shape: of what each key draws.
        salt: tells apart what is drawn with the same key; at least 0.

    Returns:
        float32, `[*key.shape, *shape]`; row k depends on `key[k]` and on nothing else of `key`.
    """
    return _shaped(_two_uniforms(key, (math.prod(shape) + 1) // 2, salt), key, shape)


def normal(key: Tensor, shape: Sequence[int], salt: int) -> Tensor:
    """Standard normal numbers (Box and Muller, 1958), none farther out than 5.8.

    Args:
        key: int64, 0-dim or `[K]`.
        shape: of what each key draws.
        salt: tells apart what is drawn with the same key; at least 0.

    Returns:
        float32, `[*key.shape, *shape]`; row k depends on `key[k]` and on nothing else of `key`.
    """
    first, second = _two_uniforms(key, (math.prod(shape) + 1) // 2, salt)
    radius, angle = (-2 * first.log()).sqrt(), 2 * math.pi * second
    return _shaped((radius * angle.cos(), radius * angle.sin()), key, shape)


def dropout(x: Tensor, p: float, key: Tensor, salt: int, *, dropped: Sequence[int] | None = None) -> Tensor:
    """Dropout with the law of `torch.nn.functional.dropout`.

    Args:
        x: `[*key.shape, ...]`.
        p: probability that an element becomes zero.
        key: int64, 0-dim or `[K]`.
        salt: the site.
        dropped: shape of the mask of one key, broadcast against `x`; an independent choice for each element if None.

    Returns:
        `x` with zeros, the rest divided by 1 - p.
    """
    keep = uniform(key, x.shape[key.dim() :] if dropped is None else dropped, salt) >= p
    return torch.where(keep, x * (1 / (1 - p) if p < 1 else 0.0), 0.0)
