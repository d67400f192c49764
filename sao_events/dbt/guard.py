"""A small process between the service and dbt: dbt never outlives the service, however that ends.

Run as a script: `python guard.py GRACE KEEP COMMAND...`. It starts the command in a process group of its own and ends
it when its standard input closes, which happens when the service says so and when the service is gone: by SIGINT, which
lets dbt cancel its queries, after GRACE seconds by SIGKILL. KEEP are file descriptors, divided by commas, that the
command inherits. The exit status is the command's; 128 and its number where a signal ended it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def main(arguments: Sequence[str]) -> int:
    """Run the command until it ends or must; its exit status."""
    grace, keep, *command = arguments
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _linux(PR_SET_CHILD_SUBREAPER, 1)
    descriptors = [int(number) for number in keep.split(",") if number]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=descriptors,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 (there are no threads here)
    )
    code = _watch(child, ended, float(grace))
    _clear(child.pid)
    return code if code >= 0 else 128 - code


def _watch(child: subprocess.Popen[bytes], ended: int, grace: float) -> int:
    waiting, deadline = [0, ended], float("inf")
    while (code := child.poll()) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            _signal_group(child.pid, signal.SIGKILL)
            return child.wait()
        ready, _, _ = select.select(waiting, [], [], min(left, 3600.0))
        if ended in ready:
            os.read(ended, 4096)
        if 0 in ready and not os.read(0, 4096):
            waiting.remove(0)
            deadline = time.monotonic() + grace
            _signal_group(child.pid, signal.SIGINT)
    return code


def _clear(group: int) -> None:
    """Wait for what the command has left behind, and kill what does not end by itself."""
    limit = time.monotonic() + 1.0
    while _reap(group):
        if time.monotonic() > limit:
            _signal_group(group, signal.SIGKILL)
            limit = float("inf")
        time.sleep(0.005)


def _reap(group: int) -> bool:
    """Collect ended processes; whether some of the group are left."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _die_with_parent() -> None:
    """On Linux the kernel ends the command when this process is killed."""
    _linux(PR_SET_PDEATHSIG, int(signal.SIGINT))


def _linux(option: int, value: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
