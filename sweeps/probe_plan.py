"""How many solutions a sweep's probes will look at, told from its members before anything runs."""

from collections import defaultdict
from collections.abc import Sequence

from sweeps.schema import Sweep
from trainables.spec import Member

__all__ = ["probed_solutions"]


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
    rates: dict[str, set[float]] = defaultdict(set)
    for member in members:
        if member.parent_id is not None:
            rates[member.parent_id].add(member.phases[-1].lr)
    first = [member for member in members if len(member.phases) == 1]
    units = sorted({(member.data_seed, member.seed) for member in first})[: sweep.probes.seeds]
    averages = {name: _averages(part) for name, part in sweep.parts.items()}
    found = 0
    for member in first:
        if (member.data_seed, member.seed) in units:
            tuned = ["low", "high"][: len(rates[member.member_id])]
            variant = str(member.axes["variant"]) if sweep.variants else ""
            there = {"final", *tuned, *averages[variant]}
            found += len(there & sweep.probes.solutions)
    return found


def _averages(part: Sweep) -> list[str]:
    """Names of the averages of the first phase."""
    swa = part.phases[0].swa
    return ["swa", *(f"swa@{window}" for window in sorted(swa.windows)[:-1])] if swa else []
