"""The rules that keep the project in three layers, small files and quick to start."""

import ast
import json
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trainables", "analysis", "sweeps")
# What each layer must not know. `sweeps` may know everything.
FORBIDDEN = {
    "trainables": {"ray", "mlflow", "optuna", "pydantic", "typer", "analysis", "sweeps"},
    "analysis": {"ray", "mlflow", "optuna", "sweeps"},
    "sweeps": set[str](),
}
LONGEST_FILE = 400
IMPORT_SECONDS = 0.5


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(source: str) -> set[str]:
    """Top-level names of everything a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            names |= {str(a.value).split(".")[0] for a in node.args if isinstance(a, ast.Constant)}
    return names


def test_imported_sees_every_form() -> None:
    source = "import a.b, c\nfrom d.e import f\nfrom . import g\ndef h():\n    import i\n    import_module('j.k')\n"
    assert imported(source) == {"a", "c", "d", "i", "j"}


@pytest.mark.parametrize("package", PACKAGES)
def test_import_rule(package: str) -> None:
    files = modules(package)
    assert files, f"{package} has no modules"
    breaches = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in files
        if (found := imported(path.read_text()) & FORBIDDEN[package])
    }
    assert not breaches


def test_files_are_short_enough_to_read() -> None:
    files = [path for package in (*PACKAGES, "tests", "benchmarks") for path in modules(package)]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.mark.parametrize("name", ["sweeps.cli", "analysis", "trainables"])
def test_import_is_quick_and_light(name: str) -> None:
    # CPU seconds: what the import costs on a machine that does nothing else, whatever this one is doing.
    program = (
        "import json, sys, time; start = time.process_time();"
        f"import {name};"
        "seconds = time.process_time() - start;"
        "print(json.dumps([seconds, [m for m in ('torch', 'ray', 'mlflow') if m in sys.modules]]))"
    )
    results = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
    assert all(heavy == [] for _, heavy in results)
    assert statistics.median(seconds for seconds, _ in results) < IMPORT_SECONDS


@pytest.mark.slow
def test_wheel_holds_presets_templates_and_type_markers(tmp_path: Path) -> None:
    # From a copy, so that the build leaves nothing in the checkout.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                target = source / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), "."]
    subprocess.run([sys.executable, *command], cwd=source, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    wanted = {str(path.relative_to(ROOT)) for package in PACKAGES for path in modules(package)}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "sweeps" / "presets").glob("*.yaml")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "analysis" / "templates").glob("*")}
    wanted |= {f"{package}/py.typed" for package in PACKAGES}
    assert wanted <= held
    assert not any(name.startswith("tests") for name in held)

    # -P and the missing finder keep the checkout off the path: what answers is the wheel's content.
    program = (
        "import sys; sys.path.insert(0, '.'); sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)];"
        "import sweeps; print(sweeps.__path__, file=sys.stderr);"
        "sys.argv = ['lratlas', 'presets', '--json']; from sweeps.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path / "installed", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(ROOT) not in done.stderr
    assert "band-digits" in {preset["name"] for preset in json.loads(done.stdout)}
