"""Averages of weights along one trajectory and across trajectories: which of them is still a good network.

Along one run, averaging weights helps even where training has gone on for ten times the usual time; averaging networks
that began with different weights does not: runs that have become one distribution of functions have not mixed in the
space of weights (Li, Lyu & Arora, NeurIPS 2020, arXiv 2010.02916). Units of different runs are not matched with each
other.

Every solution is an average over one or more kept sets of weights. Before they are averaged the scale-invariant weights
of all are scaled, as one vector, to norm 1, and their average to the mean norm of what it was made of: no network is
changed by that, and none has more say because its norm is larger. Everything else, frozen weights included, is averaged
as it is. Norm statistics of every solution, single ones too, are re-estimated on the training set.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.seed_groups import SeedGroup
from trainables.spec import SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from analysis.landscape.points import PointEvaluator
    from trainables.checkpoint import Checkpoints

__all__ = ["Kind", "Solution", "affordable", "average_weights", "measure", "run_counts", "solutions"]

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, "Tensor"]
Key = tuple[str, str]

_ELEMENTS = 1 << 24
"""Weights held at once: bounds the memory that loading and evaluating take (64 MB in float32)."""
_FEWER = (16, 8, 4, 2)
"""Runs of a group that are measured where all would take too long."""
_SEED = 29


class Kind(StrEnum):
    """What an average is made of."""

    END = "end"
    """One set of weights: the end of one run."""
    ALONG = "along"
    """The last weights of one run, as training averaged them."""
    ACROSS = "across"
    """The ends of several runs that differ in their seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Solution:
    """A network to be measured.

    Attributes:
        kind: what it is made of.
        count: weights behind it.
        keys: (member id, group) of the kept weights whose average it is.
        runs: which of the group's runs they belong to.
    """

    kind: Kind
    count: int
    keys: tuple[Key, ...]
    runs: tuple[int, ...]


def run_counts(runs: int) -> list[int]:
    """How many runs averages are made of: 2, 4, ... up to half of them, and all.

    Args:
        runs: how many there are, at least 2.

    Returns:
        Ascending counts.
    """
    counts, count = [], 2
    while 2 * count <= runs:
        counts.append(count)
        count *= 2
    return [*counts, runs]


def solutions(group: SeedGroup) -> list[Solution]:
    """Everything that is measured of a group.

    Averages of the same number of runs share no run, so that they are independent of each other and an interval over
    them means what it says; which runs go together is drawn at random, from a fixed seed.

    Args:
        group: runs that differ in their seed.

    Returns:
        Each run's end, each run's average along, and averages across 2, 4, ... all runs.
    """
    ids = group.member_ids
    ends = [Solution(kind=Kind.END, count=1, keys=((ids[run], "end"),), runs=(run,)) for run in range(len(ids))]
    along = [
        Solution(kind=Kind.ALONG, count=group.window, keys=((ids[run], f"swa@{group.window}"),), runs=(run,))
        for run in range(len(ids))
    ]
    generator = np.random.default_rng(_SEED)
    across = []
    for count in run_counts(len(ids)):
        order = generator.permutation(len(ids)).tolist()
        for first in range(0, len(ids) - count + 1, count):
            runs = tuple(sorted(order[first : first + count]))
            keys = tuple((ids[run], "end") for run in runs)
            across.append(Solution(kind=Kind.ACROSS, count=count, keys=keys, runs=runs))
    return [*ends, *along, *across]


def affordable(groups: Sequence[SeedGroup], each: float, seconds: float) -> tuple[SeedGroup, ...]:
    """As much as can be measured in time: first fewer runs of every group, then of the first group alone.

    Args:
        groups: at least one.
        each: seconds that one solution takes.
        seconds: what there is.

    Returns:
        The groups to measure.

    Raises:
        SpecError: not even two runs of the first group fit.
    """
    longest = max(len(group.seeds) for group in groups)
    for part in (tuple(groups), tuple(groups[:1])):
        for most in (longest, *(fewer for fewer in _FEWER if fewer < longest)):
            chosen = tuple(group.first(most) for group in part)
            if each * sum(len(solutions(group)) for group in chosen) <= seconds:
                return chosen
    least = each * len(solutions(groups[0].first(2)))
    raise SpecError([f"two runs take about {least / 60:,.0f} minutes here, more than a report waits for"])


def measure(evaluator: "PointEvaluator", checkpoints: "Checkpoints", group: SeedGroup) -> pd.DataFrame:
    """Measure all solutions of a group.

    Args:
        evaluator: of the group's recipe.
        checkpoints: holds the weights.
        group: runs that differ in their seed.

    Returns:
        One row per solution: `kind, count, runs` (a tuple of training seeds), `test_error` (a fraction), `train_loss`,
        and `excess`, the test error minus the mean of the ends of the runs behind it.
    """
    wanted = solutions(group)
    one = checkpoints.weights([wanted[0].keys[0]])
    at_once = max(1, _ELEMENTS // sum(tensor.numel() for tensor in one.values()))
    errors, losses = [], []
    for start in range(0, len(wanted), at_once):
        parts = [
            _load(checkpoints, s.keys, evaluator.scale_invariant, at_once) for s in wanted[start : start + at_once]
        ]
        stacked = _concatenate(parts)
        draws = [group.data_seed] * len(parts)
        evaluator.reestimate_norms(stacked, draws)
        errors.append(evaluator(stacked, draws, "test").error.double().numpy())
        losses.append(evaluator(stacked, draws, "train").loss.double().numpy())
    error: Floats = np.concatenate(errors)
    ends = error[: len(group.seeds)]  # solutions begin with them, in the group's order
    return pd.DataFrame(
        {
            "kind": [str(solution.kind) for solution in wanted],
            "count": [solution.count for solution in wanted],
            "runs": [tuple(group.seeds[run] for run in solution.runs) for solution in wanted],
            "test_error": error,
            "train_loss": np.concatenate(losses),
            "excess": error - np.array([ends[list(solution.runs)].mean() for solution in wanted]),
        }
    )


def average_weights(parts: Iterable[Weights], scale_invariant: Sequence[str]) -> dict[str, "Tensor"]:
    """The average of stacked weights, those without scale at equal norm.

    Args:
        parts: name to `[N, *shape]` each, at least one row in all; every row of every part is averaged. A single row
            comes back as it is.
        scale_invariant: parameters that the loss does not feel a common factor of.

    Returns:
        Name to `[1, *shape]`, in the dtypes of `parts`; counters are the first row's.
    """
    import torch

    first: Weights = {}
    sums: dict[str, Tensor] = {}
    norms: list[Tensor] = []
    for part in parts:
        first = first or part
        norms.append(_norms(part, scale_invariant))
        for name, tensor in part.items():
            if tensor.is_floating_point():
                values = tensor.double()
                if name in scale_invariant:
                    values = values / norms[-1].view(-1, *[1] * (values.dim() - 1))
                sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + values.sum(0, keepdim=True)
    norm = torch.cat(norms)
    if len(norm) == 1:
        return dict(first)
    averaged = {name: total / len(norm) for name, total in sums.items()}
    if scale_invariant:
        factor = norm.mean() / _norms(averaged, scale_invariant)
        averaged |= {name: averaged[name] * factor for name in scale_invariant}
    return {name: averaged[name].to(t.dtype) if name in averaged else t[:1].clone() for name, t in first.items()}


def _norms(weights: Weights, names: Sequence[str]) -> "Tensor":
    """Norm of the named tensors as one vector, `[N]`; 1 where none is named."""
    import torch

    if not names:
        return torch.ones(len(next(iter(weights.values()))), dtype=torch.float64)
    norms: Tensor = torch.cat([weights[name].double().flatten(1) for name in names], dim=1).norm(dim=1)
    return norms


def _load(checkpoints: "Checkpoints", keys: Sequence[Key], names: Sequence[str], at_once: int) -> dict[str, "Tensor"]:
    """The average of some kept weights, `at_once` of them in memory at a time."""
    parts = (checkpoints.weights(keys[start : start + at_once]) for start in range(0, len(keys), at_once))
    return average_weights(parts, names)


def _concatenate(parts: Sequence[Weights]) -> dict[str, "Tensor"]:
    import torch

    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
