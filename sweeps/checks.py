"""What must hold between the parts of a sweep file. Each check skips parts that could not be read themselves."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from sweeps.axes import OF_COURSES, OF_LAW, OF_PHASES, Target, checked
from sweeps.courses import NEVER
from sweeps.draft import Draft
from sweeps.faults import unknown
from sweeps.probes_schema import SOLUTIONS
from sweeps.schema import Builder
from sweeps.training_checks import course_faults, law_faults, optimizer_faults, piece_faults
from trainables.catalog import MODELS, TASKS, faults_of_model, faults_of_task
from trainables.spec import Scalar

__all__ = ["faults_of"]


def faults_of(draft: Draft) -> list[str]:
    """Everything wrong between the parts.

    Args:
        draft: a sweep file's parts.

    Returns:
        One sentence for each fault, none twice.
    """
    return list(dict.fromkeys(fault for check in _CHECKS for fault in check(draft)))


def _builders(draft: Draft) -> Iterator[str]:
    """Task and model exist and take these arguments, with every value of their axes."""
    if draft.task:
        yield from _builder(draft, draft.task, "task", faults_of_task)
    if draft.model:
        yield from _builder(draft, draft.model, "model", faults_of_model)
    if draft.task and draft.whole and draft.task.name in TASKS and draft.model is None:
        yield f"task {draft.task.name!r} needs a model, found none; legal: {', '.join(MODELS)}"
    if draft.task and ":" in draft.task.name and draft.model:
        yield f"model must be left out for a task of your own, which brings its model; found {draft.model.name!r}"


def _builder(
    draft: Draft, builder: Builder, kind: str, faults: Callable[[str, Mapping[str, object]], list[str]]
) -> Iterator[str]:
    axes = [name for name, target in draft.targets.items() if target.section == kind and name in draft.axes]
    usual: dict[str, Scalar] = {name: points[0] for name in axes if (points := draft.points(name))}
    yield from faults(builder.name, {**builder.args, **usual})
    for name in axes:
        for point in draft.points(name):
            yield from faults(builder.name, {**builder.args, **usual, name: point})


def _axis_names(draft: Draft) -> Iterator[str]:
    legal = draft.targets
    for name, axis in draft.axes.items():
        if name not in legal:
            if draft.task and draft.model and name in draft.task.args and name in draft.model.args:
                yield f"axis {name!r} must name one quantity, found an argument of both task and model; rename one"
            elif not _may_be_meant(draft, name):
                yield unknown("axis", name, legal)
        if axis and axis.same_as is not None:
            others = [other for other, form in draft.axes.items() if other != name and (not form or not form.same_as)]
            if axis.same_as not in others:
                yield unknown(f"axis in axes.{name}.same_as", axis.same_as, others)


def _may_be_meant(draft: Draft, name: str) -> bool:
    """True for a name that a part could give a meaning, were it known: its fault is told already."""
    if (not draft.phases or not all(draft.phases)) and name.endswith(OF_PHASES):
        return True
    known = [(draft.task, TASKS), (draft.model, MODELS)]
    unsure = [of for builder, of in known if (builder and builder.name not in of) or (not builder and not draft.whole)]
    return any(name in builtin.parameters for of in unsure for builtin in of.values())


def _axis_values(draft: Draft) -> Iterator[str]:
    for name, target in draft.targets.items():
        if target.section in ("task", "model"):
            continue
        for point in draft.points(name):
            try:
                checked(target.field, point)
            except ValueError as rule:
                yield f"axes.{name}: every value {rule}, found {point!r}"


def _literal_and_axis(draft: Draft) -> Iterator[str]:
    """No quantity is set in two places."""
    places: dict[str, str] = {}
    for section, builder in (("task", draft.task), ("model", draft.model)):
        places |= {name: f"{section}.{name}" for name in (builder.args if builder else ())}
    places |= {name: f"train.{name}" for name in (draft.train.model_fields_set if draft.train else ())}
    for index, phase in enumerate(draft.phases):
        for field in (*OF_PHASES, *OF_COURSES):
            if phase and getattr(phase, field, None) is not None:
                places[f"{phase.name}_{field}"] = f"phases.{index}.{field}"
                short = {"kick": "init_scale"} if index == 0 else {}
                short |= {each: each for each in ("lr", *OF_COURSES)} if len(draft.phases) == 1 else {}
                places |= {short[field]: f"phases.{index}.{field}"} if field in short else {}
    for name in draft.axes:
        if name in places:
            yield f"{name} must be set once, found both {places[name]} and axes.{name}; remove one"
    meant: dict[Target, list[str]] = {}
    for name in draft.axes:
        if name in draft.targets:
            meant.setdefault(draft.targets[name], []).append(name)
    for target, names in meant.items():
        if len(names) > 1:
            found = " and ".join(f"axes.{name}" for name in names)
            yield f"{_QUANTITIES.get(target.field, target.field)} must be set once, found both {found}; remove one"


_QUANTITIES = {"lr": "the learning rate", "kick": "the scale of the initial weights"}


def _phases(draft: Draft) -> Iterator[str]:
    names = [phase.name for phase in draft.phases if phase]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"phases must have different names, found {name!r} {names.count(name)} times; rename one"
    for index, phase in enumerate(draft.phases):
        for field in ("lr", "steps"):
            axes = (
                [f"{phase.name}_{field}", *(["lr"] if field == "lr" and len(draft.phases) == 1 else [])]
                if phase
                else []
            )
            other = field == "lr" and phase and (phase.random or (index == 0 and set(OF_LAW) & set(draft.axes)))
            if phase and getattr(phase, field) is None and not other and not any(axis in draft.axes for axis in axes):
                ways = " or ".join(f"axes.{axis}" for axis in axes)
                yield f"phase {phase.name!r} must have its {field}, found none; give phases.{index}.{field} or {ways}"
    if draft.train and draft.train.batch_size is None and "batch_size" not in draft.axes:
        yield "every step must have a batch size, found none; give train.batch_size or axes.batch_size"


def _measure(draft: Draft) -> Iterator[str]:
    """What is recorded lies within the schedule."""
    longest = 0.0
    for index, phase in enumerate(draft.phases):
        steps = draft.phase_points(index, "steps")
        longest += max(steps, default=math.inf)
        if phase is None or not steps:
            continue
        if draft.measure and draft.measure.report_every > min(steps):
            yield (
                f"measure.report_every must be at most the steps of every phase, found {draft.measure.report_every} "
                f"and {min(steps):g} steps in phase {phase.name!r}; report more often or train longer"
            )
        if phase.swa and (max(phase.swa.windows) - 1) * phase.swa.every >= min(steps):
            reach = (max(phase.swa.windows) - 1) * phase.swa.every
            yield (
                f"phases.{index}.swa: the largest window must lie inside the phase, found {max(phase.swa.windows)} "
                f"weights {phase.swa.every} steps apart, which reach {reach} steps back in {min(steps):g}; "
                "take a smaller window"
            )
    looks = [("keep", step) for step in draft.measure.keep] if draft.measure else []
    looks += (
        [("labels.steps", step) for step in draft.measure.labels.steps]
        if draft.measure and draft.measure.labels
        else []
    )
    for name, step in looks:
        if step > longest:
            yield f"measure.{name} must lie within the schedule of {longest:g} steps, found {step}; leave it out"


def _probes(draft: Draft) -> Iterator[str]:
    """Averages that are looked at are taken; variants may take other ones."""
    if draft.probes is None or draft.variants or not draft.phases or not draft.phases[0]:
        return
    swa = draft.phases[0].swa
    # The largest window is the solution `swa`.
    legal = [*SOLUTIONS, *(f"swa@{window}" for window in (sorted(swa.windows)[:-1] if swa else ()))]
    for name in sorted(draft.probes.solutions - set(legal)):
        yield unknown("solution in probes", name, legal, hint="; swa is the largest window of the first phase")


def _headline(draft: Draft) -> Iterator[str]:
    """The headline names one arm, and the control another one."""
    legal = draft.targets
    band = draft.analysis is None or draft.analysis.kind == "band"
    makes_arms = {name: target.makes_arms if band else target.makes_recipes for name, target in legal.items()}
    listed = {name: ", ".join(map(str, draft.points(name))) for name in draft.axes}
    values: dict[str, Sequence[Scalar]] = {name: draft.points(name) for name, axis in draft.axes.items() if axis}
    listed |= {"variant": ", ".join(draft.variants)} if draft.variants else {}
    values |= {"variant": draft.variants} if draft.variants else {}
    arms = [name for name in values if name == "variant" or makes_arms.get(name)]
    own = [name for name in arms if not (form := draft.axes.get(name)) or not form.same_as]
    control = draft.analysis.control if draft.analysis else {}
    for key, chosen in (("headline", draft.headline), ("analysis.control", control)):
        for name, value in chosen.items():
            unread = name in draft.axes and (draft.axes[name] is None or name not in legal)  # its fault is told already
            if name not in arms and not unread:
                yield unknown(f"axis in {key}", name, arms, hint="; axes of seeds and learning rates make no arms")
            elif values.get(name) and value not in values[name]:
                yield f"{key}.{name} must be a value of the axis, found {value!r}; give one of {listed[name]}"
    for name in own:
        if len(values[name]) > 1 and name not in draft.headline:
            yield f"headline must say which value of {name} the answer is about, found none; give one of {listed[name]}"


def _metric(draft: Draft) -> Iterator[str]:
    """The metric is one that this sweep measures."""
    if draft.analysis is None or draft.analysis.kind != "band" or not draft.phases or not all(draft.phases):
        return
    pieces = [phase.name for phase in draft.phases if phase and (phase.random or _decays(draft, phase.name))]
    if pieces:
        yield (
            f"analysis.kind band is about constant initial rates, found phase {pieces[0]!r} in pieces (decay_at or "
            "random); set analysis.kind to decay or invariance"
        )
    phases = [phase for phase in draft.phases if phase]
    windows = sorted(phases[0].swa.windows) if phases[0].swa else []
    legal = ["auto", "final", *(["swa"] if windows else []), *(f"swa@{window}" for window in windows)]
    later = {phase.name: draft.phase_points(index, "lr") for index, phase in enumerate(phases) if index}
    legal += [f"{name}@{point:.3g}" for name, points in later.items() for point in points]
    metric = draft.analysis.metric
    asked = re.fullmatch(r"(\w+)@([-+.\deE]+)", metric)
    rate = _number(asked[2]) if asked and asked[1] in later else None
    rates = later[asked[1]] if asked and rate is not None else ()
    if any(math.isclose(rate or 0, point, rel_tol=5e-3) for point in rates):
        return  # named to three digits, as reports write it
    if metric not in legal:
        yield unknown("analysis.metric", metric, legal)


def _decays(draft: Draft, name: str) -> bool:
    index = next(place for place, phase in enumerate(draft.phases) if phase and phase.name == name)
    return any(value not in (None, NEVER) for value in draft.phase_values(index, "decay_at"))


def _batch(draft: Draft) -> Iterator[str]:
    """An epoch holds at least one step."""
    sizes = draft.points("batch_size") or ((draft.train.batch_size,) if draft.train else ())
    samples = draft.points("train_size") or ((draft.task.args.get("train_size"),) if draft.task else ())
    # a train_size of 0 stands for all there are
    numbers = [[value for value in found if isinstance(value, int) and value > 0] for found in (sizes, samples)]
    if all(numbers) and max(numbers[0]) > min(numbers[1]):
        yield (
            f"batch_size must be at most train_size, found {max(numbers[0])} and {min(numbers[1])}; "
            "take smaller batches or more samples"
        )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_CHECKS = (
    _builders,
    _axis_names,
    _axis_values,
    _literal_and_axis,
    _phases,
    course_faults,
    piece_faults,
    law_faults,
    optimizer_faults,
    _measure,
    _probes,
    _headline,
    _metric,
    _batch,
)
