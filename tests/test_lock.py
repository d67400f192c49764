"""The lock of a state folder: one holder, named to the next, and held on by what inherited it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sao_events.core.errors import Busy, StoreError
from sao_events.lock import StateLock


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path), StateLock(tmp_path)
    first.acquire()
    with pytest.raises(Busy, match=str(os.getpid())):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_an_inherited_lock_outlives_its_owner(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock.fd,), stdout=subprocess.DEVNULL
    )
    lock.release()
    with pytest.raises(Busy):
        StateLock(tmp_path).acquire()
    child.communicate(b"\n")
    again = StateLock(tmp_path)
    again.acquire()
    again.release()


def test_the_folder_is_made(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "a" / "b")
    lock.acquire()
    assert (tmp_path / "a" / "b" / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_folder_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        StateLock(tmp_path / "file").acquire()


def test_what_is_not_held_has_no_descriptor(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not held"):
        _ = StateLock(tmp_path).fd
