"""Which of the three training regimes each member is in, judged from the rows of its first phase.

The regimes are those of Kodryan et al., NeurIPS 2022 (arXiv 2209.03695), at a constant learning rate:

- `convergence` (1): the train loss of the phase's last reporting interval is below `converged_loss`. "Converged" means
  converged *within the step budget*: near the threshold, more steps move it.
- `divergence` (3): a random walk. Train and held-out error stand at chance over the last tenth of the phase, the train
  loss is at least that of a guess that knows nothing, ln(classes); a member whose numbers overflowed belongs here
  too. The train error decides in practice: it is a mean over every mini-batch of the interval, so that it tells 45 %
  from 50 % where a test set of 2,000 cannot. The loss alone would not do: a network may still learn while its loss is
  above ln(classes).
- `chaotic_equilibrium` (2): everything else.

A member that has not converged at a rate *below* one at which the same seed did is slow, not chaotic: regime 1.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.arms import Arm, positions
from analysis.study import Study

__all__ = ["Plateau", "Regime", "classify", "plateau"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]

_TAIL = 0.1
_CHANCE_MARGIN = 0.02


class Regime(IntEnum):
    """A training regime; the value is its place from low to high learning rate."""

    UNKNOWN = -1
    CONVERGENCE = 0
    CHAOTIC_EQUILIBRIUM = 1
    DIVERGENCE = 2

    @property
    def label(self) -> str:
        """The name used in `answer.json`."""
        return self.name.lower()

    @property
    def words(self) -> str:
        """The name used in text."""
        return f"{self.value + 1} ({self.label.replace('_', ' ')})"


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """How the first phase ended, by unit and learning rate; NaN where it has not ended yet. All arrays are [U, L].

    Attributes:
        end_loss: train loss of the last reporting interval.
        loss: mean train loss over the last tenth of the phase.
        train_error: mean train error over the same rows.
        watched_error: mean error over the same rows on the split watched in training (`Study.watched`).
        nonfinite: 1 where the numbers overflowed, else 0.
    """

    end_loss: Floats
    loss: Floats
    train_error: Floats
    watched_error: Floats
    nonfinite: Floats


def plateau(study: Study, arm: Arm) -> Plateau:
    """Reduce the rows of the first phase to its end.

    Args:
        study: the study.
        arm: one of its arms.

    Returns:
        The plateau of every finished member of the first phase.
    """
    members = arm.pretrain.reset_index(drop=True)
    epochs = study.tables.epochs
    place = positions(epochs, members)
    rows = epochs[(place >= 0) & (epochs["step"] <= arm.budget)].assign(
        member=place[(place >= 0) & (epochs["step"] <= arm.budget)]
    )
    overflowed = (members["status"] == "nonfinite").to_numpy()
    last = rows.groupby("member")["step"].max().reindex(range(len(members))).to_numpy(dtype=np.float64)
    ended = (last >= arm.budget) | overflowed | (members["status"] == "completed").to_numpy()
    rows = rows.assign(ended=ended[rows["member"]], final=rows["step"].to_numpy() == last[rows["member"]])
    rows = rows[rows["ended"]]
    tail = rows[(rows["step"] > (1 - _TAIL) * arm.budget) | rows["final"]]
    watched = f"{study.watched}_error"
    means = tail.groupby("member")[["train_loss", "train_error", watched]].mean().reindex(range(len(members)))
    ends = rows[rows["final"]].set_index("member")["train_loss"].reindex(range(len(members)))
    return Plateau(
        end_loss=arm.grid(members, ends),
        loss=arm.grid(members, means["train_loss"]),
        train_error=arm.grid(members, means["train_error"]),
        watched_error=arm.grid(members, means[watched]),
        nonfinite=arm.grid(members, overflowed.astype(np.float64)),
    )


def classify(study: Study, arm: Arm, end: Plateau) -> Codes:
    """The regime of every member of the first phase.

    Args:
        study: the study.
        arm: one of its arms.
        end: its `plateau`.

    Returns:
        [U, L] `Regime` values; UNKNOWN where the first phase has not ended.
    """
    converged = end.end_loss < study.settings.converged_loss
    chance = chance_error(study, end)
    noise = 3 * np.sqrt(chance * (1 - chance) / _watched_size(study))
    at_chance = (end.watched_error > chance - max(noise, _CHANCE_MARGIN)) & ~(end.train_error < chance - _CHANCE_MARGIN)
    lost = ~(end.loss < -(1 - _CHANCE_MARGIN) * np.log1p(-chance))  # ln(classes) = -ln(1 - chance error)
    overflowed = end.nonfinite == 1
    codes = np.full(arm.shape, Regime.CHAOTIC_EQUILIBRIUM, dtype=np.int8)
    codes[converged] = Regime.CONVERGENCE
    codes[(at_chance & lost & ~converged) | overflowed] = Regime.DIVERGENCE
    codes[np.isnan(end.end_loss) & ~overflowed] = Regime.UNKNOWN
    first = np.where(converged.any(axis=1), converged.argmax(axis=1), 0)
    slow = (np.arange(arm.shape[1]) < first[:, None]) & (codes == Regime.CHAOTIC_EQUILIBRIUM)
    codes[slow] = Regime.CONVERGENCE
    return codes


def chance_error(study: Study, end: Plateau) -> float:
    """Error of a guess that knows nothing.

    Args:
        study: the study.
        end: any arm's plateau, used where the number of classes is not known.

    Returns:
        1 - 1/classes; with unknown classes the value of that form nearest to the worst rate's median error.
    """
    classes = study.classes
    if classes is None:
        worst = np.nanmax(end.watched_error) if np.isfinite(end.watched_error).any() else 0.5
        classes = max(2, round(1 / max(1 - float(worst), 1e-3)))
    return 1 - 1 / classes


def majority(codes: Codes) -> Codes:
    """The commonest regime of each learning rate.

    Args:
        codes: [U, L] regimes.

    Returns:
        [L]; UNKNOWN where no member has ended. Ties go to the lower regime.
    """
    counts = np.stack([(codes == regime).sum(axis=0) for regime in (0, 1, 2)])
    found: Codes = np.where(counts.sum(axis=0) > 0, counts.argmax(axis=0), Regime.UNKNOWN).astype(np.int8)
    return found


def _watched_size(study: Study) -> int:
    probes = study.tables.probes
    sizes: pd.Series = probes.loc[(probes["probe"] == "final") & (probes["split"] == study.watched), "n"]
    return int(sizes.max()) if len(sizes) else 1000
