"""Effective learning rate, angle, loss and error around the decays, with what theory says of them."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.decay.events import Event
from analysis.decay.find import ArmDecays, DecayFindings
from analysis.decay.jumps import WHOLE, level_means
from analysis.decay.predictions import angle_ratio, course
from analysis.estimates import mean_estimate
from analysis.figures.style import GREY, LOOKS, new_figure

__all__ = ["decay_course_table", "draw_decay_course"]

Ints = npt.NDArray[np.int64]

_COLUMNS = ("event", "quantity", "step", "since_decay", "mean", "low", "high", "n", "theory")
_DENSE, _SPARSE = 40, 120
"""Steps that are kept after the decay one by one, and thereafter evenly: the jump is fast, the recovery slow."""


def decay_course_table(findings: DecayFindings, found: ArmDecays) -> pd.DataFrame:
    """Means over seeds around one event of each kind of drop.

    Args:
        findings: of the study.
        found: of the arm.

    Returns:
        Columns `event, quantity, step, since_decay, mean, low, high, n, theory`. Effective LR and angle are relative to
        each run's equilibrium before the decay, and are those of all traced tensors; theory is NaN where it is silent.
    """
    tables = [pd.DataFrame(columns=list(_COLUMNS))]
    traces = dict(iter(findings.traces.groupby("member_id", observed=True)))
    courses = dict(iter(findings.courses.groupby("member_id", observed=True)))
    for event in found.shown[: len(LOOKS)]:
        for source, quantities in ((traces, None), (courses, list(findings.courses.columns[2:]))):
            frames = [source[name].assign(unit=place) for place, name in enumerate(event.members) if name in source]
            if not frames:
                continue
            rows = pd.concat(frames, ignore_index=True)
            if quantities is None:
                rows = _relative(rows, event)
            for name in quantities or ("effective_lr", "angle"):
                tables.append(_means(rows, event, name, findings.study.settings.confidence))
    table = pd.concat([each for each in tables if len(each)] or tables[:1], ignore_index=True)
    for event in found.shown:
        jump = found.jump(event)
        if jump is None or jump.group != WHOLE[0] or table.empty:
            continue
        after = (table["event"] == event.label) & (table["since_decay"] > 0)
        noise = jump.noise.value if np.isfinite(jump.noise.value) else 1.0
        of_rate = after & (table["quantity"] == "effective_lr")
        since = table.loc[of_rate, "since_decay"].to_numpy(dtype=np.float64)
        table.loc[of_rate, "theory"] = course(event.decay, event.momentum, since, noise)
        table.loc[after & (table["quantity"] == "angle"), "theory"] = angle_ratio(event.decay)
    return table


def draw_decay_course(table: pd.DataFrame) -> Figure:
    """Draw the courses, all decays at the same place.

    Args:
        table: from `decay_course_table`.

    Returns:
        The figure; quantities that were not measured have no panel.
    """
    names = [name for name in _titles(table) if (table["quantity"] == name).any()]
    rows = (max(len(names), 1) + 1) // 2
    figure, panels = new_figure(1.2 + 2.6 * rows, rows=rows, columns=2 if len(names) > 1 else 1)
    events = list(dict.fromkeys(table["event"]))
    for panel, name in zip(panels, names, strict=False):
        scale = 100.0 if name.endswith("_error") else 1.0
        for number, event in enumerate(events):
            own = table[(table["quantity"] == name) & (table["event"] == event)]
            if own.empty:
                continue
            look = {key: value for key, value in LOOKS[number].items() if key != "marker"}
            marks = {"marker": LOOKS[number]["marker"], "markevery": max(1, len(own) // 9), "ms": 4, "mfc": "white"}
            seeds = f" (n = {int(own['n'].max())})"
            x = own["since_decay"].to_numpy(dtype=np.float64)
            panel.plot(x, scale * own["mean"], **look, **marks, linewidth=1.4, label=event + seeds)
            panel.fill_between(x, scale * own["low"], scale * own["high"], color=look["color"], alpha=0.18, linewidth=0)
            if own["theory"].notna().any():
                panel.plot(x, scale * own["theory"], color="#000000", linestyle=":", linewidth=1.6, zorder=5)
        panel.axvline(0, color=GREY, linewidth=1)
        panel.set_title(_titles(table)[name], loc="left", fontsize=10)
        if name in ("effective_lr", "angle") and (table.loc[table["quantity"] == name, "mean"] > 0).all():
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            panel.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:.3g}"))
            panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("steps since the decay")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    if any(table["theory"].notna()):
        panels[0].plot([], [], color="#000000", linestyle=":", linewidth=1.6, label="theory")
    handles, labels = panels[0].get_legend_handles_labels() if names else ([], [])
    height = figure.get_size_inches()[1]
    lines = len(labels)
    figure.subplots_adjust(bottom=(0.62 + 0.19 * lines) / height, hspace=0.42)
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.08, 0.0), fontsize=8.5, frameon=False)
    return figure


def _titles(table: pd.DataFrame) -> dict[str, str]:
    titles = {
        "effective_lr": "effective learning rate, by its old equilibrium",
        "angle": "angle per step (rms), by its old equilibrium",
        "train_loss": "train loss",
    }
    errors = sorted({name for name in table["quantity"] if name.endswith("_error")})
    return titles | {name: f"{name.removesuffix('_error')} error, %" for name in errors}


def _relative(rows: pd.DataFrame, event: Event) -> pd.DataFrame:
    """All tensors' effective LR and angle by the run's own equilibrium before the decay."""
    rows = rows[rows["group"].isin(WHOLE)]
    before = event.decay.before
    old = level_means(
        rows[(rows["step"] - rows["n"] >= before.start) & (rows["step"] <= before.stop)], before.tail
    ).droplevel(0)
    scales = {name: rows[name] / rows["unit"].map(old[name]) for name in ("effective_lr", "angle")}
    return rows.assign(**scales)


def _means(rows: pd.DataFrame, event: Event, quantity: str, confidence: float) -> pd.DataFrame:
    """Mean and interval over seeds at every kept step around the decay."""
    before, after = event.decay.before, event.decay.after
    early = max(before.start, before.stop - max(before.stop - before.tail, round(0.25 * after.steps)))
    kept = rows[(rows["step"] > early) & (rows["step"] <= after.stop) & rows[quantity].notna()]
    table = kept.pivot(index="unit", columns="step", values=quantity).reindex(range(len(event.members)))
    steps = table.columns.to_numpy(dtype=np.int64)
    clusters = event.arm.clusters[list(event.units)]
    lines = []
    for place in _thinned(steps, event.decay.step):
        estimate = mean_estimate(table.iloc[:, place].to_numpy(dtype=np.float64), clusters, confidence)
        since = int(steps[place]) - event.decay.step
        numbers = (estimate.value, estimate.low, estimate.high, estimate.n, np.nan)
        lines.append((event.label, quantity, int(steps[place]), since, *numbers))
    return pd.DataFrame(lines, columns=list(_COLUMNS))


def _thinned(steps: Ints, decay: int) -> Ints:
    """Places of the steps to keep."""
    if not len(steps):
        return np.zeros(0, dtype=np.int64)
    behind = int(np.searchsorted(steps, decay, side="right"))
    dense = np.arange(max(behind - 1, 0), min(behind + _DENSE, len(steps)))
    even = np.linspace(0, len(steps) - 1, min(_SPARSE, len(steps))).round().astype(np.int64)
    return np.union1d(dense, even)
