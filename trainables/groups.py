"""Parameter groups: which trained tensors have a learning rate or a weight decay of their own."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from trainables.faults import SpecError
from trainables.spec import Group

__all__ = ["PLAIN", "SETS", "GroupRate", "resolve_groups"]

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # _NormBase: batch and instance norms of every shape

SETS = ("@norm", "@bias", "@head", "@scale_invariant", "@other")
"""Sets of parameters that a group can name instead of a pattern."""


@dataclass(frozen=True)
class GroupRate:
    """What is special about one trained tensor.

    Attributes:
        lr: a learning rate that nothing changes; None follows the member's.
        lr_times: factor on the member's learning rate.
        weight_decay: in place of the member's; None follows it.
    """

    lr: float | None = None
    lr_times: float = 1.0
    weight_decay: float | None = None


PLAIN = GroupRate()
"""Nothing is special."""


def resolve_groups(
    module: nn.Module, groups: Sequence[Group], invariant: Collection[str], trained: Sequence[str]
) -> tuple[GroupRate, ...]:
    """Find every trained tensor's group.

    Args:
        module: one network.
        groups: the recipe's; the first that names a tensor holds.
        invariant: names of the scale-invariant parameters.
        trained: names of the trained parameters, in a population's order.

    Returns:
        One for each trained tensor; none at all where there are no groups.

    Raises:
        SpecError: a pattern that names no trained parameter, or a set that does not exist.
    """
    if not groups:
        return ()
    found: dict[str, GroupRate] = {}
    faults = []
    for group in groups:
        rate = GroupRate(group.lr, group.lr_times, group.weight_decay)
        for pattern in group.parameters:
            if pattern.startswith("@") and pattern not in SETS:
                faults.append(f"unknown set of parameters {pattern!r} in train.groups; legal: {', '.join(SETS)}")
                continue
            named = [name for name in _named(module, pattern, invariant) if name in trained]
            if not named:
                faults.append(
                    f"every pattern in train.groups must name a trained parameter, found none for {pattern!r}; "
                    f"the network has {', '.join(trained)}"
                )
            for name in named:
                found.setdefault(name, rate)
    if faults:
        raise SpecError(faults)
    return tuple(found.get(name, PLAIN) for name in trained)


def _named(module: nn.Module, pattern: str, invariant: Collection[str]) -> Iterator[str]:
    """Names of the parameters that a pattern or a set holds, frozen ones included."""
    owners = [
        (f"{prefix}.{name}" if prefix else name, layer)
        for prefix, layer in module.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
    ]
    for name, layer in owners:
        holds = {
            "@norm": isinstance(layer, NORMS),
            "@bias": name.endswith("bias"),
            "@head": layer is owners[-1][1],
            "@scale_invariant": name in invariant,
            "@other": name not in invariant,
        }
        if holds.get(pattern, False) or fnmatchcase(name, pattern):
            yield name
