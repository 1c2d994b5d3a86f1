"""Accuracy of kept weights on probe sets: single features, Fourier bands."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainables.rows import ProbeRow

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.evaluate import Evaluator

__all__ = ["feature_rows_of"]

_NOT_FINITE = "weights must be finite, found NaN or infinity; this solution has no feature accuracies"


def feature_rows_of(
    evaluator: "Evaluator",
    weights: Mapping[str, "Tensor"],
    keys: Sequence[tuple[str, str]],
    data_seeds: Sequence[int],
    groups: Sequence[str],
    *,
    steps: Sequence[int],
    attempts: Sequence[int],
    samples: int | None = None,
) -> list[ProbeRow]:
    """Measure N solutions on groups of probe sets, as training does at every member's end.

    Args:
        evaluator: of the solutions' recipe, made with `probes` that hold all of `groups`.
        weights: parameter and buffer names to `[N, *shape]`, as `Checkpoints.weights` gives them; not changed.
        keys: (member id, group of weights) of each, N of them.
        data_seeds: the draw each is evaluated on, N of them.
        groups: groups of probe sets, such as `features`, `resampled`, `bands`.
        steps: schedule step of each, N of them.
        attempts: attempt of each member, N of them.
        samples: at most how many of each probe set; None for all. `features` are always whole.

    Returns:
        Rows of the probes `feature_accuracy` and `band_accuracy`, split the variant, key the feature or band, value the
        accuracy as a fraction, n the samples behind it; for weights that are not finite one row of the probe `fault`.
    """
    finite = [row for row in range(len(keys)) if all(bool(t[row].isfinite().all()) for t in weights.values())]
    broken = [row for row in range(len(keys)) if row not in set(finite)]
    rows = [_row(keys[at], steps[at], attempts[at], ("fault", "probe", _NOT_FINITE), None, 0) for at in broken]
    if not finite:
        return rows
    own = dict(weights) if not broken else {name: tensor[finite] for name, tensor in weights.items()}
    for group in groups:
        for one, found in evaluator.probe_sets(own, [data_seeds[at] for at in finite], group, samples):
            what = (one.probe, one.split, one.key)
            for at, value in zip(finite, (1 - found.error).tolist(), strict=True):
                rows.append(_row(keys[at], steps[at], attempts[at], what, value, found.n))
    return rows


def _row(
    key: tuple[str, str], step: int, attempt: int, what: tuple[str, str, str], value: float | None, n: int
) -> ProbeRow:
    member, group = key
    probe, split, name = what
    return ProbeRow(
        member_id=member, attempt=attempt, step=step, probe=probe, split=split, group=group, key=name, value=value, n=n
    )
