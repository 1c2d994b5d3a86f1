"""Reading a results folder: the four files of the contract, checked, with duplicates resolved.

Only the columns listed here are read; a column the files lack comes back as nulls, so that older and newer writers of
the same schema version can be read alike.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from trainables.spec import SpecError

__all__ = ["EPOCH_COLUMNS", "PROBE_COLUMNS", "SCHEMA_VERSION", "Tables", "read_tables"]

SCHEMA_VERSION = 1

_WORD = pa.dictionary(pa.int32(), pa.string())

EPOCH_COLUMNS = pa.schema(
    [
        ("member_id", _WORD),
        ("attempt", pa.int64()),
        ("step", pa.int64()),
        ("lr", pa.float64()),
        ("train_loss", pa.float64()),
        ("train_error", pa.float64()),
        ("valid_error", pa.float64()),
        ("test_loss", pa.float64()),
        ("test_error", pa.float64()),
    ]
)

PROBE_COLUMNS = pa.schema(
    [
        ("member_id", _WORD),
        ("attempt", pa.int64()),
        ("step", pa.int64()),
        ("probe", _WORD),
        ("split", _WORD),
        ("group", _WORD),
        ("key", _WORD),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("other_member_id", _WORD),
    ]
)

_EPOCH_KEY = ["member_id", "step"]
_PROBE_KEY = ["member_id", "step", "probe", "split", "group", "key", "other_member_id"]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a results folder holds.

    Attributes:
        directory: the folder.
        manifest: `manifest.json`.
        members: one row per member.
        epochs: one row per (member, step): `EPOCH_COLUMNS`, sorted by member and step.
        probes: one row per measured value: `PROBE_COLUMNS`.
    """

    directory: Path
    manifest: Mapping[str, Any]
    members: pd.DataFrame
    epochs: pd.DataFrame
    probes: pd.DataFrame


def read_tables(directory: Path) -> Tables:
    """Read a results folder, finished or not.

    Args:
        directory: the results folder.

    Returns:
        Its tables. Of rows with the same key the one of the highest attempt is kept; a folder in which training has
        not written anything yet has empty tables.

    Raises:
        SpecError: the folder, its manifest or one of its files cannot be read, or has another schema version.
    """
    manifest = _manifest(directory)
    members = _members(directory / "members.parquet")
    epochs = _parts(directory / "epochs", EPOCH_COLUMNS, _EPOCH_KEY)
    probes = _parts(directory / "probes", PROBE_COLUMNS, _PROBE_KEY)
    epochs = epochs.sort_values(_EPOCH_KEY, ignore_index=True)
    return Tables(directory=directory, manifest=manifest, members=members, epochs=epochs, probes=probes)


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / "manifest.json"
    if not directory.is_dir():
        raise SpecError([f"a results folder is a directory; {str(directory)!r} is not: give the folder a run wrote"])
    if not path.is_file():
        raise SpecError(
            [f"a results folder holds manifest.json; {str(directory)!r} does not: was it written by a run?"]
        )
    try:
        manifest: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SpecError([f"manifest.json must be readable JSON; {str(path)!r} is not ({error})"]) from None
    found = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if found != SCHEMA_VERSION:
        age = "a newer" if isinstance(found, int) and found > SCHEMA_VERSION else "another"
        raise SpecError(
            [
                f"this version reads results of schema_version {SCHEMA_VERSION}; {str(path)!r} has {found!r}: "
                f"read it with {age} version of the program"
            ]
        )
    if not isinstance(manifest.get("sweep"), dict):
        raise SpecError([f"manifest.json holds the resolved sweep under 'sweep'; {str(path)!r} does not"])
    mapping: dict[str, Any] = manifest
    return mapping


def _members(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SpecError(
            [f"a results folder holds members.parquet; {str(path.parent)!r} does not: was the run started?"]
        )
    try:
        members: pd.DataFrame = pq.read_table(path).to_pandas()
    except (OSError, pa.ArrowInvalid) as error:
        raise SpecError([f"members.parquet must be readable Parquet; {str(path)!r} is not ({_first(error)})"]) from None
    missing = [name for name in ("member_id", "phase", "seed", "status") if name not in members]
    if missing:
        raise SpecError([f"members.parquet needs the columns {', '.join(missing)}; {str(path)!r} lacks them"])
    if "attempt" in members:
        members = members.sort_values("attempt", kind="stable")
    latest: pd.DataFrame = members.drop_duplicates("member_id", keep="last")
    ordered: pd.DataFrame = latest.sort_values("member_id", ignore_index=True)
    return ordered


def _parts(folder: Path, schema: pa.Schema, key: list[str]) -> pd.DataFrame:
    """All part files of a folder as one frame; unfinished parts have another ending and are not seen."""
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        empty: pd.DataFrame = schema.empty_table().to_pandas()
        return empty
    words = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    form = ds.ParquetFileFormat(dictionary_columns=words)
    try:
        table = ds.dataset([str(path) for path in paths], schema=schema, format=form).to_table()
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        broken = [path for path in paths if not _is_readable(path)]
        named = f" (unreadable: {', '.join(path.name for path in broken[:3])})" if broken else ""
        rule = f"the parts in {str(folder)!r} must be readable Parquet of this schema"
        fault = f"{rule}; {_first(error)}{named}: resume the run or remove them"
        raise SpecError([fault]) from None
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas()
    if not frame.duplicated(key).any():
        return frame
    return frame.sort_values("attempt", kind="stable").drop_duplicates(key, keep="last")


def _is_readable(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
