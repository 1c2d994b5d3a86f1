"""Simulated runs with a known truth, for the size, power and coverage of the invariance tests."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.invariance.design import Design

__all__ = ["LAYER", "Truth", "drops", "grid", "labels", "relaxing", "times", "values"]

Floats = npt.NDArray[np.float64]

LAYER = "hidden"


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How a metric's log comes about: level + violation x place of the ratio + seed + seed in the level + noise.

    Attributes:
        seeds: per cell.
        design: CROSSED: the seed terms are shared by the ratios of a level; INDEPENDENT: every run draws its own.
        noise: spread of the noise; one number per level.
        seed_spread: of the seed's own term, the same at all levels.
        level_seed_spread: of the seed's term at each level.
        violation: difference of the last ratio from the first, the others in between.
        ratios: how many.
        step: difference of neighbouring levels.
    """

    seeds: int
    design: Design = Design.CROSSED
    noise: tuple[float, ...] = (0.03, 0.03, 0.03, 0.03)
    seed_spread: float = 0.03
    level_seed_spread: float = 0.02
    violation: float = 0.0
    ratios: int = 3
    step: float = 0.4

    @property
    def shape(self) -> tuple[int, int, int]:
        """[levels, ratios, seeds]."""
        return len(self.noise), self.ratios, self.seeds


def grid(truth: Truth) -> pd.DataFrame:
    """The keys of the runs: levels a factor of 2 apart, ratios a factor of 10, seeds crossed or not.

    Levels are given as products of floats, as a sweep would give them, so that equal ones differ in their last bits.
    """
    level, ratio, seed = (index.ravel() for index in np.indices(truth.shape))
    lr = np.sqrt(1e-3 * 2.0**level * 10.0**ratio)
    weight_decay = np.sqrt(1e-3 * 2.0**level / 10.0**ratio)
    if truth.design is Design.INDEPENDENT:
        seed = np.arange(len(seed))
    return pd.DataFrame({"intrinsic_lr": lr * weight_decay, "ratio": lr / weight_decay, "seed": seed})


def values(truth: Truth, generator: np.random.Generator) -> Floats:
    """One metric's log, one number per run in the order of `grid`."""
    levels, ratios, seeds = truth.shape
    alike = 1 if truth.design is Design.CROSSED else ratios
    seed = generator.normal(size=(1 if alike == 1 else levels, alike, seeds)) * truth.seed_spread
    level_seed = generator.normal(size=(levels, alike, seeds)) * truth.level_seed_spread
    noise = generator.normal(size=truth.shape) * np.array(truth.noise)[:, None, None]
    place = np.linspace(-0.5, 0.5, ratios) if ratios > 1 else np.zeros(1)
    level = truth.step * np.arange(levels)[:, None, None]
    found: Floats = (level + truth.violation * place[:, None] + seed + level_seed + noise).ravel()
    return found


def times(truth: Truth, generator: np.random.Generator, slope: float = -1.0, slope_spread: float = 0.0) -> pd.DataFrame:
    """Times to equilibrium of one layer: log time is linear in log lambda_e; the seeds' slopes may spread."""
    frame = grid(truth)
    log_lr = np.log(frame["intrinsic_lr"] / 2.8e-3)
    own = generator.normal(size=truth.seeds * len(frame))[frame["seed"]] * slope_spread
    flat = Truth(**{**vars(truth), "step": 0.0})
    log_time = 5 + (slope + own) * log_lr + values(flat, generator)
    return frame.assign(layer=LAYER, steps=np.exp(log_time), rate=np.exp(-log_time))


def relaxing(
    intrinsic_lr: float,
    start_ratio: float,
    fluctuation: float,
    steps: npt.NDArray[np.int64],
    generator: np.random.Generator,
) -> Floats:
    """A value that relaxes to 1 with rate 4 lambda_e, fluctuating with that correlation time about its mean."""
    rate = 4 * intrinsic_lr
    path = np.empty(len(steps))
    state = fluctuation * generator.normal()
    for place, gap in enumerate(np.diff(steps, prepend=steps[0])):
        kept = np.exp(-rate * gap)
        state = kept * state + fluctuation * np.sqrt(1 - kept**2) * generator.normal()
        path[place] = state
    return 1 + (start_ratio - 1) * np.exp(-rate * (steps - steps[0])) + path


def labels(
    runs: int, inputs: int, generator: np.random.Generator, shift: float = 0.0, start: Floats | None = None
) -> npt.NDArray[np.int64]:
    """Predicted classes of runs: each input is near a border between two of ten classes, each run leans its own way.

    Args:
        runs: how many.
        inputs: evaluation inputs; where they lie is the same in every call.
        generator: of the runs.
        shift: of all inputs towards their second class.
        start: [runs] leanings of the runs; drawn where not given.

    Returns:
        [runs, inputs].
    """
    fixed = np.random.default_rng(7)
    first, border = fixed.integers(10, size=inputs), fixed.normal(size=inputs)
    lean = generator.normal(size=runs) if start is None else start
    second = border + shift + 0.5 * lean[:, None] + 0.7 * generator.normal(size=(runs, inputs)) > 0
    found: npt.NDArray[np.int64] = (first + second) % 10
    return found


def drops(
    seeds: int, generator: np.random.Generator, factor: float = 0.1, spread: float = 0.02, **off: float
) -> pd.DataFrame:
    """Runs of both arms of a drop, one layer, seeds crossed; E[G] doubles on the way.

    Args:
        seeds: in each arm.
        generator: of the noise.
        factor: of the drop.
        spread: relative spread of every measurement.
        off: log factors by which `after` (effective LR just after), `angle`, `end` (effective LR) or `loss` (of the
            learning-rate arm) miss what theory demands.

    Returns:
        The frame of `drop_test`.
    """
    frames = []
    common = generator.normal(size=seeds) * spread
    for arm in ("lr", "weight_decay"):
        noise = {name: np.exp(generator.normal(size=seeds) * spread) for name in ("after", "angle", "end", "loss")}
        missed = {name: np.exp(off.get(name, 0.0)) for name in noise}
        before, angle = 0.02 * np.exp(generator.normal(size=seeds) * 0.1), np.full(seeds, 0.09)
        frames.append(
            pd.DataFrame(
                {
                    "arm": arm,
                    "factor": factor,
                    "seed": np.arange(seeds),
                    "loss_end": 0.2 * np.exp(common) * noise["loss"] * (missed["loss"] if arm == "lr" else 1.0),
                    f"elr_before:{LAYER}": before,
                    f"elr_last:{LAYER}": before,
                    f"elr_after:{LAYER}": before * (factor if arm == "lr" else 1.0) * noise["after"] * missed["after"],
                    f"elr_end:{LAYER}": before * np.sqrt(factor / 2) * noise["end"] * missed["end"],
                    f"angle_before:{LAYER}": angle,
                    f"angle_end:{LAYER}": angle * np.sqrt(factor) * noise["angle"] * missed["angle"],
                    f"noise_before:{LAYER}": 1.5,
                    f"noise_end:{LAYER}": 3.0,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
