"""Ids that depend on nothing but content."""

import hashlib
import json

__all__ = ["short_hash"]


def short_hash(content: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `content` as canonical JSON.

    Args:
        content: anything JSON can hold. Floats are written by `repr`, so equal numbers hash equally everywhere.

    Returns:
        16 characters; 64 bits make a collision among a million ids a one-in-40-million event.
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
