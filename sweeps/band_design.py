"""From a budget to a study: which learning rates, how many seeds, how long. A plain grid; a ladder decides.

The protocol is the published one (Sadrtdinov et al., NeurIPS 2024): pre-train at a constant rate, average the last
weights, go on at a small rate. Its small rates were the grid's lowest and one about a third of the way up, in decades:
2e-3 on 1e-4 .. 1 for a practical ResNet-18 with SGD, 1e-4 on 1e-5 .. 1e-2 for a ViT with Adam, 3e-4 on 1e-5 .. 1e-1 for
the scale-invariant ResNet-18.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sweeps.schema import LogGrid
from trainables.spec import SpecError

__all__ = ["RANGES", "Budget", "Design", "Wish", "designs", "fitting", "read_budget"]

RANGES = {"sgd": (1e-4, 1.0), "adam": (1e-5, 1e-1), "adamw": (1e-5, 1e-1)}
"""Initial learning rates looked at where the user names none: what the published practical studies span."""
LADDER = (
    *((4, 16, 2), (4, 12, 2), (4, 8, 2), (3, 8, 2), (3, 6, 2), (3, 5, 2), (3, 4, 2), (3, 3, 2)),
    *((3, 3, 1), (2, 3, 2), (2, 3, 1), (2, 2, 1)),
)
"""(rates per decade, seeds, fine-tuning rates), dearest first: seeds go before the grid, but not below three, because
an interval from two says little."""
FINETUNE_SHARE = 0.4
"""Length of fine-tuning beside pre-training: enough to converge at the small rates, as in the published set-ups."""
WINDOW = 10
"""Weights in the average at the end of pre-training."""
REPORTS = 20
"""Rows of the table `epochs` for each phase's length of fine-tuning."""

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_COUNT = re.compile(r"(\d+)(?:\s*members)?")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a study may cost: one of the two.

    Attributes:
        seconds: wall time.
        members: trained networks, fine-tuned ones included.
    """

    seconds: float | None = None
    members: int | None = None


def read_budget(text: str) -> Budget:
    """Read `--budget`.

    Args:
        text: `10m`, `2h`, `90s`, `120` or `120 members`.

    Returns:
        The budget.

    Raises:
        SpecError: it is none of these.
    """
    asked = text.strip().lower()
    if (found := _TIME.fullmatch(asked)) and float(found[1]) > 0:
        return Budget(seconds=float(found[1]) * _UNITS[found[2]])
    if (found := _COUNT.fullmatch(asked)) and int(found[1]) > 0:
        return Budget(members=int(found[1]))
    raise SpecError(
        [f"--budget must be a time (90s, 10m, 2h) or a number of members (120), found {text!r}; for instance 10m"]
    )


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the user asks for; None is left to the design.

    Attributes:
        target: the task, `module:function`.
        steps: of pre-training.
        finetune_steps: of fine-tuning.
        lr_low: lowest initial rate.
        lr_high: highest initial rate.
        per_decade: rates in a factor of ten.
        seeds: repetitions of every rate.
        finetune_lrs: small rates.
        optimizer: `sgd`, `adam` or `adamw`.
        momentum: of SGD.
        weight_decay: as the optimiser has it.
        batch_size: samples per step.
    """

    target: str
    steps: int
    finetune_steps: int | None = None
    lr_low: float | None = None
    lr_high: float | None = None
    per_decade: int | None = None
    seeds: int | None = None
    finetune_lrs: tuple[float, ...] = ()
    optimizer: str = "sgd"
    momentum: float | None = None
    weight_decay: float = 0.0
    batch_size: int | None = None

    def faults(self) -> Iterator[str]:
        """What must hold before a grid can be laid; the rest is checked with the sweep."""
        whole = {"--steps": self.steps, "--finetune-steps": self.finetune_steps, "--seeds": self.seeds}
        whole |= {"--per-decade": self.per_decade, "--batch-size": self.batch_size}
        for name, number in whole.items():
            if number is not None and number < 1:
                yield f"{name} must be at least 1, found {number}"
        if self.optimizer not in RANGES:
            yield f"--optimizer must be one of {', '.join(RANGES)}, found {self.optimizer!r}"
            return
        rates: dict[str, list[float | None]] = {"--lr-low": [self.lr_low], "--lr-high": [self.lr_high]}
        rates["--finetune-lr"] = [*self.finetune_lrs]
        wrong = [(name, rate) for name, some in rates.items() for rate in some if rate is not None and not _rate(rate)]
        for name, rate in wrong:
            yield f"{name} must be a positive finite number, found {rate:g}"
        low, high = self.range
        if not wrong and low >= high:
            yield f"--lr-low must be below --lr-high, found {low:g} and {high:g}; give both"
        if self.optimizer != "sgd" and self.momentum is not None:
            yield f"--momentum belongs to sgd, found {self.momentum:g} with --optimizer {self.optimizer}; leave it out"

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest initial rate."""
        low, high = RANGES[self.optimizer]
        return self.lr_low or low, self.lr_high or high


@dataclass(frozen=True, kw_only=True)
class Design:
    """One study that answers a wish.

    Attributes:
        wish: what it answers.
        per_decade: initial rates in a factor of ten.
        seeds: repetitions.
        finetune_lrs: small rates.
    """

    wish: Wish
    per_decade: int
    seeds: int
    finetune_lrs: tuple[float, ...]

    @property
    def lrs(self) -> tuple[float, ...]:
        """Initial rates, rising."""
        low, high = self.wish.range
        return tuple(LogGrid(low=low, high=high, per_decade=self.per_decade).values())

    @property
    def trunks(self) -> int:
        """Pre-trainings."""
        return len(self.lrs) * self.seeds

    @property
    def members(self) -> int:
        """Trained networks, fine-tuned ones included."""
        return self.trunks * (1 + len(self.finetune_lrs))

    @property
    def finetune_steps(self) -> int:
        """Length of fine-tuning."""
        return self.wish.finetune_steps or max(1, round(FINETUNE_SHARE * self.wish.steps))

    @property
    def report_every(self) -> int:
        """Steps between two evaluations."""
        return max(1, min(self.wish.steps, self.finetune_steps) // REPORTS)

    @property
    def member_steps(self) -> int:
        """Steps to train, pre-training once for all its fine-tunings."""
        return self.trunks * (self.wish.steps + len(self.finetune_lrs) * self.finetune_steps)

    @property
    def reports(self) -> int:
        """Evaluations of one member each."""
        phases = (self.wish.steps, *(self.finetune_steps for _ in self.finetune_lrs))
        return self.trunks * sum(math.ceil(steps / self.report_every) for steps in phases)

    def mapping(self, *, batch_size: int, per_epoch: int, takes_data_seed: bool) -> dict[str, Any]:
        """The study as a sweep file.

        Args:
            batch_size: samples per step.
            per_epoch: steps in one pass over the data.
            takes_data_seed: whether the task draws its data by a seed.

        Returns:
            What `sweep_from_mapping` takes.
        """
        wish, low, high = self.wish, *self.wish.range
        window = min(WINDOW, wish.steps)
        # At most a pass apart, and within the last quarter of pre-training.
        every = max(1, min(per_epoch, wish.steps // (4 * window)))
        train: dict[str, Any] = {"batch_size": batch_size, "weight_decay": wish.weight_decay}
        if wish.optimizer == "sgd":
            train["momentum"] = 0.9 if wish.momentum is None else wish.momentum
        else:
            train["optimizer"] = wish.optimizer
        axes: dict[str, Any] = {
            "pretrain_lr": {"log_grid": {"low": low, "high": high, "per_decade": self.per_decade}},
            "finetune_lr": {"values": list(self.finetune_lrs)},
            "seed": {"range": self.seeds},
        }
        if takes_data_seed:
            axes["data_seed"] = {"same_as": "seed"}
        return {
            "name": "band-" + re.sub(r"[^A-Za-z0-9_-]+", "-", wish.target.replace(":", "-")),
            "question": f"Which initial learning rate leads to the best solution of {wish.target}?",
            "source": "lratlas band",
            "task": {"name": wish.target},
            "train": train,
            "phases": [
                {"name": "pretrain", "steps": wish.steps, "swa": {"every": every, "windows": [window]}},
                {"name": "finetune", "steps": self.finetune_steps},
            ],
            "axes": axes,
            "measure": {"report_every": self.report_every},
        }


def designs(wish: Wish) -> list[Design]:
    """Studies that answer a wish, the dearest first.

    Args:
        wish: without faults.

    Returns:
        The rungs of the ladder, with what the wish fixes in place of their own; none twice.
    """
    made = {}
    for per_decade, seeds, rates in LADDER:
        design = Design(wish=wish, per_decade=wish.per_decade or per_decade, seeds=wish.seeds or seeds, finetune_lrs=())
        small = wish.finetune_lrs or _small_rates(design.lrs)[-rates:]
        made[design.per_decade, design.seeds, small] = Design(
            wish=wish, per_decade=design.per_decade, seeds=design.seeds, finetune_lrs=small
        )
    return sorted(made.values(), key=lambda design: -design.member_steps)


def fitting(wish: Wish, budget: Budget, seconds: Callable[[Design], float]) -> Design | None:
    """The dearest study within a budget.

    Args:
        wish: what it shall answer.
        budget: what it may cost.
        seconds: estimates a study's wall time.

    Returns:
        None where even the cheapest is too dear.
    """
    for design in designs(wish):
        if budget.members is not None and design.members > budget.members:
            continue
        if budget.seconds is not None and seconds(design) > budget.seconds:
            continue
        return design
    return None


def _small_rates(lrs: tuple[float, ...]) -> tuple[float, ...]:
    """Rates to fine-tune at: the lowest of the grid, and the one nearest to a third of the way up."""
    third = lrs[0] * (lrs[-1] / lrs[0]) ** (1 / 3)
    return tuple(dict.fromkeys([lrs[0], min(lrs, key=lambda lr: abs(math.log(lr / third)))]))


def _rate(value: float) -> bool:
    return math.isfinite(value) and value > 0
