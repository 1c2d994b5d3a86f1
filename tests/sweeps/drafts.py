"""A good sweep file, and what its changes are faulted for."""

import copy
from collections.abc import Callable
from typing import Any

from sweeps.sweep import sweep_from_mapping
from trainables.spec import SpecError

GOOD: dict[str, Any] = {
    "name": "small",
    "task": {"name": "digits", "train_size": 200},
    "model": {"name": "mlp_si", "width": 16},
    "train": {"batch_size": 16},
    "phases": [
        {"name": "pretrain", "steps": 100, "swa": {"every": 10, "windows": [2, 5]}},
        {"name": "finetune", "steps": 50},
    ],
    "axes": {
        "pretrain_lr": {"values": [1e-3, 1e-2]},
        "finetune_lr": {"values": [1e-4]},
        "label_noise": {"values": [0.0, 0.2]},
        "seed": {"range": 2},
    },
    "measure": {"report_every": 10},
    "headline": {"label_noise": 0.2},
}

Change = Callable[[dict[str, Any]], object]


def put(path: str, value: Any, *also_without: str) -> Change:
    """A change of the good sweep; None removes."""

    def change(sweep: dict[str, Any]) -> None:
        *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        here: Any = sweep
        for key in way:
            here = here.setdefault(key, {}) if isinstance(here, dict) else here[key]
        if value is None:
            del here[last]
        else:
            here[last] = copy.deepcopy(value)
        for other in also_without:
            put(other, None)(sweep)

    return change


def faults(*changes: Change) -> list[str]:
    sweep = copy.deepcopy(GOOD)
    for change in changes:
        change(sweep)
    try:
        sweep_from_mapping(sweep)
    except SpecError as error:
        return error.faults
    return []
