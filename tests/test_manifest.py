"""What a manifest says: the graph, the policies, which edit changes which part of an identity, and the warnings."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sao_events.core.errors import DbtError, PolicyError
from sao_events.core.nodes import Node
from sao_events.core.policy import Policy
from sao_events.core.project import Project, project_from_bytes, project_to_bytes
from sao_events.dbt import DbtSettings, load, read_manifest, read_project
from tests.dbt_projects import write_project

Body = dict[str, Any]


def model(name: str, raw_code: str = "select 1 as id", **fields: Any) -> Body:
    """A model as dbt writes it, reduced to what is read."""
    config = {
        "enabled": True, "materialized": "view", "tags": [], "meta": {}, "on_schema_change": "ignore", "grants": {},
        "unique_key": None, "pre-hook": [], "post-hook": [], "contract": {"enforced": False, "alias_types": True},
        "freshness": None, "persist_docs": {},
    } | fields.pop("config", {})  # fmt: skip
    return {
        "unique_id": f"model.shop.{name}", "name": name, "resource_type": "model", "language": "sql",
        "original_file_path": f"models/{name}.sql", "relation_name": f'"db"."main"."{name}"', "raw_code": raw_code,
        "config": config, "unrendered_config": {}, "depends_on": {"nodes": [], "macros": []}, "columns": {},
        "description": "", "meta": {}, "patch_path": None, "checksum": {"name": "sha256", "checksum": "0"},
    } | fields  # fmt: skip


def macro(name: str, text: str, package: str = "shop", *calls: str) -> Body:
    return {
        "unique_id": f"macro.{package}.{name}", "name": name, "package_name": package, "resource_type": "macro",
        "macro_sql": f"{{% macro {name}() %}}{text}{{% endmacro %}}", "depends_on": {"macros": list(calls)},
    }  # fmt: skip


def manifest(*things: Body, **fields: Any) -> Body:
    """A manifest that holds `things`, each where it belongs."""
    places = {"source": "sources", "macro": "macros", "unit_test": "unit_tests", "function": "functions"}
    body: Body = {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json", "dbt_version": "1.11.16",
            "project_name": "shop", "adapter_type": "duckdb",
        },
        "nodes": {}, "sources": {}, "macros": {}, "unit_tests": {}, "functions": {},
    }  # fmt: skip
    for thing in things:
        body[places.get(thing["resource_type"], "nodes")][thing["unique_id"]] = thing
    return body | fields


def source(name: str, **fields: Any) -> Body:
    return {
        "unique_id": f"source.shop.raw.{name}", "name": name, "source_name": "raw", "resource_type": "source",
        "original_file_path": "models/sources.yml", "relation_name": f'"db"."raw"."{name}"', "config": {}, "meta": {},
    } | fields  # fmt: skip


def seed(name: str, **fields: Any) -> Body:
    body = model(name, "", resource_type="seed", unique_id=f"seed.shop.{name}", original_file_path=f"seeds/{name}.csv")
    return body | {"config": {"materialized": "seed"}, "depends_on": {"macros": []}} | fields


def reads(*names: str, macros: tuple[str, ...] = ()) -> Body:
    return {"depends_on": {"nodes": list(names), "macros": list(macros)}}


def node(project: Project, name: str) -> Node:
    return next(node for node in project.graph.nodes.values() if node.name == name)


# The graph.


def test_nodes_sources_and_tests_with_what_they_read() -> None:
    unique = {
        "unique_id": "test.shop.unique_a_id.1", "name": "unique_a_id", "resource_type": "test",
        "config": {"severity": "WARN"},
        "test_metadata": {"name": "unique", "kwargs": {"column_name": "id"}}, "raw_code": "{{ test_unique() }}",
        "original_file_path": "models/a.yml", **reads("model.shop.a"),
    }  # fmt: skip
    singular = unique | {
        "unique_id": "test.shop.alone", "name": "alone", "test_metadata": None, "config": {}, "raw_code": "select 1",
        **reads("source.shop.raw.orders", "model.shop.b"),
    }  # fmt: skip
    unit = {
        "unique_id": "unit_test.shop.b.doubles", "name": "doubles", "resource_type": "unit_test", "config": {},
        "original_file_path": "models/a.yml", "given": [], "expect": {}, **reads("model.shop.b", "model.shop.a"),
    }  # fmt: skip
    project = read_project(
        manifest(
            source("orders"),
            model("a", **reads("source.shop.raw.orders", macros=("macro.dbt.x",))),
            model("b", config={"materialized": "ephemeral"}, **reads("model.shop.a", "model.shop.a", "metric.shop.m")),
            seed("s"),
            {**model("on_run_end"), "resource_type": "operation", "unique_id": "operation.shop.x"},
            unique,
            singular,
            unit,
            exposures={"exposure.shop.e": {"unique_id": "exposure.shop.e"}},
            disabled={"model.shop.off": [model("off")]},
        )
    )
    assert {name: node.reads for name, node in project.graph.nodes.items()} == {
        "seed.shop.s": (),
        "model.shop.a": ("source.shop.raw.orders",),
        "model.shop.b": ("model.shop.a",),
    }
    assert [(test.id, test.reads, test.severity, test.kind) for test in project.graph.tests.values()] == [
        ("test.shop.alone", ("source.shop.raw.orders", "model.shop.b"), "error", "singular"),
        ("test.shop.unique_a_id.1", ("model.shop.a",), "warn", "unique"),
        ("unit_test.shop.b.doubles", ("model.shop.b",), "error", "unit"),
    ]
    assert project.graph.sources["source.shop.raw.orders"].name == "raw.orders"
    assert (project.name, project.adapter, project.meta, project.warnings) == ("shop", "duckdb", {"dbt": "1.11.16"}, ())
    assert node(project, "a").relation == '"db"."main"."a"'
    assert node(project, "a").path == "models/a.sql"
    assert project_to_bytes(project_from_bytes(project_to_bytes(project))) == project_to_bytes(project)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"config": {"materialized": "table"}}, "table"),
        ({"config": {"materialized": "view"}}, "view"),
        ({"config": {"materialized": "incremental"}}, "incremental"),
        ({"config": {"materialized": "ephemeral"}}, "ephemeral"),
        ({"config": {"materialized": "materialized_view"}}, "materialized_view"),
        ({"config": {"materialized": "external"}}, "table"),
        ({"config": {"materialized": "our_own"}}, "table"),
        ({"config": {"materialized": "incremental"}, "language": "python"}, "python"),
        ({"resource_type": "seed"}, "seed"),
        ({"resource_type": "snapshot", "config": {"materialized": "snapshot"}}, "snapshot"),
        ({"resource_type": "function", "relation_name": None, "config": {"materialized": "function"}}, "view"),
    ],
)
def test_kinds(fields: Body, kind: str) -> None:
    assert node(read_project(manifest(model("m", **fields))), "m").kind == kind


def test_a_source_says_where_it_is_and_how_fresh_it_can_be_asked() -> None:
    project = read_project(
        manifest(
            source(
                "a", database="db", schema="raw", identifier="A", loaded_at_field="at", meta={"sao": {"static": True}}
            ),
            source("b", config={"loaded_at_query": "select 1", "meta": {"sao": {"view": True}}}),
        )
    )
    a, b = project.graph.sources.values()
    assert (a.static, a.view, a.relation) == (True, False, '"db"."raw"."a"')
    assert a.meta == {"database": "db", "schema": "raw", "identifier": "A", "loaded_at_field": "at"}
    assert (b.static, b.view, b.meta) == (False, True, {"loaded_at_query": "select 1"})


def test_the_order_of_the_manifest_does_not_matter() -> None:
    things = [source("x"), model("a"), model("b", **reads("model.shop.a")), macro("m", "1"), seed("s")]
    assert project_to_bytes(read_project(manifest(*things))) == project_to_bytes(read_project(manifest(*things[::-1])))


def test_missing_keys_are_not_missed() -> None:
    """What dbt 2 leaves out, and what a release that is to come may."""
    bare = {"unique_id": "model.shop.m", "name": "m", "resource_type": "model", "config": {"materialized": "table"}}
    metadata = {"dbt_schema_version": "https://schemas.getdbt.com/dbt/manifest/v12.json"}
    project = read_project({"metadata": metadata, "nodes": {"model.shop.m": bare}})
    assert node(project, "m").kind == "table"


@pytest.mark.parametrize("schema", ["https://schemas.getdbt.com/dbt/manifest/v11.json", None])
def test_an_old_manifest_is_refused(schema: str | None) -> None:
    with pytest.raises(DbtError, match=r"schema version (11|unknown)") as caught:
        read_project({"metadata": {"dbt_schema_version": schema, "dbt_version": "1.7.0"}})
    assert "1.10" in str(caught.value.hint)


def test_a_newer_manifest_is_read_with_a_warning() -> None:
    body = manifest(model("m"))
    body["metadata"]["dbt_schema_version"] = "https://schemas.getdbt.com/dbt/manifest/v13.json"
    (warning,) = read_project(body).warnings
    assert "13" in warning


def test_a_manifest_that_is_not_there_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(DbtError, match="cannot read"):
        read_manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_text('{"nodes": ')
    with pytest.raises(DbtError, match="damaged"):
        read_manifest(tmp_path / "manifest.json")


# Identities: which edit changes which part.

BASE = manifest(
    source("orders"),
    model("up"),
    model(
        "m",
        "{{ config(tags=['a']) }} select {{ var('cut') }}, {{ env_var('REGION') }} from {{ ref('up') }} "
        "{% if is_incremental() %} where {{ hidden() }} {% endif %} {{ dbt.dateadd('a') }} -- why",
        config={"post-hook": [{"sql": "grant {{ hooked() }} -- why", "transaction": True}]},
        columns={"id": {"name": "id", "data_type": "int", "description": "", "tags": [], "meta": {}}},
        **reads("model.shop.up", macros=("macro.dbt.is_incremental",)),
    ),
    macro("hidden", "{{ deeper() }} {# why #}"),
    macro("deeper", "1 = 1"),
    macro("hooked", "select"),
    macro("unused", "0"),
    macro("generate_schema_name", "main"),
    macro("dateadd", "{{ adapter.dispatch('dateadd', 'dbt')() }}", "dbt"),
    macro("is_incremental", "true", "dbt"),
    macro("create_table_as", "create", "dbt"),
    macro("generate_schema_name", "main", "dbt"),
)
VARS = {"cut": 10, "other": 1}
ENV = {"REGION": "eu", "OTHER": "1"}
M = ("nodes", "model.shop.m")


def parts(body: Mapping[str, Any], vars: Mapping[str, Any] = VARS, env: Mapping[str, str] = ENV) -> Mapping[str, str]:  # noqa: A002
    project = read_project(body, vars=vars, env=env)
    found = node(project, "m")
    assert found.own.base
    return found.parts


def edited(*path: str, to: Any = None, by: Callable[[Any], Any] | None = None, base: Body = BASE) -> Body:
    """`base` with the value at `path` replaced."""
    body = copy.deepcopy(base)
    place = body
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = by(place[path[-1]]) if by else to
    return body


def with_macro(name: str, text: str, package: str = "shop") -> Body:
    body = copy.deepcopy(BASE)
    added = macro(name, text, package)
    body["macros"][added["unique_id"]] = added
    return body


def swap(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def edited_macro(name: str, old: str, new: str) -> Body:
    return edited("macros", f"macro.shop.{name}", "macro_sql", by=swap(old, new))


def without(key: str) -> Callable[[Body], Body]:
    return lambda body: {name: value for name, value in body.items() if name != key}


EDITS: dict[str, tuple[Body, set[str]]] = {
    "a comment": (edited(*M, "raw_code", by=swap("-- why", "-- for no reason")), set()),
    "whitespace": (edited(*M, "raw_code", by=swap("select ", "select\n\t")), set()),
    "the SQL": (edited(*M, "raw_code", by=swap("from", "distinct from")), {"sql"}),
    "the SQL of a branch": (edited(*M, "raw_code", by=swap("where", "where not")), {"sql"}),
    "tags in config()": (edited(*M, "raw_code", by=swap("['a']", "['b']")), set()),
    "a description": (edited(*M, "description", to="x"), set()),
    "a column's description": (edited(*M, "columns", "id", "description", to="x"), set()),
    "tags": (edited(*M, "config", "tags", to=["x"]), set()),
    "meta": (edited(*M, "config", "meta", to={"sao": {"lazy": True}, "x": 1}), set()),
    "the policy": (edited(*M, "config", "freshness", to={"build_after": {"count": 1, "period": "day"}}), set()),
    "the state block": (edited(*M, "config", "state", to={"lag_tolerance": "1h"}), set()),
    "the file's place": (edited(*M, "original_file_path", to="models/x/m.sql"), set()),
    "a key that is new and unset": (edited(*M, "config", "partition_by", to=None), set()),
    "a default left out": (edited(*M, "config", by=without("on_schema_change")), set()),
    "on_schema_change": (edited(*M, "config", "on_schema_change", to="append_new_columns"), {"config"}),
    "the materialization": (edited(*M, "config", "materialized", to="table"), {"config"}),
    "unique_key": (edited(*M, "config", "unique_key", to="id"), {"config"}),
    "grants": (edited(*M, "config", "grants", to={"select": ["x"]}), {"config"}),
    "an adapter's own key": (edited(*M, "config", "cluster_by", to=["id"]), {"config"}),
    "the relation": (edited(*M, "relation_name", to='"db"."other"."m"'), {"relation"}),
    "the upstream's relation": (edited("nodes", "model.shop.up", "relation_name", to='"db"."x"."up"'), {"refs"}),
    "the upstream's text": (edited("nodes", "model.shop.up", "raw_code", to="select 2"), set()),
    "what is read": (edited(*M, "depends_on", "nodes", to=["source.shop.raw.orders"]), {"refs"}),
    "a hook": (edited(*M, "config", "post-hook", to=[{"sql": "revoke {{ hooked() }}"}]), {"hooks"}),
    "a comment in a hook": (edited(*M, "config", "post-hook", to=[{"sql": "grant {{ hooked() }}"}]), set()),
    "no hook": (edited(*M, "config", "post-hook", to=[]), {"hooks", "macros"}),
    "a type outside a contract": (edited(*M, "columns", "id", "data_type", to="text"), set()),
    "a contract": (edited(*M, "config", "contract", "enforced", to=True), {"contract"}),
    "descriptions that are stored": (edited(*M, "config", "persist_docs", to={"relation": True}), {"docs"}),
    "an adapter's own column key": (edited(*M, "columns", "id", "mask", to="x"), {"contract"}),
    "a macro in a branch that did not run": (edited_macro("hidden", "deeper()", "deeper(1)"), {"macros"}),
    "a macro of a macro": (edited_macro("deeper", "1 = 1", "1 = 2"), {"macros"}),
    "a macro in a hook": (edited_macro("hooked", "select", "insert"), {"macros"}),
    "a comment in a macro": (edited_macro("hidden", "why", "because"), set()),
    "whitespace in a macro, which may be a value": (edited_macro("deeper", "1 = 1", " 1 = 1"), {"macros"}),
    "a macro that it does not name": (edited_macro("unused", "0", "1"), set()),
    "how schemas are named": (edited_macro("generate_schema_name", "main", "x"), set()),
    "a macro of dbt": (edited("macros", "macro.dbt.dateadd", "macro_sql", by=swap("adapter", "this.adapter")), set()),
    "an override of what it calls": (with_macro("duckdb__dateadd", "x"), {"macros"}),
    "an override of what every node calls": (with_macro("create_table_as", "x"), {"macros"}),
    "an override in a package": (with_macro("default__create_table_as", "x", "package"), {"macros"}),
    "its materialization": (with_macro("materialization_view_default", "x"), {"macros"}),
    "another materialization": (with_macro("materialization_table_default", "x"), set()),
    "a macro of a package": (with_macro("something", "x", "package"), set()),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes(edit: str) -> None:
    body, expected = EDITS[edit]
    before, after = parts(BASE), parts(body)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == expected
    owns = [node(read_project(it, vars=VARS, env=ENV), "m").own for it in (BASE, body)]
    assert (owns[0] == owns[1]) is (not expected)


@pytest.mark.parametrize(
    ("values", "environment", "expected"),
    [
        (VARS | {"cut": 11}, ENV, {"vars"}),
        (VARS | {"cut": "10"}, ENV, {"vars"}),
        (VARS | {"other": 2, "new": 3}, ENV, set()),
        ({}, ENV, {"vars"}),
        (VARS, ENV | {"REGION": "us"}, {"env"}),
        (VARS, ENV | {"OTHER": "2"}, set()),
        (VARS, {}, {"env"}),
    ],
)
def test_values_change_who_asks_for_them(values: Body, environment: dict[str, str], expected: set[str]) -> None:
    before, after = parts(BASE), parts(BASE, values, environment)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == expected


@pytest.mark.parametrize(
    ("code", "edit", "part"),
    [
        ("select {{ var(name) }}", lambda: (BASE, VARS | {"other": 2}, ENV), "vars"),
        ("{{ env_var('DBT_' ~ x) }}", lambda: (BASE, VARS, ENV | {"DBT_X": "2"}), "env"),
        ("{{ model.description }}", lambda: (edited(*M, "description", to="x"), VARS, ENV), "self"),
        ("{{ config.get('meta') }}", lambda: (edited(*M, "meta", to={"x": 1}), VARS, ENV), "self"),
        (
            "{% for n in graph.nodes %}{% endfor %}",
            lambda: (edited("nodes", "model.shop.up", "description", to="x"), VARS, ENV),
            "graph",
        ),
    ],
)
def test_a_text_that_looks_further_depends_on_more(code: str, edit: Callable[[], Any], part: str) -> None:
    body, values, environment = edit()
    before = parts(edited(*M, "raw_code", to=code))
    after = parts(edited(*M, "raw_code", to=code, base=body), values, environment)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == {part}


def test_custom_strategies_are_found_by_their_names() -> None:
    cases = (
        ({"materialized": "incremental", "incremental_strategy": "insert+only"}, "get_incremental_insert_only_sql"),
        ({"materialized": "snapshot", "strategy": "ours"}, "snapshot_ours_strategy"),
    )
    for config, name in cases:
        one, two = (manifest(model("m", config=config), macro(name, text)) for text in "ab")
        assert parts(one)["macros"] != parts(two)["macros"]


def test_a_python_model_is_its_source_without_comments() -> None:
    code = "def model(dbt, session):\n    return dbt.ref('up')  # {}\n"
    one, two, three = (
        parts(manifest(model("m", text, language="python")))
        for text in (code.format("a"), code.format("b"), code.replace("up", "down"))
    )
    assert one == two != three


def test_a_test_is_its_definition() -> None:
    kwargs = {"values": ["a b"], "model": "{{ get_where_subquery(ref('a')) }}"}

    def own(**fields: Any) -> str:
        body = {
            "unique_id": "test.shop.t", "name": "t", "resource_type": "test", "raw_code": "{{ test_ours(**kwargs) }}",
            "test_metadata": {"name": "ours", "kwargs": kwargs | {"values": ["a  b"]}},
            "config": {"severity": "ERROR", "where": None, "tags": []}, **reads("model.shop.a"),
        } | fields  # fmt: skip
        text = fields.get("macro", "select 1")
        return next(iter(read_project(manifest(model("a"), body, macro("test_ours", text))).graph.tests.values())).own

    assert own() == own(config={"severity": "ERROR", "tags": ["x"]}) == own(description="x")
    assert own() == own(macro="select 1{# why #}")
    others = {
        own(test_metadata={"name": "ours", "kwargs": kwargs}),
        own(config={"severity": "warn"}),
        own(config={"where": "id > 1"}),
        own(config={"limit": 1}),
        own(macro="select 2"),
        own(raw_code="select 1"),
    }
    assert len(others | {own()}) == 7


@pytest.mark.parametrize(
    ("project", "counts"),
    [
        ("name: shop\n", False),
        ("name: shop\ndispatch: [{macro_namespace: package, search_order: [shop, package]}]\n", False),
        ("name: shop\ndispatch: [{macro_namespace: dbt_duckdb, search_order: [package, dbt_duckdb]}]\n", True),
        ("name: shop\ndispatch: [{macro_namespace: \"{{ var('x') }}\", search_order: [shop, package]}]\n", True),
        ("name: shop\ndispatch: [{macro_namespace: dbt, search_order: [shop, package, dbt]}]\n", True),
        ("name: shop\ndispatch: [{macro_namespace: dbt, search_order: [shop, \"{{ var('x') }}\", dbt]}]\n", True),
        ("name: shop\ndispatch: [{macro_namespace: dbt, search_order: \"{{ var('x') }}\"}]\n", True),
        ("name: shop\ndispatch: \"{{ var('x') }}\"\n", True),
    ],
)
def test_a_macro_of_a_package_is_in_the_place_of_one_of_dbts_where_dispatch_leads_to_it(
    project: str, counts: bool, tmp_path: Path
) -> None:
    (tmp_path / "dbt_project.yml").write_text(project)
    bodies = [BASE, with_macro("default__create_table_as", "x", "package"), with_macro("create_table_as", "x")]
    before, package, own = (node(read_project(it, vars=VARS, env=ENV, root=tmp_path), "m").own for it in bodies)
    assert (before != package, before != own) == (counts, True)


def test_a_macro_of_a_package_is_in_the_place_of_one_of_dbts_for_nodes_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: shop\n")
    bodies = [copy.deepcopy(BASE), with_macro("create_table_as", "x", "package")]
    for body in bodies:
        body["nodes"]["model.shop.m"]["package_name"] = "package"
    before, after = (node(read_project(it, vars=VARS, env=ENV, root=tmp_path), "m").own for it in bodies)
    assert before != after


def test_the_content_of_a_seed(tmp_path: Path) -> None:
    plain, other = (parts(manifest(seed("m", checksum={"name": "sha256", "checksum": text}))) for text in "ab")
    assert plain["sql"] != other["sql"]
    large = manifest(seed("m", checksum={"name": "path", "checksum": "seeds/m.csv"}))
    file = tmp_path / "seeds" / "m.csv"
    file.parent.mkdir()
    found = set()
    for content in ("a\n1\n", "a\n2\n", "a\n1\n"):
        file.write_text(content)
        found.add(node(read_project(large, root=tmp_path), "m").own)
    assert len(found) == 2
    file.unlink()
    with pytest.raises(DbtError, match=r"seed m: cannot read .*m\.csv"):
        read_project(large, root=tmp_path)


def test_values_are_never_kept() -> None:
    secret = "a secret that nobody may read"
    body = read_project(BASE, vars=VARS | {"cut": secret}, env=ENV | {"REGION": secret})
    assert secret.encode() not in project_to_bytes(body)


# Policies.


@pytest.mark.parametrize(
    ("config", "unrendered", "expected"),
    [
        ({"freshness": {"build_after": {"count": 4, "period": "hour", "updates_on": None}}}, {}, Policy(14400)),
        (
            {"freshness": {"build_after": {"count": 4, "period": "hour", "updates_on": "all"}}},
            {"freshness": None},
            Policy(),
        ),
        ({"freshness": None}, {"freshness": {"warn_after": {"count": 1, "period": "day"}}}, Policy()),
        ({"freshness": {"build_after": {"count": None, "period": None, "updates_on": "all"}}}, {}, Policy(0, "all")),
        (
            {"freshness": None, "state": {"lag_tolerance": "30m", "require_fresh_data_from": "all"}},
            {},
            Policy(1800, "all"),
        ),
        ({"state": {"lag_tolerance": {"count": 2, "period": "day", "updates_on": None}}}, {}, Policy(172800)),
        ({"freshness": None, "state": None}, {}, Policy(86400)),
        ({}, {}, Policy(86400)),
        ({"meta": {"sao": {"lazy": True}}}, {}, Policy(86400, lazy=True)),
    ],
)
def test_policies(config: Body, unrendered: Body, expected: Policy) -> None:
    body = manifest(model("m", config=config, unrendered_config=unrendered))
    default = {"freshness": {"build_after": {"count": 1, "period": "day"}}}
    assert node(read_project(body, default=default), "m").policy == expected


def test_short_forms_that_dbt_drops_are_read_with_a_warning() -> None:
    block = {"build_after": {"count": 1, "period": "day"}, "updates_on": "all"}
    rendered = {"build_after": {"count": 1, "period": "day", "updates_on": "any"}}
    for unrendered in (block, str(block)):
        body = manifest(model("m", config={"freshness": rendered}, unrendered_config={"freshness": unrendered}))
        project = read_project(body)
        assert node(project, "m").policy == Policy(86400, "all")
        assert "updates_on" in project.warnings[0]
        assert "models/m.sql" in project.warnings[0]
    body = manifest(model("m", config={"freshness": None}, unrendered_config={"freshness": {"build_after": "6h"}}))
    project = read_project(body)
    assert node(project, "m").policy == Policy(21600)
    assert "6h" in project.warnings[0]


def test_warnings_and_errors_name_the_place(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        {"models/p.yml": "models:\n  - name: n\n    lasy: 1\n  - name: m\n    meta:\n      sao:\n        lasy: 1\n"},
    )
    body = manifest(model("m", config={"meta": {"sao": {"lasy": True}}}, patch_path="shop://models/p.yml"))
    (warning,) = read_project(body, root=tmp_path).warnings
    assert warning == "m: meta.sao has the unknown key lasy; did you mean lazy? (models/p.yml:7)"
    body = manifest(source("s", meta={"sao": {"fresh": True}}))
    (warning,) = read_project(body, root=tmp_path).warnings
    assert warning.startswith("raw.s: meta.sao has the unknown key fresh; did you mean files?")
    for sao in ({"lazy": "yes"}, {"early_cutoff": 1}, ["lazy"]):
        with pytest.raises(PolicyError, match=r"m: .*models/m\.sql"):
            read_project(manifest(model("m", config={"meta": {"sao": sao}})), root=tmp_path)
    for files in (["a", "b"], "", " ", 7, None, "a\0b", {"path": "a"}):
        with pytest.raises(PolicyError, match=r"raw\.s: meta\.sao\.files must be one path"):
            read_project(manifest(source("s", meta={"sao": {"files": files}})), root=tmp_path)
    bad = manifest(model("m", config={"freshness": {"build_after": {"count": 1, "period": None}}}))
    with pytest.raises(PolicyError, match=r"m: .*period.*models/m\.sql"):
        read_project(bad, root=tmp_path)


def test_a_source_that_is_a_view_is_warned_of_unless_it_says_when_it_was_loaded(tmp_path: Path) -> None:
    text = "sources:\n  - name: raw\n    tables:\n      - name: s\n        config: {meta: {sao: {view: true}}}\n"
    write_project(tmp_path, {"models/s.yml": text})
    told = {"meta": {"sao": {"view": True}}, "original_file_path": "models/s.yml"}
    (warning,) = read_project(manifest(source("s", **told)), root=tmp_path).warnings
    assert warning.startswith("raw.s: a view in the warehouse has no trusted load time")
    assert warning.endswith("(models/s.yml:5)")
    assert read_project(manifest(source("s", **told, loaded_at_field="at")), root=tmp_path).warnings == ()


@pytest.mark.parametrize(
    ("code", "timed"),
    [
        ("{{ config(freshness=every()) }} select 1 as id", True),
        ("{{ config(alias='every') }} select {{ hour() }} as id", False),
        ("{{ configured() }} select 1 as id", False),
    ],
)
def test_a_macro_that_asks_a_clock_for_a_policy_is_looked_into(code: str, timed: bool) -> None:
    hour = macro("hour", "{{ return(run_started_at.hour) }}")
    every = macro("every", "{{ return({'build_after': {'count': hour(), 'period': 'hour'}}) }}")
    configured = macro("configured", "{{ config(materialized='table') }}")
    found = read_project(manifest(model("m", code), hour, every, configured))
    assert bool(found.meta.get("timed")) is timed


def test_a_macro_that_configures_by_a_clock_is_found() -> None:
    configured = macro("configured", "{{ config(freshness={'build_after': {'count': run_started_at.hour}}) }}")
    assert read_project(manifest(model("m", "{{ configured() }}"), configured)).meta["timed"]


ASTRAY = """
    models: [{name: other, freshness: {}},
      {name: m, freshness: {build_after: {count: 1, period: hour}},
        lag_tolerance: 1h, config: {freshness: {build_after: {count: 0,
          period: hour}}, meta: {sao: {lasy: true}}}}]
    """


def test_what_stands_outside_of_config_is_warned_of_and_yaml_of_any_form_has_lines(tmp_path: Path) -> None:
    write_project(tmp_path, {"models/p.yml": ASTRAY})
    config = {"freshness": {"build_after": {"count": 0, "period": "hour"}}, "meta": {"sao": {"lasy": True}}}
    body = manifest(model("m", config=config, patch_path="shop://models/p.yml"))
    unknown, none, freshness, tolerance = read_project(body, root=tmp_path).warnings
    assert freshness == (
        "m: freshness stands outside of config, where dbt drops it; move it into config (models/p.yml:2)"
    )
    assert tolerance.startswith("m: lag_tolerance stands outside of config")
    assert tolerance.endswith("(models/p.yml:3)")
    assert none.startswith("m: freshness.build_after.count is 0")
    assert none.endswith("(models/p.yml:3)")
    assert unknown.endswith("(models/p.yml:4)")


def test_what_a_table_takes_from_its_source_has_the_line_there(tmp_path: Path) -> None:
    text = "sources:\n  - name: raw\n    config: {meta: {sao: {lasy: 1}}}\n    tables: [{name: s}, {name: t}]\n"
    write_project(tmp_path, {"models/s.yml": text})
    told = {"meta": {"sao": {"lasy": 1}}, "original_file_path": "models/s.yml"}
    (warning,) = read_project(manifest(source("s", **told)), root=tmp_path).warnings
    assert warning.endswith("(models/s.yml:3)")


@pytest.mark.parametrize("text", ["models: [{name: m", "- name: m", "models: {name: m}", "models: [m, [m]]", ""])
def test_yaml_that_is_not_as_expected_has_no_lines(tmp_path: Path, text: str) -> None:
    write_project(tmp_path, {"models/p.yml": text})
    body = manifest(model("m", config={"meta": {"sao": {"lasy": True}}}, patch_path="shop://models/p.yml"))
    (warning,) = read_project(body, root=tmp_path).warnings
    assert warning.endswith("(models/p.yml)")


def test_a_static_source_that_should_be_looked_at_is_warned_of(tmp_path: Path) -> None:
    sao = "{static: true, probe: 5m}"
    text = f"sources:\n  - name: raw\n    tables:\n      - name: s\n        config: {{meta: {{sao: {sao}}}}}\n"
    write_project(tmp_path, {"models/s.yml": text})
    told = {"meta": {"sao": {"static": True, "probe": "5m"}}, "original_file_path": "models/s.yml"}
    (warning,) = read_project(manifest(source("s", **told)), root=tmp_path).warnings
    assert warning == (
        "raw.s: declared static, and so never looked at: its probe has no use; take one of the two out (models/s.yml:5)"
    )


def test_a_policy_is_warned_of_where_the_key_stands_that_is_meant(tmp_path: Path) -> None:
    text = """
        models:
          - name: m
            config:
              state: {lag_tolerance: 0s}
              freshness: {build_after: {count: -1, period: day}}
              meta:
                sao: {window: [{every: 0h}]}
        """
    write_project(tmp_path, {"models/p.yml": text})
    config = {
        "state": {"lag_tolerance": "0s"},
        "freshness": {"build_after": {"count": -1, "period": "day"}},
        "meta": {"sao": {"window": [{"every": "0h"}]}},
    }
    body = manifest(model("m", config=config, patch_path="shop://models/p.yml"))
    places = {warning.rpartition(" ")[2] for warning in read_project(body, root=tmp_path).warnings}
    assert places == {"(models/p.yml:4)", "(models/p.yml:5)", "(models/p.yml:7)"}
    config["meta"] = {"sao": {"window": "soon"}}
    body = manifest(model("m", config=config, patch_path="shop://models/p.yml"))
    with pytest.raises(PolicyError, match=r"meta\.sao\.window: .*\(models/p\.yml:7\)"):
        read_project(body, root=tmp_path)


def test_a_key_that_dbt_drops_or_passes_on_unread_is_told() -> None:
    """As dbt 1.11 has it: what it does not know is gone from `config.freshness`, and stays in what was written."""
    build_after = {"count": 1, "period": "hour", "updates_on": "any"}
    written = {"build_after": {"count": 1, "period": "hour", "update_on": "all"}}
    body = manifest(
        model("a", config={"freshness": None}, unrendered_config={"freshness": {"build_aftr": build_after}}),
        model("b", config={"freshness": {"build_after": build_after}}, unrendered_config={"freshness": written}),
        model("c", config={"state": {"lag_tolerence": "1h"}}),
    )
    project = read_project(body)
    assert [warning.partition(", which")[0] for warning in project.warnings] == [
        "a: freshness has the unknown key build_aftr",
        "b: freshness.build_after has the unknown key update_on",
        "c: state has the unknown key lag_tolerence",
    ]
    assert [node(project, name).policy for name in "abc"] == [Policy(), Policy(3600.0), Policy()]


def test_a_policy_outside_its_block_is_told() -> None:
    body = manifest(
        model("a", config={"lag_tolerance": "4h", "updates_on": "all", "count": 3}),
        model("b", config={"freshness": None}, unrendered_config={"freshness": "4h"}),
        model("c", config={"freshness": None}, unrendered_config={"freshness": "{{ none }}"}),
        model("d", config={"freshness": None}, unrendered_config={"freshness": None}),
    )
    assert [warning.partition(",")[0] for warning in read_project(body).warnings] == [
        "a: updates_on stands in config itself",
        "a: lag_tolerance stands in config itself",
        "b: freshness: 4h is no mapping",
    ]


def test_early_cutoff_is_per_node() -> None:
    project = read_project(manifest(model("m", config={"meta": {"sao": {"early_cutoff": True}}}), model("n")))
    assert (node(project, "m").early_cutoff, node(project, "n").early_cutoff) == (True, False)


def test_a_quorum_that_nothing_can_meet_is_told_with_its_place(tmp_path: Path) -> None:
    text = """
        models:
          - name: m
            # what reads nothing
          - name: lone
            config:
              freshness: {build_after: {updates_on: all}}
          - {name: stated, config: {state: {require_fresh_data_from: all}}}
        """
    write_project(tmp_path, {"models/p.yml": text})
    quorum = {"freshness": {"build_after": {"count": 1, "period": "day", "updates_on": "all"}}}
    told = {"materialized": "table", **quorum}
    body = manifest(
        seed("s"),
        model("m", config=told, patch_path="shop://models/p.yml", **reads("seed.shop.s")),
        model("lone", config=told, patch_path="shop://models/p.yml"),
        model(
            "stated",
            config={"materialized": "table", "state": {"require_fresh_data_from": "all"}},
            patch_path="shop://models/p.yml",
        ),
    )
    lone, stated, m = read_project(body, root=tmp_path).warnings
    assert m.startswith("m: updates_on: all can never be met: s cannot have new data, ")
    assert m.endswith("(models/p.yml)")  # the line below it is another's
    assert lone.startswith("lone: updates_on: all can never be met: it reads no source or model, ")
    assert lone.endswith("(models/p.yml:6)")
    assert stated.endswith("(models/p.yml:7)")


# The real dbt.

PROJECT = {
    "macros/ours.sql": "{% macro hidden() %}id > 0{% endmacro %}\n{% macro plain() %}1{% endmacro %}\n",
    "seeds/s.csv": "id\n1\n",
    "models/staged.sql": "select id, {{ var('cut') }} as cut from {{ source('raw', 'events') }}",
    "models/m.sql": """
        {{ config(materialized='incremental', unique_key='id') }}
        -- what it is for
        select id from {{ ref('staged') }} {% if is_incremental() %} where {{ hidden() }} {% endif %}
        """,
    "models/none.sql": "{{ config(freshness=none) }} select id from {{ ref('m') }}",
    "models/beside.sql": "{{ config(freshness={'build_after': {'count': 1, 'period': 'day'}, 'updates_on': 'all'}) }}\n"
    "select id from {{ ref('m') }}",
    "models/stated.sql": "{{ config(state={'lag_tolerance': '2h'}, freshness=none) }} select id from {{ ref('m') }}",
    "models/p.py": "def model(dbt, session):\n    return dbt.ref('m')\n",
    "models/p.yml": """
        version: 2
        sources:
          - {name: raw, schema: main, tables: [{name: events}, {name: orders, config: {meta: {sao: {static: true}}}}]}
        models:
          - name: staged
            config: {freshness: null}
            columns: [{name: id, data_tests: [unique, {not_null: {config: {severity: warn}}}]}]
          - name: m
            config: {freshness: {build_after: {count: 30, period: minute, updates_on: all}}, meta: {sao: {lazy: true}}}
        """,
}
SETTINGS = """
vars: {cut: 5}
models: {tiny: {+freshness: {build_after: {count: 4, period: hour}}}}
"""


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtSettings, Project]:
    pytest.importorskip("dbt.cli", reason="dbt is not installed: install the extra [dbt]")
    folder = tmp_path_factory.mktemp("real")
    settings = DbtSettings(write_project(folder / "project", PROJECT, settings=SETTINGS), folder / "state")
    return settings, load(settings).project


@pytest.mark.dbt
@pytest.mark.slow
def test_policies_as_dbt_writes_them(real: tuple[DbtSettings, Project]) -> None:
    _, project = real
    assert {node.name: node.policy for node in project.graph.nodes.values()} == {
        "s": Policy(),
        "staged": Policy(),
        "m": Policy(1800, "all", lazy=True),
        "none": Policy(),
        "beside": Policy(86400, "all"),
        "stated": Policy(7200),
        "p": Policy(14400),
    }
    assert [warning.partition(":")[0] for warning in project.warnings] == ["beside"]
    assert "(models/beside.sql:1)" in project.warnings[0]
    assert {node.name: node.kind for node in project.graph.nodes.values()} == {
        "s": "seed", "staged": "view", "m": "incremental", "none": "view", "beside": "view", "stated": "view",
        "p": "python",
    }  # fmt: skip
    assert {test.kind: test.severity for test in project.graph.tests.values()} == {
        "unique": "error",
        "not_null": "warn",
    }
    _, orders = project.graph.sources.values()
    assert (orders.name, orders.static, orders.relation) == ("raw.orders", True, '"warehouse"."main"."orders"')


@pytest.mark.dbt
@pytest.mark.slow
def test_edits_as_dbt_sees_them(real: tuple[DbtSettings, Project], tmp_path: Path) -> None:
    _, before = real
    files = PROJECT | {
        "macros/ours.sql": PROJECT["macros/ours.sql"].replace("id > 0", "id > 1").replace("1{%", "2{%"),
        "models/stated.sql": PROJECT["models/stated.sql"].replace("'2h'", "'3h'"),
        "models/p.yml": PROJECT["models/p.yml"].replace("minute", "hour").replace("lazy: true", "early_cutoff: true"),
        "models/none.sql": PROJECT["models/none.sql"] + "\n-- a comment",
        "seeds/s.csv": "id\n2\n",
        "profiles.yml": "tiny: {target: dev, outputs: {dev: {type: duckdb, path: warehouse.duckdb, threads: 3}}}",
    }
    write_project(tmp_path / "project", files, settings=SETTINGS.replace("cut: 5", "cut: 6"))
    other = DbtSettings(tmp_path / "project", tmp_path / "state", vars={"cut": 6})
    after = load(other).project
    changed = {
        node.name: {part for part in node.parts if node.parts[part] != before.graph.nodes[node.id].parts.get(part)}
        for node in after.graph.nodes.values()
    }
    assert {name: what for name, what in changed.items() if what} == {"s": {"sql"}, "staged": {"vars"}, "m": {"macros"}}


@pytest.mark.dbt
@pytest.mark.slow
def test_a_second_parse_finds_the_same_project(real: tuple[DbtSettings, Project]) -> None:
    settings, before = real
    again, path = load(settings)
    assert project_to_bytes(again) == project_to_bytes(before)
    assert json.loads(path.read_bytes())["metadata"]["project_name"] == "tiny"


def test_the_value_of_a_var_is_the_same_in_the_checkout_of_every_commit(tmp_path: Path) -> None:
    settings = "vars: {cutoff: 3, shop: {only_here: 4}}"
    found = [
        DbtSettings(write_project(tmp_path / commit, {}, settings=settings), tmp_path).given_vars()
        for commit in ("1f0c", "9a7e")
    ]
    assert found[0] == found[1]
    assert found[0].keys() == {"cutoff", "shop", "only_here"}
