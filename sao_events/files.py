"""Which files make a dbt project what it is, and a stamp that tells whether one of them has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from sao_events.core.project import IGNORED_FOLDERS

PACKAGES = "dbt_packages"
MOST = 10_000  # folders that are looked at: a link may lead anywhere
SUFFIXES = frozenset({".sql", ".yml", ".yaml", ".py", ".csv", ".md"})


def matters(path: Path, folder: Path) -> bool:
    """Whether a change of `path` can change the project in `folder`: not dbt's own output, nor an editor's temporary
    files.
    """
    try:
        parts = path.relative_to(folder).parts
    except ValueError:
        return False
    return bool(parts) and not IGNORED_FOLDERS.intersection(parts[:-1]) and _read(parts[-1])


def stamp(folder: Path | None, files: Iterable[Path] = (), without: Path | None = None) -> str:
    """A digest of names, sizes and times of `files` and of what dbt reads in `folder`, installed packages included,
    except for what is in `without`. It reads no content and follows links; it differs after every change that a file
    system tells of. Never raises.
    """
    found = {str(file): _told(file) for file in files}
    seen = {os.path.realpath(without)} if without else set[str]()
    for place, folders, names in os.walk(folder, followlinks=True) if folder else ():  # dbt links local packages
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if name == PACKAGES or name not in IGNORED_FOLDERS]
        if real in seen or len(seen) > MOST:
            folders.clear()
            continue
        seen.add(real)
        found |= {f"{place}/{name}": _told(Path(place, name)) for name in names if _read(name)}
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def _read(name: str) -> bool:
    return Path(name).suffix in SUFFIXES and not name.startswith((".", "#", "~"))


def _told(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns
