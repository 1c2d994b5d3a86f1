"""Jobs for a cluster: what travels, what is run, and a real two-node cluster that demands a token."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sweeps.submission import SWEEP_FILE, bundle, entrypoint, submit
from sweeps.sweep import load_sweep
from trainables.spec import SpecError

TINY = """
name: tiny
question: Does every part meet the next?
task: {name: digits, train_size: 64, test_size: 100, label_noise: 0.0}
model: {name: mlp_si, width: 8, depth: 2}
train: {batch_size: 16, sphere_radius: 1.0}
phases: [{name: pretrain, steps: 40}]
axes:
  lr: {values: [1.0e-3, 1.0e-2]}
  seed: {range: 2}
measure: {report_every: 20}
analysis: {kind: band, metric: final}
run: {executor: loop}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_bundle_runs_by_itself_and_means_the_same(tiny: Path, tmp_path: Path) -> None:
    sweep = load_sweep(str(tiny), ["axes.seed.range=3"])
    folder = tmp_path / "job"
    folder.mkdir()
    bundle(sweep, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["analysis", "sweeps", "trainables", SWEEP_FILE])
    assert not list(folder.rglob("__pycache__"))
    # In the job's folder the shipped packages are the ones imported, and the shipped file is the same sweep.
    program = (
        f"import json, sweeps; from sweeps.sweep import load_sweep; s = load_sweep({SWEEP_FILE!r});"
        "print(json.dumps([sweeps.__path__[0], s.model_dump(mode='json')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    place, content = json.loads(done.stdout)
    assert Path(place) == folder / "sweeps"
    assert content == sweep.model_dump(mode="json")


@pytest.mark.parametrize(
    ("out", "place"),
    [("~/runs/my study", "/home/me/runs/my study"), ("/mnt/a b", "/mnt/a b"), ("/mnt/$(x)", "/mnt/$(x)")],
)
def test_entrypoint_names_the_folder_that_was_meant(out: str, place: str, tmp_path: Path) -> None:
    # A stand-in for python prints its arguments, so that a real shell reads the command.
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/home/me"}
    done = subprocess.run(entrypoint(out), shell=True, env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words == ["-m", "sweeps", "run", SWEEP_FILE, "--address", "auto", "--out", place]


@pytest.mark.parametrize("address", ["auto", "127.0.0.1:6379", "ray://127.0.0.1:10001", ""])
def test_address_must_be_a_dashboard(tiny: Path, address: str) -> None:
    with pytest.raises(SpecError, match="must be the URL of a cluster's dashboard"):
        submit(load_sweep(str(tiny)), address)


@dataclass(frozen=True)
class TwoNodes:
    """A head that runs no packs and a worker with two cores, behind a token."""

    address: str
    dashboard: str
    environment: dict[str, str]

    def lratlas(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweeps", *arguments]
        environment = self.environment | changes
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


# A process of its own: Ray reads the token once per process, and other tests here run without one.
CLUSTER = """
import json, socket, sys
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
dashboard = port()
cluster = Cluster()
# Each node has files of its own, as on two machines.
cluster.add_node(num_cpus=0, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=dashboard,
                 temp_dir=sys.argv[1], object_store_memory=150 * 2**20)
cluster.add_node(num_cpus=2, temp_dir=sys.argv[2], object_store_memory=150 * 2**20)
cluster.wait_for_nodes()
# As `ray start` does; without it a job may take another Ray on this machine for its own.
write_ray_address(cluster.address, sys.argv[1])
print(json.dumps([cluster.address, f"http://127.0.0.1:{dashboard}"]), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    # Paths of Unix sockets must be short, so not below tmp_path.
    folder = tempfile.mkdtemp(prefix="lr")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-c", CLUSTER, f"{folder}/a", f"{folder}/b"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = next((line for line in process.stdout if line.startswith("[")), None)
        assert said is not None, "the cluster did not start"
        yield TwoNodes(*json.loads(said), environment)
        process.stdin.close()  # the cluster ends its own processes, and only those
        process.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def assert_complete(out: Path) -> None:
    members = pq.read_table(out / "members.parquet").to_pylist()
    assert [row["status"] for row in members] == ["completed"] * 4
    rows = pq.read_table(out / "epochs").to_pylist()
    assert sorted((row["member_id"], row["step"]) for row in rows) == sorted(
        (row["member_id"], step) for row in members for step in (20, 40)
    )
    assert "optimum_lr" in json.loads((out / "report" / "answer.json").read_text())


@pytest.mark.slow
@pytest.mark.ray
def test_run_on_a_cluster(cluster: TwoNodes, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cluster.lratlas("run", str(tiny), "--address", cluster.address, "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert_complete(out)


@pytest.mark.slow
@pytest.mark.ray
def test_submitted_sweep_runs_without_us(cluster: TwoNodes, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cluster.lratlas("submit", str(tiny), "--address", cluster.dashboard, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert job["out"] == str(out)
    ray = [str(Path(sys.executable).with_name("ray"))]
    status, deadline = "", time.monotonic() + 240
    while "succeeded" not in status and "failed" not in status and time.monotonic() < deadline:
        time.sleep(2)
        command = [*ray, "job", "status", "--address", cluster.dashboard, job["job_id"]]
        status = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=False).stdout
    # The command that the user was given shows what the job printed.
    follow = [*ray, *job["follow"].split()[1:]]
    shown = subprocess.run(follow, env=cluster.environment, capture_output=True, text=True, check=False, timeout=60)
    assert "succeeded" in status, status + shown.stdout[-3000:]
    assert str(out) in shown.stdout
    assert_complete(out)


@pytest.mark.slow
@pytest.mark.ray
def test_wrong_token_is_one_clear_sentence(cluster: TwoNodes, tiny: Path, tmp_path: Path) -> None:
    wrong = secrets.token_hex(32)
    for arguments in (
        ("submit", str(tiny), "--address", cluster.dashboard),
        ("run", str(tiny), "--address", cluster.address, "--out", str(tmp_path / "out")),
    ):
        done = cluster.lratlas(*arguments, RAY_AUTH_TOKEN=wrong)
        assert done.returncode == 2, done.stdout + done.stderr
        assert cluster.address in done.stdout + done.stderr or "must know this user" in done.stderr
        assert "Traceback" not in done.stderr
        assert wrong not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists()
