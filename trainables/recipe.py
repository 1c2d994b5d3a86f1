"""What is equal for all members of a pack: task, model, optimiser."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import cached_property

from trainables.faults import SpecError
from trainables.ids import short_hash

__all__ = ["Group", "Optimizer", "Recipe", "Scalar"]

Scalar = str | int | float | bool | None

DTYPES = ("float32", "float64", "bfloat16")


class Optimizer(StrEnum):
    """How gradients become steps."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"

    @property
    def adapts(self) -> bool:
        """True for those that divide by a running average of squared gradients."""
        return self is not Optimizer.SGD


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Parameters with a learning rate or a weight decay of their own.

    Attributes:
        parameters: patterns of names (`*.bias`, as in a shell) or sets: `@norm` (of norm layers), `@bias`, `@head` (of
            the last module that has any), `@scale_invariant`, `@other` (not scale invariant). A parameter belongs to
            the first group that names it.
        lr: a learning rate that no phase, curve or sphere changes; None follows the phase.
        lr_times: factor on the phase's learning rate.
        weight_decay: in place of the phase's; None follows the phase.
    """

    parameters: tuple[str, ...]
    lr: float | None = None
    lr_times: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))  # JSON has lists
        for name in ("lr", "lr_times", "weight_decay"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, float(value))  # 0 and 0.0 make the same recipe
        who, faults = f"group {', '.join(self.parameters)}", []
        if not self.parameters:
            faults.append("a group must name its parameters, found none; list patterns of names or sets such as @norm")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr >= 0):
            faults.append(f"{who}: lr must be a finite number of at least 0 or null, found {self.lr}")
        if not (math.isfinite(self.lr_times) and self.lr_times >= 0):
            faults.append(f"{who}: lr_times must be a finite number of at least 0, found {self.lr_times}")
        if self.lr is not None and self.lr_times != 1:
            faults.append(f"{who}: a fixed lr is not multiplied, found lr {self.lr} and lr_times {self.lr_times}")
        if self.weight_decay is not None and not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            faults.append(f"{who}: weight_decay must be a finite number of at least 0, found {self.weight_decay}")
        if self.lr is None and self.lr_times == 1 and self.weight_decay is None:
            faults.append(f"{who}: a group must change something, found neither lr, lr_times nor weight_decay")
        if faults:
            raise SpecError(faults)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that must be equal within a pack.

    Attributes:
        task: a built-in task's name, or `"package.module:function"`.
        task_args: the task's arguments, `data_seed` excepted.
        model: a model's name; None when the task brings its own.
        model_args: the model's arguments.
        batch_size: samples per step.
        sphere_radius: norm at which the scale-invariant parameters are held; None trains freely.
        decoupled: weight decay decoupled from the gradient (as in AdamW) instead of coupled (as in SGD).
        dtype: `float32`, `float64`, or `bfloat16`: compute in bfloat16; weights, optimiser state, norm statistics and
            loss in float32.
        optimizer: SGD, Adam (coupled weight decay) or AdamW (decoupled).
        nesterov: SGD with Nesterov's momentum.
        beta1: Adam's decay of the average gradient.
        beta2: Adam's decay of the average squared gradient.
        eps: Adam's addition to the denominator.
        label_smoothing: share of the target probability that is spread over all classes.
        groups: parameters with values of their own; the first group that names a parameter holds.
    """

    task: str
    task_args: Mapping[str, Scalar] = field(default_factory=dict)
    model: str | None = None
    model_args: Mapping[str, Scalar] = field(default_factory=dict)
    batch_size: int
    sphere_radius: float | None = None
    decoupled: bool = False
    dtype: str = "float32"
    optimizer: Optimizer = Optimizer.SGD
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    label_smoothing: float = 0.0
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        faults = []
        if self.optimizer in tuple(Optimizer):
            object.__setattr__(self, "optimizer", Optimizer(self.optimizer))  # JSON has words
        else:
            faults.append(f"optimizer must be one of {', '.join(Optimizer)}; found {self.optimizer!r}")
        groups = tuple(Group(**group) if isinstance(group, Mapping) else group for group in self.groups)
        object.__setattr__(self, "groups", groups)
        if self.batch_size < 1:
            faults.append(f"batch_size must be at least 1, found {self.batch_size}")
        if self.sphere_radius is not None and not (math.isfinite(self.sphere_radius) and self.sphere_radius > 0):
            faults.append(f"sphere_radius must be positive or null, found {self.sphere_radius}")
        if self.dtype not in DTYPES:
            faults.append(f"dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, found {self.dtype!r}")
        for name in ("beta1", "beta2", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                faults.append(f"{name} must be in [0, 1), found {getattr(self, name)}")
        if not (math.isfinite(self.eps) and self.eps > 0):
            faults.append(f"eps must be a positive finite number, found {self.eps}")
        if self.optimizer != Optimizer.SGD and self.nesterov:
            faults.append(f"nesterov belongs to sgd, found it with {self.optimizer}; set it to false")
        if self.optimizer == Optimizer.ADAM and self.decoupled:
            faults.append("adam has coupled weight decay, found decoupled; take adamw or set decoupled to false")
        if faults:
            raise SpecError(faults)

    @property
    def decays_apart(self) -> bool:
        """True where weight decay acts on the weights directly instead of through the gradient."""
        return self.decoupled or self.optimizer is Optimizer.ADAMW

    @cached_property
    def recipe_id(self) -> str:
        """Hash of every field; later additions count only where they are used, so that ids outlive them."""
        content = {**asdict(self), "task_args": dict(self.task_args), "model_args": dict(self.model_args)}
        unused = {each.name for each in fields(self) if each.name in _LATER and content[each.name] == each.default}
        return short_hash({name: value for name, value in content.items() if name not in unused})

    def __hash__(self) -> int:
        return hash(self.recipe_id)


_LATER = ("optimizer", "nesterov", "beta1", "beta2", "eps", "label_smoothing", "groups")
"""Fields that recipes of the first version did not have."""
