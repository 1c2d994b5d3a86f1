"""How long the weights' norm takes to come back to equilibrium after a kick, run by run and layer by layer."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.decay.predictions import settled
from analysis.decay.schedules import Level
from analysis.invariance.courses import Course, Network
from analysis.invariance.relaxation import first_crossing, relaxation_rate

__all__ = ["TOLERANCE", "Kick", "kick_times", "kicks_of"]

TOLERANCE = 0.1
"""Relative distance of ||w||^4 that counts as equilibrium."""


@dataclass(frozen=True, kw_only=True)
class Kick:
    """A kick of a member's weights out of equilibrium, between two stretches of equal learning rate and weight decay.

    Attributes:
        course: the member.
        before: the stretch whose end is the equilibrium.
        after: the stretch in which the norm comes back.
    """

    course: Course
    before: Level
    after: Level


def kicks_of(network: Network) -> list[Kick]:
    """Every kick of a finished member that nothing else goes with.

    Args:
        network: one of the study's.

    Returns:
        One for each member and kick after 4 / lambda_e steps or more, which make an equilibrium; none of a network
        without scale-invariant weights, of which a kick multiplies nothing.
    """
    if network.is_scale_invariant is False:
        return []
    return [kick for course in network.courses if course.status == "completed" for kick in _kicks(course)]


def kick_times(network: Network, tail: float = 0.3) -> pd.DataFrame:
    """Times and rates of the way back.

    Args:
        network: one of the study's.
        tail: share of the stretch before a kick, at its end, over which ||w||^4 is averaged for the equilibrium.

    Returns:
        One row per kick and layer: `layer, intrinsic_lr, ratio, seed, kick, steps` (NaN where the norm never came
        within 10 %), `rate` (of the exponential fit, per step).
    """
    columns = ["layer", "intrinsic_lr", "ratio", "seed", "kick", "steps", "rate"]
    kicks = kicks_of(network)
    rows: list[dict[str, object]] = []
    if not kicks:
        return pd.DataFrame(rows, columns=columns)
    norms = network.trace[network.trace["key"] == "norm_sq"]
    ids = {kick.course.member_id for kick in kicks}
    norms = norms[norms["member_id"].isin(ids) & norms["group"].isin(network.layers)]
    by_run = dict(iter(norms.groupby(["member_id", "group"], observed=True)))
    for kick in kicks:
        for layer in network.layers:
            course = by_run.get((kick.course.member_id, layer))
            if course is None:
                continue
            steps = course["step"].to_numpy(dtype=np.float64)
            fourth = course["value"].to_numpy(dtype=np.float64) ** 2
            before = fourth[(steps > kick.before.tail_of(tail)) & (steps <= kick.before.stop)]
            inside = (steps > kick.after.start) & (steps <= kick.after.stop)
            if not len(before) or not inside.any():
                continue
            # the kick itself is not a row: the norm at its moment is the last one before, scaled
            since = np.concatenate([[0.0], steps[inside] - kick.after.start])
            values = np.concatenate([[before[-1] * kick.after.kick**4], fourth[inside]])
            target = float(before.mean())
            rows.append(
                {
                    "layer": layer,
                    "intrinsic_lr": kick.course.law(kick.after),
                    "ratio": kick.after.lr / kick.after.weight_decay,
                    "seed": kick.course.unit,
                    "kick": kick.after.kick,
                    "steps": first_crossing(since, values, target, TOLERANCE),
                    "rate": relaxation_rate(since, values, target),
                }
            )
    return pd.DataFrame(rows, columns=columns)


def _kicks(course: Course) -> Iterator[Kick]:
    levels = course.schedule.levels
    for before, after in itertools.pairwise(levels):
        same = np.allclose((before.lr, before.weight_decay), (after.lr, after.weight_decay), rtol=1e-9, atol=0.0)
        constant = before.constant and after.constant and after.weight_decay > 0
        if after.kick != 1 and same and constant and settled(before, course.schedule.momentum):
            yield Kick(course=course, before=before, after=after)
