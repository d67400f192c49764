"""Part of week.py: the generated dbt project, and everything that happens to it in a week, the same for the same seed.

60 models on 8 sources: 16 staging models (a view and a table on each source, all through one macro), 20 intermediate
tables, 24 marts with a window of 4 hours, a seed, 58 tests. All numbers are whole, so that two builds of one state
are equal to the last digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import duckdb

HOUR, DAY = 3600.0, 86400.0
WINDOW, SETTLE = 4 * HOUR, 2.0
START = 1_772_409_600.0  # 2026-03-02T00:00:00Z, a Monday
STAGING, INTERMEDIATE, MARTS, KEYS = 16, 20, 24, 50
# Hours between two loads of each source, about; the fourth is loaded by the loader of the third, a second later.
LOADED_EVERY = (2.0, 2.0, 3.0, None, 4.5, 6.0, 8.0, 24.0)
SOURCES = tuple(f"s{number}" for number in range(len(LOADED_EVERY)))
# How often each kind of edit happens in a week; in a shorter one the first ones at least once.
EDITS = {"expression": 8, "cosmetic": 8, "column": 3, "macro": 1, "config": 1, "seed": 1, "revert": 1}
REDELIVERED = 6
WORDS = re.compile(r"\b(select|from|join|using|where|group by|with|as|cast|union all|bigint)\b")


@dataclass(frozen=True)
class Model:
    """A model as it is written now. `factor` and `extras` (columns that nobody reads) are in its SQL; `comments`,
    `upper`, `spaced` and `words` only change how it looks.
    """

    name: str
    layer: str
    reads: tuple[str, ...]
    kind: str
    factor: int = 1
    extras: int = 0
    comments: int = 0
    upper: bool = False
    spaced: bool = False
    words: int = 0


@dataclass(frozen=True)
class Layout:
    """The whole project: its models, parents first, a number in the macro of all staging models, one in the seed."""

    models: Mapping[str, Model]
    macro: int = 0
    weight: int = 1


@dataclass(frozen=True)
class Happening:
    """At `at` (epoch seconds) the load `number` of `source` brings `rows` rows (`again`: its callback comes a second
    time, with no rows), or the project becomes `layout`.
    """

    at: float
    what: str
    source: str = ""
    number: int = 0
    rows: int = 0
    layout: Layout | None = None


def first_layout(rng: Random) -> Layout:
    """The project of the first day. Every model but the marts has a reader."""
    models = dict[str, Model]()

    def add(name: str, layer: str, reads: tuple[str, ...], kind: str = "table") -> None:
        models[name] = Model(name, layer, reads, kind, factor=rng.randint(1, 9))

    for number in range(STAGING):
        source, kind = f"raw.s{number // 2}", ("view", "table")[number % 2]
        add(f"stg_s{number // 2}_{'rows' if kind == 'view' else 'totals'}", "staging", (source,), kind)
    staging = list(models)
    for number in range(INTERMEDIATE):
        others = [f"int_{n}" for n in range(max(0, number - 14))] or staging
        second = rng.choice([name for name in others if name != staging[number % STAGING]])
        add(f"int_{number}", "intermediate", (staging[number % STAGING], second, *(("regions",) if number < 2 else ())))
    for number in range(MARTS):
        more = rng.sample([n for n in range(INTERMEDIATE) if n != number % INTERMEDIATE], rng.randint(0, 2))
        add(f"mart_{number}", "marts", tuple(f"int_{n}" for n in (number % INTERMEDIATE, *more)))
    return Layout(models)


def week(rng: Random, layout: Layout, days: float) -> list[Happening]:
    """Everything that happens in `days` days from START, in order, the last of it well before the end."""
    found = list[Happening]()
    for source, hours in zip(SOURCES, LOADED_EVERY, strict=True):
        if hours is not None:
            found += _loads(rng, source, hours * HOUR, days * DAY)
    number = dict.fromkeys(SOURCES, 0)
    for index, loaded in enumerate(sorted(found, key=lambda h: h.at)):
        number[loaded.source] += 1
        found[index] = replace(loaded, number=number[loaded.source])
    loads = [h for h in found if h.source != "s3"]
    for loaded in rng.sample(loads, round(REDELIVERED * days / 7)):
        found.append(replace(loaded, what="again", at=loaded.at + rng.uniform(20, 600), rows=0))
    return sorted(found + _edits(rng, layout, days), key=lambda h: h.at)


def _loads(rng: Random, source: str, every: float, seconds: float) -> list[Happening]:
    found = list[Happening]()
    for number in range(int(seconds // every)):
        at = START + (number + rng.uniform(0.1, 0.9)) * every
        found.append(Happening(at, "load", source, rows=rng.randint(20, 120)))
        if source == "s2":
            found.append(Happening(at + 1, "load", "s3", rows=rng.randint(20, 120)))
    return found


def _edits(rng: Random, layout: Layout, days: float) -> list[Happening]:
    kinds = [kind for kind, times in EDITS.items() for _ in range(max(kind != "revert", round(times * days / 7)))]
    rng.shuffle(kinds)
    kinds.sort(key=lambda kind: kind == "revert")
    found, looks, last = list[Happening](), 0, None
    for at in sorted(START + rng.uniform(HOUR, days * DAY - HOUR) for _ in kinds):
        kind = kinds[len(found)]
        if kind == "revert" and last is not None:
            layout, what = _with(layout, last), f"revert {last.name}"
        elif kind == "cosmetic":
            layout, what = _cosmetic(rng, layout, looks)
            looks += 1
        else:
            model = rng.choice(list(layout.models.values()))
            last = model if kind == "expression" else last
            layout, what = _edit(rng, layout, kind, model)
        found.append(Happening(at, what, layout=layout))
    return found


def _with(layout: Layout, model: Model) -> Layout:
    return replace(layout, models={**layout.models, model.name: model})


def _edit(rng: Random, layout: Layout, kind: str, model: Model) -> tuple[Layout, str]:
    if kind == "macro":
        return replace(layout, macro=layout.macro + 1), "macro of all staging models"
    if kind == "seed":
        return replace(layout, weight=layout.weight + 1), "seed regions"
    if kind == "config":
        view = layout.models[f"stg_{rng.choice(SOURCES)}_rows"]
        return _with(layout, replace(view, kind="table")), f"config {view.name}"
    if kind == "column":
        return _with(layout, replace(model, extras=model.extras + 1)), f"column {model.name}"
    return _with(layout, replace(model, factor=model.factor + 1)), f"expression {model.name}"


def _cosmetic(rng: Random, layout: Layout, number: int) -> tuple[Layout, str]:
    looks: list[tuple[str, Callable[[Model], Model]]] = [
        ("comment", lambda model: replace(model, comments=model.comments + 1)),
        ("white space", lambda model: replace(model, spaced=not model.spaced)),
        ("upper case", lambda model: replace(model, upper=not model.upper)),
        ("description", lambda model: replace(model, words=model.words + 1)),
    ]
    what, change = looks[number % len(looks)]
    model = rng.choice(list(layout.models.values()))
    return _with(layout, change(model)), f"{what} {model.name}"


def files(layout: Layout, *, lazy: bool) -> dict[str, str]:
    """Paths and texts of the project. `lazy`: staging and intermediate models are built when a mart needs them."""
    texts = {
        "dbt_project.yml": _project(layout, lazy),
        "profiles.yml": "week:\n  target: dev\n  outputs:\n"
        "    dev: {type: duckdb, path: warehouse.duckdb, threads: 2}\n",
        "macros/money.sql": "{% macro money(column) %}cast({{ column }} * 100 + "
        f"{layout.macro} as bigint){{% endmacro %}}\n",
        "seeds/regions.csv": "key,weight\n" + "".join(f"{key},{layout.weight + key % 3}\n" for key in range(KEYS)),
        "models/sources.yml": _sources(),
    }
    for number in range(2):
        texts[f"tests/mart_{number}_is_not_negative.sql"] = (
            f"select * from {{{{ ref('mart_{number}') }}}} where amount < 0\n"
        )
    for layer in ("staging", "intermediate", "marts"):
        texts[f"models/{layer}/models.yml"] = _properties(layout, layer)
    for model in layout.models.values():
        texts[f"models/{model.layer}/{model.name}.sql"] = _styled(model, _sql(model))
    return texts


def _project(layout: Layout, lazy: bool) -> str:
    tables = [m.name for m in layout.models.values() if m.layer == "staging" and m.kind == "table"]
    held = "      +meta: {sao: {lazy: true}}\n" if lazy else ""
    return (
        "name: week\nversion: '1.0'\nprofile: week\nflags: {send_anonymous_usage_stats: false}\n"
        f"models:\n  week:\n    staging:\n      +materialized: view\n{held}"
        + "".join(f"      {name}: {{+materialized: table}}\n" for name in tables)
        + f"    intermediate:\n      +materialized: table\n{held}"
        "    marts:\n      +materialized: table\n      +freshness: {build_after: {count: 4, period: hour}}\n"
    )


def _sources() -> str:
    """`dbt source freshness` needs the column and a threshold."""
    return (
        "sources:\n  - name: raw\n"
        "    config: {loaded_at_field: loaded_at, freshness: {warn_after: {count: 9999, period: day}}}\n"
        "    tables:\n" + "".join(f"      - {{name: {source}}}\n" for source in SOURCES)
    )


def _properties(layout: Layout, layer: str) -> str:
    texts = ["models:\n"]
    for index, model in enumerate(m for m in layout.models.values() if m.layer == layer):
        told = "as agreed" + " again" * model.words
        tests = _tests(layer, index, model)
        columns = f", columns: [{{name: id, data_tests: [{tests}]}}]" if tests else ""
        texts.append(f"  - {{name: {model.name}, description: {told}{columns}}}\n")
    return "".join(texts)


def _tests(layer: str, index: int, model: Model) -> str:
    """16 on staging models, 16 on intermediate models, 24 on marts; two more are files."""
    if layer == "intermediate":
        return "unique" if index < 16 else ""
    if layer == "marts" and index < 4:
        return f"relationships: {{arguments: {{to: ref('{model.reads[0]}'), field: id}}}}"
    return "not_null"


def _sql(model: Model) -> str:
    more = "".join(f", {number} as extra_{number}" for number in range(model.extras))
    if model.layer == "staging":
        source = "{{ source('raw', '" + model.reads[0].removeprefix("raw.") + "') }}"
        amount = "{{ money('amount') }}"
        if model.name.endswith("rows"):
            return f"select id, key, {amount} * {model.factor} as amount{more}\nfrom {source}\n"
        total = f"cast(sum({amount}) * {model.factor} as bigint)"
        return f"select key as id, key, {total} as amount{more}\nfrom {source}\ngroup by key\n"
    refs = ["{{ ref('" + name + "') }}" for name in model.reads]
    if model.layer == "marts":
        rows = "\n  union all ".join(f"select key, amount from {ref}" for ref in refs)
        return (
            f"select key % 10 as id, cast(sum(amount) * {model.factor} as bigint) as amount, count(*) as n{more}\n"
            f"from (\n  {rows}\n) as u\ngroup by key % 10\n"
        )
    parts = [f"{part} as (select key, sum(amount) as amount from {ref} group by key)" for part, ref in zip("ab", refs)]  # noqa: B905
    weight, join = (" * r.weight", f"join {refs[2]} as r using (key)\n") if len(refs) > 2 else ("", "")
    amount = f"cast((a.amount * {model.factor} + b.amount){weight} % 1000003 as bigint)"
    return (
        f"with {', '.join(parts)}\nselect key as id, key, {amount} as amount{more}\nfrom a\njoin b using (key)\n{join}"
    )


def _styled(model: Model, sql: str) -> str:
    if model.upper:
        sql = WORDS.sub(lambda word: word[0].upper(), sql)
    if model.spaced:
        sql = sql.replace("\n", "\n\n   ").rstrip(" ")
    return "".join(f"-- looked at, {number + 1}\n" for number in range(model.comments)) + sql


class Place:
    """A project folder with its warehouse, which nobody has open between two calls."""

    def __init__(self, folder: Path, layout: Layout, *, lazy: bool = False) -> None:
        self.folder, self.lazy = folder, lazy
        self.warehouse = folder / "warehouse.duckdb"
        self._texts = dict[str, str]()
        folder.mkdir(parents=True)
        self._write(layout)
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute("create schema raw")
            for source in SOURCES:
                connection.execute(
                    f"create table raw.{source} (id bigint, key bigint, amount bigint, loaded_at timestamp)"
                )
                _insert(connection, source, 200, START - HOUR)

    def happen(self, what: Happening) -> None:
        """Load the rows, or write the files that changed."""
        if what.layout is not None:
            self._write(what.layout)
        elif what.rows:
            with duckdb.connect(str(self.warehouse)) as connection:
                _insert(connection, what.source, what.rows, what.at)

    def _write(self, layout: Layout) -> None:
        for name, text in files(layout, lazy=self.lazy).items():
            if self._texts.get(name) != text:
                file = self.folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
                self._texts[name] = text


def _insert(connection: duckdb.DuckDBPyConnection, source: str, rows: int, at: float) -> None:
    connection.execute(
        f"insert into raw.{source} select id, id % {KEYS}, id * 7919 % 1009, make_timestamp(cast(? as bigint)) "
        f"from (select count(*) as have from raw.{source}), lateral (select have + range as id from range(?))",
        [round(at * 1e6), rows],
    )
