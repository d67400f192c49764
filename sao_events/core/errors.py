"""Errors that a user meets: what went wrong, where, and what to do about it.

Every error that may reach a person derives from `SaoError`; its text is meant to be printed as it is. `exit_code` is
what the command line returns for it.
"""

from __future__ import annotations


class SaoError(Exception):
    """Something a user can act on. `hint` says what to do next; `exit_code` is the status of the command line."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(SaoError):
    """The command line or a request asks for something that does not exist or makes no sense."""

    exit_code = 2


class NotThere(UsageError):
    """What is asked for by a name that nothing has, or not what has it (HTTP 404)."""


class ConfigError(SaoError):
    """A configuration or scenario file is wrong; the message names file and line."""

    exit_code = 2


class GraphError(SaoError):
    """The project's graph cannot be used: a cycle, a name twice, a reference to nothing. `about`: of which node."""

    def __init__(self, message: str, *, hint: str | None = None, about: str = "") -> None:
        super().__init__(message, hint=hint)
        self.about = about


class PolicyError(SaoError):
    """A freshness policy that cannot be understood; the message names the node."""


class DbtError(SaoError):
    """dbt is missing, or refused the project, the profile or the command."""


class StoreError(SaoError):
    """The event log cannot be read or written: corrupt, of a newer release, disk full."""


class Busy(SaoError):
    """Another process holds what is needed: the state directory, the port."""


def words(error: Exception) -> str:
    """What is told of an error; one that nobody foresaw says that it is one."""
    return str(error) if isinstance(error, (SaoError, OSError)) else f"internal error: {type(error).__name__}: {error}"
