"""Everything about the layers of one solution, or of a pair, as numbers of the table `probes`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from torch import Tensor, nn

from analysis.estimates import finite_or_none
from analysis.representation.activations import PENULTIMATE, Layer, record
from analysis.representation.activity import activity
from analysis.representation.collapse import Collapse, collapse
from analysis.representation.linear_probes import control_labels, linear_probe
from analysis.representation.ranks import ranks
from analysis.representation.similarity import linear_cka
from trainables.spec import SpecError

__all__ = ["Reading", "representation_rows", "similarity_rows"]

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Reading:
    """One number, to be completed with whose it is.

    Attributes:
        probe: what was measured, or `fault`.
        split: on which samples.
        key: which number of it; of a fault the sentence.
        value: None where it is not a finite number.
        n: samples behind it; 0 for a fault.
    """

    probe: str
    split: str
    key: str
    value: float | None
    n: int


class _Measured(Protocol):
    @property
    def n(self) -> int:
        """Samples behind it."""

    def as_rows(self) -> dict[str, float]:
        """Name to number."""


def representation_rows(
    module: nn.Module,
    train: Data,
    test: Data,
    *,
    classes: int,
    samples: int = 1000,
    layers: Sequence[str] | None = None,
    seed: int = 0,
) -> list[Reading]:
    """Ranks, sparsity and linear probes of every layer on test samples, neural collapse on training samples.

    A measure that cannot be made becomes a reading of the probe `fault`; the others go on.

    Args:
        module: the network; looked at as a copy, in eval mode with the norm statistics it has.
        train: network inputs `[n, ...]` and classes `[n]` (0./1. for one logit) it was trained on.
        test: the same of other samples.
        classes: K.
        samples: look at the first of each at most.
        layers: as in `activations.activations`; None chooses.
        seed: of the linear probes' split and control task.

    Returns:
        Readings of the probes `representation` and `linear_probe` (split test, keys `LAYER:name`) and `collapse`
        (split train, keys `name`), each with `_low` and `_high` where it has an interval.
    """
    readings: list[Reading] = []
    x, y = test[0][:samples], test[1][:samples]
    seen: dict[str, Layer] = {}
    targets: Data | None = None
    try:
        seen = record(module, x, layers).layers
    except SpecError as error:
        readings += _faults("representation", "test", error)
    try:
        labels = _classes(y, classes)
        targets = labels, control_labels(x, labels, seed=seed)
    except SpecError as error:
        readings += _faults("linear_probe", "test", error)
    for name, layer in seen.items():
        readings += _attempt("representation", "test", f"{name}:", partial(activity, layer))
        readings += _attempt("representation", "test", f"{name}:", partial(ranks, layer.units))
        if targets is not None:
            probe = partial(linear_probe, layer.units, *targets, seed=seed)
            readings += _attempt("linear_probe", "test", f"{name}:", probe)
    own = train[0][:samples], train[1][:samples]
    return readings + _attempt("collapse", "train", "", lambda: _collapse(module, own, classes))


def similarity_rows(first: Mapping[str, Tensor], second: Mapping[str, Tensor], split: str) -> list[Reading]:
    """CKA of each layer of one solution with the same layer of another.

    Args:
        first: activations by layer (`activations.activations`), each `[n, units]`.
        second: of the other solution, on the same samples; layers that are not in both are left out.
        split: which samples these were.

    Returns:
        Readings of the probe `cka`, keys `LAYER`, `LAYER_low`, `LAYER_high` and `LAYER:biased`.
    """
    readings = []
    for name in (name for name in first if name in second):
        readings += _attempt("cka", split, name, partial(linear_cka, first[name], second[name]))
    return readings


def _attempt(probe: str, split: str, prefix: str, measure: Callable[[], _Measured]) -> list[Reading]:
    try:
        found = measure()
    except SpecError as error:
        return _faults(f"{probe} {prefix.rstrip(':')}".strip(), split, error)
    rows = found.as_rows()
    return [Reading(probe, split, prefix + key, finite_or_none(value), found.n) for key, value in rows.items()]


def _faults(what: str, split: str, error: SpecError) -> list[Reading]:
    return [Reading("fault", split, f"{what}: {fault}", None, 0) for fault in error.faults]


def _collapse(module: nn.Module, train: Data, classes: int) -> Collapse:
    x, y = train
    labels = _classes(y, classes)
    seen = record(module, x, [PENULTIMATE])
    if seen.head is None:
        raise SpecError(["collapse needs a network whose output is that of its last linear layer, found another"])
    logits = seen.outputs
    decisions = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
    return collapse(seen.layers[PENULTIMATE].units, labels, seen.head, decisions)


def _classes(y: Tensor, classes: int) -> Tensor:
    """Targets as class numbers."""
    labels = y.long().cpu()
    if y.dim() != 1 or not len(y):
        raise SpecError([f"targets must be one class for each sample, found shape {tuple(y.shape)}"])
    legal = (labels == y.cpu()) & (labels >= 0) & (labels < classes)
    if not bool(legal.all()):
        raise SpecError([f"targets must be classes 0 to {classes - 1}, found {y.cpu()[~legal][0].item()}"])
    return labels
