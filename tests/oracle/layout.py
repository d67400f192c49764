"""A small dbt project as a value, and the files it is written as. Every relation has the columns id, amount, loaded_at.

Ids are unique in every relation, sums are exact and nothing follows the clock, so that equal inputs give equal tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SOURCES = ("s0", "s1", "s2")
VIEWLIKE = ("view", "ephemeral")
STORED = ("table", "incremental", "snapshot", "materialized_view")
NEVER = "timestamp '2026-01-01 00:00:00'"


@dataclass(frozen=True)
class Check:
    """A data test on one relation, which passes unless it `fails`."""

    severity: str = "error"
    fails: bool = False


@dataclass(frozen=True)
class Model:
    """A model or snapshot. `kind` auto: its folder's materialization. `reads` are names of sources, seeds, models."""

    name: str
    kind: str
    reads: tuple[str, ...]
    shape: str = "join"
    number: int = 0
    extra: int = 0
    macro: bool = False
    var: bool = False
    style: int = 0
    alias: str | None = None
    schema: str | None = None
    window: int = 0
    quorum: str = "any"
    generic: bool = False
    check: Check | None = None
    broken: bool = False


@dataclass(frozen=True)
class Layout:
    """The whole project; `models` in an order in which each reads only those before it."""

    models: tuple[Model, ...]
    seeds: dict[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    folder: str = "view"
    macro: int = 1
    macro_style: int = 0
    inner: int = 1
    var: int = 1
    checks: dict[str, Check] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """The model of that name."""
        return next(model for model in self.models if model.name == name)

    def kind(self, name: str) -> str:
        """What the relation is made as; `source` and `seed` included."""
        if name in SOURCES:
            return "source"
        if name in self.seeds:
            return "seed"
        kind = self.model(name).kind
        return self.folder if kind == "auto" else kind

    def readers(self, name: str) -> list[Model]:
        """The models that read `name` directly."""
        return [model for model in self.models if name in model.reads]

    def below(self, names: Iterable[str]) -> set[str]:
        """`names` and everything that is made from them."""
        found = set(names)
        for model in self.models:
            if found.intersection(model.reads):
                found.add(model.name)
        return found


def files(layout: Layout, adapter: str) -> dict[str, str]:
    """Path and text of every file of the project."""
    found = {
        "dbt_project.yml": _project(layout),
        "profiles.yml": PROFILES[adapter],
        "models/sources.yml": _sources(),
        "macros/adjust.sql": _macros(layout),
        ".gitignore": "target/\nlogs/\n",
    }
    for name, rows in layout.seeds.items():
        found[f"seeds/{name}.csv"] = "id,amount\n" + "".join(f"{id_},{amount}\n" for id_, amount in rows)
    for model in layout.models:
        folder = "auto" if model.kind == "auto" else "plain"
        if model.kind == "snapshot":
            found[f"snapshots/{model.name}.yml"] = _snapshot(model)
        else:
            found[f"models/{folder}/{model.name}.sql"] = _model(layout, model)
        if model.generic and model.kind != "snapshot":
            found[f"models/{folder}/{model.name}.yml"] = _properties(model)
        if model.check:
            found[f"tests/check_{model.name}.sql"] = _test(f"ref('{model.name}')", model.check)
    for source, check in layout.checks.items():
        found[f"tests/check_{source}.sql"] = _test(f"source('raw', '{source}')", check)
    return found


PROFILES = {
    "duckdb": """
oracle:
  target: dev
  outputs:
    dev: {type: duckdb, path: "{{ env_var('ORACLE_DB') }}", threads: 2}
""",
    "postgres": """
oracle:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{{ env_var('ORACLE_HOST') }}"
      port: "{{ env_var('ORACLE_PORT') | int }}"
      dbname: "{{ env_var('ORACLE_DB') }}"
      user: postgres
      password: ""
      schema: main
      threads: 2
""",
}


def _project(layout: Layout) -> str:
    return f"""name: oracle
version: "1.0"
profile: oracle
flags: {{send_anonymous_usage_stats: false}}
models:
  oracle:
    auto: {{+materialized: {layout.folder}}}
vars: {{bonus: {layout.var}}}
"""


def _sources() -> str:
    tables = "".join(f"      - name: {name}\n" for name in SOURCES)
    return f"version: 2\nsources:\n  - name: raw\n    schema: raw\n    tables:\n{tables}"


def _macros(layout: Layout) -> str:
    comment = f"{{# take {layout.macro_style} #}}" if layout.macro_style else ""
    return (
        f"{{% macro adjust(x) %}}{comment}({{{{ x }}}} * 2 + {layout.macro} + {{{{ inner() }}}}){{% endmacro %}}\n"
        f"{{% macro inner() %}}{layout.inner}{{% endmacro %}}\n"
    )


def _model(layout: Layout, model: Model) -> str:
    body = _grouped(layout, model) if model.shape == "group" else _joined(layout, model)
    if layout.kind(model.name) == "incremental":
        # Whatever differs from what is there is written again, so it holds what a full refresh would.
        body += "{% if is_incremental() %}\nexcept select id, amount, loaded_at from {{ this }}\n{% endif %}\n"
    return f"{_config(layout, model)}\n{_comment(model.style)}{_spelled(body, model.style)}"


def _joined(layout: Layout, model: Model) -> str:
    first, *others = model.reads
    aliases = dict(zip(others, "bcd", strict=False))
    star = model.shape == "star"
    amount = " + ".join(["a.amount", *(f"coalesce({alias}.amount, 0)" for alias in aliases.values())])
    loaded = [f"{alias}.loaded_at" for name, alias in aliases.items() if name not in layout.seeds]
    columns = ["a.*"] if star else ["a.id", f"{_amount(model, amount)} as amount", f"{_latest(loaded)} as loaded_at"]
    columns += [f"{model.number + index} as {model.name}_{index}" for index in range(model.extra + star)]
    if model.broken:
        columns.append("a.no_such_column")
    joins = "".join(
        f"left join {_from(layout, name)} as {alias} on a.id = {alias}.id\n" for name, alias in aliases.items()
    )
    return f"select\n    {(chr(10) + '    , ').join(columns)}\nfrom {_from(layout, first)} as a\n{joins}"


def _latest(others: list[str]) -> str:
    return f"greatest({', '.join(['a.loaded_at', *others])})" if others else "a.loaded_at"


def _grouped(layout: Layout, model: Model) -> str:
    broken = ", max(a.no_such_column) as broken" if model.broken else ""
    return (
        f"select\n    a.id % 3 as id\n    , {_amount(model, 'sum(a.amount)')} as amount\n"
        f"    , max(a.loaded_at) as loaded_at{broken}\nfrom {_from(layout, model.reads[0])} as a\ngroup by 1\n"
    )


def _amount(model: Model, expression: str) -> str:
    if model.macro:
        expression = f"{{{{ adjust('{expression}') }}}}"
    var = " + {{ var('bonus', 0) }}" if model.var else ""
    return f"cast({expression} + {model.number}{var} as bigint)"


def _from(layout: Layout, name: str) -> str:
    kind = layout.kind(name)
    if kind == "source":
        return f"{{{{ source('raw', '{name}') }}}}"
    if kind == "snapshot":
        return f"(select id, amount, loaded_at from {{{{ ref('{name}') }}}} where dbt_valid_to is null)"
    return f"{{{{ ref('{name}') }}}}"


def _config(layout: Layout, model: Model) -> str:
    given = [] if model.kind == "auto" else [f"materialized='{model.kind}'"]
    if layout.kind(model.name) == "incremental":
        given += ["unique_key='id'", "incremental_strategy='delete+insert'"]
    for key in ("alias", "schema"):
        if value := getattr(model, key):
            given.append(f"{key}='{value}'")
    if model.window or model.quorum != "any":
        counted = f"'count': {model.window}, 'period': 'minute', " if model.window else ""
        given.append(f"freshness={{'build_after': {{{counted}'updates_on': '{model.quorum}'}}}}")
    return f"{{{{ config({', '.join(given)}) }}}}" if given else ""


def _comment(style: int) -> str:
    return f"-- take {style}\n" if style else ""


def _spelled(body: str, style: int) -> str:
    """Another spelling of the same: a keyword's case, white space, a comment at the end of a line."""
    if style % 3 == 1:
        return body.replace("select\n", "SELECT\n\n", 1)
    return body.replace("    ", "  ") if style % 3 == 2 else body


def _snapshot(model: Model) -> str:
    [read] = model.reads
    relation = f"source('raw', '{read}')" if read in SOURCES else f"ref('{read}')"
    return f"""version: 2
snapshots:
  - name: {model.name}
    relation: {relation}
    description: take {model.style}
    config: {{strategy: check, unique_key: id, check_cols: [amount]}}
"""


def _properties(model: Model) -> str:
    return (
        f"version: 2\nmodels:\n  - name: {model.name}\n    description: take {model.style}\n"
        "    columns: [{name: id, data_tests: [unique, not_null]}]\n"
    )


def _test(relation: str, check: Check) -> str:
    condition = "id is not null" if check.fails else "id is null"
    return f"{{{{ config(severity='{check.severity}') }}}}\nselect id from {{{{ {relation} }}}} where {condition}\n"
