"""Results folders whose decays have a known truth: norms follow SGD's discrete identity, errors a stated course."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EVERY = 20
"""Steps between two reports."""


def phase(steps: int, lr: float, weight_decay: float = 0.01, **more: object) -> dict[str, object]:
    return {"name": "train", "steps": steps, "lr": lr, "weight_decay": weight_decay, **more}


def drop(
    at: int, total: int, lr: float = 0.4, weight_decay: float = 0.02, *, f: float = 1.0, g: float = 1.0
) -> list[dict[str, object]]:
    """One decay: the learning rate times f, the weight decay times g."""
    return [phase(at, lr, weight_decay), phase(total - at, lr * f, weight_decay * g)]


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One schedule, trained with every seed.

    `error`: the watched error by steps since the last decay (negative before it); `final`: the mean final error;
    `noise`: E[G] of each phase; `trunk`: key of the schedule whose rows it continues, from `branch` on.
    """

    key: str
    phases: Sequence[Mapping[str, object]]
    final: float = 0.1
    error: Callable[[np.ndarray], np.ndarray] = lambda since: np.full(len(since), 0.1)
    noise: Sequence[float] = ()
    trunk: str | None = None
    branch: int = 0
    columns: Mapping[str, object] = field(default_factory=dict)
    status: str = "completed"
    only_seeds: Sequence[int] | None = None


def plant(
    directory: Path,
    schedules: Sequence[Planted],
    *,
    seeds: int = 6,
    row_noise: float = 0.0,
    seed_spread: float = 0.0,
    final_noise: float = 0.0,
    trace: bool = True,
    momentum: float = 0.0,
    valid: bool = False,
    analysis: Mapping[str, object] | None = None,
    random_seed: int = 0,
) -> Path:
    rng = np.random.default_rng(random_seed)
    members, epochs, probes = [], [], []
    for seed in range(seeds):
        offset = seed_spread * rng.normal()
        for each in schedules:
            if each.only_seeds is not None and seed not in each.only_seeds:
                continue
            member_id, steps = f"{each.key}-{seed}", sum(int(part["steps"]) for part in each.phases)
            parent = None if each.trunk is None else f"{each.trunk}-{seed}"
            members.append(
                {
                    "member_id": member_id,
                    "parent_id": parent,
                    "branch_step": each.branch,
                    "task": "digits",
                    "model": "mlp",
                    "data_seed": 0,
                    "seed": seed,
                    "momentum": momentum,
                    "phase": "train",
                    "steps": steps,
                    "lr": each.phases[-1]["lr"],
                    "phases": json.dumps(list(each.phases)),
                    "attempt": 1,
                    "status": each.status,
                    **each.columns,
                }
            )
            at = np.arange(EVERY, steps + 1, EVERY)
            at = at[at > each.branch]
            common = {"member_id": member_id, "attempt": 1, "step": at}
            since = at - sum(int(part["steps"]) for part in each.phases[:-1])
            error = each.error(since) + offset + row_noise * rng.normal(size=len(at))
            epochs.append(pd.DataFrame({**common, "train_loss": 3 * error, "train_error": error, "test_error": error}))
            final = each.final + offset + final_noise * rng.normal()
            splits = {"test": final, **({"valid": final + final_noise * rng.normal()} if valid else {})}
            for split, value in splits.items():
                probes.append(_probe(member_id, steps, "final", split, "end", "error", value, 2000))
            if trace:
                probes += _traces(each, member_id, momentum, rng, at)
    _write(directory, pd.DataFrame(members), pd.concat(epochs), pd.concat(probes), dict(analysis or {}))
    return directory


def _traces(
    each: Planted, member_id: str, momentum: float, rng: np.random.Generator, at: np.ndarray
) -> list[pd.DataFrame]:
    """Squared norms by n' = (1 - lr wd)^2 n + lr^2 G / n, exact for SGD on scale-invariant weights."""
    frames = []
    for group, start in (("scale_invariant", 3.0), ("layer1", 1.0)):
        key = tuple((int(p["steps"]), p["lr"], p["weight_decay"], p.get("kick", 1.0)) for p in each.phases)
        for name, values in _course(key, each.noise or (1.0,) * len(key), momentum, start).items():
            own = values[-len(at) :] * np.exp(0.003 * rng.normal(size=len(at)))
            frames.append(_probe(member_id, at, "trace", "train", group, name, own, EVERY))
    return frames


@lru_cache
def _course(phases: tuple, noises: tuple, momentum: float, n: float) -> dict[str, np.ndarray]:
    rate, angle, noise = [], [], []
    for (steps, phase_lr, wd, kick), g in zip(phases, noises, strict=True):
        lr = phase_lr / (1 - momentum)
        n *= kick**2
        for _ in range(steps):
            rate.append(phase_lr / n)
            angle.append(lr / n * np.sqrt(g))
            noise.append(g)
            n = (1 - lr * wd) ** 2 * n + lr**2 * g / n
    return {
        "effective_lr": np.array(rate).reshape(-1, EVERY).mean(axis=1),
        "angle": np.sqrt((np.array(angle) ** 2).reshape(-1, EVERY).mean(axis=1)),
        "unit_grad_norm_sq": np.array(noise).reshape(-1, EVERY).mean(axis=1),
    }


def _probe(member_id, step, probe, split, group, key, value, n) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "member_id": member_id,
            "attempt": 1,
            "step": np.atleast_1d(step),
            "probe": probe,
            "split": split,
            "group": group,
            "key": key,
            "value": np.atleast_1d(value),
            "n": n,
        }
    )


def _write(
    directory: Path, members: pd.DataFrame, epochs: pd.DataFrame, probes: pd.DataFrame, analysis: dict[str, object]
) -> None:
    for name, frame in (("epochs", epochs), ("probes", probes)):
        (directory / name).mkdir(parents=True, exist_ok=True)
        frame = frame.sample(frac=1, random_state=1)
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), directory / name / "pack0-00000.parquet")
    pq.write_table(pa.Table.from_pandas(members, preserve_index=False), directory / "members.parquet")
    sweep = {
        "name": "planted-decays",
        "question": "When should the learning rate fall?",
        "phases": [{"name": "train"}],
        "axes": {"seed": {"range": int(members["seed"].nunique())}},
        "analysis": {"kind": "decay", "margin": 0.01, "confidence": 0.95, **analysis},
    }
    (directory / "manifest.json").write_text(json.dumps({"schema_version": 1, "sweep": sweep}))
