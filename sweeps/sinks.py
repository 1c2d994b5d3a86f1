"""Where rows go: part files of the tables `epochs` and `probes`, and how each pack's members ended.

A part is written beside its final name, synced and renamed, so that a reader sees all of it or nothing. A pack that is
killed goes on from its last saved state and fills the part it was filling again: no row is lost, none is doubled.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from analysis.row_files import EPOCH_SCHEMA, PROBE_SCHEMA, rows_table, write_table
from sweeps.folder import RunFolder, write_json
from sweeps.members import MembersFile, members_of, write_members
from trainables.rows import EpochRow, MemberStatus, ProbeRow, Status

__all__ = [
    "MembersFile",
    "ParquetSink",
    "forget_failures",
    "members_of",
    "read_pack_statuses",
    "read_statuses",
    "write_members",
    "write_pack_statuses",
]


class ParquetSink:
    """Takes a pack's rows and makes them durable, a part at a time.

    Args:
        folder: the results folder.
        pack_id: names the parts: `<pack_id>-<part:05d>.parquet`.
    """

    def __init__(self, folder: RunFolder, pack_id: str) -> None:
        self._folder = folder
        self._pack_id = pack_id
        self._epochs: list[EpochRow] = []
        self._probes: list[ProbeRow] = []

    def add(self, epochs: Iterable[EpochRow], probes: Iterable[ProbeRow]) -> None:
        """Keep rows until the next flush.

        Args:
            epochs: rows of the table `epochs`.
            probes: rows of the table `probes`.
        """
        self._epochs.extend(epochs)
        self._probes.extend(probes)

    def discard_from(self, part: int) -> None:
        """Remove parts that a killed attempt wrote after the state it goes on from: their rows come again.

        Args:
            part: the first part to be filled by this attempt.
        """
        for folder in (self._folder.epochs, self._folder.probes):
            for path in folder.glob(f"{self._pack_id}-*.parquet"):
                if int(path.stem.rsplit("-", 1)[1]) >= part:
                    path.unlink(missing_ok=True)

    def flush(self, part: int, statuses: Mapping[str, MemberStatus]) -> None:
        """Make every row added since the last flush durable, then the statuses.

        Args:
            part: number of the part these rows fill; a part of that number is replaced.
            statuses: final statuses of the pack's members so far.
        """
        for folder, rows, schema in (
            (self._folder.epochs, self._epochs, EPOCH_SCHEMA),
            (self._folder.probes, self._probes, PROBE_SCHEMA),
        ):
            if rows:
                write_table(folder / f"{self._pack_id}-{part:05d}.parquet", rows_table(rows, schema))
        write_pack_statuses(self._folder, self._pack_id, statuses)
        self._epochs, self._probes = [], []


def write_pack_statuses(folder: RunFolder, pack_id: str, statuses: Mapping[str, MemberStatus]) -> None:
    """Write a pack's `state/<pack_id>.status.json`.

    Args:
        folder: the results folder.
        pack_id: the pack.
        statuses: by member id; members that are absent are still running.
    """
    content = {
        member_id: {"status": status.status.value, "status_reason": status.status_reason, "attempt": status.attempt}
        for member_id, status in statuses.items()
    }
    write_json(_status_path(folder, pack_id), content)


def read_pack_statuses(folder: RunFolder, pack_id: str) -> dict[str, MemberStatus]:
    """Read a pack's `state/<pack_id>.status.json`.

    Args:
        folder: the results folder.
        pack_id: the pack.

    Returns:
        Statuses by member id; empty where the pack has written none yet.
    """
    path = _status_path(folder, pack_id)
    return _read_statuses(path) if path.exists() else {}


def read_statuses(folder: RunFolder) -> dict[str, MemberStatus]:
    """Final statuses of all members so far.

    Args:
        folder: the results folder.

    Returns:
        By member id; members that are absent are still running.
    """
    found: dict[str, MemberStatus] = {}
    for path in sorted(folder.state.glob("*.status.json")):
        found.update(_read_statuses(path))
    return found


def forget_failures(folder: RunFolder) -> None:
    """Let failed members run again: an error that came from outside may be gone, or its cause mended.

    Args:
        folder: the results folder; no pack may be at work in it.
    """
    for path in folder.state.glob("*.status.json"):
        statuses = _read_statuses(path)
        kept = {key: status for key, status in statuses.items() if status.status is not Status.FAILED}
        if len(kept) < len(statuses):
            write_pack_statuses(folder, path.name.removesuffix(".status.json"), kept)


def _status_path(folder: RunFolder, pack_id: str) -> Path:
    return folder.state / f"{pack_id}.status.json"


def _read_statuses(path: Path) -> dict[str, MemberStatus]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        member_id: MemberStatus(
            member_id=member_id,
            attempt=entry["attempt"],
            status=Status(entry["status"]),
            status_reason=entry["status_reason"],
        )
        for member_id, entry in content.items()
    }
