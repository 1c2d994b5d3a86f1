"""Which executor trained each pack, and what the comparison at its start said: from the workers to the manifest."""

import json
from collections.abc import Mapping
from typing import Any

from sweeps.folder import RunFolder, write_json

__all__ = ["executors_used", "note_executor"]

_SUFFIX = ".executor.json"


def note_executor(folder: RunFolder, pack_id: str, executor: str, seconds_per_step: Mapping[str, float]) -> None:
    """Keep what a pack trains with.

    Args:
        folder: the results folder.
        pack_id: the pack.
        executor: the name.
        seconds_per_step: of each executor that was compared; of an earlier attempt where this one had no choice.
    """
    path = folder.state / f"{pack_id}{_SUFFIX}"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    measured = dict(seconds_per_step) or before.get("seconds_per_step", {})
    write_json(path, {"executor": executor, "seconds_per_step": measured})


def executors_used(folder: RunFolder) -> dict[str, Any]:
    """What every pack trained with.

    Args:
        folder: the results folder.

    Returns:
        By pack id; packs that never started are left out.
    """
    found = sorted(folder.state.glob(f"*{_SUFFIX}"))
    return {path.name.removesuffix(_SUFFIX): json.loads(path.read_text(encoding="utf-8")) for path in found}
