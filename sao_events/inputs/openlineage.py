"""OpenLineage: https://openlineage.io/apidocs/openapi. A run that is complete tells which datasets it has written.

Namespaces and names of datasets: https://openlineage.io/docs/spec/naming. What our own dbt runs tell of their models is
sorted out later, where the project is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sao_events.inputs import fields, told
from sao_events.inputs.data import MOST, split_name
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.loads import path_or_proof_beside, unpacked
from sao_events.inputs.strict import Malformed, read_json

Block = Mapping[str, Any]
LIMIT = 5_000_000
PATHS = ("", "batch", "api/v1/lineage", "api/v1/lineage/batch")
COMPLETE, BROKEN = "COMPLETE", ("FAIL", "ABORT")
REPLACING = ("OVERWRITE", "TRUNCATE", "CREATE", "DROP")
# The scheme of a namespace, and dbt's adapters whose warehouses have it.
ADAPTERS: Mapping[str, tuple[str, ...]] = {
    "snowflake": ("snowflake",),
    "bigquery": ("bigquery",),
    "redshift": ("redshift",),
    "postgres": ("postgres", "redshift"),
    "duckdb": ("duckdb",),
    "databricks": ("databricks", "spark"),
    "hive": ("spark", "databricks", "hive", "impala"),
    "trino": ("trino",),
    "awsathena": ("athena",),
    "mysql": ("mysql",),
    "mssql": ("sqlserver", "fabric", "synapse"),
    "sqlserver": ("sqlserver", "fabric", "synapse"),
    "sqldw": ("synapse",),
    "azuresynapse": ("synapse",),
    "teradata": ("teradata",),
    "oracle": ("oracle",),
    "clickhouse": ("clickhouse",),
}


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. In a batch, what cannot be read is passed over, as long as anything can."""
    body = read_json(unpacked(message))
    if not isinstance(body, list):
        return _said(*_event(body))
    landings, reasons, wrong = list[Landing](), list[str](), list[Malformed]()
    for item in body:
        try:
            found, reason = _event(item)
        except Malformed as error:
            wrong.append(error)
            continue
        landings += found
        reasons.append(reason)
    if wrong and not reasons:
        raise wrong[0]
    return _said(landings, reasons[0] if len(set(reasons)) == 1 else "no event of the batch tells of new data")


def _said(landings: list[Landing], reason: str) -> Said:
    if len(landings) > MOST:
        raise Malformed(f"{len(landings)} datasets in one message", hint=f"at most {MOST} are read")
    return Said(landings=tuple(landings), ignored=None if landings else reason)


def _event(event: Any) -> tuple[list[Landing], str]:
    """What one event says: the landings, and why it may have none."""
    if not isinstance(event, dict):
        raise Malformed("an event is not an object", hint="send run events of OpenLineage")
    at = fields.text(event, "eventTime")
    if "dataset" in event:
        return [_dataset_event(event, at)], ""
    if "run" not in event:
        fields.mapping(event, "job")
        return [], "an event about a job says nothing of data"
    run, kind = fields.text(fields.mapping(event, "run"), "runId"), event.get("eventType", "OTHER")
    if not isinstance(kind, str):
        raise fields.missing("eventType")
    job = fields.mapping(event, "job")
    labels = {"job_namespace": fields.text(job, "namespace"), "job_name": fields.text(job, "name")}
    labels |= told.labels({"integration": _integration(job)}) if _integration(job) else {}
    outputs = fields.mappings(event, "outputs") if event.get("outputs") is not None else []
    if kind not in (COMPLETE, *BROKEN):
        return [], "only runs that have ended are acted on"
    found = [_landing(output, run, at, labels, broken=kind in BROKEN) for output in outputs]
    written = [landing for landing in found if landing.rows or not landing.partial]
    return written, "the run wrote nothing" if kind == COMPLETE else "the run failed and wrote nothing"


def _integration(job: Block) -> str | None:
    kind = fields.mapping_or_empty(fields.mapping_or_empty(job, "facets"), "jobType")
    return fields.text_or_none(kind, "integration")


def _dataset_event(event: Block, at: str) -> Landing:
    dataset = fields.mapping(event, "dataset")
    return _landing(dataset, f"dataset event {at}", at, {}, broken=False)


def _landing(dataset: Block, load: str, at: str, labels: Mapping[str, str], *, broken: bool) -> Landing:
    namespace, name = fields.text(dataset, "namespace"), fields.text(dataset, "name")
    facets = fields.mapping_or_empty(dataset, "facets")
    statistics = fields.mapping_or_empty(fields.mapping_or_empty(dataset, "outputFacets"), "outputStatistics")
    version = told.identity(fields.mapping_or_empty(facets, "version").get("datasetVersion"))
    change = fields.mapping_or_empty(facets, "lifecycleStateChange").get("lifecycleStateChange")
    place, adapters = _placed(namespace, name, facets)
    return Landing(
        load_id=f"version {version}" if version and not broken else told.identity(load),
        loaded_at=told.instant(at),
        rows=told.count(statistics.get("rowCount")),
        partial=broken,
        size=told.count(statistics.get("size")),
        replaces=True if change in REPLACING else None,
        scope="table",
        place=place,
        adapters=adapters,
        labels={"namespace": namespace, "name": name, **labels},
    )


def _placed(namespace: str, name: str, facets: Block) -> tuple[Place | None, tuple[str, ...]]:
    """Where the dataset is: by its own name, or that of a table which it is known as too."""
    links = fields.mapping_or_empty(facets, "symlinks").get("identifiers")
    others = [link for link in links if isinstance(link, dict)] if isinstance(links, list) else []
    names = [(namespace, name), *((link.get("namespace"), link.get("name")) for link in others)]
    for space, given in names:
        if isinstance(space, str) and isinstance(given, str):
            scheme = space.partition(":")[0].lower()
            place = _place(given) if scheme in ADAPTERS or scheme == space.lower() else None
            if place is not None:
                return place, ADAPTERS.get(scheme, ())
    return None, ()


def _place(name: str) -> Place | None:
    parts = split_name(name)
    if not 0 < len(parts) <= 3 or not all(parts):
        return None
    database, schema, table = [None] * (3 - len(parts)) + list[str | None](parts)
    return Place(schema, table, database)


PROVIDER = Provider(
    name="openlineage",
    title="OpenLineage",
    kind="data",
    verify=path_or_proof_beside(PATHS),
    read=read,
    kept=("user-agent",),
    body_limit=LIMIT,
    paths=True,
    compressed=True,
)
