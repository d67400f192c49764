"""Whether what a project says depends on when it is parsed: `count: "{{ 24 if modules.datetime ... }}"`.

dbt renders YAML and `config()` when it parses, and keeps what came of it until the file changes. So a rule for weekdays
that is written that way stands still in whatever runs for longer, unless all is parsed anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sao_events.dbt.command import YAML, project_files

_CLOCK = r"(?:modules\s*\.\s*datetime|run_started_at)"
_IN_YAML = re.compile(rf"\{{[{{%](?:(?![}}%]\}}).)*?{_CLOCK}", re.DOTALL)
_IN_CODE = re.compile(rf"\bconfig\s*\((?:(?!\}}\}}).)*?{_CLOCK}", re.DOTALL)


def time_dependent(root: Path | None, codes: Iterable[str]) -> bool:
    """Whether a clock is read in the Jinja of any YAML below `root`, or in the `config()` of any of the `codes`. A
    macro that reads it is not looked into.
    """
    if any(_IN_CODE.search(code) for code in codes if "config" in code):
        return True
    return root is not None and any(_IN_YAML.search(text) for text in _texts(root))


def _texts(root: Path) -> Iterator[str]:
    for path in project_files(root, YAML):
        with suppress(OSError, UnicodeDecodeError):
            yield path.read_text(encoding="utf-8")
