"""Two ways into an MLflow tracking store: SQL for a local SQLite file, MLflow's client for everything else.

The client takes about 35 ms of CPU for a run of a hundred values, mostly in its object mapper; a thousand members
would keep a finished sweep waiting for half a minute. Rows inserted into the same tables take about one.
"""

import shutil
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sweeps.mirror_records import PARENT, Point, RunRecord

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["ClientStore", "Known", "SqliteStore", "Store"]

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's pages open at the training runs instead of its tools for language models."""
MOST_METRICS_PER_CALL = 1000
MOST_PARAMS_PER_CALL = 100


@dataclass(frozen=True)
class Known:
    """A run that the store holds already.

    Attributes:
        run_id: MLflow's id.
        fingerprint: of what it shows; empty where its writing was interrupted.
    """

    run_id: str
    fingerprint: str


class Store(Protocol):
    """A tracking store opened at one experiment."""

    place: str
    """Where the store keeps its runs' files; part of what must be equal for a run to be up to date."""

    def known(self, sweep_id: str) -> dict[str, Known]:
        """Runs of one sweep that are there, by their records' key."""
        ...

    def put_parent(self, record: RunRecord, known: Known | None) -> str:
        """Write the sweep's own run, or bring it up to date without changing its id; `seal` makes it count.

        Returns:
            MLflow's id of the run.
        """
        ...

    def seal(self, run_id: str, fingerprint: str) -> None:
        """Note on a run that all of it is there."""
        ...

    def put_children(self, runs: Sequence[tuple[RunRecord, str, Known | None]], parent_run_id: str) -> None:
        """Write members' runs: what each shows, its fingerprint, and the run it replaces."""
        ...

    def remove(self, runs: Sequence[Known]) -> None:
        """Take away runs of members that are shown no more."""
        ...

    def attach(self, run_id: str, root: Path, files: Sequence[Path]) -> None:
        """Hang files on a run, by their paths below `root`."""
        ...


def _client(path: Path) -> "MlflowClient":
    """MLflow's client of a SQLite file; makes the tables where there are none."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{path}")


def _attach(client: "MlflowClient", run_id: str, root: Path, files: Sequence[Path]) -> None:
    """Hang files on a run through MLflow, which knows every kind of artifact store."""
    for path in files:
        below = path.relative_to(root).parent.as_posix()
        client.log_artifact(run_id, str(path), None if below == "." else below)


class SqliteStore:
    """A SQLite tracking store, made where there is none.

    A batch of runs is one transaction, so an interrupted mirror leaves whole runs or none.

    Args:
        path: the database file.
        experiment: the study's name.
    """

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        expected = (path.parent / "artifacts").resolve()
        found = self._experiment(experiment)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Made beside and renamed: MLflow cannot go on with tables whose making was interrupted.
            making = path if path.exists() else path.with_name(f"{path.name}.new")
            if making != path:
                making.unlink(missing_ok=True)
            _client(making).create_experiment(experiment, expected.as_uri(), EXPERIMENT_TAGS)
            making.replace(path)
            found = self._experiment(experiment)
        assert found is not None  # just made, or create_experiment had raised
        self.experiment_id, self.place = found
        # A results folder that was moved or copied takes its artifacts along; the paths in its store must follow.
        if self.place.startswith("file:") and self.place != expected.as_uri() and expected.exists():
            with closing(self._connect()) as connection, connection:
                change = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?"
                connection.execute(change, (expected.as_uri(), self.experiment_id))
            self.place = expected.as_uri()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10)

    def _experiment(self, name: str) -> tuple[int, str] | None:
        """Id and artifact location, None where the store or the experiment does not exist yet."""
        if not self.path.exists():
            return None
        with closing(self._connect()) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
                return None
            query = "SELECT experiment_id, artifact_location FROM experiments WHERE name = ?"
            found: tuple[int, str] | None = connection.execute(query, (name,)).fetchone()
        return found

    def known(self, sweep_id: str) -> dict[str, Known]:
        """Runs of one sweep that are there, by their records' key."""
        query = """
            SELECT coalesce(member.value, ?), runs.run_uuid, coalesce(fingerprint.value, '')
            FROM runs JOIN tags AS sweep ON sweep.run_uuid = runs.run_uuid
            LEFT JOIN tags AS member ON member.run_uuid = runs.run_uuid AND member.key = 'member_id'
            LEFT JOIN tags AS fingerprint ON fingerprint.run_uuid = runs.run_uuid AND fingerprint.key = 'fingerprint'
            WHERE sweep.key = 'sweep_id' AND sweep.value = ? AND experiment_id = ? AND lifecycle_stage = 'active'"""
        with closing(self._connect()) as connection:
            rows = connection.execute(query, (PARENT, sweep_id, self.experiment_id)).fetchall()
        return {key: Known(run_id, fingerprint) for key, run_id, fingerprint in rows}

    def put_parent(self, record: RunRecord, known: Known | None) -> str:
        """Write the sweep's own run, or bring it up to date without changing its id; `seal` makes it count."""
        run_id = known.run_id if known else uuid.uuid4().hex
        with closing(self._connect()) as connection, connection:
            self._remove(connection, [run_id])
            self._insert(connection, run_id, record, {})
        return run_id

    def seal(self, run_id: str, fingerprint: str) -> None:
        """Note on a run that all of it is there."""
        with closing(self._connect()) as connection, connection:
            change = "INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES ('fingerprint', ?, ?)"
            connection.execute(change, (fingerprint, run_id))

    def put_children(self, runs: Sequence[tuple[RunRecord, str, Known | None]], parent_run_id: str) -> None:
        """Write members' runs in one transaction."""
        with closing(self._connect()) as connection, connection:
            self._remove(connection, [known.run_id for _, _, known in runs if known is not None])
            for record, fingerprint, known in runs:
                run_id = known.run_id if known else uuid.uuid4().hex
                tags = {"fingerprint": fingerprint, "mlflow.parentRunId": parent_run_id}
                self._insert(connection, run_id, record, tags)

    def remove(self, runs: Sequence[Known]) -> None:
        """Take away runs of members that are shown no more."""
        with closing(self._connect()) as connection, connection:
            self._remove(connection, [known.run_id for known in runs])

    def attach(self, run_id: str, root: Path, files: Sequence[Path]) -> None:
        """Hang files on a run, by their paths below `root`."""
        if not self.place.startswith("file:"):
            _attach(_client(self.path), run_id, root, files)
            return
        # Copied by hand: MLflow's client would do the same after two seconds of imports.
        target = Path(url2pathname(urlsplit(self.place).path)) / run_id / "artifacts"
        for path in files:
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)

    def _remove(self, connection: sqlite3.Connection, run_ids: Sequence[str]) -> None:
        for table in ("metrics", "latest_metrics", "params", "tags", "runs"):
            connection.executemany(f"DELETE FROM {table} WHERE run_uuid = ?", [(run_id,) for run_id in run_ids])

    def _insert(self, connection: sqlite3.Connection, run_id: str, record: RunRecord, more: dict[str, str]) -> None:
        connection.execute(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,"
            " end_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'LOCAL', 'lratlas', '', '', ?, ?, ?, '', 'active', ?, ?)",
            (
                *(run_id, record.name, record.status, record.start, record.end),
                *(f"{self.place}/{run_id}/artifacts", self.experiment_id),
            ),
        )
        tags = {**record.tags, **more, "mlflow.runName": record.name}
        for table, content in (("tags", tags), ("params", record.params)):
            rows = [(name, value, run_id) for name, value in content.items()]
            connection.executemany(f"INSERT INTO {table} (key, value, run_uuid) VALUES (?, ?, ?)", rows)
        latest: dict[str, Point] = {point.key: point for point in record.points}
        for table, points in (("metrics", record.points), ("latest_metrics", latest.values())):
            connection.executemany(
                f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, 0, ?)",
                [(point.key, point.value, point.timestamp, point.step, run_id) for point in points],
            )


class ClientStore:
    """Any other tracking store, through MLflow's client.

    A run's fingerprint is written after everything else of it, so an interrupted run is recognised by its absence.

    Args:
        tracking_uri: a server or database that MLflow understands.
        experiment: the study's name.
    """

    place = ""  # the server decides where files go

    def __init__(self, tracking_uri: str, experiment: str) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(tracking_uri)
        found = self.client.get_experiment_by_name(experiment)
        if found:
            self.experiment_id: str = found.experiment_id
        else:
            self.experiment_id = self.client.create_experiment(experiment, tags=EXPERIMENT_TAGS)

    def known(self, sweep_id: str) -> dict[str, Known]:
        """Runs of one sweep that are there, by their records' key; of two for one key, the whole one."""
        known: dict[str, Known] = {}
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], f"tags.sweep_id = '{sweep_id}'", max_results=1000, page_token=token
            )
            for run in page:
                key = run.data.tags.get("member_id", PARENT)
                found = Known(run.info.run_id, run.data.tags.get("fingerprint", ""))
                known[key] = max(known.get(key, found), found, key=lambda one: one.fingerprint)
            token = page.token
            if not token:
                return known

    def put_parent(self, record: RunRecord, known: Known | None) -> str:
        """Write the sweep's own run, or bring it up to date without changing its id; `seal` makes it count."""
        run_id = known.run_id if known else self._create(record, {})
        before = self.client.get_run(run_id).data.metrics
        self._fill(run_id, record, [point for point in record.points if before.get(point.key) != point.value])
        for name, value in record.tags.items():
            self.client.set_tag(run_id, name, value)
        return run_id

    def seal(self, run_id: str, fingerprint: str) -> None:
        """Note on a run that all of it is there."""
        self.client.set_tag(run_id, "fingerprint", fingerprint)

    def put_children(self, runs: Sequence[tuple[RunRecord, str, Known | None]], parent_run_id: str) -> None:
        """Write members' runs, each sealed before the next is begun."""
        for record, fingerprint, known in runs:
            if known is not None:
                self.client.delete_run(known.run_id)
            run_id = self._create(record, {"mlflow.parentRunId": parent_run_id})
            self._fill(run_id, record, record.points)
            self.seal(run_id, fingerprint)

    def remove(self, runs: Sequence[Known]) -> None:
        """Take away runs of members that are shown no more."""
        for run in runs:
            self.client.delete_run(run.run_id)

    def attach(self, run_id: str, root: Path, files: Sequence[Path]) -> None:
        """Hang files on a run, by their paths below `root`."""
        _attach(self.client, run_id, root, files)

    def _create(self, record: RunRecord, more: dict[str, str]) -> str:
        tags = {**record.tags, **more}
        run = self.client.create_run(self.experiment_id, start_time=record.start, tags=tags, run_name=record.name)
        run_id: str = run.info.run_id
        return run_id

    def _fill(self, run_id: str, record: RunRecord, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric, Param

        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in points]
        params = [Param(name, value) for name, value in record.params.items()]
        self.client.log_batch(run_id, metrics[:MOST_METRICS_PER_CALL], params[:MOST_PARAMS_PER_CALL])
        for first in range(MOST_METRICS_PER_CALL, len(metrics), MOST_METRICS_PER_CALL):
            self.client.log_batch(run_id, metrics[first : first + MOST_METRICS_PER_CALL])
        for first in range(MOST_PARAMS_PER_CALL, len(params), MOST_PARAMS_PER_CALL):
            self.client.log_batch(run_id, params=params[first : first + MOST_PARAMS_PER_CALL])
        if record.end is not None:
            self.client.set_terminated(run_id, record.status, record.end)
