"""All tests of a study, network by network, computed once."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.invariance.confounders import Confounder, confounders_of, recipe_of, symmetry_of
from analysis.invariance.courses import Course, Network, matching, networks_of
from analysis.invariance.drop import TITLE as DROP_TITLE
from analysis.invariance.drop import drop_test
from analysis.invariance.drops import drops_of
from analysis.invariance.equilibrium_time import TITLE as TIME_TITLE
from analysis.invariance.equilibrium_time import equilibrium_time_test
from analysis.invariance.equivalence import TITLE as PAIRS_TITLE
from analysis.invariance.equivalence import equivalence_test
from analysis.invariance.exact import exact_test
from analysis.invariance.functions import TITLE as FUNCTIONS_TITLE
from analysis.invariance.functions import functions_test
from analysis.invariance.kicks import kick_times, kicks_of
from analysis.invariance.margins import Margins
from analysis.invariance.predictions import snapshots_of
from analysis.invariance.runs import Runs, compared_metrics, equilibrium_runs
from analysis.invariance.variance_split import TITLE as SPLIT_TITLE
from analysis.invariance.variance_split import rejection_p, variance_split_test
from analysis.invariance.verdict import TestResult, missing, overall
from analysis.laws import function_steps
from analysis.study import Study
from trainables.spec import SpecError

__all__ = ["InvarianceFindings", "NetworkFindings", "find_invariance"]

_SEED = 20231
"""Of the permutations."""


@dataclass(frozen=True, kw_only=True)
class NetworkFindings:
    """What was found about one network.

    Attributes:
        network: the network.
        runs: its runs at equilibrium.
        kicks: times to equilibrium after kicks.
        tests: T0 to T5, in order; those that could not be made say why.
        verdict: over all tests; None for the control, which is there to be rejected.
        confounders: what would break or hide the law.
    """

    network: Network
    runs: Runs
    kicks: pd.DataFrame
    tests: tuple[TestResult, ...]
    verdict: TestResult | None
    confounders: tuple[Confounder, ...]

    def test(self, key: str) -> TestResult:
        """One of the tests."""
        return next(test for test in self.tests if test.key == key)


@dataclass(frozen=True, kw_only=True)
class InvarianceFindings:
    """What was found in a study.

    Attributes:
        study: the study.
        networks: each network's findings, the headline's first.
        control: the negative control's network; None where there is none. The headline's network is never its own.
        control_p: p-value with which the variance split rejects it; None where there is none or it cannot be split.
    """

    study: Study
    networks: tuple[NetworkFindings, ...]
    control: NetworkFindings | None
    control_p: float | None

    @property
    def headline(self) -> NetworkFindings:
        """The network whose verdict is the study's."""
        return self.networks[0]


def find_invariance(study: Study) -> InvarianceFindings:
    """Make every test that the study's data allow.

    Args:
        study: the study.

    Returns:
        The findings; equal input gives equal findings, permutations included.

    Raises:
        SpecError: the members' schedules are not known.
    """
    networks = networks_of(study)
    if not networks:
        raise SpecError(
            [
                "invariance needs the schedules of the members, the column 'phases' of members.parquet; "
                f"{str(study.directory)!r} lacks it: run the sweep again with this version"
            ]
        )
    asked = study.sweep.get("analysis") or {}
    chosen = matching(networks[1:], asked.get("control") or {})
    reduced = {network.recipe_id: equilibrium_runs(network, study.settings.tail) for network in networks}
    control_p = None
    if chosen is not None and len(table := reduced[chosen.recipe_id].tested):
        p = rejection_p(table, "loss")
        control_p = None if math.isnan(p) else p
    findings = [
        _find(network, reduced[network.recipe_id], control_p, is_control=network is chosen) for network in networks
    ]
    control = next((each for each in findings if each.network is chosen), None)
    return InvarianceFindings(study=study, networks=tuple(findings), control=control, control_p=control_p)


def _find(network: Network, runs: Runs, control_p: float | None, *, is_control: bool) -> NetworkFindings:
    recipe, course = recipe_of(network), _typical(network)
    exact = exact_test(recipe, course)
    settings = network.study.settings
    margins = Margins.of(settings.margins)
    kicks = kick_times(network, settings.tail)
    tests = (
        exact.result,
        *_of_equilibrium(runs, margins),
        _of_time(network, kicks),
        _of_functions(network),
        _of_drops(network, settings.tail, margins),
    )
    symmetry = symmetry_of(recipe, network.courses[0].data_seed) if recipe else None
    return NetworkFindings(
        network=network,
        runs=runs,
        kicks=kicks,
        tests=tests,
        verdict=None if is_control else overall(tests, control_p),
        confounders=tuple(confounders_of(network, runs, recipe, symmetry, exact.own_eps)),
    )


def _of_equilibrium(runs: Runs, margins: Margins) -> tuple[TestResult, TestResult]:
    """T1 and T2."""
    if runs.table.empty:
        why = "No finished run has a constant learning rate and weight decay."
        to_run = "runs at one learning rate and weight decay throughout"
        if len(runs.short):
            rate = float(runs.short["intrinsic_lr"].min())
            needed = 2 * function_steps(rate)[1]
            why = f"All {len(runs.short)} runs are shorter than 8 / intrinsic LR."
            to_run = f"{needed:,.0f} steps, for the smallest intrinsic LR of {rate:.3g}"
        return missing("T1", SPLIT_TITLE, why, to_run), missing("T2", PAIRS_TITLE, why, to_run)
    table = runs.tested
    metrics = compared_metrics(table)
    return variance_split_test(table, metrics), equivalence_test(table, metrics, margins)


def _of_time(network: Network, kicks: pd.DataFrame) -> TestResult:
    """T3."""
    if kicks.empty:
        why = "No run was kicked out of equilibrium."
        to_run = (
            "a phase with kick: 1.3 after 4 / (learning rate x weight decay) steps or more, at the same rates, with "
            "trace_every: 10"
        )
        if network.is_scale_invariant is False:
            why, to_run = "The network has no scale-invariant weights to kick.", "a network with norms after its layers"
        elif kicks_of(network):
            why, to_run = "Runs were kicked, but no norms recorded.", "measure.trace_every: 10 in the kicked phase"
        return missing("T3", TIME_TITLE, why, to_run)
    return equilibrium_time_test(kicks)


def _of_functions(network: Network) -> TestResult:
    """T4."""
    snapshots = snapshots_of(network)
    if not snapshots:
        return missing(
            "T4",
            FUNCTIONS_TITLE,
            "No predictions were recorded.",
            "`lratlas run fast-equilibrium-digits`, or measure.labels with 64 seeds of each of three schedules",
        )
    return functions_test(snapshots, np.random.default_rng(_SEED))


def _of_drops(network: Network, tail: float, margins: Margins) -> TestResult:
    """T5."""
    drops = drops_of(network, tail)
    if not drops.table.empty:
        return drop_test(drops.table, margins)
    why = "No finished run drops its learning rate or its weight decay, and nothing else."
    to_run = "`lratlas run decay-drop-digits`, or decay_at with decay_factor in one variant and wd_decay in another"
    if drops.short:
        why = f"All {drops.short} runs with a drop are too short for an equilibrium before and after it."
        to_run = "4 / (learning rate x weight decay) steps before the drop, and as many by the lower product after it"
    return missing("T5", DROP_TITLE, why, to_run)


def _typical(network: Network) -> Course | None:
    """A run in the middle of the grid, by product and then by ratio: the extremes are the likeliest to overflow."""
    known = [
        course for course in network.courses if course.schedule.last.weight_decay > 0 and course.schedule.last.constant
    ]
    finished = [course for course in known if course.status == "completed"]
    ranked = sorted(
        finished or known, key=lambda course: (course.law(course.schedule.last), course.schedule.last.lr, course.unit)
    )
    return ranked[len(ranked) // 2] if ranked else None
