"""Runs of one network at equilibrium: one row each, with what must coincide on a line of equal product.

A run's metrics are means over the last part of its schedule, where learning rate and weight decay were constant from
the start. Initial weights multiplied by c are the same as learning rate and weight decay by 1/c^2 and c^2 (Li & Arora,
ICLR 2020), so that such a run stands in the tests at the ratio `ratio / c^4`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.courses import Network
from analysis.invariance.design import matched
from analysis.laws import function_steps

__all__ = ["Runs", "compared_metrics", "equilibrium_runs"]

Floats = npt.NDArray[np.float64]

_ENOUGH = 2.0
"""Runs must be twice as long as functions need to reach equilibrium: 8 / (learning rate x weight decay) steps."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What a network's constant runs came to.

    Attributes:
        table: one row per run: `member_id, intrinsic_lr, lr, weight_decay, ratio, start_scale, seed, steps, loss,
            error`, and for each layer L `log_elr:L, angle:L, norm_sq:L, noise:L` (noise is E[G]); NaN where not
            measured.
        short: the same for runs that are shorter than 8 / intrinsic LR.
        lost: runs whose numbers overflowed or that did not finish.
    """

    table: pd.DataFrame
    short: pd.DataFrame
    lost: int

    @property
    def tested(self) -> pd.DataFrame:
        """The table as the tests take it: starts of another scale at the ratio they amount to."""
        return self.table.assign(ratio=self.table["ratio"] / self.table["start_scale"] ** 4)


def compared_metrics(table: pd.DataFrame) -> list[str]:
    """What must coincide at equal product: loss, error, effective learning rates, angles.

    Args:
        table: one of `Runs`.

    Returns:
        The columns of which some run has a number.
    """
    named = [name for name in table.columns if name in ("loss", "error") or name.startswith(("log_elr:", "angle:"))]
    return [name for name in named if np.isfinite(table[name].to_numpy(dtype=np.float64)).any()]


def equilibrium_runs(network: Network, tail: float) -> Runs:
    """Reduce a network's constant runs to their ends.

    Args:
        network: one of the study's.
        tail: share of a run, at its end, over which metrics are averaged.

    Returns:
        The runs.
    """
    constant = [course for course in network.courses if course.is_constant]
    done = [course for course in constant if course.status == "completed"]
    rows = []
    for course in done:
        level = course.schedule.last
        rows.append(
            {
                "member_id": course.member_id,
                "intrinsic_lr": course.law(level),
                "lr": level.lr,
                "weight_decay": level.weight_decay,
                "ratio": float(f"{level.lr / level.weight_decay:.12g}"),
                "start_scale": course.start_scale,
                "seed": course.unit,
                "steps": course.schedule.steps,
                "tail": level.tail_of(tail),
            }
        )
    columns = ["member_id", "intrinsic_lr", "lr", "weight_decay", "ratio", "start_scale", "seed", "steps", "tail"]
    table = pd.DataFrame(rows, columns=columns).set_index("member_id", drop=False)
    for name in ("intrinsic_lr", "ratio"):
        table[name] = matched(table[name])  # products and quotients of rates differ in their last digit
    ends = table.pop("tail")
    table = table.join(_means(network, ends)).join(_layers(network, ends))
    needed = _ENOUGH * np.array([function_steps(rate)[1] for rate in table["intrinsic_lr"]])
    long = table["steps"].to_numpy() >= needed * (1 - 1e-9)
    return Runs(
        table=table[long].reset_index(drop=True),
        short=table[~long].reset_index(drop=True),
        lost=len(constant) - len(done),
    )


def _means(network: Network, after: pd.Series) -> pd.DataFrame:
    """Mean batch loss and held-out error of each run's end, by member."""
    epochs = _late(network.epochs, after)
    watched = f"{network.study.watched}_error"
    means = epochs.groupby("member_id", observed=True)[["train_loss", watched]].mean()
    means.index = means.index.astype(str)
    return means.rename(columns={"train_loss": "loss", watched: "error"})


def _layers(network: Network, after: pd.Series) -> pd.DataFrame:
    """Effective learning rate, angle, squared norm and E[G] of each layer at each run's end, by member."""
    trace = network.trace
    trace = _late(trace[trace["group"].isin(network.layers)], after)
    squared = trace["value"].where(trace["key"] != "angle", trace["value"] ** 2)
    wide = trace.assign(value=squared).pivot_table(
        index="member_id", columns=["key", "group"], values="value", aggfunc="mean", observed=True
    )
    found = {}
    for layer in network.layers:
        for key, name, change in _OF_LAYERS:
            if (key, layer) in wide:
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[f"{name}:{layer}"] = change(wide[key, layer])
    return pd.DataFrame(found, index=wide.index.astype(str))


_OF_LAYERS = (
    ("effective_lr", "log_elr", np.log),
    ("angle", "angle", np.sqrt),
    ("norm_sq", "norm_sq", np.asarray),
    ("unit_grad_norm_sq", "noise", np.asarray),
)


def _late(rows: pd.DataFrame, after: pd.Series) -> pd.DataFrame:
    """Rows of the members in `after` whose step is beyond the one given there."""
    ids = rows["member_id"].astype("category").cat
    limits = after.reindex(ids.categories.astype(str)).to_numpy(dtype=np.float64)[ids.codes.to_numpy()]
    return rows[rows["step"].to_numpy() > limits]  # a member that is not asked for has the limit NaN
