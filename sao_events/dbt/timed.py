"""Whether what a project says depends on when it is parsed: `count: "{{ 24 if modules.datetime ... }}"`.

dbt renders YAML and `config()` when it parses, and keeps what came of it until the file changes. So a rule for weekdays
that is written that way stands still in whatever runs for longer, unless all is parsed anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from sao_events.dbt.command import YAML, project_files

_CLOCK = re.compile(r"modules\s*\.\s*datetime|run_started_at")
_IN_YAML = re.compile(rf"\{{[{{%](?:(?![}}%]\}}).)*?(?:{_CLOCK.pattern})", re.DOTALL)
_CONFIG = re.compile(r"\bconfig\s*\(")
_SET = re.compile(
    r"\{%-?\s*set\s+(\w+)\s*=(.*?)-?%\}|\{%-?\s*set\s+(\w+)\s*-?%\}(.*?)\{%-?\s*endset", re.DOTALL
)  # in a line, or as a block
_TEXT = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_WORD = re.compile(r"\b([A-Za-z_]\w*)\b(?!\s*=(?!=))")  # not the name of an argument
Called = Callable[[Iterable[str]], Iterable[str]]


def time_dependent(root: Path | None, codes: Iterable[str], called: Called = lambda words: ()) -> bool:
    """Whether a clock is read in the Jinja of any YAML below `root`, or for a `config()` in any of the `codes`: in it,
    in what the code sets for it, or in a macro. `called` gives the texts of the macros that words may name, and of all
    that these call.
    """
    if any(_asks(code, called) for code in codes if "config" in code):
        return True
    return root is not None and any(_IN_YAML.search(text) for text in _texts(root))


def _asks(code: str, called: Called) -> bool:
    texts, words = list(_configs(code)), set[str]()
    values = dict[str, list[str]]()
    for found in _SET.finditer(code) if any(map(_WORD.search, texts)) else ():
        values.setdefault(found[1] or found[3], []).append(_TEXT.sub("''", found[2] or found[4]))
    for text in texts:  # what is set for it is appended while it goes on
        if _CLOCK.search(text):
            return True
        new = set(_WORD.findall(text)) - words
        words |= new
        texts += [value for word in new for value in values.get(word, ())]
    return any(map(_CLOCK.search, called(words)))


def _configs(code: str) -> Iterator[str]:
    """What stands in the brackets of each `config()`, texts left out."""
    for found in _CONFIG.finditer(code):
        rest, depth = _TEXT.sub("''", code[found.end() :]), 1
        for at, sign in enumerate(rest):
            depth += (sign == "(") - (sign == ")")
            if depth == 0:
                yield rest[:at]
                break


def _texts(root: Path) -> Iterator[str]:
    for path in project_files(root, YAML):
        with suppress(OSError, UnicodeDecodeError):
            yield path.read_text(encoding="utf-8")
