"""The MLflow view of a results folder, rebuilt from its Parquet files at any time.

The files are the truth and the view is a mirror: it can be deleted, rebuilt, or interrupted half-way. Every run carries
a fingerprint of what it shows; a run that is missing, half-written or out of date is written again, all others are
left alone, so that mirroring twice is mirroring once.
"""

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sweeps.folder import RunFolder
from sweeps.mirror_records import PARENT, Source, read_source
from sweeps.mirror_stores import ClientStore, Known, SqliteStore, Store
from trainables.spec import short_hash

__all__ = ["MirrorError", "MirrorSummary", "mirror", "store_made_meanwhile"]

LIMIT = 1000
BATCH = 100
"""Children per transaction of a local store: what an interruption can cost."""
PATIENCE_SECONDS = 10


class MirrorError(RuntimeError):
    """The view could not be written. The results are not touched by it."""


@dataclass(frozen=True, kw_only=True)
class MirrorSummary:
    """What a mirror did.

    Attributes:
        tracking_uri: the store.
        experiment: the study's name there.
        run_id: the run that stands for the sweep.
        written: members' runs written or replaced.
        unchanged: members' runs that were up to date.
        skipped: members left out.
        seconds: how long it took.
    """

    tracking_uri: str
    experiment: str
    run_id: str
    written: int
    unchanged: int
    skipped: int
    seconds: float

    @property
    def sentence(self) -> str:
        """What happened, for people; says what was left out and how to get it."""
        text = f"MLflow: {self.written} runs written, {self.unchanged} up to date, in {self.seconds:.1f} s"
        if self.skipped:
            total = self.written + self.unchanged + self.skipped
            text += (
                f"; {self.skipped} of {total} members left out (shown: failed ones, then whole seeds, the lowest "
                f"first); `lratlas mirror DIR --limit {total}` shows all"
            )
        return text


def mirror(folder: RunFolder, tracking_uri: str | None = None, *, limit: int = LIMIT) -> MirrorSummary:
    """Bring the MLflow view of a results folder up to date.

    Args:
        folder: the results.
        tracking_uri: an MLflow store; the SQLite file in the folder where None.
        limit: the most members to show. With more, failed members come first, then whole seeds, the lowest first.

    Returns:
        What was done.

    Raises:
        MirrorError: the tables cannot be read, or the store cannot be reached or written.
        SpecError: `folder` is no results folder of this version.
    """
    import pyarrow as pa

    began = time.perf_counter()
    uri = tracking_uri or folder.tracking_uri
    try:
        source = read_source(folder, limit)
    except (OSError, pa.ArrowException) as error:
        raise MirrorError(f"The tables in {folder.root} cannot be read: {error}.") from error
    try:
        with quiet():
            _check_reachable(uri)
            run_id, written = _bring_up_to_date(_open(uri, source.experiment), source, folder.root)
    except _store_errors() as error:
        raise MirrorError(_sentence(_without_password(uri), error)) from error
    return MirrorSummary(
        tracking_uri=_without_password(uri),
        experiment=source.experiment,
        run_id=run_id,
        written=written,
        unchanged=len(source.children) - written,
        skipped=source.skipped,
        seconds=time.perf_counter() - began,
    )


@contextmanager
def store_made_meanwhile(folder: RunFolder) -> Iterator[None]:
    """Make the default store in another process while this one does something else.

    Importing MLflow and creating its tables takes about four seconds of one core, two thirds of a mirror. Whatever goes
    wrong there goes wrong again in `mirror`, which tells of it.

    Args:
        folder: the results; a store that is there already is left as it is.

    Yields:
        Nothing; the block's end waits for the store.
    """
    if (folder.mlflow / "mlflow.db").exists():
        yield
        return
    command = [sys.executable, "-m", "sweeps.mirror", str(folder.root.resolve())]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.wait()


def _open(uri: str, experiment: str) -> Store:
    """The store behind a tracking URI, opened at an experiment that is made where it is missing."""
    if uri.startswith("sqlite:///"):
        return SqliteStore(Path(uri.removeprefix("sqlite:///")), experiment)
    return ClientStore(uri, experiment)


def _bring_up_to_date(store: Store, source: Source, root: Path) -> tuple[str, int]:
    """Write what is missing or out of date; returns the parent's id and the number of members' runs written."""
    known = store.known(source.sweep_id)
    parent = known.pop(PARENT, None)
    files = short_hash([[str(path.relative_to(root)), *_stamp(path)] for path in source.artifacts])
    fingerprint = source.parent.fingerprint(store.place, files)
    if parent is None or parent.fingerprint != fingerprint:
        run_id = store.put_parent(source.parent, parent)
        store.attach(run_id, root, source.artifacts)
    else:
        run_id = parent.run_id
    prints = {child.key: child.fingerprint(store.place, run_id) for child in source.children}
    absent = Known("", "")
    due = [child for child in source.children if known.get(child.key, absent).fingerprint != prints[child.key]]
    store.remove([run for key, run in known.items() if key not in prints])
    for first in range(0, len(due), BATCH):
        batch = due[first : first + BATCH]
        store.put_children([(child, prints[child.key], known.get(child.key)) for child in batch], run_id)
    if parent != Known(run_id, fingerprint):
        store.seal(run_id, fingerprint)  # last, so that a mirror that broke off does not look up to date
    return run_id, len(due)


def _stamp(path: Path) -> Sequence[int]:
    """Tells a rewritten file from an old one without reading it."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _check_reachable(uri: str) -> None:
    """Refuse at once a server that is away: MLflow and SQLAlchemy would try again for minutes."""
    parts = urlsplit(uri)
    ports = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
    port = parts.port or ports.get(parts.scheme.split("+")[0])
    if parts.hostname and port:
        socket.create_connection((parts.hostname, port), timeout=PATIENCE_SECONDS).close()


def _store_errors() -> tuple[type[Exception], ...]:
    """Everything a store is known to raise. Imports MLflow, so it is asked only once something was raised."""
    import sqlalchemy.exc
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException

    return (OSError, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, CommandError, MlflowException)


def _sentence(uri: str, error: Exception) -> str:
    """What went wrong, in one line with a way out."""
    said = str(error).strip().splitlines()
    return (
        f"The MLflow store {uri} cannot be written: {said[0] if said else type(error).__name__}. The results are safe; "
        "`lratlas mirror DIR [--tracking-uri URI]` tries again."
    )


def _without_password(uri: str) -> str:
    """The URI as it may be printed."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow from phoning home, from telling of its table migrations, and from trying again for minutes."""
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(PATIENCE_SECONDS),
    }
    added = [name for name in defaults if name not in os.environ]
    os.environ.update({name: defaults[name] for name in added})
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


if __name__ == "__main__":
    with quiet():
        _folder = RunFolder(Path(sys.argv[1]))
        _open(_folder.tracking_uri, _folder.read_manifest()["sweep"]["name"])
