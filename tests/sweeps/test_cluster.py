"""`cluster.yaml`, checked offline: against Ray's own schema, and for what must never slip."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "cluster.yaml").read_text()))


@pytest.fixture(scope="module")
def checked() -> Any:
    """What `ray up` does with a file before it talks to a cloud."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    def check(config: dict[str, Any]) -> dict[str, Any]:
        prepared = prepare_config(copy.deepcopy(config))
        validate_config(prepared)
        return dict(prepared)

    return check


def start_commands(config: dict[str, Any]) -> list[str]:
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def test_ray_accepts_it(config: dict[str, Any], checked: Any) -> None:
    prepared = checked(config)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["available_node_types"]["gpu-spot"]["max_workers"] == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.update(surprise=1),
        lambda config: config.update(head_node_type="nobody"),
        lambda config: config["available_node_types"]["gpu-spot"].pop("node_config"),
        lambda config: config.update(max_workers="many"),
    ],
    ids=["unknown key", "wrong head", "no machine", "wrong type"],
)
def test_the_check_itself_finds_faults(config: dict[str, Any], checked: Any, spoil: Any) -> None:
    import jsonschema

    spoil(config)
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        checked(config)


def test_head_trains_nothing(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    (start,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--num-cpus=0" in start
    assert "--num-gpus=0" in start


def test_workers_are_spot_gpus_that_come_and_go(config: dict[str, Any]) -> None:
    worker = config["available_node_types"]["gpu-spot"]
    assert worker["min_workers"] == 0
    assert 0 < worker["max_workers"] <= config["max_workers"]
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_every_start_demands_the_token(config: dict[str, Any]) -> None:
    assert len(start_commands(config)) == 2
    for command in start_commands(config):
        assert "RAY_AUTH_MODE=token" in command
    assert any("chmod 600 ~/.ray/auth_token" in command for command in config["setup_commands"])
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"


def test_dashboard_is_on_the_loopback_only(config: dict[str, Any]) -> None:
    hosts = re.findall(r"--dashboard-host=(\S+)", " ".join(start_commands(config)))
    assert hosts == ["127.0.0.1"]


def test_no_secret_in_the_file() -> None:
    text = (ROOT / "cluster.yaml").read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|aws_secret_access_key", text)
    # A Ray token is 64 hexadecimal digits; anything long and random-looking is suspect.
    assert not re.search(r"[0-9a-fA-F]{32,}", text)


def test_what_is_copied_exists_and_is_enough_to_install(config: dict[str, Any]) -> None:
    local = set(config["file_mounts"].values()) - {"~/.ray/auth_token"}
    assert {name for name in local if not (ROOT / name).exists()} == set()
    assert {"pyproject.toml", "README.md", "LICENSE", "trainables", "analysis", "sweeps"} == local
    assert not {".", ".venv", ".git", "runs"} & local


def test_commands_may_run_twice(config: dict[str, Any]) -> None:
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert commands[0].endswith("ray stop")
    for command in config["setup_commands"]:
        # What makes or appends must look first; the rest replaces or is harmless.
        if ">>" in command or "-m venv" in command:
            assert "||" in command
