"""Kept weights of a results folder, loaded and checked: what cannot be used is said and left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analysis.landscape.mixtures import Weights, finite, misfit, take
from trainables.spec import SpecError

if TYPE_CHECKING:
    from trainables.checkpoint import Checkpoints

__all__ = ["Key", "Loaded", "architecture", "load"]

Key = tuple[str, str]
"""(member id, group)."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Solutions in memory.

    Attributes:
        weights: name to `[S, *shape]`; empty where no solution can be used.
        rows: each usable solution's row.
        faults: one sentence for each solution that cannot be used.
    """

    weights: Weights
    rows: Mapping[Key, int]
    faults: Mapping[Key, str]


def architecture(checkpoints: "Checkpoints", key: Key) -> tuple[object, ...]:
    """What decides names, shapes and meaning of a solution's weights: equal for solutions that can be compared.

    Args:
        checkpoints: of a results folder.
        key: which solution.

    Returns:
        Task and model with their arguments.

    Raises:
        SpecError: these weights were not kept.
    """
    recipe = checkpoints.recipe(key)
    arguments = [tuple(sorted(given.items())) for given in (recipe.task_args, recipe.model_args)]
    return (recipe.task, recipe.model, *arguments)


def load(checkpoints: "Checkpoints", keys: Sequence[Key], shapes: Mapping[str, torch.Size]) -> Loaded:
    """Load solutions of one architecture.

    Args:
        checkpoints: of a results folder.
        keys: which; repeats allowed.
        shapes: names and shapes of the architecture's tensors.

    Returns:
        The usable ones, and a sentence for each other: not kept, unreadable, of another architecture, not finite.
    """
    groups: dict[tuple[object, ...], list[Key]] = {}
    faults: dict[Key, str] = {}
    for key in dict.fromkeys(keys):
        try:
            groups.setdefault(architecture(checkpoints, key), []).append(key)
        except SpecError as error:
            faults[key] = "; ".join(error.faults)
    parts: list[dict[str, Tensor]] = []
    rows: dict[Key, int] = {}
    for group in groups.values():
        for part, members in _readable(checkpoints, group, faults):
            fault = misfit({name: tensor[0] for name, tensor in part.items()}, shapes)
            sound = finite(part).tolist() if fault is None else [False] * len(members)
            reason = f"come from another architecture: one {fault}" if fault else "are not finite"
            faults |= {
                key: f"weights {key[1]!r} of member {key[0]} {reason}; they were left out"
                for key, usable in zip(members, sound, strict=True)
                if not usable
            }
            chosen = [row for row, usable in enumerate(sound) if usable]
            if chosen:
                rows |= {members[row]: len(rows) + place for place, row in enumerate(chosen)}
                parts.append(part if len(chosen) == len(members) else take(part, chosen))
    weights = {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return Loaded(weights=weights, rows=rows, faults=faults)


def _readable(
    checkpoints: "Checkpoints", keys: list[Key], faults: dict[Key, str]
) -> list[tuple[dict[str, Tensor], list[Key]]]:
    """The weights of several solutions at once or, where that fails, of those that can be read alone."""
    try:
        weights = checkpoints.weights(keys)
    except (RuntimeError, SpecError) as error:  # RuntimeError: tensors of different shapes
        if len(keys) > 1:
            return [found for key in keys for found in _readable(checkpoints, [key], faults)]
        words = "; ".join(error.faults) if isinstance(error, SpecError) else str(error)
        faults[keys[0]] = f"{words} and run this again; until then they are left out"
        return []
    if len(keys) > 1 and any(len(tensor) != len(keys) for tensor in weights.values()):
        return [found for key in keys for found in _readable(checkpoints, [key], faults)]
    return [(weights, keys)]
