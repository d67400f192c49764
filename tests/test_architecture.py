"""The house rules of the package, read from its source: who may import whom, what the core may name, size, docstrings.

A module that is new at the top level, or in a folder that is pure, belongs in the tables below; docs/ARCHITECTURE.md
says what the rings are for.
Imports inside functions and under TYPE_CHECKING count like any other: knowing a module is knowing it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias, TypeGuard

import pytest

PACKAGE = "sao_events"
SOURCE = Path(__file__).parent.parent / PACKAGE

# Each module of these folders may import those before it.
IN_CORE = (
    "records",
    "errors",
    "compact",
    "windows",
    "lineage",
    "claims",
    "proof",
    "columns",
    "policy",
    "events",
    "stored",
    "evidence",
    "falling",
    "nodes",
    "graph",
    "fingerprint",
    "sqltext",
    "identity",
    "project",
    "named",
    "state",
    "written",
    "evolve",
    "probes",
    "checks",
    "proven",
    "decision",
    "look",
    "decide",
    "plan",
    "standing",
    "vanished",
    "cutoff",
    "relations",
)
IN_REPORT = (
    "explain",
    "history",
    "causes",
    "difference",
    "spared",
    "ancestry",
    "effects",
    "deployment",
    "values",
    "__init__",
    "column_name",
)
CORE = tuple(f"core.{name}" for name in IN_CORE)
REPORT = tuple(f"report.{name}" for name in IN_REPORT)
PURE_FOLDERS = ("core", "report")
PORTS = ("ports", "clock")
ADAPTERS = ("dbt", "files", "git", "inputs", "lock", "store", "warehouse", "yamltext")
ENGINE = ("engine",)  # the loop knows no adapter: the simulator runs the same one
SHELL = (
    "builds",
    "cli",
    "collector",
    "compare",
    "config",
    "deliveries",
    "demo",
    "deploy",
    "environment",
    "hooks",
    "jobs",
    "scenario",
    "service",
    "simulate",
    "upkeep",
    "watch",
    "web",
    "worker",
    "__main__",
)
ROOTS = ("__init__", "core.__init__")  # docstrings, and the version: import nothing, may be imported by all

LINES = 400

# What the core may import beside itself. An allow-list, so that no clock, randomness or I/O slips in unnamed.
PURE = frozenset(
    """__future__ abc ast base64 bisect collections contextlib copy dataclasses datetime decimal difflib enum fractions
    functools graphlib hashlib heapq itertools json keyword math numbers operator re sqlglot statistics string struct
    textwrap token tokenize types typing typing_extensions unicodedata zlib zoneinfo""".split()
)
PURE_PARTS = {"io": {"BytesIO", "StringIO"}, "pathlib": {"PurePath", "PurePosixPath", "PureWindowsPath"}}
IMPURE_BUILTINS = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open", "print"})
CLOCK_METHODS = frozenset({"now", "today", "utcnow"})
FILE_METHODS = frozenset({"iterdir", "mkdir", "read_bytes", "read_text", "unlink", "write_bytes", "write_text"})

# Files that only the package `dbt` may name: the rest of the code knows what is in them, not that they exist.
ARTIFACTS = ("manifest.json", "partial_parse.msgpack", "run_results.json")


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its unit (the module or folder at the top level, or at that of a folder that is
    pure, that holds it) and its text.
    """

    name: str
    unit: str
    is_package: bool
    text: str
    tree: ast.Module

    def problem(self, node: ast.AST | None, what: str) -> str:
        """One line for the report, with the place."""
        return f"{self.name}:{getattr(node, 'lineno', 1)}: {what}"


Tree: TypeAlias = Mapping[str, Module]
Check: TypeAlias = Callable[[Tree], list[str]]
Documentable: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def load(source: Path) -> Tree:
    """All modules below the package folder `source`, by dotted name."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        name = ".".join((PACKAGE, *(part for part in parts if part != "__init__")))
        unit = ".".join(parts[: 2 if parts[0] in PURE_FOLDERS else 1])
        modules[name] = Module(name, unit, path.stem == "__init__", text, ast.parse(text))
    return modules


def imports(module: Module, tree: Tree) -> Iterator[tuple[ast.AST, str]]:
    """The modules of the package that `module` imports, wherever in its text, with the place of each."""
    for node, imported in _imported_names(module):
        name = imported if imported in tree else imported.rpartition(".")[0]
        if name in tree and name != module.name:
            yield node, name


def _imported_names(module: Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from ((node, alias.name) for alias in names)
            case ast.ImportFrom(names=names):
                yield from ((node, f"{_origin(module, node)}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node, name


def _origin(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    path = module.name.split(".")
    package = path[: len(path) - node.level + module.is_package]
    return ".".join((*package, *filter(None, [node.module])))


def _may_import(importer: str, imported: str) -> bool:
    if imported in {importer, *ROOTS}:
        return True
    if importer in CORE + REPORT:
        return imported in (CORE + REPORT)[: (CORE + REPORT).index(importer)]
    if importer in PORTS + ADAPTERS + ENGINE:
        return imported in CORE + PORTS
    return importer not in ROOTS


def unknown_modules(tree: Tree) -> list[str]:
    """Modules at the top level, or in a folder that is pure, that no ring claims."""
    known = {*CORE, *REPORT, *PORTS, *ADAPTERS, *ENGINE, *SHELL, *ROOTS}
    return [
        f"{PACKAGE}.{unit}: in no ring; add it to a ring in tests/test_architecture.py"
        for unit in sorted({module.unit for module in tree.values()} - known)
    ]


def wrong_direction(tree: Tree) -> list[str]:
    """Imports against the direction of the rings, or against the order within a folder that is pure."""
    return [
        module.problem(node, f"{module.unit} may not import {name}")
        for module in tree.values()
        for node, name in dict.fromkeys(imports(module, tree))
        if not _may_import(module.unit, tree[name].unit)
    ]


def cycles(tree: Tree) -> list[str]:
    """A cycle among files, or one among the modules and folders at the top level."""
    files = {module.name: {name for _, name in imports(module, tree)} for module in tree.values()}
    units: dict[str, set[str]] = {module.unit: set() for module in tree.values()}
    for module in tree.values():
        units[module.unit] |= {tree[name].unit for name in files[module.name]} - {module.unit, *ROOTS}
    found = (_cycle(files), _cycle(units))
    return [f"cycle: {' -> '.join(cycle)}" for cycle in found if cycle]


def _cycle(edges: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return [str(name) for name in reversed(error.args[1])]
    return []


def impure_core(tree: Tree) -> list[str]:
    """Where the core or the report names a clock, randomness or I/O, or imports what is not known to be pure."""
    return [
        module.problem(node, f"{module.unit.partition('.')[0]} is pure, it may not name {what}")
        for module in tree.values()
        if module.unit in CORE + REPORT
        for node, what in _impure(module.tree)
    ]


def _impure(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node, alias.name) for alias in names if not _pure(alias.name))
            case ast.ImportFrom(module=str(origin), names=names, level=0):
                yield from ((node, f"{origin}.{alias.name}") for alias in names if not _pure(origin, alias.name))
            case ast.Name(id=name) if name in IMPURE_BUILTINS:
                yield node, name
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCK_METHODS | FILE_METHODS:
                yield node, f".{name}()"
            case ast.Attribute(value=ast.Name(id="date" | "datetime"), attr=name) if name in CLOCK_METHODS:
                yield node, f"datetime.{name}"


def _pure(origin: str, name: str = "") -> bool:
    top = origin.partition(".")[0]
    return top in PURE or top == PACKAGE or name in PURE_PARTS.get(origin, ())


def too_long(tree: Tree) -> list[str]:
    """Modules that hold more than one concern, by their length."""
    lengths = {module.name: len(module.text.splitlines()) for module in tree.values()}
    return [f"{name}: {lines} lines, more than {LINES}: split it" for name, lines in lengths.items() if lines > LINES]


def undocumented(tree: Tree) -> list[str]:
    """Modules, public functions and classes, and methods of protocols that do not say what they promise."""
    return [
        module.problem(node, f"{getattr(node, 'name', 'the module')} has no docstring")
        for module in tree.values()
        for node in _public(module.tree)
        if not ast.get_docstring(node)
    ]


def _public(tree: ast.Module) -> Iterator[Documentable]:
    yield tree
    for node in filter(_is_public, tree.body):
        yield node
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases):
            yield from filter(_is_public, node.body)


def _is_public(node: ast.stmt) -> TypeGuard[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")


def foreign_schema(tree: Tree) -> list[str]:
    """Names of dbt's artifacts outside the package that knows them."""
    return [
        module.problem(node, f"only {PACKAGE}.dbt may know {node.value}")
        for module in tree.values()
        if module.unit != "dbt"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.rpartition("/")[2] in ARTIFACTS and " " not in node.value
    ]


CHECKS: tuple[Check, ...] = (
    unknown_modules,
    wrong_direction,
    cycles,
    impure_core,
    too_long,
    undocumented,
    foreign_schema,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps(check: Check) -> None:
    problems = check(load(SOURCE))
    assert not problems, "\n".join(["", *problems])


# Every check must be able to fail: a small tree that breaks one rule, and what the report must name.

SOUND = {
    "__init__": '"""Doc."""\n__version__ = "1"',
    "core/__init__": '"""Doc."""',
    "core/errors": '"""Doc."""\nimport re\nfrom datetime import UTC, datetime\nfrom pathlib import PurePath',
    "core/events": '"""Doc."""\nfrom sao_events.core import errors\n\ndef kind():\n    """Doc."""\n\ndef _own(): ...',
    "report/explain": '"""Doc."""\nfrom sao_events.core import events',
    "ports": '"""Doc: reads manifest.json."""\nfrom sao_events.core.events import kind',
    "store/__init__": '"""Doc."""\nfrom .sqlite import Sqlite',
    "store/sqlite": '"""Doc."""\nimport sqlite3\n\nclass Sqlite:\n    """Doc."""\n\n    def close(self): open("x")',
    "dbt/__init__": '"""Doc."""\nNAME = "target/manifest.json"',
    "cli": '"""Doc."""\n\ndef main() -> None:\n    """Doc."""\n    from sao_events import __version__, store',
    "__main__": '"""Doc."""\nfrom sao_events.cli import main',
}

BROKEN: list[tuple[Check, dict[str, str], str]] = [
    (unknown_modules, {"misc": ""}, "sao_events.misc: in no ring; add it"),
    (unknown_modules, {"helpers/text": ""}, "sao_events.helpers: in no ring"),
    (unknown_modules, {"core/helpers/text": ""}, "sao_events.core.helpers: in no ring"),
    (
        wrong_direction,
        {"core/errors": "from sao_events.core.events import kind"},
        "core.errors:1: core.errors may not import sao_events.core.events",
    ),
    (wrong_direction, {"core/errors": "from . import events"}, "core.errors may not import sao_events.core.events"),
    (
        wrong_direction,
        {"core/errors": "def f():\n    import sao_events.cli"},
        "errors:2: core.errors may not import sao_events.cli",
    ),
    (wrong_direction, {"ports": "from sao_events import store"}, "ports may not import sao_events.store"),
    (
        wrong_direction,
        {"store/sqlite": "from ..dbt import NAME"},
        "store.sqlite:1: store may not import sao_events.dbt",
    ),
    (wrong_direction, {"core/errors": "from sao_events.report import explain"}, "core.errors may not import"),
    (wrong_direction, {"engine/loop": "from sao_events.report import explain"}, "engine may not import"),
    (wrong_direction, {"engine/loop": "from sao_events import store"}, "engine may not import sao_events.store"),
    (wrong_direction, {"store/__init__": "from ..cli import main"}, "store may not import sao_events.cli"),
    (
        wrong_direction,
        {"dbt/__init__": "import importlib as i\ni.import_module('sao_events.cli')"},
        "dbt may not import",
    ),
    (
        wrong_direction,
        {"__init__": "from sao_events.cli import main"},
        "sao_events:1: __init__ may not import sao_events.cli",
    ),
    (
        wrong_direction,
        {"core/__init__": "from sao_events.core.errors import x"},
        "core.__init__ may not import sao_events.core.errors",
    ),
    (
        cycles,
        {"engine": "import sao_events.worker", "worker": "def f():\n    from sao_events import engine"},
        "cycle: ",
    ),
    (cycles, {"store/sqlite": "from sao_events.store import Sqlite"}, "sao_events.store -> "),
    (cycles, {"web/a": "import sao_events.jobs", "jobs": "import sao_events.web.b", "web/b": ""}, "jobs"),
    (impure_core, {"report/explain": "import time"}, "sao_events.report.explain:1: report is pure"),
    (impure_core, {"core/events": "import time"}, "sao_events.core.events:1: core is pure, it may not name time"),
    (
        impure_core,
        {"core/events": "def f():\n    from os import environ"},
        "events:2: core is pure, it may not name os.environ",
    ),
    (impure_core, {"core/events": "from pathlib import Path"}, "pathlib.Path"),
    (impure_core, {"core/events": "import logging, random"}, "random"),
    (impure_core, {"core/events": "open('x')"}, "open"),
    (
        impure_core,
        {"core/events": "from datetime import datetime\nfactory = datetime.utcnow"},
        "events:2: core is pure",
    ),
    (impure_core, {"core/events": "def f(clock): return clock.now()"}, ".now()"),
    (impure_core, {"core/events": "def f(path): return path.read_text()"}, ".read_text()"),
    (too_long, {"cli": "x = 1\n" * 401}, "sao_events.cli: 401 lines, more than 400"),
    (undocumented, {"cli": "x = 1"}, "sao_events.cli:1: the module has no docstring"),
    (undocumented, {"cli": '"""Doc."""\nasync def serve(): ...'}, "cli:2: serve has no docstring"),
    (undocumented, {"cli": '"""Doc."""\n\nclass Options: ...'}, "cli:3: Options has no docstring"),
    (
        undocumented,
        {"ports": '"""D."""\nclass Clock(Protocol):\n    """D."""\n    def now(self): ...'},
        "ports:4: now has no",
    ),
    (
        foreign_schema,
        {"cli": 'PATH = "target/run_results.json"'},
        "cli:1: only sao_events.dbt may know target/run_results.json",
    ),
]


def tree_of(files: Mapping[str, str], folder: Path) -> Tree:
    """The modules of a package written to `folder`: a path without suffix and its source each."""
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load(folder)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_sound_tree_passes(check: Check, tmp_path: Path) -> None:
    assert check(tree_of(SOUND, tmp_path)) == []


@pytest.mark.parametrize(("check", "change", "expected"), BROKEN)
def test_a_broken_tree_is_reported(check: Check, change: dict[str, str], expected: str, tmp_path: Path) -> None:
    problems = check(tree_of(SOUND | change, tmp_path))
    assert any(expected in problem for problem in problems), problems


def test_a_cycle_is_told_in_the_direction_of_its_imports(tmp_path: Path) -> None:
    chain = {
        "engine": "import sao_events.worker",
        "worker": "import sao_events.jobs",
        "jobs": "import sao_events.engine",
    }
    [among_files, among_units] = cycles(tree_of(SOUND | chain, tmp_path))
    steps = among_files.removeprefix("cycle: ").split(" -> ")
    following = {"sao_events.engine": "sao_events.worker", "sao_events.worker": "sao_events.jobs"}
    assert all(following.get(step, "sao_events.engine") == after for step, after in pairwise(steps))
    assert len(steps) == 4
    assert len(among_units.split(" -> ")) == 4
