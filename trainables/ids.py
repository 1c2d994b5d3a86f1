"""Ids that depend on nothing but content."""

import hashlib
import json
from collections.abc import Callable
from typing import TypeVar

__all__ = ["canonical", "hash_of_text", "once_for_each_object", "short_hash"]

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

HELD = 4096
"""Objects that are remembered at most."""


def canonical(content: object) -> str:
    """Canonical JSON: keys sorted, no spaces, floats by `repr`.

    Args:
        content: anything JSON can hold.

    Returns:
        The same text for equal content everywhere.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def hash_of_text(text: str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a text.

    Args:
        text: any; of ids, canonical JSON.

    Returns:
        16 characters; 64 bits make a collision among a million ids a one-in-40-million event.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def short_hash(content: object) -> str:
    """The id of any content: `hash_of_text` of its canonical JSON.

    Args:
        content: anything JSON can hold.

    Returns:
        16 characters.
    """
    return hash_of_text(canonical(content))


def once_for_each_object(make: Callable[[_Given], _Made]) -> Callable[[_Given], _Made]:
    """`make`, called once for each object: members share their schedules, and comparing two costs more than that.

    Args:
        make: of an object that does not change.

    Returns:
        A function of the same objects; equal ones that are not the same are worked out again.
    """
    made: dict[int, tuple[_Given, _Made]] = {}

    def remembered(given: _Given) -> _Made:
        found = made.get(id(given))
        if found is None:
            if len(made) >= HELD:
                made.clear()
            found = made[id(given)] = (given, make(given))  # holding the object keeps its id its own
        return found[1]

    return remembered
