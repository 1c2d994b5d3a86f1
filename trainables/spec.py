"""What is trained, decided before anything runs: recipes, members, phases, segments and packs.

A `Recipe` holds what must be equal in a pack, a `Member` what may differ. Both are frozen, check themselves, and
hash to an id that depends on nothing but their own content.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property

__all__ = ["Measure", "Member", "Pack", "Phase", "Recipe", "Segment", "SpecError", "Swa", "short_hash"]

Scalar = str | int | float | bool | None


class SpecError(ValueError):
    """The input is wrong. Holds every fault found, each with the rule, the value found and the way out.

    Args:
        faults: one sentence for each fault.
    """

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def short_hash(content: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `content` as canonical JSON.

    Args:
        content: anything JSON can hold. Floats are written by `repr`, so equal numbers hash equally everywhere.

    Returns:
        16 characters; 64 bits make a collision among a million ids a one-in-40-million event.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A stretch of training at constant hyperparameters.

    Attributes:
        name: the phase's name in the sweep file; not part of any id.
        steps: optimiser updates, at least 1.
        lr: learning rate (the effective learning rate when the recipe has a `sphere_radius`).
        weight_decay: L2 coefficient, coupled as in `torch.optim.SGD` unless the recipe says `decoupled`.
    """

    name: str
    steps: int
    lr: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if self.steps < 1:
            faults.append(f"phase {self.name!r}: steps must be at least 1, found {self.steps}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            faults.append(f"phase {self.name!r}: lr must be a positive finite number, found {self.lr}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            faults.append(f"phase {self.name!r}: weight_decay must be at least 0, found {self.weight_decay}")
        if faults:
            raise SpecError(faults)

    @property
    def key(self) -> tuple[int, float, float]:
        """What identifies the phase: steps, lr, weight decay."""
        return (self.steps, float(self.lr), float(self.weight_decay))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that must be equal within a pack.

    Attributes:
        task: a built-in task's name, or `"package.module:function"`.
        task_args: the task's arguments, `data_seed` excepted.
        model: a built-in model's name; None when the task brings its own.
        model_args: the model's arguments.
        batch_size: samples per step.
        sphere_radius: norm at which the scale-invariant parameters are held; None trains freely.
        decoupled: weight decay decoupled from the gradient (as in AdamW) instead of coupled (as in SGD).
        dtype: `"float32"` or `"float64"`.
    """

    task: str
    task_args: Mapping[str, Scalar] = field(default_factory=dict)
    model: str | None = None
    model_args: Mapping[str, Scalar] = field(default_factory=dict)
    batch_size: int
    sphere_radius: float | None = None
    decoupled: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        faults = []
        if self.batch_size < 1:
            faults.append(f"batch_size must be at least 1, found {self.batch_size}")
        if self.sphere_radius is not None and not (math.isfinite(self.sphere_radius) and self.sphere_radius > 0):
            faults.append(f"sphere_radius must be positive or null, found {self.sphere_radius}")
        if self.dtype not in ("float32", "float64"):
            faults.append(f"dtype must be float32 or float64, found {self.dtype!r}")
        if faults:
            raise SpecError(faults)

    @cached_property
    def recipe_id(self) -> str:
        """Hash of every field."""
        return short_hash({**asdict(self), "task_args": dict(self.task_args), "model_args": dict(self.model_args)})

    def __hash__(self) -> int:
        return hash(self.recipe_id)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained network: everything that may differ within a pack.

    Attributes:
        recipe: what it shares with its pack.
        seed: fixes initial weights, frozen weights and batch order.
        data_seed: fixes the draw of the data set.
        momentum: as in `torch.optim.SGD`, in [0, 1).
        phases: the schedule, in order.
        parent_id: `member_id` of the member whose weights it continues from, if the sweep holds one.
        branch_step: steps it shares with that parent (0 without a parent); its own rows begin after it.
        axes: the sweep's axis values that made it; for display and grouping, not part of its identity.
    """

    recipe: Recipe
    seed: int
    data_seed: int = 0
    momentum: float = 0.0
    phases: tuple[Phase, ...]
    parent_id: str | None = None
    branch_step: int = 0
    axes: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = []
        if not self.phases:
            faults.append("a member needs at least one phase, found none")
        if not 0 <= self.momentum < 1:
            faults.append(f"momentum must be in [0, 1), found {self.momentum}")
        for name, seed in (("seed", self.seed), ("data_seed", self.data_seed)):
            if not 0 <= seed < 2**31:
                faults.append(f"{name} must be in [0, 2**31), found {seed}")
        if faults:
            raise SpecError(faults)

    @cached_property
    def member_id(self) -> str:
        """Hash of recipe, seeds, momentum and schedule: the same run has the same id in any sweep."""
        phases = [phase.key for phase in self.phases]
        return short_hash([self.recipe.recipe_id, self.seed, self.data_seed, float(self.momentum), phases])

    @property
    def steps(self) -> int:
        """Length of the whole schedule."""
        return sum(phase.steps for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Swa:
    """Stochastic weight averaging over the last weights of a phase, at the phase's own learning rate.

    Attributes:
        every: steps between two kept weights; the last one is the phase's end.
        windows: how many kept weights each average holds.
    """

    every: int
    windows: tuple[int, ...]

    def offsets(self, window: int) -> range:
        """Steps before the phase's end at which weights enter the average of `window`, latest first."""
        return range(0, window * self.every, self.every)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is recorded while training; it changes no weight and no id.

    Attributes:
        report_every: steps between two rows of `epochs`.
        keep: schedule steps at which weights are kept in `checkpoints/`, beside every member's end.
        swa: averages by phase name.
        probes: names of the task's probe sets groups to evaluate at every member's end.
    """

    report_every: int
    keep: tuple[int, ...] = ()
    swa: Mapping[str, Swa] = field(default_factory=dict)
    probes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A node of the prefix tree: steps `start` to `start + steps` at constant hyperparameters.

    Attributes:
        segment_id: hash of the whole prefix up to the segment's end.
        parent: index in the pack of the segment it continues, None at a root.
        start: schedule steps done before it.
        steps: its own length.
        phase: the phase it is (part of).
        phase_end: True where the segment ends its phase (an average over the phase's last weights is due there).
        owner: the member whose rows it writes: the one that ends here, else the first of those that pass.
        ends: the member whose schedule ends with this segment, if any.
        member_id: `owner.member_id`, kept for speed.
    """

    segment_id: str
    parent: int | None
    start: int
    steps: int
    phase: Phase
    phase_end: bool
    owner: Member
    ends: bool


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Members trained together: whole trees of segments that share a recipe. One Ray Tune trial.

    Attributes:
        pack_id: hash of its segments.
        recipe: shared by all.
        measure: what is recorded.
        segments: in training order, every parent before its children.
        width: the most rows trained at once.
    """

    pack_id: str
    recipe: Recipe
    measure: Measure
    segments: tuple[Segment, ...]
    width: int

    @property
    def member_steps(self) -> int:
        """Steps to train, every shared prefix counted once."""
        return sum(segment.steps for segment in self.segments)
