"""What the MLflow view shows, worked out from the files of a results folder: plain records, no MLflow needed."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sweeps.folder import RunFolder
from trainables.rows import Status
from trainables.spec import short_hash

__all__ = ["EPOCH_METRICS", "MOST_ROWS", "PARENT", "Point", "RunRecord", "Source", "read_source"]

Row = Mapping[str, Any]

EPOCH_METRICS = (
    *("train_loss", "train_error", "valid_loss", "valid_error", "test_loss", "test_error"),
    *("weight_norm_sq", "grad_norm_sq"),
)
"""Columns of `epochs` that become metrics: what people look at while comparing runs."""

MOST_ROWS = 100
"""Rows of `epochs` shown for one member; more are thinned out evenly, the first and last always kept. With eight
metrics and the final ones this keeps a member within the 1000 values that MLflow takes in one call."""

PARENT = "parent"
"""The key of the run that stands for the whole sweep."""

_SHOWN_PROBES = {
    "probe": ("final", "curvature", "barrier"),
    "key": ("loss", "error", "lambda_1", "trace", "error_chord"),
}
"""Of the table `probes`, what is shown: final quality, sharpness, and the barrier between low and high rates."""

_NOT_PARAMS = {"member_id", "parent_id", "recipe_id", "pack_id", "phases", "attempt", "status", "status_reason"}
_RUN_STATUS = {
    Status.RUNNING: "RUNNING",
    Status.COMPLETED: "FINISHED",
    Status.NONFINITE: "FINISHED",  # an overflow is a result; the tag `status` tells it apart
    Status.STOPPED: "KILLED",
    Status.FAILED: "FAILED",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One value of one metric.

    Attributes:
        key: the metric's name.
        value: finite.
        timestamp: milliseconds since the epoch.
        step: schedule steps done.
    """

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One MLflow run as it shall look.

    Attributes:
        key: the member's id, or `PARENT`.
        name: what the run is called in the view.
        status: MLflow's word for how it ended.
        start: milliseconds since the epoch.
        end: milliseconds since the epoch, None while it runs.
        params: name -> value.
        tags: name -> value.
        points: every value of every metric.
    """

    key: str
    name: str
    status: str
    start: int
    end: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    points: tuple[Point, ...]

    def fingerprint(self, *context: str) -> str:
        """Hash of everything the run shows.

        Args:
            context: what else must be equal for the run to be up to date: its parent, its place.

        Returns:
            16 characters that change whenever the run would look different.
        """
        points = [(point.key, point.value, point.timestamp, point.step) for point in self.points]
        return short_hash([{**asdict(self), "points": points}, context])


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything a mirror of one results folder holds.

    Attributes:
        experiment: the study's name.
        sweep_id: tells this results folder from others of the same study, wherever it is moved.
        parent: the run for the whole sweep.
        children: one run per mirrored member.
        artifacts: files that hang on the parent.
        skipped: members left out.
    """

    experiment: str
    sweep_id: str
    parent: RunRecord
    children: tuple[RunRecord, ...]
    artifacts: tuple[Path, ...]
    skipped: int


def read_source(folder: RunFolder, limit: int) -> Source:
    """Read a results folder into runs.

    Args:
        folder: where the tables are.
        limit: the most members to show. With more, failed members come first, then whole seeds, the lowest first, so
            that every setting is seen before a second seed of any.

    Returns:
        The runs and files to mirror.
    """
    import pyarrow.parquet as pq

    manifest = folder.read_manifest()
    sweep: Mapping[str, Any] = manifest["sweep"]
    sweep_id = short_hash([sweep, manifest["created"]])
    start = round(datetime.fromisoformat(manifest["created"]).timestamp() * 1000)
    members: list[Row] = pq.read_table(folder.members).to_pylist()
    shown = _choose(members, limit)
    ids = [row["member_id"] for row in shown]
    epochs = _latest(folder.epochs, ids, ("member_id", "step"))
    probes = _latest(folder.probes, ids, ("member_id", "step", "probe", "split", "group", "key"), _SHOWN_PROBES)
    names = _varied(members, sweep)
    children = tuple(
        _child(row, epochs[row["member_id"]], probes[row["member_id"]], names, sweep_id, start) for row in shown
    )
    ended = max((child.end or start for child in children), default=start)
    return Source(
        experiment=sweep["name"],
        sweep_id=sweep_id,
        parent=_parent(folder, sweep, members, sweep_id, start, ended),
        children=children,
        artifacts=_artifacts(folder.report),
        skipped=len(members) - len(shown),
    )


def _choose(members: Sequence[Row], limit: int) -> Sequence[Row]:
    """The members to show when there are more than `limit`."""
    if len(members) <= limit:
        return members
    ranked = sorted(members, key=lambda row: (row["status"] != Status.FAILED, row["seed"], row["data_seed"]))
    return ranked[:limit]


def _latest(
    folder: Path, ids: Sequence[str], key: Sequence[str], wanted: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[Row]]:
    """Rows by member, in order of their keys; of equal keys the one of the highest attempt.

    Only rows with the `wanted` values are read: traces and predictions can be millions, and the view shows none.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    by_member: dict[str, list[Row]] = defaultdict(list)
    parts = sorted(str(path) for path in folder.glob("*.parquet"))
    if not parts:
        return by_member
    # A part written by another release may lack a column: the schema must not be the first file's.
    schema = pa.unify_schemas([pq.read_schema(part) for part in parts])
    chosen = ds.field("member_id").isin(ids)
    for name, values in (wanted or {}).items():
        chosen &= ds.field(name).isin(values)
    table = ds.dataset(parts, schema=schema).to_table(filter=chosen)
    ordered = table.sort_by([*((name, "ascending") for name in key), ("attempt", "ascending")])
    kept = {tuple(row[name] for name in key): row for row in ordered.to_pylist()}
    for row in kept.values():
        by_member[row["member_id"]].append(row)
    return by_member


def _varied(members: Sequence[Row], sweep: Mapping[str, Any]) -> list[str]:
    """The axes that tell members apart, in the sweep's order; those tied to another axis left out."""
    free = [name for name, axis in sweep.get("axes", {}).items() if not axis.get("same_as")]
    return [name for name in free if len({row.get(name) for row in members}) > 1]


def _child(
    member: Row, epochs: Sequence[Row], probes: Sequence[Row], names: Sequence[str], sweep_id: str, start: int
) -> RunRecord:
    """One member as a run."""
    points: list[Point] = []
    elapsed = 0.0
    shown = _thinned(len(epochs))
    for index, row in enumerate(epochs):
        elapsed += row["seconds"] or 0.0
        if index in shown:
            moment = start + round(elapsed * 1000)
            points += _points({name: row.get(name) for name in EPOCH_METRICS}, moment, row["step"])
    end = start + round(elapsed * 1000)
    for row in probes:
        if metric := _metric(row):
            points += _points({metric: row["value"]}, end, row["step"])
    status = Status(member["status"])
    named = [f"{name}={_short(member[name])}" for name in names if member.get(name) is not None]
    tags = {
        "member_id": member["member_id"],
        "status": status.value,
        "status_reason": member["status_reason"],
        "attempt": member["attempt"],
        "parent_member_id": member["parent_id"],
        "pack_id": member["pack_id"],
        "sweep_id": sweep_id,
    }
    return RunRecord(
        key=member["member_id"],
        name=" ".join(named) or member["member_id"],
        status=_RUN_STATUS[status],
        start=start,
        end=end if status.is_final else None,
        params={name: str(value) for name, value in member.items() if name not in _NOT_PARAMS and value is not None},
        tags={name: str(value) for name, value in tags.items() if value not in (None, "")},
        points=tuple(points),
    )


def _parent(
    folder: RunFolder, sweep: Mapping[str, Any], members: Sequence[Row], sweep_id: str, start: int, ended: int
) -> RunRecord:
    """The whole sweep as a run."""
    answer = json.loads(folder.answer.read_text(encoding="utf-8")) if folder.answer.exists() else {}
    numbers = {name: value for name, value in answer.items() if isinstance(value, int | float)}
    for name, value in answer.items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) for end in value):
            numbers |= {f"{name}_low": value[0], f"{name}_high": value[1]}
    by_status = Counter(row["status"] for row in members)
    numbers |= {f"members_{status.value}": by_status[status.value] for status in Status if by_status[status.value]}
    sentence = answer.get("sentence", "")
    tags = {
        "sweep_id": sweep_id,
        "status": "running" if by_status[Status.RUNNING] else "finished",
        "question": sweep.get("question"),
        "source": sweep.get("source"),
        "answer": sentence,
        "mlflow.note.content": f"**{sweep.get('question') or sweep['name']}**\n\n{sentence}\n\n"
        f"A mirror of `{folder.root.resolve()}`; the report is among the artifacts, `report/index.html`.",
    }
    return RunRecord(
        key=PARENT,
        name=folder.root.resolve().name,
        status="RUNNING" if by_status[Status.RUNNING] else "FINISHED",
        start=start,
        end=None if by_status[Status.RUNNING] else ended,
        params=dict(_flat({name: sweep[name] for name in ("task", "model", "train") if sweep.get(name)})),
        tags={name: str(value)[:5000] for name, value in tags.items() if value},
        points=tuple(_points(numbers, ended, 0)),
    )


def _artifacts(report: Path) -> tuple[Path, ...]:
    """The files of a report that a browser shows."""
    return tuple(sorted(path for path in report.rglob("*") if path.suffix in (".html", ".png", ".json")))


def _points(values: Mapping[str, float | None], moment: int, step: int) -> list[Point]:
    """Metrics of one step; what is missing or not finite has no place on a curve."""
    return [
        Point(key=key, value=float(value), timestamp=moment, step=step)
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    ]


def _thinned(count: int) -> set[int]:
    """Indices of at most `MOST_ROWS` of `count` rows, evenly spread, first and last included."""
    if count <= MOST_ROWS:
        return set(range(count))
    return {round(index * (count - 1) / (MOST_ROWS - 1)) for index in range(MOST_ROWS)}


def _metric(row: Row) -> str | None:
    """What a row of `probes` is called in the view; None for one that it does not show."""
    if row["probe"] == "barrier":
        # Both ends of fine-tuning: the lowest and the highest rate from one pre-training.
        return f"barrier_{row['split']}_error" if row["group"] == "end~end" else None
    return f"{_group(row['group'])}_{row['split']}_{row['key']}"


def _group(group: str) -> str:
    """`end` -> `final`, `swa@20` -> `swa20`: MLflow takes no `@` in a metric's name."""
    return "final" if group == "end" else group.replace("@", "")


def _short(value: object) -> str:
    """A value as a person would write it: 0.0011 -> 1.1e-3, 0.2 -> 0.2."""
    if not isinstance(value, float):
        return str(value)
    if value == 0 or 0.1 <= abs(value) < 1e5:
        return f"{value:.4g}"
    digits, exponent = f"{value:.3e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as `train.batch_size` -> `16`."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", str(value)
