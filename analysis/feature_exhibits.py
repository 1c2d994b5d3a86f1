"""The features part of an arm's report: features in use, Fourier bands, representations, which is learned when."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.arms import FINAL
from analysis.captions import exhibit_name, interval_words
from analysis.exhibit import Exhibit
from analysis.features import LOCKED
from analysis.figures.band_use import band_use_table, draw_band_use
from analysis.figures.feature_use import draw_feature_use, feature_use_table
from analysis.figures.learned_when import draw_learned_when, learned_when_table
from analysis.figures.measures import Panel, draw_measures, measures_table
from analysis.figures.style import marks_of, render
from analysis.findings import Findings
from analysis.learned_when import Mark, Order, Timeline, learning_order, timeline
from analysis.probing.frames import pair_frame, solution_frame
from analysis.probing.solutions import names_of
from analysis.words import quality_words

__all__ = ["feature_exhibits", "learned_when"]

PENULTIMATE = "penultimate"
"""What the last linear layer reads, as `analysis.representation` calls it."""
_LAYER_KEYS = {
    "effective_rank": "effective rank",
    "zeros": "share of exact zeros",
    "selectivity": "selectivity of linear probes, points",
}
_COLLAPSE = {
    "nc1": "NC1, within over between",
    "nc2_angles": "NC2, angles",
    "nc3": "NC3, head against means",
    "nc4": "NC4, disagreement",
}


def feature_exhibits(found: Findings) -> Iterator[Exhibit]:
    """Draw the features of one arm.

    Args:
        found: its findings.

    Yields:
        The exhibits, in reading order; those without data are left out.
    """
    for make in (_features, _best, _bands, _representation, _collapse, _similarity, _when):
        exhibit = make(found)
        if exhibit is not None:
            yield exhibit


def _features(found: Findings) -> Exhibit | None:
    if not found.feature_rows:
        return None
    table = feature_use_table(found)
    return Exhibit(
        name=exhibit_name(found, "features"),
        title="Features in use",
        caption=f"Solutions {quality_words(found.feature_quality)}. Top: accuracy on sets in which one feature alone "
        f"is informative, sorted within each network. Middle: share of networks whose best feature exceeds "
        f"{100 * LOCKED:g} %, with Wilson's interval. Bottom: test accuracy of the two groups with "
        f"{interval_words(found)}; a mean over both describes neither.",
        drawing=render(draw_feature_use(table, _locked_points(found), marks_of(found))),
        table=table,
    )


def _best(found: Findings) -> Exhibit | None:
    """The best feature of every solution, in both ways to take the others out."""
    frame = solution_frame(found.study, found.arm, "feature_accuracy")
    index = ["unit", "place", "lr", "data_seed", "seed", "solution", "split"]
    best = frame.groupby(index, observed=True)["value"].max().reset_index().rename(columns={"split": "key"})
    named = set(names_of(found.arm))
    return _measures(
        found,
        best[best["solution"].isin(named)],
        [
            Panel(key="probe", label="switched off, %", line=100 * LOCKED, line_words="locked above", factor=100),
            Panel(key="resampled", label="resampled, %", line=100 * LOCKED, factor=100),
        ],
        name="best-feature",
        title="The best feature of every solution",
        caption="Accuracy of each network on its best single feature: the others on the class border (switched off, as "
        "published), or drawn from their distribution over both classes (resampled).",
    )


def _bands(found: Findings) -> Exhibit | None:
    table = band_use_table(found.study, found.arm, found.feature_quality, found.study.settings.confidence)
    if table.empty:
        return None
    return Exhibit(
        name=exhibit_name(found, "bands"),
        title="Fourier bands in use",
        caption=f"Solutions {quality_words(found.feature_quality)}: accuracy on test images that hold one band of "
        "frequencies alone, or, where bands are randomised, everything but it (whole: the intact image). Means over up "
        f"to {int(table['n'].max())} seeds with {interval_words(found)}.",
        drawing=render(draw_band_use(table, marks_of(found))),
        table=table,
    )


def _representation(found: Findings) -> Exhibit | None:
    """Of the layer before the head: effective rank, zeros, selectivity."""
    frames = [solution_frame(found.study, found.arm, probe) for probe in ("representation", "linear_probe")]
    frame = _finite(pd.concat([each for each in frames if not each.empty] or frames[:1], ignore_index=True))
    layers = [key.split(":")[0] for key in frame["key"].unique() if ":" in key]
    if not layers:
        return None
    last = PENULTIMATE if PENULTIMATE in layers else layers[-1]
    panels = [
        Panel(key=f"{last}:{key}", label=label, factor=100.0 if key == "selectivity" else 1.0)
        for key, label in _LAYER_KEYS.items()
    ]
    return _measures(
        found,
        frame,
        panels,
        name="representation",
        title="Representations",
        caption=f"Of the layer {last!r} on test samples. Effective rank: exponential of the entropy of its singular "
        "values. Selectivity: accuracy of a linear probe minus that on a control task of random labels. The table "
        "holds every layer.",
    )


def _collapse(found: Findings) -> Exhibit | None:
    return _measures(
        found,
        _finite(solution_frame(found.study, found.arm, "collapse")),
        [Panel(key=key, label=label) for key, label in _COLLAPSE.items()],
        name="collapse",
        title="Neural collapse",
        caption="On training samples (Papyan, Han & Donoho 2020); 0 is complete collapse. NC1: variability within "
        "classes over that between them. NC2: how far angles between class means are from equal. NC3: distance of the "
        "head from the class means. NC4: share of samples on which the nearest class mean disagrees with the network.",
    )


def _similarity(found: Findings) -> Exhibit | None:
    frame = _finite(pair_frame(found.study, found.arm, "cka"))
    keys = [key for key in frame["key"].unique() if ":" not in key and not key.endswith(("_low", "_high"))]
    keys = [key for key in keys if key == PENULTIMATE] or keys[-1:]
    return _measures(
        found,
        frame,
        [Panel(key=key, label=f"CKA, {key}", line=1.0) for key in keys],
        name="cka",
        title="Similarity of representations",
        caption="Debiased linear CKA between solutions of the same pre-training, on test samples, of what the last "
        "linear layer reads: 1 where one is a rotation and rescaling of the other, 0 on average where they share "
        "nothing. The table holds every layer.",
        series="pair",
    )


def learned_when(found: Findings) -> pd.DataFrame | None:
    """When features are learned, by learning rate.

    Args:
        found: an arm's findings.

    Returns:
        From `analysis.learned_when.learning_order`; None where no steps were kept and measured.
    """
    followed = _followed(found)
    if followed is None:
        return None
    line, order = followed
    generator = np.random.default_rng([47, found.arm.number])
    confidence = found.study.settings.confidence
    return learning_order(
        line, found.arm, mark=Mark.ABOVE_CHANCE, order=order, confidence=confidence, generator=generator
    )


def _followed(found: Findings) -> tuple[Timeline, Order] | None:
    """Accuracies along training, and whether features are followed by name."""
    for probe, split, order in (
        ("feature_accuracy", "probe", Order.RANK),
        ("band_accuracy", "published", Order.NAME),
    ):
        line = timeline(found.study, found.arm, quality=FINAL, probe=probe, split=split)
        if line is not None:
            return line, order
    return None


def _when(found: Findings) -> Exhibit | None:
    followed, first = _followed(found), learned_when(found)
    if followed is None or first is None:
        return None
    table = learned_when_table(followed[0], found.arm, followed[1], found.study.settings.confidence)
    return Exhibit(
        name=exhibit_name(found, "learned-when"),
        title="Which feature is learned when",
        caption="Accuracy on each feature alone along the first phase, at the kept steps; features made alike are "
        "sorted within each network by their accuracy at the last kept step. Marks along the bottom: the median step "
        "at which a network's first (second, ...) feature is significantly above chance (binomial, Holm), whichever "
        f"that is. Means over up to {int(table['n'].max())} seeds with {interval_words(found)}.",
        drawing=render(draw_learned_when(table, first)),
        table=table,
    )


def _measures(
    found: Findings,
    frame: pd.DataFrame,
    panels: list[Panel],
    *,
    name: str,
    title: str,
    caption: str,
    series: str = "solution",
) -> Exhibit | None:
    """Medians over seeds of some numbers; None where none was measured."""
    shown = [panel for panel in panels if (frame["key"] == panel.key).any()]
    if not shown:
        return None
    table = measures_table(frame, found.arm, found.study.settings.confidence, series)
    seeds = int(table["n"].max())
    return Exhibit(
        name=exhibit_name(found, name),
        title=title,
        caption=f"{caption} Medians over up to {seeds} seed{'' if seeds == 1 else 's'} with bootstrap "
        f"{interval_words(found)}; points: the seeds.",
        drawing=render(draw_measures(table, frame, shown, marks_of(found), series)),
        table=table,
    )


def _finite(frame: pd.DataFrame) -> pd.DataFrame:
    finite: pd.DataFrame = frame[np.isfinite(frame["value"].to_numpy(dtype=np.float64))]
    return finite


def _locked_points(found: Findings) -> pd.DataFrame:
    """One row per solution whose features were measured."""
    if found.features is None:
        return pd.DataFrame(columns=["lr", "error", "locked"])
    q = found.qualities.index(found.feature_quality)
    best, error = found.features.best[..., q], found.qualities.error[..., q]
    lrs = np.broadcast_to(found.arm.lrs, best.shape)
    known = np.isfinite(best) & np.isfinite(error)
    return pd.DataFrame({"lr": lrs[known], "error": error[known], "locked": best[known] > LOCKED})
