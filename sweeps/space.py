"""From a sweep's axes to its members: one for every phase's end and every combination of the axes that phase knows."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sweeps.axes import OF_COURSES, OF_LAW, OF_PHASES, OF_RECIPES, Target, arguments, checked, targets
from sweeps.courses import decay_steps, decayed, names_of_pieces, random_pieces
from sweeps.schema import PhaseSpec, RateOf, Sweep
from trainables.spec import Member, Optimizer, Phase, Recipe, SpecError

__all__ = ["members"]

Point = Mapping[str, Any]
"""Axis name to value."""

_Made = TypeVar("_Made")

DECAY_FACTOR = 0.1
"""Of the learning rate at each decay, where a sweep file says nothing: the usual one."""


def members(sweep: Sweep) -> list[Member]:
    """Every member of a sweep.

    Args:
        sweep: a checked sweep.

    Returns:
        Members without parents (the planner finds those), by variant and phase; within a phase, axes of the recipe run
        slowest, then those of the schedule, then momentum and seeds, each in the file's order.

    Raises:
        SpecError: two combinations of the axes make the same member.
    """
    found = [
        member for name, part in sweep.parts.items() for member in _of_part(part, {"variant": name} if name else {})
    ]
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


def _of_part(sweep: Sweep, variant: Point) -> Iterator[Member]:
    """Members of a sweep without variants."""
    places = targets(sweep.phases, sweep.task, sweep.model, sweep.axes)
    for last in range(len(sweep.phases)):
        yield from _ending_with(last, sweep, places, variant)


def _ending_with(last: int, sweep: Sweep, places: Mapping[str, Target], variant: Point) -> Iterator[Member]:
    """Members whose schedule ends with phase number `last`."""
    known = [name for name in sweep.axes if (places[name].phase or 0) <= last]
    copies = {name: source for name in known if (source := sweep.axes[name].same_as)}
    free = [name for name in sweep.axes if name in copies.values() or (name in known and name not in copies)]
    free.sort(key=lambda name: _pace(places[name]))
    recipe = _once([name for name in known if _pace(places[name]) == 0], lambda point: _recipe(sweep, places, point))
    by_schedule = [name for name in known if _pace(places[name]) == 1]
    by_schedule += ["momentum"] if "momentum" in known and any(name in OF_LAW for name in known) else []
    schedule = _once(by_schedule, lambda point: _schedule(sweep, places, point, last))
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
            axes={**variant, **point} if variant else point,
        )


def _pace(place: Target) -> int:
    """0 for what makes recipes, 1 for what makes schedules, 2 for what else tells members apart."""
    if place.section in ("task", "model") or place.field in OF_RECIPES:
        return 0
    return 1 if place.section in ("phase", "law") or place.field == "weight_decay" else 2


def _points(sweep: Sweep, name: str, place: Target) -> list[Any]:
    """An axis' values, each in its quantity's own type."""
    if place.section in ("task", "model"):
        return list(sweep.points(name))
    return [checked(place.field, point) for point in sweep.points(name)]


def _once(names: list[str], make: Callable[[Point], _Made]) -> Callable[[Point], _Made]:
    """`make`, called once for each combination of these axes: members that agree in them share the object."""
    pick = itemgetter(*names, *names[:1]) if names else lambda point: ()  # two names at least: always a tuple

    @cache
    def made(values: tuple[Any, ...]) -> _Made:
        return make(dict(zip(names, values, strict=False)))

    return lambda point: made(pick(point))


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
    decay, law = point.get("weight_decay", sweep.train.weight_decay), {}
    if "intrinsic_lr" in point:
        momentum = point.get("momentum", sweep.train.momentum) if sweep.train.optimizer == "sgd" else 0.0
        law["lr"], decay = _from_law(point["intrinsic_lr"], point["ratio"], momentum)
    phases: list[Phase] = []
    for index, spec in enumerate(sweep.phases[: last + 1]):
        literal = {field: getattr(spec, field, None) for field in (*OF_PHASES, *OF_COURSES)}
        values = {"weight_decay": decay} | {field: value for field, value in literal.items() if value is not None}
        values |= law if index == 0 else {}
        values |= {places[name].field: value for name, value in point.items() if places[name].phase == index}
        for field in ("lr", "weight_decay"):
            if isinstance(relative := values.get(field), RateOf):
                (base,) = (getattr(earlier, field) for earlier in phases if earlier.name == relative.of)
                values[field] = base * relative.times
        course = {field: values.pop(field) for field in OF_COURSES if field in values}
        phases += _pieces(spec, values, course)
    return tuple(phases)


def _from_law(intrinsic_lr: float, ratio: float, momentum: float) -> tuple[float, float]:
    """Learning rate and weight decay with lr * weight_decay / (1 - momentum) and lr / weight_decay given."""
    product = intrinsic_lr * (1 - momentum)
    return math.sqrt(product * ratio), math.sqrt(product / ratio)


def _pieces(spec: PhaseSpec, values: Mapping[str, Any], course: Mapping[str, Any]) -> Iterator[Phase]:
    """The constant phases that a phase of the sweep file consists of; what happens once happens at the first."""
    if spec.random:
        ranges = (spec.random.lr, spec.random.weight_decay)
        pieces = list(random_pieces(values["steps"], spec.random.pieces, *ranges, draw=course.get("schedule", 0)))
    else:
        pieces = list(
            decayed(
                values["steps"],
                values["lr"],
                values["weight_decay"],
                at=decay_steps(course.get("decay_at"), values["steps"]),
                factor=course.get("decay_factor", DECAY_FACTOR),
                final_lr=course.get("final_lr"),
                wd=course.get("wd_decay", 1.0),
            )
        )
    noises = {field: values[field] for field in ("grad_noise", "activation_noise") if field in values}
    for number, (name, piece) in enumerate(zip(names_of_pieces(spec.name, len(pieces)), pieces, strict=True)):
        once = {"kick": values.get("kick", 1.0), "fresh_optimizer": spec.fresh_optimizer} if number == 0 else {}
        yield Phase(
            name=name,
            steps=piece.steps,
            lr=piece.lr,
            weight_decay=piece.weight_decay,
            curve=spec.curve.curve,
            **noises,
            **once,
        )
