"""What every test shares: one compute thread, a quiet and unauthenticated local Ray, no telemetry."""

import os
from pathlib import Path

import pytest

# Before anything imports torch, ray or mlflow: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A local Ray would otherwise write a token into the home directory of whoever runs the tests.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if "gpu" in item.keywords]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device on this machine"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def cifar10_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the CIFAR-10 images, where the tasks look for them too; without it the test is skipped."""
    folder = Path(os.environ.get("LRATLAS_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "cifar10-train.parquet").is_file():
        pytest.skip(f"needs the CIFAR-10 images: no cifar10-train.parquet in {folder}; set LRATLAS_DATA")
    monkeypatch.setenv("LRATLAS_DATA", str(folder))
    return folder
