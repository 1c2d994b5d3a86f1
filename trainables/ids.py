"""Ids that depend on nothing but content."""

import hashlib
import json

__all__ = ["canonical", "hash_of_text", "short_hash"]


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
