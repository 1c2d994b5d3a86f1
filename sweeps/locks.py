"""One process at a time: a lock that the system itself releases when its holder dies, however it dies."""

import errno
import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["held"]

_POLL_SECONDS = 0.1


@contextmanager
def held(path: Path, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold a lock for the length of a block.

    Args:
        path: the lock file; made if absent, left behind.
        wait_seconds: how long to wait for another holder to let go.

    Yields:
        True when the lock is held; False when another process kept it. File systems without locks yield True.
    """
    deadline = time.monotonic() + wait_seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield False
                    return
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                break
            else:
                break
        yield True
