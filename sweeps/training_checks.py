"""What must hold between the parts of a sweep file that say how steps are done: curves, rates, the optimiser."""

import itertools
from collections.abc import Iterator

from sweeps.axes import OF_LAW
from sweeps.courses import decay_steps, read_times
from sweeps.draft import Draft
from sweeps.faults import unknown
from sweeps.schema import RateOf, Train
from trainables.spec import Optimizer, Scalar

__all__ = ["course_faults", "law_faults", "optimizer_faults", "piece_faults"]


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
        for field in ("lr", "weight_decay"):
            rate = getattr(phase, field)
            if isinstance(rate, RateOf) and rate.of not in earlier and all(draft.phases[:index]):
                yield unknown("earlier phase", rate.of, earlier, place=f" in phases.{index}.{field}.of")


def piece_faults(draft: Draft) -> Iterator[str]:
    """Decays lie within their phases and belong to constant rates; what belongs to decays or random pieces has them.

    Args:
        draft: a sweep file's parts.

    Yields:
        One sentence for each fault.
    """
    for index, phase in enumerate(draft.phases):
        if phase is None:
            continue
        times = draft.phase_values(index, "decay_at")
        decays = [value for value in times if _has_times(value)]
        for value, steps in itertools.product(decays, draft.phase_points(index, "steps")):
            try:
                decay_steps(value, int(steps))
            except ValueError as rule:
                yield f"phases.{index}: decay_at {rule}, found {value}; change it or the steps"
        if decays and not phase.curve.curve.is_flat:
            yield f"phases.{index}: decay_at belongs to a constant rate, found it with a curve; remove one"
        if decays and phase.random:
            yield f"phases.{index}: a phase is random or decays, found both random and decay_at; remove one"
        for field in ("decay_factor", "final_lr", "wd_decay"):
            if draft.phase_values(index, field) and not decays:
                yield f"phases.{index}: {field} belongs to a decay, found no decay_at; give the times or leave it out"
        if draft.phase_values(index, "decay_factor") and draft.phase_values(index, "final_lr"):
            yield f"phases.{index}: a decay has a factor or leads to final_lr, found both; remove one"
        if draft.phase_values(index, "schedule") and not phase.random:
            yield f"phases.{index}: an axis of schedules belongs to a random phase, found none; give random"
        for field in ("lr", "weight_decay"):
            if phase.random and draft.phase_values(index, field):
                yield f"phases.{index}: a random phase draws its {field}, found one given; remove it or random"
        inner = {f"{phase.name}_{number}" for number in range(1, 100)} if decays or phase.random else set()
        for other in draft.phases:
            if other and other.name in inner:
                yield f"phases: {other.name!r} is the name of a piece of phase {phase.name!r}; rename one"


def law_faults(draft: Draft) -> Iterator[str]:
    """Intrinsic learning rate and ratio come together, in place of learning rate and weight decay.

    Args:
        draft: a sweep file's parts.

    Yields:
        One sentence for each fault.
    """
    given = [name for name in OF_LAW if name in draft.axes]
    if not given:
        return
    for name in OF_LAW:
        if name not in given:
            yield f"axes.{given[0]} needs axes.{name} beside it, found none; add it, with one value where it is fixed"
    first = draft.phases[0] if draft.phases else None
    rivals = [name for name in ("weight_decay", "lr") if name in draft.axes]
    rivals += [f"{first.name}_lr"] if first and f"{first.name}_lr" in draft.axes else []
    rivals = [f"axes.{name}" for name in rivals]
    rivals += ["phases.0.lr"] if first and first.lr is not None else []
    rivals += ["train.weight_decay"] if draft.train and "weight_decay" in draft.train.model_fields_set else []
    for rival in rivals:
        yield f"intrinsic_lr and ratio say learning rate and weight decay, found {rival} too; remove one"
    if draft.train and draft.train.sphere_radius is not None:
        yield (
            "intrinsic_lr needs weights whose norm is free, found train.sphere_radius "
            f"{draft.train.sphere_radius:g}; set it to null"
        )


def _has_times(value: Scalar) -> bool:
    try:
        return bool(read_times(value))
    except ValueError:
        return False  # told where values of axes are checked


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
