"""What counts as equal: the margins of the tests of equivalence, as a sweep asks for them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["Margin", "Margins", "Scale", "margin_of"]

Floats = npt.NDArray[np.float64]


class Scale(StrEnum):
    """On which scale a metric's difference is taken."""

    LOG = "log"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Margin:
    """What counts as equal.

    Attributes:
        scale: of the difference.
        width: largest difference on that scale that counts as none.
        words: the same in words.
    """

    scale: Scale
    width: float
    words: str

    def scaled(self, values: Floats) -> Floats:
        """The metric on the margin's scale; NaN where it has no logarithm."""
        if self.scale is Scale.RAW:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(values > 0, np.log(values), np.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Margins:
    """Differences that count as none.

    Attributes:
        loss: relative.
        error: in fractions; 0.01 is one point.
        effective_lr: of its logarithm.
        angle: relative.
    """

    loss: float = 0.05
    error: float = 0.01
    effective_lr: float = 0.05
    angle: float = 0.03

    @classmethod
    def of(cls, asked: Mapping[str, float]) -> Self:
        """A sweep's `analysis.margins`; what it does not say, or says under another name, stays as it is here."""
        return cls(**{each.name: float(asked[each.name]) for each in fields(cls) if asked.get(each.name) is not None})

    @property
    def words(self) -> str:
        """All four, as a sentence lists them."""
        named = (("loss", "loss"), ("error", "error"), ("effective learning rate", "log_elr"), ("angle", "angle"))
        return ", ".join(f"{name} {margin.words}" for name, kind in named if (margin := margin_of(kind, self)))


def margin_of(metric: str, margins: Margins | None = None) -> Margin | None:
    """The margin of a metric, by its name: `loss`, `error`, `log_elr:<layer>` and `angle:<layer>`.

    Losses and errors of a split (`test_loss`) have the margin of their kind.

    Args:
        metric: column name.
        margins: the study's; by default 5 %, 1 point, 0.05 in the log and 3 %.

    Returns:
        The margin; None for a metric that has none.
    """
    asked = margins or Margins()
    points = 100 * asked.error
    known = {
        "loss": Margin(Scale.LOG, float(np.log(1 + asked.loss)), f"{100 * asked.loss:.3g} %"),
        "error": Margin(Scale.RAW, asked.error, f"{points:.3g} point{'' if f'{points:.3g}' == '1' else 's'}"),
        "log_elr": Margin(Scale.RAW, asked.effective_lr, f"{asked.effective_lr:.3g} in the log"),
        "angle": Margin(Scale.LOG, float(np.log(1 + asked.angle)), f"{100 * asked.angle:.3g} %"),
    }
    name = metric.partition(":")[0]
    return next((margin for kind, margin in known.items() if name == kind or name.endswith(f"_{kind}")), None)
