"""Geometry of kept solutions as rows: each function measures one part for the solutions of one job."""

from collections.abc import Callable, Iterator

import numpy as np

from analysis.landscape.density import density as density_of
from analysis.landscape.gradients import gradient_statistics
from analysis.landscape.invariants import effective_curvature
from analysis.landscape.lanczos import eigenvalues
from analysis.landscape.llc import local_learning_coefficient
from analysis.landscape.objective import Objective
from analysis.landscape.plane import plane
from analysis.landscape.policy import Norms
from analysis.landscape.sharpness import asam
from analysis.landscape.sharpness import sharpness as sharpness_of
from analysis.landscape.trace import trace
from analysis.landscape.width import Direction, random_width, width_towards
from analysis.probing.bench import Bench
from analysis.probing.edge import edge_of
from analysis.probing.jobs import Job, fault_row
from analysis.probing.kept import load
from analysis.probing.pair_rows import pair_rows, pair_table
from analysis.probing.plane_rows import plane_rows
from analysis.probing.solutions import SOLUTIONS, Solution
from analysis.probing.spec import GeometrySpec
from trainables.checkpoint import Checkpoints
from trainables.rows import ProbeRow
from trainables.spec import SpecError

__all__ = ["barriers", "curvature", "density", "gradients", "llc", "planes", "sharpness"]

LARGEST = 5
ZERO = 1e-3
"""Eigenvalues smaller than this times the largest count as 0."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
PROBES = 24
"""Random vectors behind a trace: with the eigenvalues about 40 products a solution."""
FEWEST_BATCHES = 3
"""Fewer mini-batches leave no error to state."""


def barriers(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Angles and barriers of pairs of solutions.

    Args:
        checkpoints: the kept weights.
        job: which pairs.

    Yields:
        Rows of the probes `angle` and `barrier`.
    """
    bench = Bench(checkpoints, job)
    table = pair_table(job.starts, job.pairs)
    if table.empty:
        return
    spec, radius = _spec(job), bench.recipe.sphere_radius
    yield from pair_rows(
        bench.evaluator, checkpoints, table, radius=radius, points=spec.points, norms=spec.line_norms, attempt=1
    )


def planes(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """The plane through the low-rate, high-rate and averaged solutions of every start.

    Args:
        checkpoints: the kept weights.
        job: which starts.

    Yields:
        Rows of the probe `plane`.
    """
    bench = Bench(checkpoints, job)
    for start in job.starts:
        low, high, swa = (start.by_name[name] for name in ("low", "high", "swa"))
        loaded = load(checkpoints, [low.key, high.key, swa.key], bench.evaluator.shapes)
        yield from (fault_row(*key, checkpoints.step(key), sentence) for key, sentence in loaded.faults.items())
        if loaded.faults:
            continue
        try:
            found = plane(
                bench.evaluator,
                loaded.weights,
                (loaded.rows[low.key], loaded.rows[high.key], loaded.rows[swa.key]),
                data_seed=low.data_seed,
                radius=bench.recipe.sphere_radius,
                norms=_spec(job).line_norms,
            )
        except SpecError as error:
            yield fault_row(*low.key, checkpoints.step(low.key), f"plane: {' '.join(error.faults)}")
            continue
        yield from plane_rows(bench, found, (low, high, swa))


def curvature(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Rows of the probe `curvature`: eigenvalues and trace of the Hessian, the edge ratio, effective forms."""
    return _of_each(checkpoints, job, "curvature", _spec(job).norms, _curvature)


def density(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Rows of the probe `density`: quantiles of the Hessian's eigenvalues, and the share that is negative."""
    return _of_each(checkpoints, job, "density", _spec(job).norms, _density)


def gradients(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Rows of the probe `gradient`: norm and noise with the statistics of each batch, as in training."""
    return _of_each(checkpoints, job, "gradient", Norms.BATCH, _gradient)


def llc(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Rows of the probe `llc`: the local learning coefficient, and whether its chains converged."""
    return _of_each(checkpoints, job, "llc", Norms.REESTIMATED, _llc)


def sharpness(checkpoints: Checkpoints, job: Job) -> Iterator[ProbeRow]:
    """Rows of the probes `sharpness` and `width`: SAM, ASAM, average; along random directions and towards others."""
    bench = Bench(checkpoints, job)

    def one(solution: Solution) -> Iterator[ProbeRow]:
        with bench.objective(solution, _spec(job).norms) as objective:
            yield from bench.rows(solution, "sharpness", sharpness_of(objective).as_rows(), n=objective.samples)
            for direction in Direction:
                width = random_width(objective, direction=direction).as_rows()
                yield from bench.rows(solution, "width", width, n=objective.samples)
            for other in _others(job, solution):
                towards = width_towards(objective, bench.flat(objective.names, other)).as_rows()
                yield from bench.pair_rows(solution, other, "width", towards, n=objective.samples)

    yield from bench.each(one)


def _of_each(
    checkpoints: Checkpoints,
    job: Job,
    probe: str,
    norms: Norms,
    measure: Callable[[Objective, Solution, Bench], dict[str, float]],
) -> Iterator[ProbeRow]:
    """The numbers of every single solution of a job."""
    bench = Bench(checkpoints, job)

    def one(solution: Solution) -> Iterator[ProbeRow]:
        with bench.objective(solution, norms) as objective:
            yield from bench.rows(solution, probe, measure(objective, solution, bench), n=objective.samples)

    yield from bench.each(one)


def _curvature(objective: Objective, solution: Solution, bench: Bench) -> dict[str, float]:
    """All numbers of one solution."""
    dtype, device = objective.weights.dtype, objective.weights.device
    spectrum = eigenvalues(objective.hessian, objective.size, largest=LARGEST, dtype=dtype, device=device)
    traced = trace(objective.hessian, objective.size, spectrum, probes=PROBES, dtype=dtype, device=device)
    values = {
        "loss": objective.value(),
        "weight_norm": float(objective.weights.double().norm()),
        **{f"lambda_{number}": float(each) for number, each in enumerate(spectrum.largest, start=1)},
        "lambda_converged": float(spectrum.converged),
        "lambda_min": float(spectrum.smallest[0]),
        "lambda_min_converged": float(spectrum.smallest_converged.all()),
        "trace": traced.value,
        "trace_se": traced.standard_error,
    }
    scale = values["weight_norm"]
    if bench.scale_free:
        raw = {name: values[name] for name in ("lambda_1", "lambda_min", "trace", "trace_se")}
        values |= {f"effective_{name}": effective_curvature(value, scale) for name, value in raw.items()}
    else:  # raw curvature never stands alone
        values["asam"] = asam(objective).value
    if not bench.recipe.optimizer.adapts:  # Adam's edge is that of its own preconditioned curvature
        values |= edge_of(objective, values["lambda_1"], solution, bench)
    return values


def _density(objective: Objective, solution: Solution, bench: Bench) -> dict[str, float]:
    del solution, bench
    found = density_of(
        objective.hessian, objective.size, dtype=objective.weights.dtype, device=objective.weights.device
    )
    # eigenvalues that are 0 fall on either side of it by rounding
    below = found.cdf(np.array([-ZERO * float(np.abs(found.nodes).max())]))
    ends = {"negative": below.value, "negative_low": below.low, "negative_high": below.high}
    return {f"q{round(100 * share):02d}": found.quantile(share) for share in QUANTILES} | {
        name: float(value[0]) for name, value in ends.items()
    }


def _gradient(objective: Objective, solution: Solution, bench: Bench) -> dict[str, float]:
    del solution
    size = max(1, min(bench.recipe.batch_size, objective.samples // FEWEST_BATCHES))
    values = gradient_statistics(objective, batch_size=size).as_rows()
    return {key: value for key, value in values.items() if bench.scale_free or not key.startswith("effective_")}


def _llc(objective: Objective, solution: Solution, bench: Bench) -> dict[str, float]:
    del solution, bench
    return local_learning_coefficient(objective, batch_size=min(64, objective.samples)).as_rows()


def _others(job: Job, solution: Solution) -> list[Solution]:
    """The solutions of the same start that a solution is compared with."""
    start = next(start for start in job.starts if solution in start.solutions)
    named = start.by_name
    other = {a if b == solution.name else b for a, b in job.pairs if solution.name in (a, b)}
    return [named[name] for name in named if name in other and name in SOLUTIONS]


def _spec(job: Job) -> GeometrySpec:
    assert isinstance(job.spec, GeometrySpec)
    return job.spec
