"""What is trained, decided before anything runs: recipes, members, phases, segments and packs.

A `Recipe` holds what must be equal in a pack, a `Member` what may differ. Both are frozen, check themselves, and
hash to an id that depends on nothing but their own content.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from trainables.curves import Curve
from trainables.faults import SpecError
from trainables.ids import canonical, hash_of_text, once_for_each_object, short_hash
from trainables.phase import Phase
from trainables.recipe import Group, Optimizer, Recipe, Scalar

__all__ = [
    "Curve",
    "Group",
    "Labels",
    "Measure",
    "Member",
    "Optimizer",
    "Pack",
    "Phase",
    "Recipe",
    "Scalar",
    "Segment",
    "SpecError",
    "Swa",
    "short_hash",
]

NORM_STATISTICS = ("running", "training_set")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One trained network: everything that may differ within a pack.

    Attributes:
        recipe: what it shares with its pack.
        seed: fixes initial weights, frozen weights and batch order.
        data_seed: fixes the draw of the data set.
        momentum: as in `torch.optim.SGD`, in [0, 1); Adam has betas instead.
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
        if self.momentum > 0 and self.recipe.optimizer.adapts:
            faults.append(
                f"momentum belongs to sgd, found {self.momentum} with {self.recipe.optimizer}; set it to 0, use beta1"
            )
        if self.recipe.nesterov and self.momentum == 0:
            faults.append("nesterov needs momentum, found momentum 0; raise it or set nesterov to false")
        for name, seed in (("seed", self.seed), ("data_seed", self.data_seed)):
            if not 0 <= seed < 2**31:
                faults.append(f"{name} must be in [0, 2**31), found {seed}")
        if faults:
            raise SpecError(faults)

    @cached_property
    def member_id(self) -> str:
        """Hash of recipe, seeds, momentum and schedule: the same run has the same id in any sweep."""
        # Written out, and not `short_hash` of a list: a plan hashes 100,000 members of few schedules.
        who = f'"{self.recipe.recipe_id}",{self.seed},{self.data_seed},{float(self.momentum)!r}'
        return hash_of_text(f"[{who},{_schedule_text(self.phases)}]")

    @property
    def steps(self) -> int:
        """Length of the whole schedule."""
        return sum(phase.steps for phase in self.phases)


@once_for_each_object
def _schedule_text(phases: tuple[Phase, ...]) -> str:
    """A schedule's part of an id; members share schedules, and encoding one costs more than finding it."""
    return canonical([phase.key for phase in phases])


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
class Labels:
    """Which predictions are recorded, so that distributions of trained functions can be compared.

    Attributes:
        steps: schedule steps at which the predicted class of every sample is written to `probes`.
        samples: how many, the first of the split.
        split: of which split, `test` or `valid`.
    """

    steps: tuple[int, ...]
    samples: int = 500
    split: str = "test"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What is recorded while training; it changes no weight and no id.

    Attributes:
        report_every: steps between two rows of `epochs`.
        keep: schedule steps at which weights are kept in `checkpoints/`, beside every member's end.
        swa: averages by phase name.
        probes: groups of the task's probe sets to evaluate at every member's end: `features`, names of its
            `probe_groups`.
        norm_statistics: what batch-norm layers normalise with when measured: their `running` statistics, or those of
            the whole `training_set`, computed anew.
        trace: steps between two rows of norms and angles of the weights, by phase name; phases that are not named have
            none.
        labels: predictions to record; None for none.
    """

    report_every: int
    keep: tuple[int, ...] = ()
    swa: Mapping[str, Swa] = field(default_factory=dict)
    probes: tuple[str, ...] = ()
    norm_statistics: str = "running"
    trace: Mapping[str, int] = field(default_factory=dict)
    labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.norm_statistics not in NORM_STATISTICS:
            rule = f"measure.norm_statistics must be {' or '.join(NORM_STATISTICS)}"
            raise SpecError([f"{rule}, found {self.norm_statistics!r}"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A node of the prefix tree: steps `start` to `start + steps` of one phase of its owner.

    Attributes:
        segment_id: hash of the whole prefix up to the segment's end.
        parent: index in the pack of the segment it continues, None at a root.
        start: schedule steps done before it.
        steps: its own length.
        phase: the phase it is (part of).
        phase_start: schedule steps done before that phase: from there its curve counts.
        phase_end: True where the segment ends its phase (an average over the phase's last weights is due there).
        owner: the member whose rows it writes: the one that ends here, else the first of those that pass.
        ends: True where the owner's schedule ends with it.
        kept: which weights go to `checkpoints/` (`end`, `swa@W`, `step@N`); None keeps all that are measured.
    """

    segment_id: str
    parent: int | None
    start: int
    steps: int
    phase: Phase
    phase_start: int
    phase_end: bool
    owner: Member
    ends: bool
    kept: tuple[str, ...] | None = None

    def keeps(self, group: str) -> bool:
        """Whether weights go to `checkpoints/`.

        Args:
            group: `end`, `swa@W` or `step@N`.
        """
        return self.kept is None or group in self.kept


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
