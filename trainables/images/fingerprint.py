"""Checksums of files, for the manifest: which images were used."""

import hashlib
from functools import lru_cache
from pathlib import Path

__all__ = ["file_sha256"]


@lru_cache(maxsize=4096)
def _sha256(path: str, _size: int, _modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content; read again only when size or time of change differ.

    Args:
        path: a local file.

    Returns:
        64 hexadecimal digits.
    """
    facts = path.stat()
    return _sha256(str(path), facts.st_size, facts.st_mtime_ns)
