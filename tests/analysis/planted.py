"""Results folders with a known truth, in the contract's format, written without the project's own writers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DIGITS_LRS = (1e-4, 3.2e-4, 1e-3, 2e-3, 2.8e-3, 4e-3, 5.6e-3, 8e-3, 1.1e-2, 1.6e-2, 2.2e-2, 3.2e-2)
TICK_LRS = (1e-4, 1e-3, 3.2e-3, 5.6e-3, 7.5e-3, 8.7e-3, 1e-2, 1.15e-2, 1.33e-2, 1.8e-2, 3.2e-2, 5.6e-2)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One arm's truth: accuracies by quality and learning rate, thresholds, how seeds differ."""

    accuracy: Mapping[str, Sequence[float]]
    converges_below: float
    diverges_above: float = np.inf
    threshold_spread: float = 0.0
    seed_spread: float = 0.01
    noise: float = 0.005
    locked: Sequence[float] = ()
    if_locked: float = 0.81
    if_free: float = 0.72


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the folder's sweep is."""

    name: str = "planted"
    lrs: Sequence[float]
    units: Sequence[tuple[int, int]]
    arms: Sequence[tuple[Mapping[str, float], Truth]]
    task: str = "digits"
    finetunes: Sequence[tuple[str, float]] = (("finetune@1e-4", 1e-4),)
    windows: Sequence[int] = (20,)
    steps: int = 20000
    finetune_steps: int = 8000
    report_every: int = 1000
    features: int = 0
    headline: Mapping[str, float] = field(default_factory=dict)
    analysis: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0


def plant(directory: Path, plan: Plan, *, parts: int = 3) -> Path:
    """Write the folder."""
    rng = np.random.default_rng(plan.seed)
    made = [_arm(plan, axes, truth, rng) for axes, truth in plan.arms]
    members, epochs, probes = (pd.concat([each[i] for each in made], ignore_index=True) for i in range(3))
    for folder in ("epochs", "probes"):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(members, preserve_index=False), directory / "members.parquet")
    for name, frame in (("epochs", epochs), ("probes", probes)):
        for part, rows in enumerate(np.array_split(rng.permutation(len(frame)), parts)):
            table = pa.Table.from_pandas(frame.iloc[rows], preserve_index=False)
            if name == "probes":
                place = table.schema.get_field_index("other_member_id")
                table = table.set_column(place, "other_member_id", pa.nulls(len(table), pa.string()))
            pq.write_table(table, directory / name / f"pack{part}-00000.parquet")
    arm_axes = {
        name: {"values": sorted({axes[name] for axes, _ in plan.arms})} for axes, _ in plan.arms for name in axes
    }
    manifest = {
        "schema_version": 1,
        "sweep": {
            "name": plan.name,
            "question": "Which initial learning rate leads to the best solution?",
            "source": "planted",
            "phases": _phases(plan),
            "axes": {"pretrain_lr": {"values": list(plan.lrs)}, **arm_axes, "seed": {"range": len(plan.units)}},
            "headline": dict(plan.headline),
            "analysis": {"kind": "band", "metric": "swa", "margin": 0.01, "confidence": 0.95, "converged_loss": 0.01}
            | dict(plan.analysis),
        },
        "versions": {"python": "3.11", "torch": "2.15"},
        "device": {"cpu": "planted"},
        "git_commit": "0" * 40,
        "command_line": ["lratlas", "run", plan.name],
        "created": "2026-11-23T20:00:00",
        "members": len(members),
        "member_steps": int((members["steps"] - members["branch_step"]).sum()),
        "executor": "stacked",
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def _phases(plan: Plan) -> list[dict[str, object]]:
    swa = {"every": 50, "windows": list(plan.windows)} if plan.windows else None
    first = {"name": "pretrain", "steps": plan.steps, "swa": swa}
    return [first, {"name": "finetune", "steps": plan.finetune_steps}] if plan.finetunes else [first]


def _arm(plan: Plan, axes: Mapping[str, float], truth: Truth, rng: np.random.Generator) -> list[pd.DataFrame]:
    shape = (len(plan.units), len(plan.lrs))
    lrs = np.asarray(plan.lrs)
    draws = {draw: rng.normal() for draw, _ in plan.units}
    shared = np.array([0.7 * draws[draw] + 0.7 * rng.normal() for draw, _ in plan.units]) * truth.seed_spread
    edges = truth.converges_below * np.exp(truth.threshold_spread * rng.normal(size=shape[0]))
    converged = lrs < edges[:, None]
    diverged = np.broadcast_to(lrs > truth.diverges_above, shape)
    locked = rng.random(shape) < np.asarray(truth.locked) if len(truth.locked) else np.zeros(shape, dtype=bool)
    classes = 2 if plan.task == "tick_features" else 10
    unit, place = (index.ravel() for index in np.indices(shape))
    tag = "".join(f"{value:g}" for value in axes.values())
    base = pd.DataFrame(
        {
            "member_id": [f"{plan.name}-{tag}-{u}-{p}" for u, p in zip(unit, place, strict=True)],
            "parent_id": None,
            "branch_step": 0,
            "task": plan.task,
            "data_seed": [plan.units[u][0] for u in unit],
            "seed": [plan.units[u][1] for u in unit],
            "phase": "pretrain",
            "steps": plan.steps,
            "lr": lrs[place],
            "pretrain_lr": lrs[place],
            "pretrain_steps": plan.steps,
            "finetune_lr": np.nan,
            "attempt": 1,
            "status": "completed",
            "status_reason": "",
            **axes,
        }
    )
    members, errors = [base], {"final": base["member_id"].to_numpy()}
    for label, lr in plan.finetunes:
        ids = base["member_id"] + f"-{lr:g}"
        tuned = base.assign(
            member_id=ids,
            parent_id=base["member_id"],
            branch_step=plan.steps,
            phase="finetune",
            lr=lr,
            finetune_lr=lr,
            steps=plan.steps + plan.finetune_steps,
        )
        members.append(tuned)
        errors[label] = ids.to_numpy()
    probes = []
    for name, accuracy in truth.accuracy.items():
        mean = np.asarray(accuracy)[place]
        if len(truth.locked) and name != "final":
            mean = np.where(locked.ravel(), truth.if_locked, truth.if_free)
        value = np.clip(mean + shared[unit] + truth.noise * rng.normal(size=len(place)), 0, 1)
        swa = name.startswith("swa@")
        ids = errors["final" if swa else name]
        common = {
            "member_id": ids,
            "attempt": 1,
            "step": plan.steps,
            "group": name if swa else "end",
            "other_member_id": None,
        }
        probes.append(
            pd.DataFrame({**common, "probe": "final", "split": "test", "key": "error", "value": 1 - value, "n": 2000})
        )
        if plan.features:
            best = np.where(locked.ravel() & (name != "final"), 0.78, 0.56)
            for feature in range(plan.features):
                hit = (unit * 7 + place) % plan.features == feature
                chance = 0.5 + 0.02 * rng.random(len(place))
                values = np.where(hit, best, chance)
                probes.append(
                    pd.DataFrame(
                        {
                            **common,
                            "probe": "feature_accuracy",
                            "split": "probe",
                            "key": f"feature_{feature:02d}",
                            "value": values,
                            "n": 1000,
                        }
                    )
                )
    steps = np.arange(plan.report_every, plan.steps + 1, plan.report_every)
    level = np.where(converged, 1e-4, np.where(diverged, 4.0, 0.3 + 8 * lrs)).ravel()
    decay = np.exp(-4 * steps / plan.steps)
    loss = (
        level[:, None] * np.exp(0.1 * rng.normal(size=(len(level), len(steps))))
        + decay * np.where(converged.ravel(), 0.4, 0.1)[:, None]
    )
    loss[:, -1] = level * np.exp(0.1 * rng.normal(size=len(level)))
    final = np.asarray(truth.accuracy["final"])[place] + shared[unit]
    error = np.where(diverged.ravel(), 1 - 1 / classes, 1 - final)
    train_error = np.where(diverged.ravel(), 1 - 1 / classes, np.where(converged.ravel(), 0.0, 0.6 * (1 - final)))
    epochs = pd.DataFrame(
        {
            "member_id": np.repeat(base["member_id"].to_numpy(), len(steps)),
            "attempt": 1,
            "epoch": np.tile(steps // 32, len(level)),
            "step": np.tile(steps, len(level)),
            "lr": np.repeat(base["lr"].to_numpy(), len(steps)),
            "train_loss": loss.ravel(),
            "train_error": np.repeat(train_error, len(steps)),
            "test_error": np.repeat(error, len(steps)) + 0.004 * rng.normal(size=len(level) * len(steps)),
        }
    )
    return [pd.concat(members, ignore_index=True), epochs, pd.concat(probes, ignore_index=True)]


def digits_like(directory: Path, *, seeds: int = 8, seed: int = 0) -> Path:
    """Shaped like the study on digits: a large gain with label noise, none without."""
    before = (79.6, 80, 80.4, 80.3, 80.2, 78.5, 80.3, 78.9, 75.8, 63.3, 51.8, 24.9)
    swa = (79.7, 80, 80.4, 80.3, 80.2, 87.1, 89.9, 91.3, 90.9, 85.4, 65.7, 29.5)
    low = (79.7, 80, 80.4, 80.3, 80.2, 82.6, 81.9, 82.5, 82.4, 82.7, 81.9, 47.0)
    high = (80.1, 80.1, 80.1, 80.1, 80.1, 80.3, 79.4, 78.7, 78.0, 79.2, 78.0, 56.8)
    noisy = {"final": before, "swa@20": swa, "finetune@1e-4": low, "finetune@2e-3": high}
    clean = {
        "final": (94.1, 94.4, 94.7, 94.6, 94.6, 94.4, 94.5, 94.3, 85.2, 59.2, 46.5, 18.5),
        "swa@20": (94.1, 94.4, 94.7, 94.6, 94.6, 94.4, 94.5, 94.3, 93.2, 81.0, 54.7, 22.6),
        "finetune@1e-4": (94.1, 94.4, 94.7, 94.6, 94.6, 94.4, 94.5, 94.3, 94.1, 93.3, 92.4, 44.6),
        "finetune@2e-3": (94.1, 94.4, 94.7, 94.6, 94.6, 94.4, 94.5, 94.3, 94.1, 93.3, 92.4, 44.6),
    }
    arms = [
        ({"label_noise": 0.0}, Truth(accuracy=_fractions(clean), converges_below=9.4e-3, threshold_spread=0.05)),
        ({"label_noise": 0.2}, Truth(accuracy=_fractions(noisy), converges_below=3.3e-3, seed_spread=0.02, noise=0.01)),
    ]
    plan = Plan(
        name="band-digits",
        lrs=DIGITS_LRS,
        units=[(seed, seed) for seed in range(seeds)],
        arms=arms,
        finetunes=(("finetune@1e-4", 1e-4), ("finetune@2e-3", 2e-3)),
        headline={"label_noise": 0.2},
        seed=seed,
    )
    return plant(directory, plan)


def tick_like(
    directory: Path, *, draws: int = 12, repeats: int = 2, lrs: Sequence[float] = TICK_LRS, **changes: object
) -> Path:
    """Shaped like the synthetic study: outcomes inside the band are bimodal."""
    x = np.asarray(lrs)
    locked = np.where((x > 6.5e-3) & (x < 1.5e-2), 0.6, 0.0)
    flat = np.interp(np.log(x), np.log([1e-4, 5e-3, 3.2e-2, 5.6e-2]), [0.708, 0.76, 0.70, 0.70])
    before = np.interp(np.log(x), np.log([1e-4, 5e-3, 1e-2, 3.2e-2, 5.6e-2]), [0.708, 0.76, 0.69, 0.54, 0.5])
    tuned = (("finetune@3.2e-5", 3.2e-5), ("finetune@7.5e-3", 7.5e-3))
    truth = Truth(
        accuracy={
            "final": before,
            "swa@5": flat,
            "swa@20": flat,
            **{label: flat for label, _ in changes.get("finetunes", tuned)},
        },
        converges_below=8.1e-3,
        threshold_spread=0.08,
        diverges_above=4.2e-2,
        locked=locked,
    )
    plan = {
        "name": "band-tick",
        "lrs": lrs,
        "units": [(draw, seed) for draw in range(draws) for seed in range(repeats)],
        "arms": [({}, truth)],
        "task": "tick_features",
        "finetunes": tuned,
        "windows": (5, 20),
        "steps": 40000,
        "finetune_steps": 20000,
        "report_every": 2000,
        "features": 16,
        "analysis": {"metric": "finetune@3.2e-5"},
    }
    return plant(directory, Plan(**(plan | changes)))


def _fractions(percent: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [value / 100 for value in values] for name, values in percent.items()}
