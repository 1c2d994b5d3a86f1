"""What the table `probes` says of one arm's geometry: pairs of solutions, the 2A/2B border, single solutions."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import FINAL, Arm
from analysis.border import Border, Evidence, border_of, sensitivity
from analysis.findings import Findings
from analysis.landscape.policy import PathNorms
from analysis.probing.frames import fault_frame, pair_frame, solution_frame
from analysis.probing.plane_rows import plane_of

if TYPE_CHECKING:
    from analysis.landscape.plane import Plane

__all__ = ["SINGLES", "Basin", "basin_of"]

Floats = npt.NDArray[np.float64]

SINGLES = ("curvature", "density", "gradient", "sharpness", "width", "llc")
"""Probes of single solutions."""

_PAIR_COLUMNS = {
    ("train", "error_chord"): "train_error",
    ("test", "error_chord"): "test_error",
    ("train", "loss_chord"): "train_loss",
    ("test", "loss_chord"): "test_loss",
}
_PROBES = {norms: "barrier" if norms is PathNorms.REESTIMATED else f"barrier@{norms}" for norms in PathNorms}
_PAIR_INDEX = ["unit", "place", "lr", "data_seed", "seed", "pair"]


@dataclass(frozen=True, kw_only=True)
class Basin:
    """The geometry of one arm, as far as it was measured.

    Attributes:
        pairs: one row for each pair of solutions of one pre-training: `unit, place, lr, data_seed, seed, pair, angle`
            (radians) and the chord barriers `train_error, test_error, train_loss, test_loss`.
        barriers: every definition, long: from `pair_frame`.
        norms: with which statistics batch norms normalised on the lines.
        border: the 2A/2B border; None where it cannot be found.
        sensitivity: the border under other margins.
        singles: by probe, long: from `solution_frame`.
        planes: through low, high and swa, each with the initial rate and the seed it is of.
        faults: what could not be measured.
    """

    pairs: pd.DataFrame
    barriers: pd.DataFrame
    norms: PathNorms
    border: Border | None
    sensitivity: pd.DataFrame
    singles: dict[str, pd.DataFrame]
    planes: "tuple[tuple[float, int, Plane], ...]"
    faults: pd.DataFrame

    @property
    def empty(self) -> bool:
        """True where nothing was measured."""
        return self.pairs.empty and not self.singles


def basin_of(found: Findings) -> Basin:
    """Collect what was measured.

    Args:
        found: an arm's findings.

    Returns:
        Its geometry.
    """
    study, arm = found.study, found.arm
    measured = [(norms, pair_frame(study, arm, _PROBES[norms])) for norms in PathNorms]
    norms, barriers = next(((norms, frame) for norms, frame in measured if not frame.empty), measured[0])
    pairs = _wide(barriers, pair_frame(study, arm, "angle"))
    border, table = _border(found, pairs)
    frames = {probe: solution_frame(study, arm, probe) for probe in SINGLES}
    return Basin(
        pairs=pairs,
        barriers=barriers,
        norms=norms,
        border=border,
        sensitivity=table,
        singles={probe: frame for probe, frame in frames.items() if not frame.empty},
        planes=_planes(found),
        faults=fault_frame(study, arm),
    )


def _wide(barriers: pd.DataFrame, angles: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair."""
    columns = ["angle", *_PAIR_COLUMNS.values()]
    if barriers.empty:
        return pd.DataFrame(columns=[*_PAIR_INDEX, *columns])
    named = [_PAIR_COLUMNS.get(place, "") for place in zip(barriers["split"], barriers["key"], strict=True)]
    long = barriers.assign(column=named)
    long = long[long["column"] != ""]
    wide = long.pivot_table(index=_PAIR_INDEX, columns="column", values="value", dropna=False, observed=True)
    wide["angle"] = angles.groupby(_PAIR_INDEX)["value"].first().reindex(wide.index)
    found: pd.DataFrame = wide.reindex(columns=columns).reset_index().rename_axis(columns=None)
    return found.dropna(subset=columns, how="all", ignore_index=True)


def _planes(found: Findings) -> "tuple[tuple[float, int, Plane], ...]":
    """Every plane that was measured, by initial rate."""
    frame = pair_frame(found.study, found.arm, "plane")
    if frame.empty:
        return ()
    planes = []
    for _, rows in frame.groupby(["lr", "seed"], sort=True):
        first = rows.iloc[0]
        planes.append((float(first["lr"]), int(first["seed"]), plane_of(rows)))
    return tuple(planes)


def _border(found: Findings, pairs: pd.DataFrame) -> tuple[Border | None, pd.DataFrame]:
    """The border from the errors after every later rate and the low-high barriers."""
    arm = found.arm
    own = pairs[pairs["pair"] == "low-high"]
    barriers = np.full(arm.shape, np.nan)
    barriers[own["unit"].to_numpy(dtype=int), own["place"].to_numpy(dtype=int)] = own["train_error"]
    errors = found.qualities.error[..., _later(arm)]
    evidence = Evidence(errors=errors, barriers=barriers, regime=found.majority, lrs=arm.lrs, clusters=arm.clusters)
    confidence = found.study.settings.confidence
    border = border_of(evidence, confidence=confidence, generator=np.random.default_rng([41, arm.number]))
    if border is None:
        return None, pd.DataFrame()
    return border, sensitivity(evidence, confidence=confidence, generator=np.random.default_rng([43, arm.number]))


def _later(arm: Arm) -> list[int]:
    """Places of the qualities that end with a later phase."""
    return [q for q, name in enumerate(arm.qualities) if name != FINAL and not name.startswith("swa@")]
