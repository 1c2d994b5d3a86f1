"""Weights on disk: safetensors and JSON, one entry for each member and kept point; never pickle.

A file holds the weights of many members stacked; its JSON neighbour says which row is whose. Files are written beside
their final name and renamed, so a file that exists is whole.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, stack

from trainables.spec import Recipe, SpecError

__all__ = ["Checkpoints", "load_member", "save_checkpoint", "write_atomically"]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Args:
        path: final name; its folder must exist.
        content: everything.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Tensor],
    entries: Sequence[tuple[str, str]],
    *,
    steps: Sequence[int],
    recipe: Recipe,
    seeds: Sequence[tuple[int, int]],
    executor: str,
) -> None:
    """Save the weights of several members.

    Args:
        path: without suffix; `.safetensors` and `.json` are added.
        weights: parameter and buffer names to `[N, *shape]`, in the module's layout.
        entries: (member id, group) of each row.
        steps: schedule step of each row.
        recipe: shared by all.
        seeds: (seed, data seed) of each row.
        executor: what trained them.
    """
    write_atomically(path.with_suffix(".safetensors"), save({name: t.contiguous() for name, t in weights.items()}))
    rows = [
        {"member_id": member, "group": group, "step": step, "seed": seed, "data_seed": data_seed}
        for (member, group), step, (seed, data_seed) in zip(entries, steps, seeds, strict=True)
    ]
    text = json.dumps({"recipe": asdict(recipe), "executor": executor, "rows": rows})
    write_atomically(path.with_suffix(".json"), text.encode())


@dataclass(frozen=True)
class _Place:
    file: Path
    row: int
    index: int


class Checkpoints:
    """Read access to a results folder's `checkpoints/`."""

    def __init__(self, folder: Path) -> None:
        """Read the JSON indices.

        Args:
            folder: `DIR/checkpoints`.

        Raises:
            SpecError: an index cannot be read.
        """
        self._places: dict[tuple[str, str], _Place] = {}
        self._indices: list[dict[str, object]] = []
        for path in sorted(folder.glob("*.json")):
            try:
                index = json.loads(path.read_text())
                rows = index.pop("rows")
            except (OSError, ValueError, KeyError) as error:
                raise SpecError(
                    [f"checkpoint index {path} cannot be read ({error}); delete it or restore it"]
                ) from None
            for row, entry in enumerate(rows):
                place = _Place(path.with_suffix(".safetensors"), row, len(self._indices))
                self._places[entry["member_id"], entry["group"]] = place
            self._indices.append({**index, "rows": rows})

    def entries(self) -> Collection[tuple[str, str]]:
        """What is there.

        Returns:
            (member id, group) pairs; group is `end`, `swa@W` or `step@N`.
        """
        return self._places.keys()

    def recipe(self, key: tuple[str, str]) -> Recipe:
        """The recipe of an entry.

        Args:
            key: (member id, group).

        Returns:
            The recipe it was trained by.
        """
        return Recipe(**self._indices[self._place(key).index]["recipe"])  # type: ignore[arg-type]

    def seeds(self, key: tuple[str, str]) -> tuple[int, int]:
        """Training seed and data seed of an entry.

        Args:
            key: (member id, group).

        Returns:
            (seed, data seed).
        """
        place = self._place(key)
        row = self._indices[place.index]["rows"][place.row]  # type: ignore[index]
        return row["seed"], row["data_seed"]

    def step(self, key: tuple[str, str]) -> int:
        """The schedule step that an entry was kept at: of an average, that of its last weights.

        Args:
            key: (member id, group).

        Returns:
            Steps done before.
        """
        place = self._place(key)
        return int(self._indices[place.index]["rows"][place.row]["step"])  # type: ignore[index]

    def _place(self, key: tuple[str, str]) -> _Place:
        if key not in self._places:
            groups = sorted(group for member, group in self._places if member == key[0])
            raise SpecError([f"no weights {key[1]!r} of member {key[0]}; kept of it: {', '.join(groups) or 'nothing'}"])
        return self._places[key]

    def weights(self, keys: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """Load several entries.

        Args:
            keys: (member id, group) pairs; all of one architecture.

        Returns:
            Parameter and buffer names to `[N, *shape]`, as in the module's `state_dict`.

        Raises:
            SpecError: an entry is not there, or its file cannot be read.
        """
        places = [self._place(key) for key in keys]
        by_file: dict[Path, list[int]] = {}
        for position, place in enumerate(places):
            by_file.setdefault(place.file, []).append(position)
        loaded: dict[str, list[Tensor | None]] = {}
        for path, positions in by_file.items():
            try:
                with safe_open(str(path), framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118 - not a mapping: it cannot be iterated itself
                        rows = loaded.setdefault(name, [None] * len(keys))
                        tensor = file.get_tensor(name)
                        for position in positions:
                            rows[position] = tensor[places[position].row]
            except (OSError, IndexError, SafetensorError) as error:
                raise SpecError([f"weights in {path} cannot be read ({error}); restore that file"]) from None
        return {name: stack([row for row in rows if row is not None]) for name, rows in loaded.items()}


def load_member(folder: Path, member_id: str, group: str = "end") -> nn.Module:
    """One member's network as a plain module, ready to use.

    Args:
        folder: `DIR/checkpoints` of a results folder.
        member_id: from the table `members`.
        group: `end`, `swa@W` or `step@N`.

    Returns:
        The module, in eval mode.

    Raises:
        SpecError: these weights were not kept.
    """
    from trainables.build import build_task

    checkpoints = Checkpoints(folder)
    key = (member_id, group)
    recipe = checkpoints.recipe(key)
    module = build_task(recipe, checkpoints.seeds(key)[1]).model()
    module.load_state_dict({name: tensor[0] for name, tensor in checkpoints.weights([key]).items()})
    return module.eval()
