"""The parts of a sweep file that say how steps are done: optimiser, parameter groups, phases, curves."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from sweeps.courses import read_times
from sweeps.fields import Count, NotNegative, Number, Part, Positive, Share, Times
from trainables.spec import Curve, Group

__all__ = ["CurveSpec", "GroupSpec", "PhaseSpec", "RandomSpec", "RateOf", "SwaSpec", "Train"]


class GroupSpec(Part):
    """Parameters with a learning rate or a weight decay of their own: patterns of names, or sets such as `@norm`."""

    parameters: Annotated[tuple[str, ...], Field(min_length=1)]
    lr: NotNegative | None = None
    lr_times: NotNegative = 1.0
    weight_decay: NotNegative | None = None

    @property
    def group(self) -> Group:
        """What trainables are told."""
        return Group(**self.model_dump())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        assert self.group  # raises what is wrong
        return self


class Train(Part):
    """How every step is done."""

    batch_size: Count | None = None
    sphere_radius: Positive | None = None
    momentum: Share = 0.0
    weight_decay: NotNegative = 0.0
    decoupled: bool = False
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    nesterov: bool = False
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8
    label_smoothing: Share = 0.0
    groups: tuple[GroupSpec, ...] = ()


class SwaSpec(Part):
    """Averages over the last weights of a phase: one for each window, of weights `every` steps apart."""

    every: Count
    windows: Annotated[tuple[Count, ...], Field(min_length=1)]


class RateOf(Part):
    """A learning rate or weight decay relative to an earlier phase's, as in a step decay."""

    of: str
    times: Positive


def _form_of_rate(value: object) -> str:
    return "[of]" if isinstance(value, Mapping | RateOf) else "[number]"


Rate = Annotated[Annotated[Positive, Tag("[number]")] | Annotated[RateOf, Tag("[of]")], Discriminator(_form_of_rate)]
Decay = Annotated[
    Annotated[NotNegative, Tag("[number]")] | Annotated[RateOf, Tag("[of]")], Discriminator(_form_of_rate)
]


class CurveSpec(Part):
    """The course of the learning rate within a phase."""

    kind: Literal["constant", "linear", "cosine", "steps", "loss"] = "constant"
    warmup: Annotated[int, Number, Field(ge=0)] = 0
    decay_steps: Count | None = None
    end: NotNegative = 0.0
    milestones: tuple[Annotated[int, Number, Field(ge=0)], ...] = ()
    times: Positive = 0.1
    below: Positive | None = None
    check_every: Count = 100

    @property
    def curve(self) -> Curve:
        """What trainables are told."""
        return Curve(**self.model_dump())


class RandomSpec(Part):
    """A random schedule in place of constant values: pieces of random length, rates drawn evenly in their logarithm."""

    pieces: Count = 4
    lr: tuple[Positive, Positive]
    weight_decay: tuple[Positive, Positive]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("lr", "weight_decay"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be a low and a high end, found {low:g} and {high:g}; exchange them")
        return self


class PhaseSpec(Part):
    """A stretch of training; what it leaves out is an axis, or `train` says it, or it is not there."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    steps: Count | None = None
    lr: Rate | None = None
    weight_decay: Decay | None = None
    decay_at: Times = None
    decay_factor: Positive | None = None
    final_lr: Positive | None = None
    wd_decay: NotNegative | None = None
    random: RandomSpec | None = None
    curve: CurveSpec = CurveSpec()
    grad_noise: NotNegative | None = None
    activation_noise: NotNegative | None = None
    fresh_optimizer: bool = False
    kick: Positive | None = None
    swa: SwaSpec | None = None
    trace_every: Count | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        assert self.curve.curve  # raises what is wrong
        try:
            times = read_times(self.decay_at)
        except ValueError as rule:
            raise ValueError(f"decay_at {rule}, found {self.decay_at!r}") from None
        if self.random and times:
            raise ValueError("a phase is random or decays, found both random and decay_at; remove one")
        return self
