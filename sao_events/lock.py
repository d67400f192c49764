"""One engine for each state folder: an advisory lock that builds inherit, so that it is held while any of them lives.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sao_events.errors import Busy, StoreError


class StateLock:
    """Holds `<state_dir>/lock`. Processes that inherit `fd` keep it held after this one has died."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "lock"
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The open descriptor, to be passed on to builds. Raises StoreError where the lock is not held."""
        if self._fd is None:
            raise StoreError(f"the lock {self.path} is not held")
        return self._fd

    def acquire(self) -> None:
        """Take the lock at once. Raises Busy, naming the process that holds it, and StoreError where the folder
        cannot be used.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be opened: {error.strerror}", hint="set state_dir to a folder that can be written"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(fd, 32).decode(errors="replace").strip()
            os.close(fd)
            raise Busy(
                f"{self.path.parent} is in use by process {holder or '?'} or by a build that it started",
                hint="stop that service, or wait until its build has ended; `sao-events status` shows what it does",
            ) from None
        os.truncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Give the lock up; builds that inherited it still hold it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
