"""Several tests of one node in one query, inside dbt's own process (semantics, section 7).

The first test of a group that dbt executes asks one query for all of the group: how many rows are null, whether values
repeat, how many are not accepted. A test with nothing to report takes its result from there. A test with failures is
run by dbt as always, and so is any whose query is not the one that dbt's own macro makes: what users see of a failure
is dbt's.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

GENERIC = ("not_null", "unique", "accepted_values", "relationships")
PLAIN = {"fail_calc": "count(*)", "warn_if": "!= 0", "error_if": "!= 0", "severity": "ERROR"}
RESULT = {"failures", "should_warn", "should_error", "adapter_response"}
UNSET = ("limit", "where", "store_failures", "store_failures_as", "sql_header")
OWN_MACROS = re.compile(
    r"(?:\w+__)?(?:get_test_sql|get_limit_subquery_sql|should_store_failures)|materialization_test_\w+"
)


@dataclass(frozen=True)
class Part:
    """One test of a group: the query that dbt's macro makes of it, and what to ask in its place; `whole` where that is
    a query of its own, not a look at the rows of the group's relation.
    """

    test: str
    query: str
    count: str
    whole: bool = False


@dataclass
class Group:
    """The tests of one relation. `failures` of each, once they were asked for; None where that went wrong."""

    relation: str
    parts: dict[str, Part]
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: bool = False
    failures: Mapping[str, int] | None = None
    response: Any = None

    @property
    def query(self) -> str:
        """One query for all: a column for each test, in order."""
        counts = [f"  {part.count} as t{place}" for place, part in enumerate(self.parts.values())]
        scan = f"\nfrom {self.relation}" if not all(part.whole for part in self.parts.values()) else ""
        return "select\n" + ",\n".join(counts) + scan


def groups(manifest: Any, tests: Collection[str], nodes: Collection[str]) -> dict[str, Group]:
    """The groups of an invocation that runs `tests` and builds `nodes`, by each of their tests. `manifest` is dbt's."""
    if any(_replaces(macro) for macro in manifest.macros.values()):
        return {}
    found: dict[str, Group] = {}
    for name in tests:
        node = manifest.nodes.get(name)
        relation = _relation(manifest, getattr(node, "attached_node", None))
        part = _part(manifest, node, relation, nodes) if relation else None
        if part is not None and relation is not None:
            found.setdefault(relation, Group(relation, {})).parts[name] = part
    return {name: group for group in found.values() if len(group.parts) > 1 for name in group.parts}


def install(tests: Collection[str], nodes: Collection[str]) -> None:
    """Let the test runner of this process, which runs `tests` and builds `nodes`, look for groups. Where this dbt is
    made differently, nothing is changed.
    """
    import dbt.task.test

    runner: Any = dbt.task.test.TestRunner
    result: Any = getattr(dbt.task.test, "TestResultData", None)
    alone = getattr(runner, "execute_data_test", None)
    if alone is None or result is None or {f.name for f in fields(result)} != RESULT or len(tests) < 2:
        return
    found = _Found(tests, nodes)

    def execute_data_test(self: Any, data_test: Any, manifest: Any) -> Any:
        taken = _from_group(self, data_test, found.group(data_test.unique_id, manifest))
        return alone(self, data_test, manifest) if taken is None else taken

    runner.execute_data_test = execute_data_test


class _Found:
    """The groups, looked for when the first test is run."""

    def __init__(self, tests: Collection[str], nodes: Collection[str]) -> None:
        self.tests, self.nodes, self.lock = tests, frozenset(nodes), threading.Lock()
        self.groups: dict[str, Group] | None = None

    def group(self, test: str, manifest: Any) -> Group | None:
        with self.lock:
            if self.groups is None:
                self.groups = {}
                with contextlib.suppress(Exception):  # a manifest that is made differently has no groups
                    self.groups = groups(manifest, self.tests, self.nodes)
        return self.groups.get(test)


def _from_group(runner: Any, test: Any, group: Group | None) -> Any:
    """The result of a test without failures; None for one that dbt is to run itself."""
    import dbt.task.test

    if group is None or _squeezed(test.compiled_code) != group.parts[test.unique_id].query:
        return None
    with group.lock:
        if not group.asked:
            group.asked = True
            _ask(runner.adapter, group)
    if group.failures is None or group.failures[test.unique_id] != 0:
        return None
    return dbt.task.test.TestResultData(
        failures=0, should_warn=False, should_error=False, adapter_response=group.response
    )


def _ask(adapter: Any, group: Group) -> None:
    from dbt_common.events.base_types import EventLevel
    from dbt_common.events.functions import fire_event
    from dbt_common.events.types import Note

    said = f"one query for {len(group.parts)} tests of {group.relation}"
    try:
        response, table = adapter.execute(group.query, auto_begin=False, fetch=True)
        (row,) = table.rows
        group.failures = {name: int(count) for name, count in zip(group.parts, row, strict=True)}
        group.response = response.to_dict(omit_none=True)
    except Exception as error:  # noqa: BLE001 (whatever it is: each test runs as it would without us)
        said += f" went wrong, each runs alone: {error}"
    fire_event(Note(msg=said), level=EventLevel.DEBUG)


def _replaces(macro: Any) -> bool:
    """Whether the macro takes the place of one of those by which dbt runs a test."""
    return macro.package_name != "dbt" and OWN_MACROS.fullmatch(macro.name) is not None


def _relation(manifest: Any, name: str | None) -> str | None:
    thing = manifest.nodes.get(name) or manifest.sources.get(name)
    return getattr(thing, "relation_name", None)


def _part(manifest: Any, test: Any, relation: str, nodes: Collection[str]) -> Part | None:
    metadata = getattr(test, "test_metadata", None)
    if metadata is None or metadata.namespace or metadata.name not in GENERIC or not _default(test):
        return None
    given = dict(metadata.kwargs)
    column, name = given.get("column_name"), test.unique_id
    rendered = [text for key, value in given.items() if key != "model" for text in _texts(value)]
    if not isinstance(column, str) or any("{{" in text or "{%" in text for text in rendered):
        return None
    if metadata.name == "not_null":
        return Part(name, _squeezed(f"select {column} from {relation} where {column} is null"), _nulls(column))
    if metadata.name == "unique":
        query = f"""select {column} as unique_field, count(*) as n_records from {relation} where {column} is not null
            group by {column} having count(*) > 1"""
        return Part(name, _squeezed(query), _repeated(column))
    if metadata.name == "accepted_values":
        return _accepted_values(name, relation, column, given)
    return _relationships(manifest, test, relation, given, nodes)


def _nulls(column: str) -> str:
    return f"coalesce(sum(case when {column} is null then 1 else 0 end), 0)"


def _repeated(column: str) -> str:
    """How many rows have a value that another row has, less one for each value: 0 exactly where none repeats."""
    present = f"case when {column} is not null then"
    return f"count({present} 1 end) - count(distinct {present} {column} end)"


def _accepted_values(name: str, relation: str, column: str, given: Mapping[str, Any]) -> Part | None:
    values = given.get("values")
    if not isinstance(values, list) or not values:
        return None
    listed = ",".join(f"'{value}'" if given.get("quote", True) else str(value) for value in values)
    query = f"""with all_values as ( select {column} as value_field, count(*) as n_records from {relation}
        group by {column} ) select * from all_values where value_field not in ( {listed} )"""
    return Part(name, _squeezed(query), f"count(distinct case when {column} not in ({listed}) then {column} end)")


def _relationships(
    manifest: Any, test: Any, relation: str, given: Mapping[str, Any], nodes: Collection[str]
) -> Part | None:
    """Only where the other relation is not being built beside it: the group is asked when its own node is ready."""
    others = [other for other in test.depends_on.nodes if other != test.attached_node]
    to = _relation(manifest, others[0]) if len(others) == 1 else relation if not others else None
    if to is None or not isinstance(given.get("field"), str) or any(other in nodes for other in others):
        return None
    column, field_ = given["column_name"], given["field"]
    query = f"""with child as ( select {column} as from_field from {relation} where {column} is not null ),
        parent as ( select {field_} as to_field from {to} ) select from_field from child left join parent
        on child.from_field = parent.to_field where parent.to_field is null"""
    return Part(test.unique_id, _squeezed(query), f"(select count(*) from ({query}) orphans)", whole=True)


def _default(test: Any) -> bool:
    """Whether nothing is configured that changes what the test counts or what becomes of it."""
    from dbt.flags import get_flags

    config = test.config
    asked = (config.meta or {}).get("sao")
    if isinstance(asked, Mapping) and asked.get("aggregate") is False:
        return False
    if getattr(get_flags(), "STORE_FAILURES", None) or any(config.get(name) for name in UNSET):
        return False
    return all(str(config.get(name, default)).upper() == default.upper() for name, default in PLAIN.items())


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _squeezed(text: str | None) -> str:
    """The text with whitespace made uniform, as far as macros differ in it; literals of tests have none that matters
    but their own, which both sides keep.
    """
    return re.sub(r"\s*([(),])\s*", r"\1", re.sub(r"\s+", " ", text or "")).strip()
