"""How many solutions a sweep's probes will look at, told from its members before anything runs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from analysis.probing.spec import NEEDS, GeometryMeasure
from sweeps.schema import Sweep
from trainables.spec import Member

__all__ = ["probe_notes", "probed_solutions"]


def probed_solutions(sweep: Sweep, members: Sequence[Member]) -> int:
    """Count the solutions that the section `probes` names.

    Args:
        sweep: the sweep.
        members: all of them.

    Returns:
        A number that is reached if every member trains to its end; 0 for a sweep without probes.
    """
    if sweep.probes is None:
        return 0
    rates = _later_rates(members)
    first = [member for member in members if len(member.phases) == 1]
    units = sorted({(member.data_seed, member.seed) for member in first})[: sweep.probes.seeds]
    averages = {name: _averages(part) for name, part in sweep.parts.items()}
    found = 0
    for member in first:
        if (member.data_seed, member.seed) in units:
            tuned = ["low", "high"][: len(rates.get(member.member_id, ()))]
            variant = str(member.axes["variant"]) if sweep.variants else ""
            there = {"final", *tuned, *averages[variant]}
            found += len(there & sweep.probes.solutions)
    return found


def probe_notes(sweep: Sweep, members: Sequence[Member]) -> Iterator[str]:
    """What the section `probes` asks for and will not get.

    Args:
        sweep: the sweep.
        members: all of them, linked to their parents.

    Yields:
        Sentences without their full stop.
    """
    probes = sweep.probes
    if probes is None:
        return
    for kind in ("geometry", "features"):
        if kind in probes.model_fields_set and getattr(probes, kind) is None:
            yield f"probes.{kind} is empty, so that none are measured; `{kind}: {{}}` takes the defaults"
    asked = probes.geometry.measures if probes.geometry else ()
    tuned = max(map(len, _later_rates(members).values()), default=0)
    averaged = any(part.phases[0].swa for part in sweep.parts.values())
    lacking = {
        GeometryMeasure.BARRIER: max(tuned, 1) + averaged < 2,
        GeometryMeasure.PLANE: tuned < 2 or not averaged,
    }
    for measure, lacks in lacking.items():
        if lacks and measure in asked:
            yield f"probes: {measure} needs {NEEDS[measure]}; without them it is left out"


def _later_rates(members: Sequence[Member]) -> dict[str, set[float]]:
    """The learning rates that continue each member, by its id."""
    rates: dict[str, set[float]] = defaultdict(set)
    for member in members:
        if member.parent_id is not None:
            rates[member.parent_id].add(member.phases[-1].lr)
    return rates


def _averages(part: Sweep) -> list[str]:
    """Names of the averages of the first phase."""
    swa = part.phases[0].swa
    return ["swa", *(f"swa@{window}" for window in sorted(swa.windows)[:-1])] if swa else []
