"""The figures of one network's section: each shows one thing the law says."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from analysis.exhibit import Exhibit
from analysis.figures.angle_law import angle_law_table, draw_angle_law
from analysis.figures.collapse import collapse_table, draw_collapse
from analysis.figures.equilibrium_time import draw_equilibrium_time, equilibrium_time_table, time_laws
from analysis.figures.function_distance import draw_function_distance, function_distance_table
from analysis.figures.norm_ratio import draw_norm_ratio, norm_ratio_table, norm_slopes
from analysis.figures.style import render
from analysis.invariance.cells import seeds_words
from analysis.invariance.find import InvarianceFindings, NetworkFindings
from analysis.invariance.kicks import TOLERANCE

__all__ = ["exhibits_of"]


def exhibits_of(found: InvarianceFindings, network: NetworkFindings) -> Iterator[Exhibit]:
    """Draw everything there is to show of a network.

    Args:
        found: the study's findings.
        network: one network's.

    Yields:
        The exhibits, in reading order; those without data are left out.
    """
    makers: tuple[Callable[[InvarianceFindings, NetworkFindings], Exhibit | None], ...] = (
        _collapse,
        _norm,
        _angle,
        _time,
        _functions,
    )
    for make in makers:
        exhibit = make(found, network)
        if exhibit is not None:
            yield exhibit


def _collapse(found: InvarianceFindings, network: NetworkFindings) -> Exhibit | None:
    plain = _plain(network)
    if plain.empty or plain["ratio"].nunique() < 2:
        return None
    tables = {network.network.name or "network": plain}
    control = found.control
    if control is not None and control is not network and network is found.headline and not _plain(control).empty:
        tables[f"{control.network.name} (control)"] = _plain(control)
    table = collapse_table(tables, "loss", _confidence(network))
    momenta = {course.schedule.momentum for course in network.network.courses}
    product = "η λ" if momenta == {0.0} else "η λ / (1 - β)"
    return Exhibit(
        name=_name(network, "collapse"),
        title="Loss against learning rate, weight decay and their product",
        caption=f"Mean batch loss over the end of each run, {_seeds(network)}, with {_interval(network)}. If only the "
        "product acts, the curves of all ratios fall on one in the right panel, and only there.",
        drawing=render(draw_collapse(table, "batch loss", product)),
        table=table,
    )


def _norm(found: InvarianceFindings, network: NetworkFindings) -> Exhibit | None:
    plain, layers = _plain(network), _layers(network)
    if plain.empty or not layers or plain["ratio"].nunique() < 2:
        return None
    table = norm_ratio_table(plain, layers, _confidence(network))
    return Exhibit(
        name=_name(network, "norm"),
        title="Norm against the ratio of learning rate and weight decay",
        caption="Norm of each layer's weights at the end of the runs, geometric mean over seeds with "
        f"{_interval(network)}. On a line of equal product the norm must go as the fourth root of the ratio.",
        drawing=render(draw_norm_ratio(table, norm_slopes(plain, layers, _confidence(network)))),
        table=table,
    )


def _angle(found: InvarianceFindings, network: NetworkFindings) -> Exhibit | None:
    plain, layers = _plain(network), _layers(network)
    if plain.empty or not layers or not network.network.is_scale_invariant:
        return None
    momentum = next(iter({course.schedule.momentum for course in network.network.courses}))
    table = angle_law_table(plain, layers, _confidence(network), momentum)
    return Exhibit(
        name=_name(network, "angle"),
        title="Angle of a step and norm, over what theory says",
        caption="Root mean square angle between the weights before and after a step over sqrt(2 eta lambda), and "
        f"squared norm over sqrt(eta E[G] / (2 lambda)), by cell; mean over seeds with {_interval(network)}.",
        drawing=render(draw_angle_law(table)),
        table=table,
    )


def _time(found: InvarianceFindings, network: NetworkFindings) -> Exhibit | None:
    if network.kicks.empty or not np.isfinite(network.kicks["steps"]).any():
        return None
    table = equilibrium_time_table(network.kicks, TOLERANCE)
    factors = ", ".join(f"{kick:g}" for kick in sorted(network.kicks["kick"].unique()))
    return Exhibit(
        name=_name(network, "equilibrium-time"),
        title="Time to equilibrium after a kick",
        caption=f"Steps from the kick (all scale-invariant weights times {factors}) until ||w||^4 first comes within "
        "10 % of its mean before, one mark per run; theory: ln((kick^4 - 1) / 0.1) / (4 x product).",
        drawing=render(draw_equilibrium_time(table, time_laws(network.kicks))),
        table=table,
    )


def _functions(found: InvarianceFindings, network: NetworkFindings) -> Exhibit | None:
    pairs = network.test("T4").numbers.get("pairs")
    if not pairs:
        return None
    table = function_distance_table(list(pairs))
    runs = min(min(pair["runs"]) for pair in pairs)
    return Exhibit(
        name=_name(network, "functions"),
        title="Distance between distributions of trained functions",
        caption=f"Mean over inputs of the l1 distance between histograms of predicted classes, at least {runs} runs a "
        "schedule; shaded: what permuting runs between the schedules gives in 95 % of cases; numbers: p-values.",
        drawing=render(draw_function_distance(table)),
        table=table,
    )


def _plain(network: NetworkFindings) -> pd.DataFrame:
    """Runs that began with weights of the usual scale."""
    table = network.runs.table
    plain: pd.DataFrame = table[table["start_scale"] == 1]
    return plain


def _layers(network: NetworkFindings) -> list[str]:
    """Layers whose norms were measured."""
    return [layer for layer in network.network.layers if f"norm_sq:{layer}" in network.runs.table]


def _confidence(network: NetworkFindings) -> float:
    return network.network.study.settings.confidence


def _interval(network: NetworkFindings) -> str:
    return f"{100 * _confidence(network):g} % intervals (Student)"


def _seeds(network: NetworkFindings) -> str:
    return seeds_words(_plain(network))


def _name(network: NetworkFindings, what: str) -> str:
    return f"{what}{network.network.suffix}"
