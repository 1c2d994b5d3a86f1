"""The results folder: the only place that knows a path in it, and the manifest that says what made it."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps.provenance import device, git_commit, versions
from sweeps.words import size
from trainables.rows import SCHEMA_VERSION
from trainables.spec import SpecError

if TYPE_CHECKING:
    from sweeps.plan import Plan
    from sweeps.sweep import Sweep

__all__ = ["RunFolder", "write_json"]


def write_json(path: Path, content: object) -> None:
    """Write JSON beside its final name and rename, so that a reader never sees half a file.

    Args:
        path: where it shall be; its folder exists.
        content: anything JSON can hold.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


@dataclass(frozen=True)
class RunFolder:
    """One sweep's results.

    Attributes:
        root: the folder itself.
    """

    root: Path

    @property
    def manifest(self) -> Path:
        """What was run: resolved sweep, versions, device, commit, command line."""
        return self.root / "manifest.json"

    @property
    def members(self) -> Path:
        """One row per member."""
        return self.root / "members.parquet"

    @property
    def epochs(self) -> Path:
        """Folder of part files of the table `epochs`."""
        return self.root / "epochs"

    @property
    def probes(self) -> Path:
        """Folder of part files of the table `probes`."""
        return self.root / "probes"

    @property
    def checkpoints(self) -> Path:
        """Folder of kept weights."""
        return self.root / "checkpoints"

    @property
    def state(self) -> Path:
        """Folder of what unfinished packs need to go on; private to training and runners."""
        return self.root / "state"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def answer(self) -> Path:
        """The answer in numbers."""
        return self.report / "answer.json"

    @property
    def ray(self) -> Path:
        """Folder of Ray Tune's own files."""
        return self.root / "ray"

    @property
    def mlflow(self) -> Path:
        """Folder of the default MLflow store."""
        return self.root / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """The default MLflow store, a SQLite file in the folder."""
        return f"sqlite:///{(self.mlflow / 'mlflow.db').resolve()}"

    @property
    def probe_list(self) -> Path:
        """Ids of the jobs that the sweep's `probes` were cut into; absent before training has ended."""
        return self.state / "probes.json"

    @property
    def stop_file(self) -> Path:
        """Exists while the packs are asked to save their state and end."""
        return self.state / "STOP"

    @staticmethod
    def default_root(name: str) -> Path:
        """Where a sweep goes when the user names no place.

        Args:
            name: the sweep's name.

        Returns:
            `runs/<name>-<timestamp>`, local time.
        """
        return Path("runs") / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"

    @classmethod
    def create(
        cls,
        root: Path,
        sweep: "Sweep",
        plan: "Plan",
        command_line: Sequence[str],
        images: Mapping[str, Any] | None = None,
    ) -> "RunFolder":
        """Make a new results folder with its manifest.

        Args:
            root: must not exist, or be empty.
            sweep: what shall be run.
            plan: its plan.
            command_line: what the user typed.
            images: which images each recipe uses, by recipe id; for recipes that use any.

        Returns:
            The folder, ready for rows.

        Raises:
            SpecError: `root` holds something, cannot be written, or its disk is too small for the plan.
        """
        folder = cls(Path(root))
        if fault := _why_not(folder, plan.estimated_disk_bytes):
            raise SpecError([fault])
        content = {
            "schema_version": SCHEMA_VERSION,
            "sweep": sweep.model_dump(mode="json"),
            "recipes": {recipe.recipe_id: asdict(recipe) for recipe in plan.recipes},
            "images": dict(images or {}),
            "planned_for": asdict(plan.resources),
            "members": len(plan.members),
            "member_steps": plan.member_steps,
            "executor": sweep.run.executor,
            "versions": versions(),
            "device": device(),
            "git_commit": git_commit(),
            "command_line": list(command_line),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        is_new = not folder.root.exists()
        try:
            for path in (folder.epochs, folder.probes, folder.checkpoints, folder.state):
                path.mkdir(parents=True, exist_ok=True)
            write_json(folder.manifest, content)
        except OSError as error:
            if is_new:
                shutil.rmtree(folder.root, ignore_errors=True)
            found = f"{error.strerror} at {error.filename or folder.root}"
            raise SpecError([f"--out must be writable, found {found}; give another --out"]) from error
        return folder

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Open an existing results folder.

        Args:
            root: the folder.

        Returns:
            The folder; its manifest is readable and of this version.

        Raises:
            SpecError: it is not a results folder, cannot be read, or was written by another version.
        """
        folder = cls(Path(root))
        folder.read_manifest()
        return folder

    def read_manifest(self) -> dict[str, Any]:
        """What manifest.json holds.

        Returns:
            Its content, of this schema version.

        Raises:
            SpecError: there is none, it cannot be read, or it is of another version.
        """
        if not self.root.is_dir():
            raise SpecError([f"a results folder must exist, found none at {self.root}; `lratlas run` makes one"])
        try:
            content = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            way = "name the folder that `lratlas run` printed"
            raise SpecError([f"a results folder must hold manifest.json, found none in {self.root}; {way}"]) from None
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            found = f"{error} in {self.root}"
            raise SpecError([f"manifest.json must be readable, found {found}; restore it from a copy"]) from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version != SCHEMA_VERSION:
            raise SpecError([_version_sentence(self.root, version)])
        return dict(content)

    def update_manifest(self, **changes: object) -> None:
        """Replace entries of manifest.json, the file as a whole.

        Args:
            changes: new values by key, e.g. `executor="stacked"` once it is known.
        """
        write_json(self.manifest, {**self.read_manifest(), **changes})

    def sweep(self) -> "Sweep":
        """The sweep that made the folder.

        Returns:
            The resolved sweep of the manifest.
        """
        from sweeps.sweep import sweep_from_mapping

        return sweep_from_mapping(self.read_manifest()["sweep"])

    def plan(self) -> "Plan":
        """The plan as it was made for the machine that began the sweep, so that its packs keep their ids.

        Returns:
            The same plan, wherever it is asked for.
        """
        from sweeps.plan import plan
        from sweeps.resources import Resources

        return plan(self.sweep(), **asdict(Resources(**self.read_manifest()["planned_for"])))


def _why_not(folder: RunFolder, needed: int) -> str | None:
    """What is wrong with a place for new results, if anything is."""
    root = folder.root
    if root.exists():
        if not root.is_dir():
            return f"--out must be a folder, found a file at {root}; give another --out"
        if not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            return f"--out must be readable and writable, found no access to {root}; give another --out"
        if any(root.iterdir()):
            way = f"`lratlas resume {root}` goes on with it" if folder.manifest.exists() else "empty it"
            return f"--out must be a new or empty folder, found files in {root}; {way}, or give another --out"
    place = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        found = f"{size(free)} free at {place}"
        return f"the disk must hold about {size(needed)} of results, found {found}; make room or give another --out"
    return None


def _version_sentence(root: Path, found: object) -> str:
    """Why a folder of another version is refused, and the way out."""
    if not isinstance(found, int):
        return f"manifest.json must state a schema_version, found {found!r} in {root}; name a folder `lratlas run` made"
    age, way = (
        ("a newer", "update lr-atlas to read it")
        if found > SCHEMA_VERSION
        else ("an older", "read it with the version of lr-atlas named in its manifest.json, or run the sweep again")
    )
    return f"schema_version must be {SCHEMA_VERSION}, found {found} in {root}: it was written by {age} lr-atlas; {way}"
