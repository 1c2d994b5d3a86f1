"""Variants: several arms of one study that differ in more than one setting, each a change of the sweep file.

A variant is written as the part of the file that it changes. Mappings are merged key by key; anything else is replaced,
an axis as a whole (it has one form), a task or model as a whole where its name changes; null takes a key away.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["RESOLVED", "merged", "own_content", "unmarked"]

RESOLVED = "resolved"
"""Key that marks a variant as a whole sweep file of its own, as manifests hold it: nothing is merged into it."""

_WHOLE = ("task", "model")


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A sweep file with a variant's changes.

    Args:
        base: the sweep file's content, variants left out.
        change: what the variant says.

    Returns:
        The content of the variant's own sweep file.
    """
    if change.get(RESOLVED):
        return {**unmarked(change), **({"name": base["name"]} if "name" in base else {})}
    made = dict(base)
    for key, value in change.items():
        here = made.get(key)
        if value is None:
            made.pop(key, None)
        elif key == "axes" and isinstance(value, Mapping) and isinstance(here, Mapping):
            made[key] = {name: axis for name, axis in {**here, **value}.items() if axis is not None}
        elif key in _WHOLE and isinstance(value, Mapping) and value.get("name", _name(here)) != _name(here):
            made[key] = dict(value)
        elif isinstance(value, Mapping) and isinstance(here, Mapping):
            made[key] = merged(here, value)
        else:
            made[key] = value
    return made


def unmarked(content: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved variant without its mark.

    Args:
        content: of the variant.

    Returns:
        Everything else.
    """
    return {key: value for key, value in content.items() if key != RESOLVED}


def own_content(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What a variant's own sweep file holds of the whole file: everything but what is about all variants together.

    Args:
        mapping: the whole file's content.

    Returns:
        The content without variants and probes, and without the choice of one in `headline` and `analysis.control`.
    """
    base = {key: value for key, value in mapping.items() if key not in ("variants", "probes")}
    base["headline"] = _without(base.get("headline") or {})
    analysis = base.get("analysis")
    if isinstance(analysis, Mapping) and "control" in analysis:
        base["analysis"] = {**analysis, "control": _without(analysis["control"] or {})}
    return base


def _without(choice: object) -> object:
    return {key: value for key, value in choice.items() if key != "variant"} if isinstance(choice, Mapping) else choice


def _name(part: object) -> object:
    return part.get("name") if isinstance(part, Mapping) else None
