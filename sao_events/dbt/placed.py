"""Where in a project's files something is set: `file:line`, by reading its YAML as YAML and searching its SQL.

YAML may be written in blocks or in one line, with anchors and merges: the marks of its parser say where a key stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from sao_events.core.project import IGNORED_FOLDERS

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ELSEWHERE = frozenset({"columns", "tests", "data_tests", "tables", "description", "docs"})  # keys of other things
DEEPEST = 50
WINDOW = {"count": r"[-+]?\d+", "period": "minute|hour|day", "updates_on": "any|all"}  # what dbt takes in a build_after


def place(thing: Mapping[str, Any], key: str, root: Path | None) -> str:
    """`file:line` where `key` (`freshness.build_after`) is set for the node or source, as near as its files tell."""
    properties, file = _properties(thing), str(thing.get("original_file_path") or "")
    for name in dict.fromkeys((properties, file) if properties else (file,)):
        if root and (line := _line(root / name, thing, key.split("."))):
            return f"{name}:{line}"
    return properties or file


def beside_config(thing: Mapping[str, Any], keys: Sequence[str], root: Path | None) -> Iterator[tuple[str, str]]:
    """Those of `keys` that stand in the entry of a node itself, outside its `config`, each with `file:line`."""
    properties = _properties(thing)
    if not root or not properties or _file(root / properties).words.isdisjoint(keys):
        return
    for entry in _entries(root / properties, thing):
        for key, _, line in _items(entry):
            if key in keys:
                yield key, f"{properties}:{line}"


def refused_windows(root: Path) -> list[str]:
    """`file:line` of each `build_after` in the YAML and SQL of a project that dbt refuses: it does not say where."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in IGNORED_FOLDERS)
        for path in (Path(folder) / name for name in sorted(names) if name.endswith((".yml", ".yaml", ".sql"))):
            if "build_after" in _file(path).words:
                lines = _refused_in_sql(_file(path).text) if path.suffix == ".sql" else _refused(_file(path).tree)
                found += [f"{path.relative_to(root).as_posix()}:{line}" for line in lines]
    return found


def _refused(node: yaml.Node | None, depth: int = 0) -> Iterator[int]:
    if depth > DEEPEST:
        return
    for item in _of_list(node):
        yield from _refused(item, depth + 1)
    for key, value, line in _items(node):
        window = {name: str(it.value) for name, it, _ in _items(value)}
        if key.removeprefix("+") == "build_after" and _is_refused(window):
            yield line
        yield from _refused(value, depth + 1)


def _refused_in_sql(text: str) -> Iterator[int]:
    for found in re.finditer(r"\bbuild_after\b\W{1,9}?\{([^{}]*)\}", text):
        pairs = (re.split(r"[:=]", item, maxsplit=1) for item in found[1].split(","))
        window = {pair[0].strip(" \n\t'\""): pair[-1].strip(" \n\t'\"") for pair in pairs if len(pair) == 2}
        if _is_refused(window):
            yield text.count("\n", 0, found.start()) + 1


def _is_refused(window: Mapping[str, str]) -> bool:
    if any(re.search(r"[({]", value) for value in window.values()):
        return False  # nobody knows what it renders to
    wrong = [key for key, form in WINDOW.items() if key in window and not re.fullmatch(form, window[key])]
    return bool(wrong) or ("count" in window) != ("period" in window)


def _properties(thing: Mapping[str, Any]) -> str:
    """The YAML that is about the node or source, from the root of the project; empty where there is none."""
    return str(thing.get("patch_path") or "").partition("://")[2]


def _line(path: Path, thing: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    if path.suffix in {".yml", ".yaml"}:
        entries = _entries(path, thing)
        configs = (value for entry in entries for key, value, _ in _items(entry) if key == "config")
        found = (_within(node, keys) for node in (*configs, *entries))
        return next((line for line in found if line), None)
    lines = _file(path).text.splitlines()
    row, line = 0, None
    for key in keys:
        rows = (at for at in range(row, len(lines)) if re.search(rf"\b{re.escape(key)}\b", lines[at]))
        if (at := next(rows, None)) is not None:
            row, line = at, at + 1
    return line


def _within(node: yaml.Node, keys: Sequence[str]) -> int | None:
    """The line of the last of `keys` that is found, each within the one before."""
    line = None
    for key in keys:
        if (found := _find(node, key)) is not None:
            node, line = found
    return line


def _find(node: yaml.Node, key: str, depth: int = 0) -> tuple[yaml.Node, int] | None:
    if depth > DEEPEST:
        return None
    if isinstance(node, yaml.SequenceNode):
        inner: Iterator[yaml.Node] = iter(node.value)
    else:
        items = list(_items(node))
        if (found := next(((value, line) for name, value, line in items if name == key), None)) is not None:
            return found
        inner = (value for name, value, _ in items if name not in ELSEWHERE)
    return next((found for value in inner if (found := _find(value, key, depth + 1)) is not None), None)


def _name(entry: yaml.Node) -> str | None:
    return next((str(value.value) for key, value, _ in _items(entry) if key == "name"), None)


def _items(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node, int]]:
    """The keys of a mapping with their values and lines; of anything else there are none."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield str(key.value), value, key.start_mark.line + 1


@dataclass(frozen=True)
class _File:
    text: str

    @cached_property
    def words(self) -> frozenset[str]:
        """All words in it: most files have none of those that are looked for, and that is asked of each node."""
        return frozenset(re.findall(r"\w+", self.text))

    @cached_property
    def tree(self) -> yaml.Node | None:
        """What it says as YAML; None where that is nothing."""
        try:
            tree: yaml.Node | None = yaml.compose(self.text, Loader=_LOADER)
        except (yaml.YAMLError, RecursionError):
            return None
        return tree

    @cached_property
    def entries(self) -> Mapping[tuple[str | None, str | None], Sequence[yaml.Node]]:
        """The entries that are about each thing, by its group and name; of a source first that of its table."""
        found = dict[tuple[str | None, str | None], list[yaml.Node]]()
        for _, entries, _ in _items(self.tree):
            for entry in _of_list(entries):
                found.setdefault((None, _name(entry)), []).append(entry)
                for key, tables, _ in _items(entry):
                    for table in _of_list(tables) if key == "tables" else ():
                        found.setdefault((_name(entry), _name(table)), []).extend((table, entry))
        return found


def _of_list(node: yaml.Node | None) -> Sequence[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else ()


def _entries(path: Path, thing: Mapping[str, Any]) -> Sequence[yaml.Node]:
    return _file(path).entries.get((thing.get("source_name"), thing["name"]), ())


def _file(path: Path) -> _File:
    try:
        found = path.stat()
        return _read(path, found.st_mtime_ns, found.st_size)
    except (OSError, UnicodeDecodeError):
        return _File("")


@lru_cache(maxsize=16)  # the files that were looked at last: what is said of nodes is said file by file
def _read(path: Path, changed: int, size: int) -> _File:
    return _File(path.read_text(encoding="utf-8"))
