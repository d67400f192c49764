"""One engine for each state folder: an advisory lock, inherited by builds, so that it is held while one of them
lives.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from sao_events.core.errors import Busy, StoreError

LOOK = 0.1  # seconds between looks at a lock that is about to become free


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

    def acquire(self, patience: float = 0.0, tell: Callable[[str], None] = lambda said: None) -> None:
        """Take the lock. A process that lives is not waited for; the builds that a dead one left behind are, up to
        `patience` seconds, which `tell` is told once: they end by themselves.

        Raises Busy, naming who holds it, and StoreError where the folder cannot be used.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be opened: {error.strerror}", hint="set state_dir to a folder that can be written"
            ) from None
        try:
            self._take(fd, patience, tell)
            self._sign(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Give the lock up; builds that inherited it still hold it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _take(self, fd: int, patience: float, tell: Callable[[str], None]) -> None:
        until, told = time.monotonic() + patience, False
        while not _locked(fd):
            holder = _holder(fd)
            if holder is not None and _alive(holder):
                raise Busy(
                    f"{self.path.parent} is in use by process {holder}",
                    hint="stop that service first; `sao-events status` shows what it does",
                )
            if time.monotonic() >= until:
                raise Busy(
                    f"{self.path.parent} is in use by a build that process {holder or '?'} left behind",
                    hint=f"it is about to end: try again in a moment, or look who has {self.path} open",
                )
            if not told:
                told = True
                tell(f"waiting up to {patience:.0f} s for the end of a build that process {holder or '?'} left behind")
            time.sleep(LOOK)

    def _sign(self, fd: int) -> None:
        try:
            os.pwrite(fd, f"{os.getpid()}\n".encode().ljust(16), 0)
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error.strerror}", hint="free some space, or check the disk"
            ) from None


def at_work(state_dir: Path) -> bool:
    """Whether the process that last held the lock of the folder lives. Nothing is locked to find out."""
    try:
        with (state_dir / "lock").open("rb") as file:
            holder = _holder(file.fileno())
    except OSError:
        return False
    return holder is not None and _alive(holder)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"the state folder cannot be locked: {error.strerror}", hint="put it on a file system that knows locks"
        ) from None
    return True


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 2**31 else None


def _alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has asked after does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in ("Z", "X")
