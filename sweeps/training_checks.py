"""What must hold between the parts of a sweep file that say how steps are done: curves, rates, the optimiser."""

from collections.abc import Iterator

from sweeps.draft import Draft
from sweeps.faults import unknown
from sweeps.schema import RateOf, Train
from trainables.spec import Optimizer, Scalar

__all__ = ["course_faults", "optimizer_faults"]


def course_faults(draft: Draft) -> Iterator[str]:
    """Curves fit into their phases, and rates relate to phases that come before.

    Args:
        draft: a sweep file's parts.

    Yields:
        One sentence for each fault.
    """
    for index, phase in enumerate(draft.phases):
        if phase is None:
            continue
        if steps := draft.phase_points(index, "steps"):
            yield from (f"phases.{index}: {fault}" for fault in phase.curve.curve.faults_in(int(min(steps))))
        earlier = [other.name for other in draft.phases[:index] if other]
        if isinstance(phase.lr, RateOf) and phase.lr.of not in earlier and all(draft.phases[:index]):
            yield unknown("earlier phase", phase.lr.of, earlier, place=f" in phases.{index}.lr.of")


def optimizer_faults(draft: Draft) -> Iterator[str]:
    """What is given belongs to the optimiser. An axis of optimisers gives each what belongs to it.

    Args:
        draft: a sweep file's parts.

    Yields:
        One sentence for each fault.
    """
    if draft.train is None:
        return
    kinds = [Optimizer(kind) for kind in _points(draft, draft.train, "optimizer") if kind in tuple(Optimizer)]
    for name, of_adam in (("momentum", False), ("nesterov", False), ("beta1", True), ("beta2", True), ("eps", True)):
        owner = "adam and adamw" if of_adam else "sgd"
        used = [value for value in _points(draft, draft.train, name) if value != Train.model_fields[name].default]
        if used and kinds and all(kind.adapts != of_adam for kind in kinds):
            yield f"{name} belongs to {owner}, found {used[0]} with {' and '.join(kinds)}; leave it out"
        elif len(draft.points(name)) > 1 and any(kind.adapts != of_adam for kind in kinds):
            yield (
                f"an axis of {name} belongs to {owner}, found it beside optimizers {', '.join(kinds)}, some of which "
                "would train the same member several times; make two sweeps"
            )
    momenta = _points(draft, draft.train, "momentum")
    if Optimizer.SGD in kinds and True in _points(draft, draft.train, "nesterov") and 0 in momenta:
        yield "nesterov needs momentum, found momentum 0; give train.momentum or set nesterov to false"
    if Optimizer.ADAM in kinds and draft.train.decoupled:
        yield "adam has coupled weight decay, found decoupled true; take adamw or set train.decoupled to false"


def _points(draft: Draft, train: Train, name: str) -> tuple[Scalar, ...]:
    """All values of a quantity in `train`, by its axis or its literal."""
    return draft.points(name) if name in draft.axes else (getattr(train, name),)
