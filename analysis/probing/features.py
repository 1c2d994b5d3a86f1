"""Features of kept solutions as rows: each function measures one part for the solutions of one job."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.probing.accuracy import feature_rows_of
from analysis.probing.bench import Bench
from analysis.probing.jobs import Job, fault_row
from analysis.probing.kept import load
from analysis.probing.solutions import Solution, Start
from analysis.representation.activations import activations
from analysis.representation.rows import Reading, representation_rows, similarity_rows
from trainables.arena import probe_groups_of
from trainables.build import build_task
from trainables.checkpoint import Checkpoints
from trainables.evaluate import Evaluator
from trainables.rows import ProbeRow
from trainables.spec import SpecError
from trainables.tasks.base import Task

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["accuracies", "representations", "timeline"]

_MOST_WEIGHTS = 1 << 24
"""Weights loaded at once: bounds the memory."""


def accuracies(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Accuracy on every probe set of the task.

    Args:
        checkpoints: the kept weights.
        job: which solutions.

    Yields:
        Rows of the probes `feature_accuracy` and `band_accuracy`; none for a task without probe sets.
    """
    solutions = list(job.solutions)
    yield from _on_probe_sets(checkpoints, job, [(one.key, one.data_seed) for one in solutions])


def timeline(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Accuracy on every probe set at every kept step of the first phase, and at its end.

    Args:
        checkpoints: the kept weights.
        job: which pre-trained networks.

    Yields:
        Rows as those of `accuracies`, group `step@N`; none where no step was kept.
    """
    steps: dict[str, list[str]] = {}
    for member, group in checkpoints.entries():
        if group.startswith("step@"):
            steps.setdefault(member, []).append(group)
    wanted = []
    for start in job.starts:
        final = start.by_name.get("final")
        kept = steps.get(final.member_id, []) if final else []
        if final and kept:
            wanted += [((final.member_id, group), final.data_seed) for group in [*sorted(kept), "end"]]
    yield from _on_probe_sets(checkpoints, job, wanted)


def _on_probe_sets(
    checkpoints: Checkpoints, job: Job, wanted: Sequence[tuple[tuple[str, str], int]]
) -> Iterator[ProbeRow]:
    """Rows of some kept weights, each with the draw it was trained on."""
    if not wanted:
        return
    bench = Bench(checkpoints, job)
    groups = probe_groups_of(build_task(bench.recipe, wanted[0][1]))
    if not groups:
        return
    evaluator = Evaluator(bench.recipe, sorted({seed for _, seed in wanted}), probes=groups)
    size = sum(tensor.numel() for tensor in checkpoints.weights([wanted[0][0]]).values())
    at_once = max(1, _MOST_WEIGHTS // size)
    draws = dict(wanted)
    for first in range(0, len(wanted), at_once):
        part = [key for key, _ in wanted[first : first + at_once]]
        loaded = load(checkpoints, part, evaluator.shapes)
        yield from (_said(checkpoints, key, sentence) for key, sentence in loaded.faults.items())
        keys = list(loaded.rows)
        if keys:
            yield from feature_rows_of(
                evaluator,
                loaded.weights,
                keys,
                [draws[key] for key in keys],
                groups,
                steps=[checkpoints.step(key) for key in keys],
                attempts=[1] * len(keys),
                samples=job.spec.samples,
            )


def _said(checkpoints: Checkpoints, key: tuple[str, str], sentence: str) -> ProbeRow:
    """A row that says why weights could not be used."""
    step = checkpoints.step(key) if key in checkpoints.entries() else 0
    return fault_row(*key, step, sentence)


def representations(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Ranks and sparsity of activations, linear probes, neural collapse, and CKA between solutions.

    Args:
        checkpoints: the kept weights.
        job: which solutions, and which pairs of them.

    Yields:
        Rows of the probes `representation`, `linear_probe`, `collapse` and, for pairs, `cka`.
    """
    bench = Bench(checkpoints, job)

    def one(solution: Solution) -> Iterator[ProbeRow]:
        task = build_task(bench.recipe, solution.data_seed)
        module = bench.module(solution, _looked_at(bench, solution))
        train, test = bench.data(solution, "train"), bench.data(solution, "test")
        found = representation_rows(module, train, test, classes=_classes(task), samples=job.spec.samples)
        yield from (_row(bench, solution, reading) for reading in found)

    yield from bench.each(one)
    for start in job.starts:
        yield from _similarities(bench, start, job.pairs)


def _similarities(bench: Bench, start: Start, pairs: Sequence[tuple[str, str]]) -> Iterator[ProbeRow]:
    """CKA of the pairs of one start, on test samples; networks that share their head at every layer before it."""
    seen: dict[str, Mapping[str, Tensor]] = {}
    named = start.by_name
    for first, second in pairs:
        if first not in named or second not in named:
            continue
        a, b = named[first], named[second]
        try:
            for solution in (a, b):
                if solution.name not in seen:
                    module = bench.module(solution, _looked_at(bench, solution))
                    seen[solution.name] = activations(module, bench.data(solution, "test")[0])
        except SpecError:
            continue  # the single solutions' rows say why
        for reading in similarity_rows(seen[first], seen[second], "test"):
            yield _row(bench, a, reading, b)


def _row(bench: Bench, solution: Solution, reading: Reading, other: Solution | None = None) -> ProbeRow:
    """A reading with whose it is."""
    if reading.probe == "fault":
        return fault_row(*solution.key, bench.checkpoints.step(solution.key), reading.key)
    return ProbeRow(
        member_id=solution.member_id,
        attempt=1,
        step=bench.checkpoints.step(solution.key),
        probe=reading.probe,
        split=reading.split,
        group=solution.group if other is None else f"{solution.group}~{other.group}",
        key=reading.key,
        value=reading.value,
        n=reading.n,
        other_member_id=None if other is None else other.member_id,
    )


def _looked_at(bench: Bench, solution: Solution) -> "dict[str, Tensor]":
    """Weights with norm statistics computed anew: so that those of averages and of ends are of one kind."""
    weights = bench.weights(solution)
    bench.evaluator.reestimate_norms(weights, [solution.data_seed])
    return weights


def _classes(task: Task) -> int:
    """How many classes there are in the training labels."""
    return int(task.train.y.max()) + 1
