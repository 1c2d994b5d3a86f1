"""From a preset's name or a file's path, and `--set` changes, to the mapping that a sweep file holds."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from sweeps.faults import unknown
from trainables.faults import did_you_mean
from trainables.spec import SpecError

__all__ = ["override", "parse_yaml", "preset_names", "read_source"]

_AXIS_FORMS = ("values", "range", "log_grid", "same_as")


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number, and a key given twice is a fault."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys differ.

        Args:
            node: what the parser found.
            deep: as in PyYAML.

        Returns:
            The mapping.

        Raises:
            yaml.constructor.ConstructorError: a key stands there twice.
        """
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} twice", key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep=deep)


# PyYAML follows YAML 1.1, where a float needs a dot: 1e-4 would be a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML.

    Args:
        text: the content.
        where: what to call it in a message.

    Returns:
        What it holds.

    Raises:
        SpecError: a syntax error or a key given twice, with its line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise SpecError([f"{place}: must be valid YAML, found {problem}; correct it"]) from None


def preset_names() -> list[str]:
    """The shipped studies.

    Returns:
        Their names in alphabetical order.
    """
    return sorted(path.name.removesuffix(".yaml") for path in files("sweeps").joinpath("presets").iterdir())


def read_source(name_or_path: str) -> dict[str, Any]:
    """Find a sweep file and read it.

    Args:
        name_or_path: a preset's name or the path of a YAML file.

    Returns:
        Its mapping, unchecked.

    Raises:
        SpecError: there is no such preset or file, or it holds no mapping.
    """
    path = Path(name_or_path)
    if name_or_path in preset_names():
        text = files("sweeps").joinpath("presets", f"{name_or_path}.yaml").read_text(encoding="utf-8")
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError([f"a sweep file must be readable text, found {error}"]) from None
    elif path.suffix in (".yaml", ".yml") or path.parent != Path():
        raise SpecError(
            [f"a sweep file must exist, found none at {path}; or name a preset: {', '.join(preset_names())}"]
        )
    else:
        raise SpecError([unknown("preset", name_or_path, preset_names(), hint="; or give the path of a YAML file")])
    found = parse_yaml(text, name_or_path)
    if not isinstance(found, dict):
        raise SpecError([f"{name_or_path} must hold a mapping of the keys of a sweep, found {type(found).__name__}"])
    return found


def override(mapping: Mapping[str, Any], changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Apply `--set key=value`.

    Args:
        mapping: a sweep file's content.
        changes: each `dotted.path=value`, the value in YAML; a place in a list is its number or its `name`.

    Returns:
        The changed mapping, and a sentence for each change that could not be made.
    """
    changed: dict[str, Any] = _copy(mapping)
    faults = []
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            faults.append(f"--set must be key=value, found {change!r}; for instance --set axes.seed.range=2")
            continue
        try:
            value = parse_yaml(text, f"--set {change}")
        except SpecError as error:
            faults += error.faults
            continue
        if fault := _set(changed, path.split("."), value):
            faults.append(f"--set {change}: {fault}")
    return changed, faults


def _set(mapping: dict[str, Any], keys: list[str], value: Any) -> str | None:
    """Set one value in place; the fault, if it cannot be set."""
    if keys[-3:-2] == ["axes"] and keys[-1] in _AXIS_FORMS:
        keys, value = keys[:-1], {keys[-1]: value}  # an axis has one form: the new one takes the old one's place
    here: Any = mapping
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, dict):
            if last:
                here[key] = value
            elif here.get(key) is None:
                here[key] = {}
            here = here[key]
        elif isinstance(here, list):
            names = [str(item.get("name")) if isinstance(item, dict) else "" for item in here]
            index = names.index(key) if key in names else int(key) if key.isdigit() else -1
            if not 0 <= index < len(here):
                legal = [*map(str, range(len(here))), *filter(None, names)]
                guess = did_you_mean(key, legal)
                return f"the path must exist, found no {key!r} in a list{guess}; legal: {', '.join(legal)}"
            if last:
                here[index] = value
            here = here[index]
        else:
            return (
                f"the path must exist, found the value {here!r} at {'.'.join(keys[:depth])!r}, which holds no {key!r}"
            )
    return None


def _copy(value: Any) -> Any:
    """A deep copy of mappings and lists."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value
