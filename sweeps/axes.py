"""What an axis may be called, and which values each takes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, TypeAdapter, ValidationError

from sweeps.courses import read_times
from sweeps.fields import Count, NotNegative, Positive, Share
from sweeps.schema import Builder, PhaseSpec
from trainables.catalog import MODELS, TASKS, TORCHVISION, model_arguments, task_arguments
from trainables.spec import Scalar, SpecError

__all__ = ["OF_COURSES", "OF_LAW", "OF_PHASES", "OF_RECIPES", "Target", "arguments", "checked", "targets"]

OF_RECIPES = ("batch_size", "sphere_radius", "optimizer", "nesterov", "beta1", "beta2", "label_smoothing")
"""Quantities in `train` that must be equal in a pack."""
OF_PHASES = ("lr", "weight_decay", "steps", "grad_noise", "activation_noise", "kick")
"""Quantities that each phase may have of its own."""
OF_COURSES = ("decay_at", "decay_factor", "final_lr", "wd_decay", "schedule")
"""How a phase is cut into pieces: times and factors of its decays, or the number of a random schedule."""
OF_LAW = ("intrinsic_lr", "ratio")
"""Together in place of the first phase's learning rate and of the weight decay: lr * weight_decay / (1 - momentum), and
lr / weight_decay."""

Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _times(value: Scalar) -> Scalar:
    read_times(value)
    return value


_RULES: Mapping[str, TypeAdapter[Any]] = {
    "seed": TypeAdapter(Seed),
    "data_seed": TypeAdapter(Seed),
    "momentum": TypeAdapter(Share),
    "weight_decay": TypeAdapter(NotNegative),
    "lr": TypeAdapter(Positive),
    "steps": TypeAdapter(Count),
    "batch_size": TypeAdapter(Count),
    "sphere_radius": TypeAdapter(Positive | None),
    "optimizer": TypeAdapter(Literal["sgd", "adam", "adamw"]),
    "nesterov": TypeAdapter(StrictBool),
    "beta1": TypeAdapter(Share),
    "beta2": TypeAdapter(Share),
    "label_smoothing": TypeAdapter(Share),
    "grad_noise": TypeAdapter(NotNegative),
    "activation_noise": TypeAdapter(NotNegative),
    "kick": TypeAdapter(Positive),
    "decay_at": TypeAdapter(Annotated[Scalar, AfterValidator(_times)]),
    "decay_factor": TypeAdapter(Positive),
    "final_lr": TypeAdapter(Positive),
    "wd_decay": TypeAdapter(NotNegative),
    "schedule": TypeAdapter(Seed),
    "intrinsic_lr": TypeAdapter(Positive),
    "ratio": TypeAdapter(Positive),
}


@dataclass(frozen=True)
class Target:
    """What an axis sets.

    Attributes:
        section: `task`, `model`, `train`, `member` (the two seeds), `phase`, `law` (`OF_LAW`) or `variant`.
        field: the quantity.
        phase: index of the phase; None where it holds for all.
    """

    section: str
    field: str
    phase: int | None = None

    @property
    def is_rate(self) -> bool:
        """True for a learning rate."""
        return self.section == "phase" and self.field == "lr"

    @property
    def makes_arms(self) -> bool:
        """True where another value asks a band study's question anew, rather than being part of its answer."""
        return self.section not in ("member", "law") and not self.is_rate and self.phase in (None, 0)

    @property
    def makes_recipes(self) -> bool:
        """True where another value is another network, task or optimiser, and not only another schedule."""
        return self.section in ("task", "model", "variant") or self.field in OF_RECIPES


def targets(
    phases: Iterable[PhaseSpec | None], task: Builder | None, model: Builder | None, axes: Iterable[str] = ()
) -> dict[str, Target]:
    """Every legal name of an axis.

    Args:
        phases: the sweep's phases; None for one that could not be read.
        task: the sweep's task; None if it could not be read.
        model: the sweep's model, if any.
        axes: the axes' names: what they mean to nobody else, they mean to a model that does not list its arguments.

    Returns:
        Name to what it sets. Arguments that a task and its model share are left out: the name would be ambiguous.
    """
    phases = list(phases)
    found = {name: Target("member", name) for name in ("seed", "data_seed")}
    found |= {name: Target("train", name) for name in ("momentum", "weight_decay", *OF_RECIPES)}
    for index, phase in enumerate(phases):
        if phase:
            found |= {f"{phase.name}_{field}": Target("phase", field, index) for field in (*OF_PHASES, *OF_COURSES)}
    if len(phases) == 1:
        found |= {field: Target("phase", field, 0) for field in ("lr", *OF_COURSES)}
    found |= {name: Target("law", name) for name in OF_LAW}
    found["init_scale"] = Target("phase", "kick", 0)
    of_task, of_model = _names(task, "task"), _names(model, "model")
    found |= {name: Target("task", name) for name in of_task if name not in of_model}
    found |= {name: Target("model", name) for name in of_model if name not in of_task}
    if model and model.name.startswith(TORCHVISION):
        found |= {name: Target("model", name) for name in axes if name not in found and name not in of_task}
    return found


def checked(field: str, value: Scalar) -> Any:
    """A value of a quantity that is no task's or model's argument.

    Args:
        field: the quantity.
        value: what the sweep file says.

    Returns:
        The value in the quantity's own type.

    Raises:
        ValueError: it is not legal; the message is the rule.
    """
    try:
        return _RULES[field].validate_python(value)
    except ValidationError as error:
        message = str(error.errors(include_url=False)[-1]["msg"])
        raise ValueError(message.replace("Input should be", "must be").removeprefix("Value error, ")) from None


def arguments(builder: Builder, kind: str, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """All arguments of a task or model, each in its own type, so that 10 and 10.0 make the same member.

    Args:
        builder: the task or model.
        kind: `task` or `model`.
        given: what axes say; it takes the place of what the builder says.

    Returns:
        Every argument, with defaults filled in.
    """
    parameters = _parameters(builder, kind)
    wanted = {**builder.args, **given}
    if parameters is None:
        listed = task_arguments(builder.name) if kind == "task" else model_arguments(builder.name)
        return {**listed, **wanted}
    return {name: parameter.kind(wanted.get(name, parameter.default)) for name, parameter in parameters.items()}


def _parameters(builder: Builder, kind: str) -> Mapping[str, Any] | None:
    """A built-in's parameters; None for a user's own."""
    builtin = (TASKS if kind == "task" else MODELS).get(builder.name)
    return builtin.parameters if builtin else None


def _names(builder: Builder | None, kind: str) -> list[str]:
    """Names of a task's or model's arguments; those the sweep file gives where the function cannot be looked at."""
    if builder is None:
        return []
    parameters = _parameters(builder, kind)
    if parameters is not None:
        return list(parameters)
    if ":" not in builder.name:
        return []
    try:
        listed = task_arguments(builder.name) if kind == "task" else model_arguments(builder.name)
    except SpecError:
        listed = {}
    return list({**listed, **builder.args})
