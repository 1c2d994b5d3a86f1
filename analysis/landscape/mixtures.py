"""Weights of several solutions of one network as one set of tensors, and mixtures of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.spec import SpecError

__all__ = ["ELEMENTS", "Weights", "finite", "misfit", "mixed", "on_sphere", "stacked", "take"]

Weights = Mapping[str, Tensor]
"""Parameter and buffer names, as in `state_dict`, to `[N, *shape]`."""

ELEMENTS = 1 << 20
"""Weights mixed at once, where one mixture has fewer: 4 MB in float32, which stay in a core's cache."""


def stacked(solutions: Sequence[nn.Module | Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Solutions of one architecture as one set of tensors.

    Args:
        solutions: modules or their state dicts, at least one; copied.

    Returns:
        Parameter and buffer names to `[N, *shape]`.

    Raises:
        SpecError: no solution, other names or shapes than the first one's, or weights that are not finite.
    """
    if not solutions:
        raise SpecError(["at least one solution is needed, found none"])
    states = [each.state_dict() if isinstance(each, nn.Module) else each for each in solutions]
    shapes = {name: tensor.shape for name, tensor in states[0].items()}
    for number, state in enumerate(states[1:], start=1):
        if fault := misfit(state, shapes):
            raise SpecError([f"solutions must have one architecture, but solution {number} {fault}"])
    weights = {name: torch.stack([state[name].detach() for state in states]) for name in shapes}
    broken = (~finite(weights)).nonzero().flatten().tolist()
    if broken:
        raise SpecError([f"weights must be finite, found NaN or infinity in solution {broken[0]}; leave it out"])
    return weights


def misfit(state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> str | None:
    """What about some weights does not fit an architecture, in words that follow the name of the weights.

    Args:
        state: names to tensors.
        shapes: names to shapes wanted.

    Returns:
        None where all fits.
    """
    for name, shape in shapes.items():
        if name not in state:
            return f"has no {name!r}"
        if state[name].shape != shape:
            return f"holds {name!r} as {tuple(state[name].shape)} instead of {tuple(shape)}"
    extra = [name for name in state if name not in shapes]
    return f"holds {extra[0]!r}, which the network does not know" if extra else None


def finite(weights: Weights) -> Tensor:
    """Which rows are free of NaN and infinity, `[N]`."""
    floating = [tensor.flatten(1) for tensor in weights.values() if tensor.is_floating_point()]
    return torch.stack([torch.isfinite(tensor).all(1) for tensor in floating]).all(0)


def take(weights: Weights, rows: Sequence[int]) -> dict[str, Tensor]:
    """Some rows of every tensor, copied; repeats allowed."""
    device = next(iter(weights.values())).device
    index = torch.as_tensor(rows, dtype=torch.long, device=device)
    return {name: tensor.index_select(0, index) for name, tensor in weights.items()}


def mixed(weights: Weights, first: Sequence[int], second: Sequence[int], alphas: Sequence[float]) -> dict[str, Tensor]:
    """(1 - alpha) A + alpha B for many pairs of rows; exact at both ends.

    Args:
        weights: solutions, name to `[S, *shape]`.
        first: A of each mixture, `[R]` rows of `weights`.
        second: B likewise.
        alphas: shares of B, `[R]`.

    Returns:
        Name to `[R, *shape]`; integer tensors are A's.
    """
    a, b = take(weights, first), take(weights, second)
    for name, tensor in a.items():
        if tensor.is_floating_point():
            share = torch.as_tensor(alphas, dtype=tensor.dtype, device=tensor.device)
            torch.lerp(tensor, b[name], share.view(-1, *[1] * (tensor.dim() - 1)), out=tensor)
    return a


def on_sphere(weights: dict[str, Tensor], names: Sequence[str], radius: float | None) -> dict[str, Tensor]:
    """Weights whose named tensors, as one vector, have a given norm.

    Args:
        weights: name to `[N, *shape]`.
        names: scale-invariant parameters.
        radius: the norm; None leaves everything as it is.

    Returns:
        Name to `[N, *shape]`.
    """
    if radius is None or not names:
        return weights
    norm = torch.cat([weights[name].flatten(1) for name in names], dim=1).norm(dim=1)
    factor = radius / norm
    scaled = {name: weights[name] * factor.view(-1, *[1] * (weights[name].dim() - 1)) for name in names}
    return weights | scaled
