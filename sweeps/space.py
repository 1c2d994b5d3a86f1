"""From a sweep's axes to its members: one for every phase's end and every combination of the axes that phase knows."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from sweeps.axes import OF_PHASES, OF_RECIPES, Target, arguments, checked, targets
from sweeps.schema import RateOf, Sweep
from trainables.spec import Member, Optimizer, Phase, Recipe, SpecError

__all__ = ["members"]

Point = Mapping[str, Any]
"""Axis name to value."""

_Made = TypeVar("_Made")


def members(sweep: Sweep) -> list[Member]:
    """Every member of a sweep.

    Args:
        sweep: a checked sweep.

    Returns:
        Members without parents (the planner finds those), by phase; within a phase, axes of the recipe run slowest,
        then those of the schedule, then momentum and seeds, each in the file's order.

    Raises:
        SpecError: two combinations of the axes make the same member.
    """
    places = targets(sweep.phases, sweep.task, sweep.model, sweep.axes)
    found = [member for last in range(len(sweep.phases)) for member in _ending_with(last, sweep, places)]
    first: dict[str, Member] = {}
    for member in found:
        twin = first.setdefault(member.member_id, member)
        if twin is not member:
            raise SpecError(
                [
                    "the axes must make every member once, found the same one from "
                    f"{twin.axes} and from {member.axes}; remove a value or an axis"
                ]
            )
    return found


def _ending_with(last: int, sweep: Sweep, places: Mapping[str, Target]) -> Iterator[Member]:
    """Members whose schedule ends with phase number `last`."""
    known = [name for name in sweep.axes if (places[name].phase or 0) <= last]
    copies = {name: source for name in known if (source := sweep.axes[name].same_as)}
    free = [name for name in sweep.axes if name in copies.values() or (name in known and name not in copies)]
    free.sort(key=lambda name: _pace(places[name]))
    recipe = _once([name for name in known if _pace(places[name]) == 0], lambda point: _recipe(sweep, places, point))
    schedule = _once(
        [name for name in known if _pace(places[name]) == 1], lambda point: _schedule(sweep, places, point, last)
    )
    for values in itertools.product(*(_points(sweep, name, places[name]) for name in free)):
        point: dict[str, Any] = dict(zip(free, values, strict=True))
        for name, source in copies.items():
            point[name] = point[source]
        shared = recipe(point)
        momentum = point.get("momentum", sweep.train.momentum)
        yield Member(
            recipe=shared,
            seed=point.get("seed", 0),
            data_seed=point.get("data_seed", 0),
            momentum=momentum if not shared.optimizer.adapts else 0.0,  # Adam's is beta1
            phases=schedule(point),
            axes=point,
        )


def _pace(place: Target) -> int:
    """0 for what makes recipes, 1 for what makes schedules, 2 for what else tells members apart."""
    if place.section in ("task", "model") or place.field in OF_RECIPES:
        return 0
    return 1 if place.section == "phase" or place.field == "weight_decay" else 2


def _points(sweep: Sweep, name: str, place: Target) -> list[Any]:
    """An axis' values, each in its quantity's own type."""
    if place.section in ("task", "model"):
        return list(sweep.points(name))
    return [checked(place.field, point) for point in sweep.points(name)]


def _once(names: list[str], make: Callable[[Point], _Made]) -> Callable[[Point], _Made]:
    """`make`, called once for each combination of these axes: members that agree in them share the object."""

    @cache
    def made(*values: Any) -> _Made:
        return make(dict(zip(names, values, strict=True)))

    return lambda point: made(*[point[name] for name in names])


def _recipe(sweep: Sweep, places: Mapping[str, Target], point: Point) -> Recipe:
    task = {name: value for name, value in point.items() if places[name].section == "task"}
    model = {name: value for name, value in point.items() if places[name].section == "model"}
    optimizer = Optimizer(point.get("optimizer", sweep.train.optimizer))
    # In a sweep of several optimisers each takes what belongs to it, so that no member is there twice.
    foreign = ("nesterov",) if optimizer.adapts else ("beta1", "beta2")
    quantities = {name: point.get(name, getattr(sweep.train, name)) for name in OF_RECIPES if name not in foreign}
    quantities |= {"eps": sweep.train.eps} if optimizer.adapts else {}
    return Recipe(
        task=sweep.task.name,
        task_args=arguments(sweep.task, "task", task),
        model=sweep.model.name if sweep.model else None,
        model_args=arguments(sweep.model, "model", model) if sweep.model else {},
        **quantities,
        groups=tuple(group.group for group in sweep.train.groups),
        decoupled=sweep.train.decoupled,
        dtype=sweep.train.dtype,
    )


def _schedule(sweep: Sweep, places: Mapping[str, Target], point: Point, last: int) -> tuple[Phase, ...]:
    """Phases up to `last`; a phase's own axis or literal counts before what holds for all phases."""
    decay = point.get("weight_decay", sweep.train.weight_decay)
    phases: list[Phase] = []
    for index, phase in enumerate(sweep.phases[: last + 1]):
        literal = {field: getattr(phase, field) for field in OF_PHASES}
        values = {"weight_decay": decay} | {field: value for field, value in literal.items() if value is not None}
        values |= {places[name].field: value for name, value in point.items() if places[name].phase == index}
        if isinstance(relative := values["lr"], RateOf):
            (base,) = (earlier.lr for earlier in phases if earlier.name == relative.of)
            values["lr"] = base * relative.times
        phases.append(Phase(name=phase.name, curve=phase.curve.curve, fresh_optimizer=phase.fresh_optimizer, **values))
    return tuple(phases)
