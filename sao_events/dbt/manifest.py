"""From dbt's manifest (schema v12: dbt 1.8 to 1.12 and 2.x) to a `Project`: graph, policies, identities, warnings."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from sao_events.core.errors import DbtError
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import KINDS, UNIT, Node, Source, Test
from sao_events.core.project import Project, graph_warnings
from sao_events.dbt.asserted import Asserted
from sao_events.dbt.freshness import NODE_KEYS, SOURCE_KEYS, TEST_KEYS, label, policy_of, quorum_key, sao_keys
from sao_events.dbt.identity import Made, Surroundings, of_node, of_test
from sao_events.dbt.macros import Macros, overriding
from sao_events.dbt.placed import place
from sao_events.dbt.settings import read_yaml
from sao_events.dbt.timed import time_dependent

BUILT = frozenset({"model", "seed", "snapshot"})
SCHEMA = 12
SOURCE_META = ("database", "schema", "identifier", "loaded_at_field", "loaded_at_query")
AGES = ("warn_after", "error_after")
SECONDS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest as a dictionary. Raises DbtError where there is none or it is not JSON."""
    collecting = gc.isenabled()
    gc.disable()  # collecting while millions of objects are made takes longer than making them
    try:
        return dict(json.loads(path.read_bytes()))
    except OSError as error:
        raise DbtError(f"cannot read dbt's manifest {path}: {error.strerror}", hint="run dbt parse") from None
    except (TypeError, ValueError) as error:
        raise DbtError(f"dbt's manifest {path} is damaged: {error}", hint="delete it and parse again") from None
    finally:
        if collecting:
            gc.enable()


def read_project(
    manifest: Mapping[str, Any],
    *,
    vars: Mapping[str, Any] | None = None,  # noqa: A002
    env: Mapping[str, str] | None = None,
    target: Mapping[str, Any] | None = None,
    default: Mapping[str, Any] | None = None,
    root: Path | None = None,
) -> Project:
    """The project that the manifest describes.

    `vars`, `env` and `target` are the values that these have when dbt renders; only digests of those
    that a node asks for are kept. `default` is the policy of nodes that declare none. `root` is the project's folder,
    for the lines in warnings and for seeds that dbt did not hash. Raises DbtError, PolicyError, GraphError.
    """
    metadata = manifest.get("metadata") or {}
    warnings = _check_schema(metadata)
    adapter = metadata.get("adapter_type") or ""
    project = read_yaml(root / "dbt_project.yml") if root else {}
    macros = Macros(manifest.get("macros") or {}, adapter, overriding(manifest, project))
    around = Surroundings(manifest, macros, adapter, vars or {}, env or {}, root, target or {})
    sources = [_source(thing, root, warnings) for thing in _sorted((manifest.get("sources") or {}).values())]
    asserted = Asserted(manifest, adapter, [thing["unique_id"] for thing in _nodes(manifest)])
    made = {thing["unique_id"]: of_node(thing, around) for thing in _nodes(manifest)}
    nodes = [
        replace(
            _node(thing, made[thing["unique_id"]], around.root, default or {}, warnings),
            verbatim=asserted.verbatim(thing),
        )
        for thing in _sorted(_nodes(manifest))
    ]
    known = {source.id for source in sources} | {node.id for node in nodes}
    of_tests = {thing["unique_id"]: of_test(thing, around) for thing in _tests(manifest)}
    tests = [
        replace(_test(thing, of_tests[thing["unique_id"]], root, known, warnings), claim=asserted.claim(thing))
        for thing in _sorted(_tests(manifest))
    ]
    graph = Graph(nodes, sources, tests, adapter)
    places = {
        thing["unique_id"]: place(thing, quorum_key(thing), root)
        for thing in _nodes(manifest)
        if graph.nodes[thing["unique_id"]].policy.updates_on == "all"
    }
    for thing in (manifest.get("sources") or {}).values():
        source = graph.sources[thing["unique_id"]]
        if source.view or source.static:
            places[source.id] = place(thing, f"meta.sao.{'static' if source.static else 'view'}", root)
    warnings.extend(graph_warnings(graph, places))
    meta: dict[str, Any] = {"dbt": metadata.get("dbt_version")}
    codes = (str(thing.get("raw_code") or "") for thing in _nodes(manifest))
    if time_dependent(root, chain(codes, macros.sources.values()), macros.called):
        meta["timed"] = True
    inputs = {name: of.inputs for name, of in (made | of_tests).items()}
    texts = {name: text for of in made.values() for name, text in of.texts.items()}
    name = metadata.get("project_name") or "project"
    return Project(graph, name, adapter, tuple(warnings), meta, inputs, texts, places)


def _sorted(things: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """By id: dbt's own order depends on which files it parsed again."""
    return sorted(things, key=lambda thing: str(thing["unique_id"]))


def _check_schema(metadata: Mapping[str, Any]) -> list[str]:
    found = re.search(r"/v(\d+)\.json$", str(metadata.get("dbt_schema_version")))
    version = int(found[1]) if found else 0
    if version < SCHEMA:
        raise DbtError(
            f"dbt's manifest has the schema version {version or 'unknown'}, not {SCHEMA} "
            f"(written by dbt {metadata.get('dbt_version', 'of unknown version')})",
            hint="dbt 1.10 or newer is needed",
        )
    newer = f"dbt's manifest has the schema version {version}, newer than the {SCHEMA} this release knows"
    return [newer] if version > SCHEMA else []


def _nodes(manifest: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for thing in (manifest.get("nodes") or {}).values():
        if thing["resource_type"] in BUILT:
            yield thing
    yield from (manifest.get("functions") or {}).values()


def _tests(manifest: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    for thing in (manifest.get("nodes") or {}).values():
        # A test of a model that is not there stays in the manifest, switched off.
        if thing["resource_type"] == "test" and (thing.get("config") or {}).get("enabled", True):
            yield thing
    yield from (manifest.get("unit_tests") or {}).values()


def _source(thing: Mapping[str, Any], root: Path | None, warnings: list[str]) -> Source:
    sao, problems = sao_keys(thing, SOURCE_KEYS, root)
    warnings.extend(problems)
    config = thing.get("config") or {}
    meta = {key: value for key in SOURCE_META if (value := thing.get(key) or config.get(key))}
    meta |= _freshness(thing.get("freshness") or config.get("freshness") or {})
    meta |= {key: sao[key] for key in ("probe", "files") if key in sao}
    if where := (config.get("meta") or thing.get("meta") or {}).get("external_location") or config.get(
        "external_location"
    ):
        meta["external_location"] = where
    return Source(
        thing["unique_id"],
        label(thing),
        static=sao.get("static", False),
        view=sao.get("view", False),
        relation=thing.get("relation_name"),
        meta=meta,
    )


def _freshness(block: Mapping[str, Any]) -> dict[str, Any]:
    """The `filter` of a source's freshness, and its ages in seconds."""
    found = {"filter": block["filter"]} if block.get("filter") else {}
    for key in AGES:
        age = block.get(key) or {}
        if age.get("count") is not None and age.get("period") in SECONDS:
            found[key] = float(age["count"]) * SECONDS[age["period"]]
    return found


def _node(
    thing: Mapping[str, Any], made: Made, root: Path | None, default: Mapping[str, Any], warnings: list[str]
) -> Node:
    sao, problems = sao_keys(thing, NODE_KEYS, root)
    policy, doubts = policy_of(thing, sao, default, root)
    warnings.extend((*problems, *doubts))
    return Node(
        thing["unique_id"],
        thing["name"],
        _kind(thing),
        _reads(thing),
        own=Code(made.inputs.whole),
        policy=policy,
        early_cutoff=sao.get("early_cutoff", default.get("early_cutoff", False)),
        relation=thing.get("relation_name"),
        path=thing.get("original_file_path"),
        parts=made.parts,
    )


def _kind(thing: Mapping[str, Any]) -> str:
    """A materialization that is not dbt's own counts as a table; a function owns no data, like a view."""
    if thing["resource_type"] == "model":
        config = thing.get("config") or {}
        materialized = str(config.get("materialized"))
        if thing.get("language") == "python":
            return "python"
        if materialized == "incremental" and config.get("full_refresh"):
            return "table"  # made from scratch at every build
        return materialized if materialized in KINDS else "table"
    return "view" if thing["resource_type"] == "function" else str(thing["resource_type"])


def _reads(thing: Mapping[str, Any]) -> tuple[str, ...]:
    parents = (thing.get("depends_on") or {}).get("nodes") or ()
    return tuple(dict.fromkeys(name for name in parents if name.partition(".")[0] in {*BUILT, "source", "function"}))


def _test(thing: Mapping[str, Any], made: Made, root: Path | None, known: set[str], warnings: list[str]) -> Test:
    sao, problems = sao_keys(thing, TEST_KEYS, root)
    warnings.extend(problems)
    unit = thing["resource_type"] == "unit_test"
    reads = _reads(thing)[: 1 if unit else None]  # the first is the model under test, the others are made up for it
    severity = str((thing.get("config") or {}).get("severity") or "error").lower()
    kind = UNIT if unit else (thing.get("test_metadata") or {}).get("name") or "singular"
    return Test(
        thing["unique_id"],
        thing["name"],
        tuple(name for name in reads if name in known),
        made.inputs.whole,
        severity,
        str(kind),
        reuse=sao.get("reuse", True),
        prove=sao.get("proof", True),
    )
