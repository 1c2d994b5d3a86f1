"""What would break the law, or hide that it holds: looked for in the network, the recipe and the data.

Each was seen to matter (protocols after Li, Lyu & Arora, NeurIPS 2020): trained parameters outside the symmetry under
the same learning rate and weight decay, the eps of norm layers, momentum, short runs, unequal starts, stale norm
statistics, no gradient noise, another optimiser.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.invariance.courses import Network
from analysis.invariance.runs import Runs
from analysis.laws import equilibrium_steps, function_steps
from trainables.spec import Recipe, SpecError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Confounder", "Symmetry", "confounders_of", "recipe_of", "symmetry_of"]

_NO_NOISE = 1e-2
"""Mean batch loss below which the gradients' noise is too small to hold an equilibrium."""
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Confounder:
    """Something that stands between the data and the law.

    Attributes:
        name: short.
        found: what was seen, one sentence.
        remedy: what to do.
    """

    name: str
    found: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """As `answer.json` holds it."""
        return {"name": self.name, "found": self.found, "remedy": self.remedy}


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """Which parameters of a network the law is about.

    Attributes:
        invariant: names of the scale-invariant parameters.
        outside: trained parameters that are not, and follow the swept learning rate or weight decay.
        running_statistics: whether norm layers keep running statistics.
    """

    invariant: tuple[str, ...]
    outside: tuple[str, ...]
    running_statistics: bool


def recipe_of(network: Network) -> Recipe | None:
    """A network's recipe, from the manifest.

    Args:
        network: one of a study's.

    Returns:
        None where the manifest does not hold it, or holds what is no recipe now.
    """
    content = (network.study.tables.manifest.get("recipes") or {}).get(network.recipe_id)
    if content is None:
        return None
    try:
        return Recipe(**{name: value for name, value in content.items() if name in Recipe.__dataclass_fields__})
    except (SpecError, TypeError):
        return None  # of another version of the program, which knew other recipes


def symmetry_of(recipe: Recipe, data_seed: int) -> Symmetry | None:
    """Build a recipe's network and see which of its parameters the law is about; loads torch.

    Args:
        recipe: the recipe.
        data_seed: a draw of its data.

    Returns:
        None where task or network cannot be built here.
    """
    from trainables.build import build_task
    from trainables.groups import PLAIN
    from trainables.invariance import scale_invariant_parameters
    from trainables.update import make_rule

    try:
        task = build_task(recipe, data_seed)
        invariant = scale_invariant_parameters(task)
        module = task.model()
        rule = make_rule(recipe, module, invariant)
    except (SpecError, ImportError, OSError):
        return None  # the report must not depend on the task's code and data still being there
    trained = sorted(name for name, parameter in module.named_parameters() if parameter.requires_grad)
    groups = rule.groups or tuple(PLAIN for _ in trained)
    outside = tuple(
        name
        for name, group in zip(trained, groups, strict=True)
        if name not in invariant and (group.lr is None or group.weight_decay is None)
    )
    return Symmetry(invariant=invariant, outside=outside, running_statistics=_keeps_statistics(module))


def confounders_of(
    network: Network, runs: Runs, recipe: Recipe | None, symmetry: Symmetry | None, own_eps: float | None
) -> list[Confounder]:
    """Everything that was found.

    Args:
        network: one of the study's.
        runs: its runs at equilibrium.
        recipe: its recipe, if known.
        symmetry: its parameters, if known.
        own_eps: worst loss difference of the exact pair with the network's own norm eps; None where eps says nothing.

    Returns:
        Empty where nothing was.
    """
    found = [*_of_parameters(symmetry), *_of_recipe(network, recipe), *_of_runs(network, runs)]
    if own_eps is not None and own_eps > 1e-4:
        found.append(
            Confounder(
                name="norm eps",
                found=f"With the eps of its own norm layers an exact pair differs by {own_eps:.2g} in the loss: "
                "eps acts where pre-activations are small.",
                remedy="a smaller eps (1e-8 and below), or larger initial weights",
            )
        )
    if symmetry and symmetry.running_statistics and _statistics(network) == "running":
        found.append(
            Confounder(
                name="stale norm statistics",
                found="Held-out loss and error were measured with running statistics, which lag behind the weights by "
                "a time that does not scale with the product.",
                remedy="measure.norm_statistics: training_set",
            )
        )
    return found


def _of_parameters(symmetry: Symmetry | None) -> Iterator[Confounder]:
    if symmetry is None:
        return
    if not symmetry.invariant:
        yield Confounder(
            name="no scale invariance",
            found="No parameter of this network is scale-invariant: the law does not apply to it.",
            remedy="normalisation after every trained layer; as it is, the network serves as a negative control",
        )
    elif symmetry.outside:
        names = ", ".join(symmetry.outside[:_SHOWN]) + (", ..." if len(symmetry.outside) > _SHOWN else "")
        yield Confounder(
            name="parameters outside the symmetry",
            found=f"{len(symmetry.outside)} trained tensors are not scale-invariant and follow the swept rate or "
            f"weight decay: {names}.",
            remedy='a group of their own (train.groups, parameters "@other") with fixed lr and weight_decay',
        )


def _of_recipe(network: Network, recipe: Recipe | None) -> Iterator[Confounder]:
    if recipe is not None and recipe.optimizer.adapts:
        yield Confounder(
            name="optimiser",
            found=f"{recipe.optimizer} divides by a running scale of the gradients, so that another law holds "
            "(norms go as the square root of the ratio).",
            remedy="optimizer: sgd",
        )
    elif recipe is not None and recipe.decoupled and any(course.schedule.momentum for course in network.courses):
        yield Confounder(
            name="decoupled weight decay",
            found="Weight decay acts apart from the gradient; with momentum the product is not the one tested here.",
            remedy="decoupled: false",
        )
    momenta = {course.schedule.momentum for course in network.courses}
    if momenta != {0.0}:
        values = ", ".join(f"{value:g}" for value in sorted(momenta))
        yield Confounder(
            name="momentum",
            found=f"Momentum is {values}: products are compared after division by 1 - momentum, which holds to first "
            "order, and the angle follows sqrt(2 eta lambda / (1 + momentum)).",
            remedy="none where it is the same in all runs; else one momentum",
        )
    if any(not level.constant for course in network.courses for level in course.schedule.levels):
        yield Confounder(
            name="curves",
            found="Some schedules change their learning rate step by step (warm-up, decay): those runs are not tested.",
            remedy="constant rates",
        )


def _of_runs(network: Network, runs: Runs) -> Iterator[Confounder]:
    if len(runs.short):
        worst = runs.short.sort_values("intrinsic_lr").iloc[0]
        needed = 2 * function_steps(float(worst["intrinsic_lr"]))[1]
        yield Confounder(
            name="short runs",
            found=f"{len(runs.short)} runs are shorter than 8 / intrinsic LR and left out of the tests of equilibrium "
            f"(at {worst['intrinsic_lr']:.3g}: {worst['steps']:,.0f} steps of {needed:,.0f}).",
            remedy=f"{needed:,.0f} steps",
        )
    if len(runs.table) and runs.table["loss"].min() < _NO_NOISE:
        yield Confounder(
            name="no gradient noise",
            found=f"Some runs end at a batch loss of {runs.table['loss'].min():.2g}: without noise there is no "
            "equilibrium, but growth and sudden jumps.",
            remedy="label noise of 10 %, or smaller batches",
        )
    slow = _slow_starts(network, runs)
    if slow:
        yield slow


def _slow_starts(network: Network, runs: Runs) -> Confounder | None:
    """Runs whose initial weights are so far from equilibrium that their length does not make up for it."""
    if runs.table.empty:
        return None
    trace = network.trace[(network.trace["key"] == "norm_sq") & network.trace["group"].isin(network.layers)]
    first = trace.drop_duplicates(["member_id", "group"])  # by rising step
    starts = first.assign(member_id=first["member_id"].astype(str)).set_index(["group", "member_id"])["value"]
    worst: tuple[float, pd.Series, float] | None = None
    for layer in network.layers:
        if f"norm_sq:{layer}" not in runs.table or layer not in starts.index:
            continue
        start = runs.table["member_id"].map(starts[layer]).to_numpy(dtype=np.float64)
        ratios = (start / runs.table[f"norm_sq:{layer}"].to_numpy(dtype=np.float64)) ** 2
        rates = runs.table["intrinsic_lr"].to_numpy(dtype=np.float64)
        needed = np.array(
            [
                equilibrium_steps(rate, ratio) + function_steps(rate)[1] if np.isfinite(ratio) else 0.0
                for rate, ratio in zip(rates, ratios, strict=True)
            ]
        )
        times = needed / runs.table["steps"].to_numpy(dtype=np.float64)
        place = int(times.argmax())
        if times[place] > 1 and (worst is None or times[place] > worst[0]):
            worst = (float(times[place]), runs.table.iloc[place], float(needed[place]))
    if worst is None:
        return None
    _, run, steps = worst
    return Confounder(
        name="unequal starts",
        found=f"At intrinsic LR {run['intrinsic_lr']:.3g} and ratio {run['ratio']:.3g} the initial norm is so far "
        f"from its equilibrium that {steps:,.0f} steps are needed and {run['steps']:,.0f} were done.",
        remedy="longer runs, or an init_scale nearer to equilibrium",
    )


def _statistics(network: Network) -> str:
    """What norm layers were measured with."""
    sweep: Mapping[str, Any] = network.study.sweep
    variants = sweep.get("variants") or {}
    parts = [variants[name] for name in network.variants if name in variants] or [sweep]
    used = {str((part.get("measure") or {}).get("norm_statistics", "running")) for part in parts}
    return "running" if "running" in used else used.pop()


def _keeps_statistics(module: "nn.Module") -> bool:
    return any(getattr(layer, "track_running_stats", False) for layer in module.modules())
