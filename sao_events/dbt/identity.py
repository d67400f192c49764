"""What a node, a test or a function executes, part by part: each part a digest of texts and values.

The parts are kept apart so that a later question can be answered: what changed, the SQL, the configuration, a macro?
What is left out (descriptions, tags, access, policy ...) alters neither rows nor how the relation is stored, unless the
node's own code looks at it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sao_events.core.errors import DbtError
from sao_events.core.fingerprint import Text, canonical_python, combine, read, stable
from sao_events.core.identity import Inputs
from sao_events.core.lineage import digest
from sao_events.dbt.macros import Macros, Reach

# Configuration that says nothing about rows or storage, or that has a part of its own.
IGNORED = frozenset(
    """enabled tags meta docs description freshness state group access static_analysis classifiers sync database schema
    alias contract persist_docs pre-hook post-hook pre_hook post_hook""".split()
)
# What dbt writes where nothing is configured; left out, so that identities do not depend on whether it is written.
DEFAULTS: Mapping[str, Any] = {
    "on_schema_change": "ignore",
    "on_configuration_change": "apply",
    "lookback": 1,
    "delimiter": ",",
    "severity": "ERROR",
    "fail_calc": "count(*)",
    "warn_if": "!= 0",
    "error_if": "!= 0",
}
DESCRIBES = ("description", "columns", "tags", "meta", "docs", "group", "access", "fqn", "constraints", "version")
SUMMARISED = 1 << 20  # bytes of a seed that is read to tell people about it
COLUMN_NOTES = frozenset({"description", "meta", "tags", "doc_blocks", "config", "data_type", "constraints", "quote"})
# Names in a template whose value is another at each rendering, and those that tell compiling from building or show what
# compiled SQL does not hold.
UNSTEADY = frozenset("run_started_at invocation_id py_current_timestring random lipsum thread_id".split())
CLOCKS = frozenset({"now", "today", "utcnow"})
ELSEWHERE = frozenset(
    """flags invocation_args_dict should_full_refresh selected_resources set_sql_header raw_code raw_sql checksum
    build_path compiled_code batch""".split()
)
# Names through which a template asks the warehouse, or may find what does.
ASKING = frozenset(
    """run_query statement load_result load_relation load_cached_relation get_columns_in_relation get_columns_in_query
    get_column_schema_from_query get_relation_last_modified get_catalog context""".split()
)
_ADAPTER = re.compile(r"\badapter\b")
_ADAPTER_HARMLESS = re.compile(r"\badapter\s*\.\s*(?:dispatch|quote|quote_as_configured|type)\s*\(")
_SETS_CONFIG = re.compile(r"\bconfig\s*\.\s*set\b")
_ITSELF = frozenset({"model", "meta", "meta_get", "tags"})
_WHERE = re.compile(r"(\bget_where_subquery)\((?:ref|source)\([^()]*\)\)")  # the same for all tests, but for the name
_ITSELF_IN_MACRO = re.compile(r"\bmodel\s*[.\[]|\b(?:meta|meta_get|tags)\b")


@dataclass(frozen=True)
class Surroundings:
    """What identities are read against: macros and relations of the manifest, values of vars and of the environment."""

    manifest: Mapping[str, Any]
    macros: Macros
    adapter: str
    vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    target: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def relations(self) -> dict[str, str]:
        """The relation of everything that can be referred to."""
        things = (self.manifest.get(kind) or {} for kind in ("nodes", "sources", "functions"))
        return {key: _relation(thing) for group in things for key, thing in group.items()}

    @cached_property
    def graph(self) -> str:
        """Identity of all that a template can find out through dbt's `graph`."""
        keys = ("unique_id", "relation_name", "config", *DESCRIBES)
        things = (self.manifest.get(kind) or {} for kind in ("nodes", "sources", "functions", "exposures"))
        return digest(*(stable([thing.get(k) for k in keys]) for group in things for _, thing in sorted(group.items())))


@dataclass(frozen=True, slots=True)
class Made:
    """What something is made of: the digests of its parts, for nodes the texts under them, and the inputs of its
    identity.
    """

    parts: Mapping[str, str]
    texts: Mapping[str, str]
    inputs: Inputs


def of_node(node: Mapping[str, Any], around: Surroundings) -> Made:
    """What a model, seed, snapshot or function is made of."""
    config = node.get("config") or {}
    hooks = [read(sql, dialect=around.adapter) for sql in _hooks(config)]
    body = _body(node, around)
    words = {word for text in (body, *hooks) for word in text.words} | _named_by_config(config, around.adapter)
    reach = around.macros.reach(words, _macros(node))
    at_build = around.macros.reach(
        {word for text in hooks for word in text.words} | _named_by_config(config, around.adapter)
    )
    shown_elsewhere = {
        "config": _config(node, config),
        "relation": _relation(node),
        "refs": _refs(node, around),
        "hooks": stable([text.canonical for text in hooks]) if hooks else "",
        "contract": _contract(node, config),
        "docs": _docs(node, config),
    }
    found = {"sql": body.canonical, **shown_elsewhere, **_looked_up(node, (body, *hooks), reach.texts, around)}
    parts = _digests(found) | _macro_part(reach)
    rest = shown_elsewhere | _looked_up(node, tuple(hooks), at_build.texts, around) | {"macros": at_build.identity}
    rendered = around.macros.reach(body.words, _macros(node))
    inputs = Inputs(
        combine(parts).base,
        _together(rest),
        _doubt(node, (body, *rendered.texts)),
        _renders_twice(node, (body, *rendered.texts)),
        _asks((body, *rendered.texts)),
    )
    seed = {"sql": _seed_summary(node, around.root)} if node.get("resource_type") == "seed" else {}
    shown = found | {"sql": node.get("raw_code") or "", "macros": reach.listing} | seed
    return Made(parts, _readable(shown, parts), inputs)


def of_test(test: Mapping[str, Any], around: Surroundings) -> Made:
    """What a data test or unit test is made of."""
    config = test.get("config") or {}
    body = read(test.get("raw_code") or "", dialect=around.adapter)
    given = [text for text in _strings(test.get("test_metadata"), config.get("where")) if "{" in text]
    texts = (body, *(read(_WHERE.sub(r"\1()", text), dialect=around.adapter) for text in given))
    at_build = _named_by_config(config, around.adapter)
    reach = around.macros.reach({word for text in texts for word in text.words} | at_build, _macros(test))
    shown_elsewhere = {
        "config": _config(test, config),
        "relation": _relation(test),
        "refs": _refs(test, around),
    }
    found = {
        "sql": body.canonical,
        "arguments": stable(test["test_metadata"]) if test.get("test_metadata") else "",
        **shown_elsewhere,
        "unit": stable([test.get(key) for key in ("given", "expect", "overrides")]) if "given" in test else "",
        **_looked_up(test, texts, reach.texts, around),
    }
    parts = _digests(found) | _macro_part(reach)
    own = around.macros.reach(at_build)
    rest = shown_elsewhere | _looked_up(test, (), own.texts, around) | {"macros": own.identity}
    all_texts = (*texts, *reach.texts)
    inputs = Inputs(combine(parts).base, _together(rest), _doubt(test, all_texts), asks=_asks(all_texts))
    return Made(parts, {}, inputs)


def _together(texts: Mapping[str, str]) -> str:
    return digest(*(part for name in sorted(texts) for part in (name, texts[name])))


def _renders_twice(node: Mapping[str, Any], texts: Iterable[Text]) -> bool:
    incremental = (node.get("config") or {}).get("materialized") == "incremental"
    return incremental or any("is_incremental" in text.words for text in texts)


def _asks(texts: Iterable[Text]) -> bool:
    return any(
        text.words & ASKING or len(_ADAPTER.findall(text.code)) > len(_ADAPTER_HARMLESS.findall(text.code))
        for text in texts
    )


def _doubt(thing: Mapping[str, Any], texts: Iterable[Text]) -> str:
    """Why what dbt compiles may not stand for what it will run; empty where it may."""
    if thing.get("resource_type") not in {"model", "snapshot", "test"} or thing.get("language") == "python":
        return "it is not made of SQL"
    if (thing.get("config") or {}).get("incremental_strategy") == "microbatch":
        return "dbt renders it for each batch"
    all_texts = list(texts)
    words = {word for text in all_texts for word in text.words}
    if found := words & UNSTEADY or ("modules" in words and words & CLOCKS):
        return f"it may render otherwise each time ({min(found)})"
    if found := words & ELSEWHERE:
        return f"it may render otherwise when it is built ({min(found)})"
    if any(_SETS_CONFIG.search(text.code) for text in all_texts):
        return "it changes its configuration while it renders"
    return ""


def _body(node: Mapping[str, Any], around: Surroundings) -> Text:
    if node.get("resource_type") == "seed":
        return Text(_seed(node, around.root), "", frozenset())
    code = node.get("raw_code") or ""
    if node.get("language") == "python":
        return Text(canonical_python(code), "", frozenset())
    return read(code, dialect=around.adapter)


def _seed(node: Mapping[str, Any], root: Path | None) -> str:
    """Identity of a seed's content: dbt's own, except that dbt only notes the path of a large one."""
    checksum = node.get("checksum") or {}
    if checksum.get("name") != "path":
        return str(checksum.get("checksum"))
    path = Path(node.get("root_path") or root or ".") / node["original_file_path"]
    try:
        status = path.stat()
        return _content(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DbtError(f"seed {node['name']}: cannot read {path}: {error.strerror}") from None


def _seed_summary(node: Mapping[str, Any], root: Path | None) -> str:
    """A seed's content for people: its columns and how many lines follow, and its digest."""
    path = Path(node.get("root_path") or root or ".") / node["original_file_path"]
    found = [f"content: {_seed(node, root)}"]
    with suppress(OSError, UnicodeError):
        status = path.stat()
        found = [f"size: {status.st_size} bytes", *found]
        if status.st_size <= SUMMARISED:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            found = [f"columns: {lines[0] if lines else ''}", f"lines: {max(0, len(lines) - 1)}", *found]
    return "\n".join(found)


@lru_cache(maxsize=256)
def _content(path: Path, _changed: int, _size: int) -> str:
    hasher = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def _config(node: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    kept = {k: v for k, v in config.items() if k not in IGNORED and v not in (None, {}, []) and DEFAULTS.get(k) != v}
    extra = {key: node[key] for key in ("returns", "arguments") if node.get(key)}
    return stable(kept | {"function": extra} if extra else kept)


def _contract(node: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The contract where it is enforced, in the order of its columns, and whatever else adapters read from columns."""
    columns = (node.get("columns") or {}).values()
    extra = [[c["name"], known] for c in columns if (known := _unusual(c))]
    contract = config.get("contract") or {}
    if not contract.get("enforced"):
        return stable(extra) if extra else ""
    shape = [[c.get(key) for key in ("name", "data_type", "constraints", "quote")] for c in columns]
    return stable([contract, shape, node.get("constraints"), extra])


def _unusual(column: Mapping[str, Any]) -> dict[str, Any]:
    known = COLUMN_NOTES | {"name", "granularity", "dimension", "entity"}
    return {key: value for key, value in column.items() if key not in known and value not in (None, {}, [], "")}


def _docs(node: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Descriptions, where they are written to the warehouse."""
    persist = config.get("persist_docs") or {}
    if not any(persist.values()):
        return ""
    return stable([persist, node.get("description"), node.get("columns")])


def _refs(node: Mapping[str, Any], around: Surroundings) -> str:
    parents = (node.get("depends_on") or {}).get("nodes") or []
    return stable(sorted([name, around.relations.get(name, "")] for name in set(parents)))


def _looked_up(
    node: Mapping[str, Any], own: tuple[Text, ...], macros: tuple[Text, ...], around: Surroundings
) -> dict[str, str]:
    """Values that the texts ask for while they render."""
    texts = (*own, *macros)
    found = {
        "vars": _values(texts, "var", around.vars, lambda _: True),
        "env": _values(texts, "env_var", around.env, lambda name: name.startswith("DBT_")),
    }
    if any(text.words & _ITSELF for text in own) or any(_ITSELF_IN_MACRO.search(text.code) for text in macros):
        found["self"] = stable([node.get(key) for key in DESCRIBES])
    if around.target and any("target" in text.words for text in texts):
        found["target"] = stable(around.target)
    if any("graph" in text.words for text in texts):
        found["graph"] = around.graph
    return found


def _values(texts: Iterable[Text], function: str, values: Mapping[str, Any], all_of: Callable[[str], bool]) -> str:
    """The values of what is asked for by name; of everything where a name is made up at run time."""
    names, exact = set[str](), True
    for text in texts:
        called, literal = text.calls(function)
        names |= called
        exact = exact and literal
    if not exact:
        names |= {name for name in values if all_of(name)}
    return stable({name: values[name] for name in names if name in values}) if names & values.keys() else ""


def _named_by_config(config: Mapping[str, Any], adapter: str) -> set[str]:
    """Macros that dbt finds by a name made from the configuration."""
    kind, strategy = config.get("materialized"), str(config.get("incremental_strategy"))
    return {
        f"materialization_{kind}_default",
        f"materialization_{kind}_{adapter}",
        f"get_incremental_{re.sub(r'[^a-z0-9]', '_', strategy)}_sql",
        f"snapshot_{config.get('strategy')}_strategy",
    }


def _hooks(config: Mapping[str, Any]) -> list[str]:
    hooks = (
        hook
        for key in ("pre-hook", "post-hook")
        for hook in _list(config.get(key) or config.get(key.replace("-", "_")))
    )
    return [stable(hook) if not isinstance(hook, Mapping) else f"{hook.get('sql')}" for hook in hooks]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _strings(*values: Any) -> list[str]:
    """All texts in nested values, keys of mappings included, in a stable order."""
    found = list[str]()
    for value in values:
        if isinstance(value, Mapping):
            found.extend(text for key in sorted(value) for text in _strings(key, value[key]))
        elif isinstance(value, list | tuple):
            found.extend(_strings(*value))
        elif value is not None:
            found.append(str(value))
    return found


def _macros(node: Mapping[str, Any]) -> list[str]:
    return (node.get("depends_on") or {}).get("macros") or []


def _relation(node: Mapping[str, Any]) -> str:
    if node.get("resource_type") == "function":
        return ".".join(str(node.get(key)) for key in ("database", "schema", "alias"))
    return node.get("relation_name") or ""


def _digests(parts: Mapping[str, str]) -> dict[str, str]:
    return {name: digest(text) for name, text in parts.items() if text}


def _readable(shown: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """For people: the texts of the parts, by the digests of these; of values that may be secret a short digest."""
    masked = {
        name: stable({key: digest(stable(value))[:8] for key, value in json.loads(shown[name]).items()})
        for name in ("vars", "env", "target")
        if shown.get(name)
    }
    return {parts[name]: text for name, text in (dict(shown) | masked).items() if name in parts}


def _macro_part(reach: Reach) -> dict[str, str]:
    return {"macros": reach.identity} if reach.identity else {}
