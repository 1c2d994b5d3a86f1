"""Draw the small figures of docs/analysis.md from results folders.

    python docs/analysis_figures.py TICK IMAGES KEPT

TICK: `band-tick` with its geometry and features measured (and, of a seed, `--measures llc,density`); IMAGES:
`band-cifar10-small` with its features measured; KEPT: `band-tick` with `measure.keep`, features measured.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.band_report import analyse
from analysis.basin import Basin, basin_of
from analysis.basin_exhibits import converged
from analysis.figures.band_use import band_use_table, draw_band_use
from analysis.figures.border import draw_border
from analysis.figures.feature_use import draw_feature_use, feature_use_table
from analysis.figures.learned_when import draw_learned_when, learned_when_table
from analysis.figures.measures import Panel, draw_measures, measures_table
from analysis.figures.plane import draw_plane, plane_table
from analysis.figures.style import marks_of, new_figure
from analysis.findings import Findings
from analysis.landscape.density import density
from analysis.landscape.objective import Objective
from analysis.learned_when import Mark, Order, learning_order, timeline
from analysis.probing.frames import pair_frame, solution_frame
from analysis.study import load_study
from trainables.build import build_task
from trainables.checkpoint import Checkpoints, load_member

IMAGES = Path(__file__).resolve().parent / "images" / "analysis"
SMALL = (6.4, 2.7)

SINGLES = {
    "curvature": {
        "lambda_1": "largest eigenvalue",
        "effective_lambda_1": "effective largest eigenvalue",
        "effective_trace": "effective trace",
        "edge_ratio": "edge ratio",
    },
    "gradient": {"effective_batch_norm": "effective batch gradient norm"},
    "sharpness": {"asam": "ASAM sharpness, nats"},
    "width": {"adaptive": "width, relative change"},
    "llc": {"value": "local learning coefficient"},
    "representation": {"penultimate:effective_rank": "effective rank"},
    "linear_probe": {"penultimate:selectivity": "selectivity"},
    "collapse": {"nc1": "NC1"},
}
"""By probe: the key and what stands beside its axis. A figure is named after its key."""
NAMES = {"value": "llc", "penultimate:effective_rank": "effective_rank", "penultimate:selectivity": "selectivity"}


def save(figure: Figure, name: str, size: tuple[float, float] | None = SMALL) -> None:
    """Write one small figure."""
    if size:
        figure.set_size_inches(*size)
        figure.subplots_adjust(left=0.11, right=0.985, top=0.9, bottom=0.19)
    figure.savefig(IMAGES / f"{name}.png", dpi=110)


def curve(found: Findings, frame: pd.DataFrame, key: str, label: str, name: str, series: str = "solution") -> None:
    """Medians over seeds of one number."""
    frame = frame[(frame["key"] == key) & np.isfinite(frame["value"].to_numpy(dtype=float))]
    table = measures_table(frame, found.arm, 0.95, series)
    save(draw_measures(table, frame, [Panel(key=key, label=label)], marks_of(found), series), name)


def between(found: Findings, basin: Basin) -> None:
    """Angles, barriers, border and a plane."""
    main = ["low-high", "low-swa", "high-swa"]
    angles = pair_frame(found.study, found.arm, "angle")
    angles = angles[angles["pair"].isin(main)]
    curve(found, angles, "scale_invariant", "angle, radians", "angle", "pair")
    barriers = basin.barriers[basin.barriers["pair"].isin(main) & (basin.barriers["split"] == "train")]
    curve(found, barriers, "error_chord", "train error barrier", "barrier", "pair")
    if basin.border is not None:
        save(draw_border(basin.border, basin.sensitivity, marks_of(found)), "border", None)
    lr, _, plane = basin.planes[-2]
    save(draw_plane(plane_table(plane, ("low", "high", "swa"))), "plane", None)
    print(f"plane: initial rate {lr:g}")


def spectra(found: Findings) -> None:
    """Densities of two solutions of one seed: of regime 1, and of the best rate."""
    folder = found.study.directory / "checkpoints"
    checkpoints = Checkpoints(folder)
    figure, (panel,) = new_figure(2.7, width=6.4)
    members = found.arm.members
    assert found.band is not None
    for place, look in ((1, "-"), (int(np.flatnonzero(found.arm.lrs == found.band.optimum_lr)[0]), "--")):
        own = members[(members["place"] == place) & (members["unit"] == 0) & (members["quality"] == "final")]
        key = (str(own["member_id"].iloc[0]), "end")
        recipe, (_, seed) = checkpoints.recipe(key), checkpoints.seeds(key)
        task = build_task(recipe, seed)
        with Objective(load_member(folder, key[0]), task.loss, task.train.x.float(), task.train.y.float()) as objective:
            found_density = density(objective.hessian, objective.size)
        grid = np.linspace(found_density.nodes.min() - 1, found_density.nodes.max() + 1, 500)
        width = 0.01 * (grid[-1] - grid[0])
        band = found_density.smoothed(grid, width)
        label = f"initial rate {found.arm.lrs[place]:g}"
        panel.plot(grid, band.value, look, color="#000000", linewidth=1.2, label=label)
        panel.fill_between(grid, band.low, band.high, color="#999999", alpha=0.4, linewidth=0)
    panel.set_yscale("log")
    panel.set_ylim(1e-7, 3)
    panel.set_xlabel("eigenvalue")
    panel.set_ylabel("density")
    panel.legend(fontsize=8.5, edgecolor="none")
    save(figure, "density")


def features(found: Findings) -> None:
    """Features in use."""
    table = feature_use_table(found)
    empty = pd.DataFrame(columns=["lr", "error", "locked"])
    figure = draw_feature_use(table, empty, marks_of(found))
    save(figure, "features", None)
    marks = marks_of(found)
    rows = [{"solution": "low", "lr": row["lr"], "key": "n_eff", "n": row["n"]} for _, row in table.iterrows()]
    medians = pd.DataFrame(rows).assign(median=table["n_eff"], low=table["n_eff_low"], high=table["n_eff_high"])
    points = pd.DataFrame({"solution": "low", "lr": table["lr"], "key": "n_eff", "value": table["n_eff"]})
    panel = [Panel(key="n_eff", label="n_eff, mean and interval")]
    save(draw_measures(medians, points, panel, marks, "solution"), "n_eff")


def when(found: Findings) -> None:
    """Which feature is learned when."""
    line = timeline(found.study, found.arm)
    assert line is not None
    generator = np.random.default_rng(0)
    first = learning_order(
        line, found.arm, mark=Mark.ABOVE_CHANCE, order=Order.RANK, confidence=0.95, generator=generator
    )
    save(draw_learned_when(learned_when_table(line, found.arm, Order.RANK, 0.95), first), "learned_when", None)


def main() -> None:
    """Draw everything."""
    tick, images, kept = (Path(name) for name in sys.argv[1:4])
    IMAGES.mkdir(parents=True, exist_ok=True)
    (found,) = analyse(load_study(tick))
    between(found, basin_of(found))
    for probe, keys in SINGLES.items():
        frame = solution_frame(found.study, found.arm, probe)
        frame = converged(frame) if probe == "llc" else frame
        for key, label in keys.items():
            curve(found, frame, key, label, NAMES.get(key, key))
    cka = pair_frame(found.study, found.arm, "cka")
    curve(found, cka[cka["pair"].isin(["low-high", "low-swa", "high-swa"])], "penultimate", "CKA", "cka", "pair")
    spectra(found)
    features(found)
    (found,) = analyse(load_study(kept))
    when(found)
    (found,) = analyse(load_study(images))
    table = band_use_table(found.study, found.arm, found.feature_quality, 0.95)
    save(draw_band_use(table, marks_of(found)), "bands", None)


if __name__ == "__main__":
    main()
