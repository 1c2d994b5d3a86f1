"""The solutions of a study whose weights were kept: by what they are called, whose they are and where they stand."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations

from analysis.arms import FINAL, Arm

__all__ = ["SOLUTIONS", "Solution", "Start", "names_of", "pairs_of", "starts_of"]

SOLUTIONS = ("low", "high", "swa", "final")
"""Solutions by name: after the lowest and the highest rate of a later phase, the average of most weights, and the end
of the first phase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """One set of kept weights.

    Attributes:
        name: `low`, `high`, `swa`, `final`, or `swa@W` for an average of fewer weights.
        member_id: whose.
        group: which of its weights: `end` or `swa@W`.
        data_seed: draw of the data it was trained on.
        lr: learning rate of the last steps behind it.
        momentum: of those steps.
    """

    name: str
    member_id: str
    group: str
    data_seed: int
    lr: float
    momentum: float

    @property
    def key(self) -> tuple[str, str]:
        """As `trainables.checkpoint.Checkpoints` knows it."""
        return (self.member_id, self.group)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """All solutions that come from one pre-trained network.

    Attributes:
        unit: place of its seed in the arm.
        place: place of its initial rate in the arm.
        solutions: those whose weights were kept.
    """

    unit: int
    place: int
    solutions: tuple[Solution, ...]

    @property
    def by_name(self) -> Mapping[str, Solution]:
        """The solutions by name."""
        return {solution.name: solution for solution in self.solutions}


def names_of(arm: Arm) -> dict[str, tuple[str, str]]:
    """What the solutions of an arm are called.

    Args:
        arm: an arm of a study.

    Returns:
        Name to (quality of the member that holds it, group of weights); `low` and `high` only where a later phase has
        one or more rates, averages of fewer weights than the most under `swa@W`.
    """
    tuned = [name for name in arm.qualities if name != FINAL and not name.startswith("swa@")]
    averages = [name for name in arm.qualities if name.startswith("swa@")]
    found = {"low": (tuned[0], "end")} if tuned else {}
    if len(tuned) > 1:
        found["high"] = (tuned[-1], "end")
    if averages:
        found["swa"] = (FINAL, averages[-1])
    found["final"] = (FINAL, "end")
    return found | {name: (FINAL, name) for name in averages[:-1]}


def pairs_of(arm: Arm) -> tuple[tuple[str, str], ...]:
    """Which solutions are compared with each other, by name.

    Args:
        arm: an arm of a study.

    Returns:
        Low, high and the largest average with each other, and every smaller average with low and high; without a later
        phase the end of the first one with the averages.
    """
    names = list(names_of(arm))
    tuned: list[str] = [name for name in ("low", "high") if name in names] or ["final"]
    smaller = [name for name in names if name.startswith("swa@")]
    largest = [name for name in ("swa",) if name in names]
    return (*combinations([*tuned, *largest], 2), *((one, other) for other in smaller for one in tuned))


def starts_of(arm: Arm, kept: Collection[tuple[str, str]], *, seeds: int | None = None) -> list[Start]:
    """The solutions that are there, pre-trained network by pre-trained network.

    Args:
        arm: an arm of a study.
        kept: (member id, group) of the weights in `checkpoints/`.
        seeds: take the first so many seeds; None for all.

    Returns:
        By seed, then initial rate; networks of which nothing was kept are left out.
    """
    members = arm.members[arm.members["status"] == "completed"]
    rows = {
        (quality, unit, place): (member_id, lr, momentum)
        for quality, unit, place, member_id, lr, momentum in zip(
            members["quality"],
            members["unit"],
            members["place"],
            members["member_id"],
            members["lr"],
            members["momentum"] if "momentum" in members else [0.0] * len(members),
            strict=True,
        )
    }
    names = names_of(arm)
    starts = []
    for unit in range(len(arm.seeds) if seeds is None else min(seeds, len(arm.seeds))):
        for place in range(len(arm.lrs)):
            found = []
            for name, (quality, group) in names.items():
                member_id, lr, momentum = rows.get((quality, unit, place), ("", 0.0, 0.0))
                if (member_id, group) in kept:
                    draw = int(arm.data_seeds[unit])
                    found.append(
                        Solution(
                            name=name,
                            member_id=member_id,
                            group=group,
                            data_seed=draw,
                            lr=float(lr),
                            momentum=float(momentum),
                        )
                    )
            if found:
                starts.append(Start(unit=unit, place=place, solutions=tuple(found)))
    return starts
