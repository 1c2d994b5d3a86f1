"""Norms, angles and effective learning rates of the weights, as rows of the table `probes`."""

import math
from collections.abc import Sequence

import torch

from trainables.population import Population
from trainables.rows import ProbeRow
from trainables.update import TRACED, Rule

__all__ = ["trace_rows"]


def trace_rows(
    population: Population,
    rule: Rule,
    groups: Sequence[str],
    member_ids: Sequence[str],
    *,
    step: int,
    steps: int,
    attempt: int,
) -> list[ProbeRow]:
    """What was summed since the last rows, as means over that interval, and the squared norms now.

    Args:
        population: the networks; rows beyond `member_ids` are padding.
        rule: says which tensors are measured.
        groups: names of the L measured tensors, and of all together.
        member_ids: whose rows they are.
        step: schedule step now.
        steps: in the interval that ends here.
        attempt: of the pack.

    Returns:
        For each living row and group: `norm_sq` (now), the means of `grad_norm_sq`, `unit_grad_norm_sq` and
        `effective_lr`, and `angle`, the root of the mean squared angle of a step in radians.
    """
    tensors = [tensor for tensor, counts in zip(population.trained.values(), rule.measured, strict=True) if counts]
    each = torch.stack([tensor.square().reshape(len(tensor), -1).sum(1) for tensor in tensors], 1)
    norms = torch.cat([each, each.sum(1, keepdim=True)], 1).tolist()
    means = (population.trace / steps).tolist()
    alive = population.alive.tolist()
    rows = []
    for place, member_id in enumerate(member_ids):
        if not alive[place]:
            continue
        by_name = dict(zip(TRACED, means[place], strict=True))
        angles = [math.sqrt(square) for square in by_name.pop("angle_sq")]
        facts = {"norm_sq": norms[place], "angle": angles, **by_name}
        for key, values in facts.items():
            for group, value in zip(groups, values, strict=True):
                rows.append(
                    ProbeRow(
                        member_id=member_id,
                        attempt=attempt,
                        step=step,
                        probe="trace",
                        split="train",
                        group=group,
                        key=key,
                        value=value,
                        n=steps,
                    )
                )
    return rows
