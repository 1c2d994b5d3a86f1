"""A group of runs of one schedule, as averages of weights are taken over it."""

from analysis.decay.schedules import parse_schedule
from analysis.seed_groups import SeedGroup

PHASE = {"name": "train", "steps": 100, "lr": 0.1, "weight_decay": 1e-3}


def group_of_runs(runs=4, window=3, phases=(PHASE,)):
    """Finished runs of one schedule, alike but for their seeds."""
    return SeedGroup(
        schedule=parse_schedule(list(phases)),
        data_seed=0,
        window=window,
        seeds=tuple(range(10, 10 + runs)),
        member_ids=tuple(f"m{run}" for run in range(runs)),
    )
