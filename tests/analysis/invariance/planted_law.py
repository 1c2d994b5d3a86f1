"""Results folders of invariance studies with a known truth: norms follow SGD's identity, losses a stated law."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

EVERY = 10
"""Steps between two rows of norms; losses are reported as often."""
NOISE = {"0.weight": 1.0, "3.weight": 0.5}
"""E[G] of each layer."""
START = 0.3
"""Squared norm of each layer's first weights."""
INPUTS = 40
MEASURED = {"measure": {"norm_statistics": "training_set"}}

TINY = {
    "task": "digits",
    "task_args": {"train_size": 64, "test_size": 64, "label_noise": 0.0},
    "model": "mlp_norm",
    "model_args": {
        "width": 4,
        "depth": 2,
        "norm": "batch",
        "trains": "hidden",
        "head_norm": 3.0,
        "norm_eps": 1e-8,
        "head_seed": 0,
    },
    "batch_size": 16,
}


def recipe(*, model: Mapping[str, object] | None = None, **changes: object) -> dict[str, object]:
    """The tiny network of these tests, changed."""
    return {**TINY, **changes, "model_args": {**TINY["model_args"], **(model or {})}}


def phase(steps: int, product: float, ratio: float, **more: object) -> dict[str, object]:
    """One phase at lr = sqrt(product ratio), weight decay = sqrt(product / ratio)."""
    return {
        "name": "train",
        "steps": steps,
        "lr": float(np.sqrt(product * ratio)),
        "weight_decay": float(np.sqrt(product / ratio)),
        **more,
    }


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One schedule, trained with every seed.

    With `trunk` it continues that schedule's rows after `branch` steps. Norms are traced at every so many steps, and,
    with `first_rows`, at the first step of each phase.
    """

    key: str
    phases: Sequence[Mapping[str, object]]
    variant: str = "main"
    recipe_id: str = "norm"
    momentum: float = 0.0
    status: str = "completed"
    trunk: str | None = None
    branch: int = 0
    every: int = EVERY
    first_rows: bool = True


@dataclass(frozen=True, kw_only=True)
class Law:
    """What the loss depends on: exp(0.5 log product + `by_ratio` log10 ratio + seeds' noise)."""

    by_ratio: float = 0.0
    spread: float = 0.01
    level: float = 3.0


@dataclass(frozen=True, kw_only=True)
class Folder:
    """What the folder's sweep is."""

    schedules: Sequence[Planted]
    seeds: int = 6
    laws: Mapping[str, Law] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"norm": recipe()})
    invariant: Mapping[str, bool] = field(default_factory=dict)
    labels: Sequence[int] = ()
    trace: bool = True
    epochs: bool = True
    sweep: Mapping[str, object] = field(default_factory=dict)
    analysis: Mapping[str, object] = field(default_factory=dict)
    members: Mapping[str, object] = field(default_factory=dict)


def grid(
    levels: Sequence[float] = (0.01, 0.02, 0.04),
    ratios: Sequence[float] = (1.0, 10.0, 100.0),
    *,
    kick: float | None = None,
    **more: object,
) -> list[Planted]:
    """Constant runs of 8 / (smallest product) steps; with a kick, branches of 200 steps, traced as often."""
    steps = round(8 / min(levels))
    steps += -steps % EVERY
    variant = str(more.get("variant", "main"))
    found = []
    for level in levels:
        for ratio in ratios:
            key, trunk = f"{variant}-{level:g}-{ratio:g}", phase(steps, level, ratio)
            found.append(Planted(key=key, phases=[trunk], **more))
            if kick:
                kicked = {**trunk, "steps": 200, "kick": kick}
                found.append(Planted(key=f"{key}-kicked", phases=[trunk, kicked], trunk=key, branch=steps, **more))
    return found


def drops(
    *, level: float = 0.008, ratio: float = 1.0, before: int = 500, after: int = 2200, **more: object
) -> list[Planted]:
    """A tenth of the learning rate in one schedule, of the weight decay in the other."""
    first = phase(before, level, ratio)
    lr = {**first, "steps": after, "lr": float(first["lr"]) / 10}
    weight_decay = {**first, "steps": after, "weight_decay": float(first["weight_decay"]) / 10}
    return [
        Planted(key=f"lr-{level:g}-{ratio:g}-{before}", phases=[first, lr], **more),
        Planted(key=f"wd-{level:g}-{ratio:g}-{before}", phases=[first, weight_decay], **more),
    ]


def control(levels: Sequence[float] = (0.01, 0.02, 0.04), ratios: Sequence[float] = (1.0, 10.0, 100.0)) -> Folder:
    """The grid with and without normalisation; the law's loss depends on the ratio only without."""
    return Folder(
        schedules=[*grid(levels, ratios, kick=1.3), *grid(levels, ratios, variant="no-norm", recipe_id="plain")],
        laws={"plain": Law(by_ratio=0.5)},
        recipes={"norm": recipe(), "plain": recipe(model={"norm": "none"})},
        invariant={"plain": False},
        sweep={"headline": {"variant": "main"}, "variants": {"main": MEASURED, "no-norm": MEASURED}},
        analysis={"control": {"variant": "no-norm"}},
    )


def plant(directory: Path, folder: Folder, *, random_seed: int = 0) -> Path:
    """Write the folder."""
    rng = np.random.default_rng(random_seed)
    members, epochs, probes = [], [], []
    for seed in range(folder.seeds):
        own = rng.normal()
        for each in folder.schedules:
            member = _member(each, seed) | folder.members
            members.append(member)
            at = np.arange(EVERY, int(member["steps"]) + 1, EVERY)
            at = at[at > each.branch]
            law = folder.laws.get(each.recipe_id, Law())
            if folder.epochs:
                loss = law.level * np.array([_loss(each, law, step) for step in at])
                loss *= np.exp(law.spread * (own + rng.normal() / 2 + rng.normal(size=len(at)) / 4))
                common = {"member_id": member["member_id"], "attempt": 1, "step": at, "lr": each.phases[-1]["lr"]}
                error = 0.1 + loss / 50
                epochs.append({**common, "train_loss": loss, "train_error": error, "test_error": error})
            if folder.trace:
                invariant = folder.invariant.get(each.recipe_id, True)
                probes += list(_trace(each, str(member["member_id"]), rng, invariant=invariant))
            probes += [_labels(each, str(member["member_id"]), step, rng) for step in folder.labels if step in at]
    _write(directory, folder, pd.DataFrame(members), epochs, probes)
    return directory


def course(phases: Sequence[Mapping[str, object]], noise: float) -> dict[str, np.ndarray]:
    """What each step has: squared norm after it, and effective learning rate and angle of it."""
    return _course(
        tuple((int(p["steps"]), float(p["lr"]), float(p["weight_decay"]), float(p.get("kick", 1.0))) for p in phases),
        noise,
    )


@lru_cache
def _course(phases: tuple[tuple[int, float, float, float], ...], noise: float) -> dict[str, np.ndarray]:
    norms, rates, angles, n = [], [], [], START
    for steps, lr, weight_decay, kick in phases:
        n *= kick**2
        for _ in range(steps):
            rates.append(lr / n)
            angles.append(np.arctan(lr / n * np.sqrt(noise) / (1 - lr * weight_decay)))  # steps are orthogonal
            n = (1 - lr * weight_decay) ** 2 * n + lr**2 * noise / n
            norms.append(n)
    return {"norm_sq": np.array(norms), "effective_lr": np.array(rates), "angle": np.array(angles)}


def _member(each: Planted, seed: int) -> dict[str, object]:
    last = each.phases[-1]
    return {
        "member_id": f"{each.key}-{seed}",
        "parent_id": None if each.trunk is None else f"{each.trunk}-{seed}",
        "branch_step": each.branch,
        "recipe_id": each.recipe_id,
        "task": "digits",
        "model": "mlp_norm",
        "data_seed": 0,
        "seed": seed,
        "momentum": each.momentum,
        "variant": each.variant,
        "phase": str(last["name"]),
        "steps": sum(int(part["steps"]) for part in each.phases),
        "lr": last["lr"],
        "weight_decay": last["weight_decay"],
        "phases": json.dumps(list(each.phases)),
        "attempt": 1,
        "status": each.status,
        "status_reason": "",
    }


def _loss(each: Planted, law: Law, step: int) -> float:
    """The law's loss at the rates of the interval that ends at a step; at equilibrium at once."""
    done = 0
    for part in each.phases:
        done += int(part["steps"])
        if step <= done:
            break
    product = float(part["lr"]) * max(float(part["weight_decay"]), 1e-12)
    return float(np.sqrt(product) * 10 ** (law.by_ratio * np.log10(float(part["lr"]) ** 2 / product)))


def _trace(each: Planted, member_id: str, rng: np.random.Generator, *, invariant: bool) -> Iterator[dict[str, object]]:
    """Rows of each layer and of the whole set at multiples of `every` and at the first step of each phase.

    `effective_lr` and `angle` are means over the interval that ends there.
    """
    ends = np.cumsum([int(part["steps"]) for part in each.phases])
    first = [int(end) + 1 for end in (0, *ends[:-1])] if each.first_rows else []
    every = each.every
    whole = np.array(sorted({*first, *range(every, int(ends[-1]) + 1, every), int(ends[-1])}))
    lengths = np.diff(whole, prepend=0)
    kept = whole > each.branch
    at, n = whole[kept], lengths[kept]
    for group in (*NOISE, "scale_invariant" if invariant else "trained"):
        noise = NOISE.get(group, 0.75)
        for key, values in course(each.phases, noise).items():
            starts = whole - lengths
            if key == "norm_sq":
                means = values[whole - 1]
            elif key == "angle":
                means = np.sqrt(np.add.reduceat(values**2, starts) / lengths)
            else:
                means = np.add.reduceat(values, starts) / lengths
            own = means[kept] * np.exp(0.002 * rng.normal() + 0.01 * rng.normal(size=len(at)))
            yield _probe(member_id, at, "trace", "train", group, key, own, n)
        yield _probe(member_id, at, "trace", "train", group, "unit_grad_norm_sq", noise, n)


def _labels(each: Planted, member_id: str, step: int, rng: np.random.Generator) -> dict[str, object]:
    """Two classes whose odds on each input depend on the product alone."""
    product = float(each.phases[-1]["lr"]) * float(each.phases[-1]["weight_decay"])
    chance = 0.5 + 0.4 * np.cos(np.arange(INPUTS) + 60 * product)
    classes = (rng.random(INPUTS) < chance).astype(float)
    return _probe(member_id, step, "label", "test", "end", [str(i) for i in range(INPUTS)], classes)


def _probe(member_id, step, probe, split, group, key, value, n=1) -> dict[str, object]:
    columns = {"member_id": member_id, "attempt": 1, "step": step, "probe": probe, "split": split, "group": group}
    return {**columns, "key": key, "value": value, "n": n}


def _frame(pieces: list[dict[str, object]]) -> pd.DataFrame:
    """Columns joined, what is one for a whole piece repeated."""
    sizes = [max(np.size(value) for value in piece.values()) for piece in pieces]
    return pd.DataFrame(
        {
            name: np.concatenate(
                [np.broadcast_to(np.asarray(p[name]), size) for p, size in zip(pieces, sizes, strict=True)]
            )
            for name in pieces[0]
        }
    )


def _write(
    directory: Path,
    folder: Folder,
    members: pd.DataFrame,
    epochs: list[dict[str, object]],
    probes: list[dict[str, object]],
) -> None:
    for name, frames in (("epochs", epochs), ("probes", probes)):
        (directory / name).mkdir(parents=True, exist_ok=True)
        if frames:
            frame = _frame(frames).sample(frac=1, random_state=1)
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), directory / name / "pack0-00000.parquet")
    pq.write_table(pa.Table.from_pandas(members, preserve_index=False), directory / "members.parquet")
    sweep = {
        "name": "planted-law",
        "question": "Does only the product act?",
        "phases": [{"name": "train"}],
        "axes": {"intrinsic_lr": {"values": [0.02]}, "ratio": {"values": [1.0]}, "seed": {"range": folder.seeds}},
        **MEASURED,
        **folder.sweep,
        "analysis": {"kind": "invariance", **folder.analysis},
    }
    manifest = {"schema_version": 1, "sweep": sweep, "recipes": dict(folder.recipes)}
    (directory / "manifest.json").write_text(json.dumps(manifest))


def changed(folder: Folder, **changes: object) -> Folder:
    """The folder with some of it replaced."""
    return replace(folder, **changes)
