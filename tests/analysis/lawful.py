"""Runs of made-up networks that obey the law of the product exactly, or ignore it, with known noise between seeds."""

import numpy as np
import pandas as pd

PRODUCTS = (1e-3, 2e-3, 4e-3, 8e-3)
RATIOS = (1.0, 10.0, 100.0)
LAYERS = ("layers.0.weight", "layers.3.weight")


def lawful_runs(*, seeds: int = 10, spread: float = 0.02, follows: str = "intrinsic_lr", seed: int = 0) -> pd.DataFrame:
    """Runs whose loss is 0.2 (x / x_0)^0.5 in the column named `follows`; norms, angles and E[G] obey the formulas.

    E[G] is 3 in the first layer and 5 in the second, so that norm_sq = sqrt(ratio E[G] / 2).
    """
    rng = np.random.default_rng(seed)
    product, ratio, run = (x.ravel() for x in np.meshgrid(PRODUCTS, RATIOS, np.arange(seeds), indexing="ij"))
    runs = pd.DataFrame({"intrinsic_lr": product, "ratio": ratio, "seed": run.astype(int)})
    runs["lr"], runs["weight_decay"] = np.sqrt(product * ratio), np.sqrt(product / ratio)
    base = {"intrinsic_lr": PRODUCTS[0], "weight_decay": np.sqrt(PRODUCTS[0] / RATIOS[-1])}[follows]
    runs["loss"] = 0.2 * np.sqrt(runs[follows] / base) * np.exp(spread * rng.normal(size=len(runs)))
    for layer, noise in zip(LAYERS, (3.0, 5.0), strict=True):
        runs[f"noise:{layer}"] = noise
        runs[f"angle:{layer}"] = np.sqrt(2 * product) * np.exp(spread / 2 * rng.normal(size=len(runs)))
        runs[f"norm_sq:{layer}"] = np.sqrt(ratio * noise / 2) * np.exp(spread * rng.normal(size=len(runs)))
    return runs


def lawful_times(*, seeds: int = 10, spread: float = 0.1, kick: float = 1.3, seed: int = 0) -> pd.DataFrame:
    """Times to equilibrium after a kick: the theory's, ln((kick^4 - 1) / 0.1) / (4 product), with log-normal noise."""
    rng = np.random.default_rng(seed)
    runs = lawful_runs(seeds=seeds)[["intrinsic_lr", "ratio", "seed"]]
    times = pd.concat([runs.assign(layer=layer, kick=kick) for layer in LAYERS], ignore_index=True)
    theory = np.log((kick**4 - 1) / 0.1) / (4 * times["intrinsic_lr"])
    steps = theory * np.exp(spread * rng.normal(size=len(times)))
    return times.assign(steps=steps, rate=4 * times["intrinsic_lr"])


def made_up_pairs(*, equal: int = 3, unequal: int = 3, seed: int = 0) -> list[dict[str, object]]:
    """Pairs as the test of functions reports them: far apart early; later only those of unequal product."""
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(equal + unequal):
        alike = number < equal
        for step in (150, 500, 1000, 2000, 4500):
            apart = 0.12 * np.exp(-step / 300) + (0 if alike else 0.028)
            null = 0.066 + 0.02 * np.exp(-step / 300)
            pairs.append(
                {
                    "schedules": [f"LR 0.2, WD 0.02 ({number})", f"LR 0.632, WD 0.00632, weights x 3 ({number})"],
                    "equal": alike,
                    "step": step,
                    "distance": null + apart + 0.001 * rng.normal(),
                    "null_mean": null,
                    "null_high": null + 0.006,
                    "p": 0.001 if apart > 0.006 else float(rng.uniform(0.1, 0.9)),
                }
            )
    return pairs
