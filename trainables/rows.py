"""The facts a training run reports: rows of the tables `epochs` and `probes`, and how a run ended."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["SCHEMA_VERSION", "EpochRow", "MemberStatus", "ProbeRow", "Status"]

SCHEMA_VERSION = 1
"""Of a results folder; raised whenever a reader of the previous version would misread one."""


class Status(StrEnum):
    """How a member stands: a fact about the run, not a training regime."""

    RUNNING = "running"
    COMPLETED = "completed"
    NONFINITE = "nonfinite"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def sentence(self) -> str:
        """What the status means, for people."""
        return _SENTENCES[self]

    @property
    def is_final(self) -> bool:
        """True when no more rows of the member will come."""
        return self is not Status.RUNNING


_SENTENCES = {
    Status.RUNNING: "not finished yet",
    Status.COMPLETED: "trained to the end of its schedule",
    Status.NONFINITE: "loss or weights left the range of numbers; frozen there: a result, not a failure",
    Status.STOPPED: "stopped before the end of its schedule by request",
    Status.FAILED: "an error ended the run; see status_reason",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRow:
    """One reporting interval of one member.

    Losses, errors and `grad_norm_sq` of the train split are means over the mini-batches of the interval that ends at
    `step`; the other splits are evaluated at `step`. Errors are fractions in [0, 1]. None where not measured.

    Attributes:
        epoch: whole passes over the training set done at `step`.
        step: schedule steps done.
        weight_norm_sq: squared norm of the scale-invariant weights (of all trained weights when none is).
        grad_norm_sq: squared norm of the mini-batch gradient of the same weights.
        seconds: the member's share of the interval's wall time.
    """

    member_id: str
    attempt: int
    epoch: int
    step: int
    lr: float
    train_loss: float | None = None
    train_error: float | None = None
    valid_loss: float | None = None
    valid_error: float | None = None
    test_loss: float | None = None
    test_error: float | None = None
    weight_norm_sq: float | None = None
    grad_norm_sq: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRow:
    """One value measured on one solution.

    Attributes:
        probe: what was measured: `final`, `feature_accuracy`, `band_accuracy`.
        split: `train`, `valid`, `test`, or the variant of the probe set.
        group: which weights of the member: `end`, `swa@W` for the average of the last W kept weights, `step@N`.
        key: `loss`, `error`, or the name of the probe set.
        n: samples behind the value.
    """

    member_id: str
    attempt: int
    step: int
    probe: str
    split: str
    group: str
    key: str
    value: float | None
    n: int
    other_member_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberStatus:
    """How one member ended."""

    member_id: str
    attempt: int
    status: Status
    status_reason: str = ""
