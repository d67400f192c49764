"""Random projects, and random edits of one: each leaves a project that dbt accepts, unless it is there to break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.oracle.layout import SOURCES, VIEWLIKE, Check, Layout, Model

Edit = Callable[[Random, Layout, str], tuple[Layout, str] | None]
MATERIALIZED = ("view", "view", "table", "table", "table", "incremental", "ephemeral", "auto")
WINDOWS = (0, 0, 0, 30, 240)


def first(rng: Random, adapter: str) -> Layout:
    """A project to begin with: two seeds, a snapshot, some models of every kind."""
    seeds = {f"seed{index}": tuple((id_, rng.randint(1, 9)) for id_ in range(1, 4)) for index in range(2)}
    layout = Layout((), seeds, folder=rng.choice(("view", "table")))
    for index in range(rng.randint(5, 8)):
        layout = _with(layout, _random(rng, layout, f"m{index}", adapter))
    snapshot = Model("snap", "snapshot", (rng.choice([*SOURCES, *_snapshottable(layout)]),))
    layout = _with(layout, snapshot)
    layout = _with(layout, replace(_random(rng, layout, "after", adapter), reads=("snap",), shape="join"))
    return _with(layout, replace(_random(rng, layout, "gathering", adapter), kind="table", quorum="all", shape="join"))


def _with(layout: Layout, model: Model) -> Layout:
    return replace(layout, models=(*layout.models, model))


def _random(rng: Random, layout: Layout, name: str, adapter: str) -> Model:
    kinds = (*MATERIALIZED, "materialized_view") if adapter == "postgres" else MATERIALIZED
    kind = rng.choice(kinds)
    model = Model(
        name,
        kind,
        _reads(rng, layout),
        rng.choice(("join", "join", "star", "group")),
        rng.randint(0, 9),
        rng.randint(0, 1),
        macro=rng.random() < 0.4,
        var=rng.random() < 0.3,
        window=0 if kind in VIEWLIKE else rng.choice(WINDOWS),
        generic=rng.random() < 0.4,
        check=Check(rng.choice(("error", "warn"))) if rng.random() < 0.3 else None,
    )
    return _valid(model)


def _reads(rng: Random, layout: Layout) -> tuple[str, ...]:
    models = [model.name for model in layout.models]
    main = rng.choice([*SOURCES, *models, *models[-3:]])
    others = rng.sample(list(dict.fromkeys([*layout.seeds, *SOURCES, *models])), rng.choice((0, 0, 1, 1, 2)))
    return (main, *(name for name in others if name != main))


def _valid(model: Model) -> Model:
    """A quorum stands on stored models only: what a view's quorum holds back cannot be seen from its readers."""
    if model.kind == "incremental":
        return replace(model, extra=0, shape="join" if model.shape == "star" else model.shape)
    return model if model.kind == "table" else replace(model, quorum="any")


def _snapshottable(layout: Layout) -> list[str]:
    return [model.name for model in layout.models if model.kind not in ("ephemeral", "snapshot")]


def _set(layout: Layout, name: str, **values: object) -> Layout:
    changed = tuple(
        _valid(replace(model, **values)) if model.name == name else model  # type: ignore[arg-type]
        for model in layout.models
    )
    return replace(layout, models=changed)


def _pick(rng: Random, layout: Layout, *, snapshots: bool = False) -> Model:
    return rng.choice([model for model in layout.models if snapshots or model.kind != "snapshot"])


def number(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """Another constant in a model's SQL: a change that means something."""
    model = _pick(rng, layout)
    return _set(layout, model.name, number=model.number + rng.randint(1, 5)), f"sql of {model.name}"


def ephemeral(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """The same in an ephemeral model, which is folded into its readers."""
    found = [model for model in layout.models if model.kind == "ephemeral"]
    if not found:
        return None
    model = rng.choice(found)
    return _set(layout, model.name, number=model.number + 1), f"sql of ephemeral {model.name}"


def columns(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """One column more, or one fewer."""
    model = _pick(rng, layout)
    if layout.kind(model.name) == "incremental":
        return None
    extra = model.extra + 1 if model.extra == 0 or rng.random() < 0.5 else model.extra - 1
    return _set(layout, model.name, extra=extra), f"columns of {model.name}"


def cosmetic(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """A comment, white space, a keyword's case, a description."""
    model = _pick(rng, layout, snapshots=True)
    return _set(layout, model.name, style=model.style + 1), f"spelling of {model.name}"


def macro(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """The body of a macro: its own, that of the one it calls, or a comment in it."""
    what = rng.choice(("macro", "inner", "macro_style"))
    return replace(layout, **{what: getattr(layout, what) + 1}), f"{what} of the macros"


def var(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """The value of a var in dbt_project.yml."""
    return replace(layout, var=layout.var + 1), "the var"


def folder(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """The materialization of a folder, in dbt_project.yml."""
    kind = "table" if layout.folder == "view" else "view"
    return replace(layout, folder=kind), f"the folder becomes {kind}"


def seed(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """A row of a seed changes, comes or goes."""
    name = rng.choice(list(layout.seeds))
    rows = list(layout.seeds[name])
    if rng.random() < 0.5 or len(rows) < 2:
        rows.append((max(id_ for id_, _ in rows) + 1, rng.randint(1, 9)))
    else:
        rows[rng.randrange(len(rows))] = (rows[-1][0] + 1, rng.randint(1, 9))
    return replace(layout, seeds={**layout.seeds, name: tuple(sorted(dict(rows).items()))}), f"rows of {name}"


def materialized(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """Another materialization."""
    model = _pick(rng, layout)
    kinds = {"view", "table", "incremental", "ephemeral"} - {model.kind}
    if adapter == "postgres":
        kinds.add("materialized_view")
    if any(reader.kind == "snapshot" for reader in layout.readers(model.name)):
        kinds.discard("ephemeral")
    kind = rng.choice(sorted(kinds - {model.kind}))
    return _set(layout, model.name, kind=kind, broken=False), f"{model.name} becomes {kind}"


def alias(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """Another name of the relation, or another schema."""
    model = _pick(rng, layout)
    if rng.random() < 0.3:
        schema = None if model.schema else "other"
        return _set(layout, model.name, schema=schema), f"schema of {model.name}"
    wanted = None if model.alias else f"{model.name}_known"
    if _taken(layout, wanted or model.name, model):
        return None
    return _set(layout, model.name, alias=wanted), f"alias of {model.name}"


def swap(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """Two models take each other's relation."""
    kept = ("snapshot", "incremental", "materialized_view")
    plain = [model for model in layout.models if not (model.alias or model.schema) and model.kind not in kept]
    if len(plain) < 2:
        return None
    one, other = rng.sample(plain, 2)
    layout = _set(_set(layout, one.name, alias=other.name), other.name, alias=one.name)
    return layout, f"{one.name} and {other.name} swap relations"


def _taken(layout: Layout, relation: str, by: Model) -> bool:
    others = [model for model in layout.models if model.name != by.name]
    return any((model.alias or model.name) == relation for model in others)


def rename(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """Another name of a model, its readers following; now and then under the relation it had."""
    model = _pick(rng, layout, snapshots=True)
    stem, _, times = model.name.partition("_v")
    name = f"{stem}_v{int(times or 0) + 1}"
    keep = model.kind != "snapshot" and rng.random() < 0.4
    relation = (model.alias or model.name) if keep else None
    if any(known.name == name for known in layout.models) or _taken(layout, relation or name, model):
        return None
    models = tuple(
        replace(
            other,
            name=name if other is model else other.name,
            alias=relation if other is model else other.alias,
            reads=tuple(name if read == model.name else read for read in other.reads),
        )
        for other in layout.models
    )
    return replace(layout, models=models), f"{model.name} is renamed {name}{' and keeps its relation' if keep else ''}"


def add(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """One model more, at the end of the lineage."""
    if len(layout.models) > 14:
        return None
    name = f"n{sum(model.name.startswith('n') for model in layout.models)}"
    model = _random(rng, layout, name, adapter)
    if any(known.name == name for known in layout.models) or _taken(layout, name, model):
        return None
    return _with(layout, model), f"{name} is new"


def remove(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """A model that nobody reads goes; its relation stays, as dbt leaves it."""
    free = [model for model in layout.models if not layout.readers(model.name) and model.kind != "snapshot"]
    if len(free) < 2:
        return None
    gone = rng.choice(free)
    return replace(layout, models=tuple(m for m in layout.models if m is not gone)), f"{gone.name} is removed"


def rewire(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """A model reads something else."""
    model = _pick(rng, layout)
    before = replace(layout, models=layout.models[: layout.models.index(model)])
    reads = _reads(rng, before)
    if reads == model.reads or any(layout.kind(name) == "snapshot" for name in model.reads):
        return None
    return _set(layout, model.name, reads=reads), f"{model.name} reads {', '.join(reads)}"


def policy(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """Another window."""
    model = _pick(rng, layout)
    return _set(layout, model.name, window=rng.choice(WINDOWS)), f"window of {model.name}"


def severity(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """A test that fails, one that warns instead, one that comes or goes."""
    model = _pick(rng, layout, snapshots=True)
    check = rng.choice((None, Check("error"), Check("warn"), Check("warn", True), Check("error", True)))
    if check == model.check:
        return None
    return _set(layout, model.name, check=check), f"test of {model.name}: {check}"


def source_check(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """A test on a source comes, goes, or fails."""
    source = rng.choice(SOURCES)
    checks = dict(layout.checks)
    if rng.random() < 0.3:
        checks.pop(source, None)
    else:
        checks[source] = Check(rng.choice(("warn", "error")), rng.random() < 0.5)
    return replace(layout, checks=checks), f"test of {source}: {checks.get(source)}"


def breaks(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str] | None:
    """A model's SQL does not run any more."""
    model = _pick(rng, layout)
    if model.broken:
        return None
    return _set(layout, model.name, broken=True), f"{model.name} is broken"


def mended(layout: Layout) -> Layout:
    """The project without anything that fails."""
    models = tuple(
        replace(model, broken=False, check=replace(model.check, fails=False) if model.check else None)
        for model in layout.models
    )
    checks = {source: replace(check, fails=False) for source, check in layout.checks.items()}
    return replace(layout, models=models, checks=checks)


EDITS: tuple[Edit, ...] = (
    *(number, number, number, columns, columns, cosmetic, cosmetic, ephemeral, macro, macro, var, folder),
    *(seed, seed, materialized, materialized, materialized, alias, swap, rename, rename, add, add, remove, rewire),
    *(policy, severity, severity, source_check, breaks, breaks),
)


def edit(rng: Random, layout: Layout, adapter: str) -> tuple[Layout, str]:
    """Some edit that can be made, and what it is."""
    while True:
        made = rng.choice(EDITS)(rng, layout, adapter)
        if made is not None and made[0] != layout:
            return made


def unlike_a_rebuild(before: Layout, after: Layout) -> set[str]:
    """Relations that dbt goes on with from another state than a full build begins with: an incremental model keeps
    ids that vanish above it and columns that it had, a materialized view keeps its query.
    """
    known = {model.name: model for model in before.models}
    macros = any(getattr(before, key) != getattr(after, key) for key in ("macro", "inner", "var", "folder"))
    ids, placed, changed = set[str](), set[str](), set[str]()
    for model in after.models:
        old = known.get(model.name)
        if old is None or (old.reads, old.shape) != (model.reads, model.shape):
            ids.add(model.name)
        if old is None or (old.alias, old.schema, old.kind) != (model.alias, model.schema, model.kind):
            placed.add(model.name)
        if old != model or macros:
            changed.add(model.name)
    found = {name for name in after.below(ids) | placed if _is(after, name, "incremental")}
    return found | {name for name in after.below(changed) if _is(after, name, "materialized_view")}


def _is(layout: Layout, name: str, kind: str) -> bool:
    return layout.kind(name) == kind
