"""dlt, in two ways: what it sends by itself to the address in `RUNTIME__DLTHUB_DSN` (PUT <address>/trace, and /state,
without any header), and the trace or load info that a pipeline's own code posts.

https://dlthub.com/docs/general-usage/pipeline; tables whose names begin with `_dlt` are dlt's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sao_events.inputs import fields, told
from sao_events.inputs.data import MOST
from sao_events.inputs.delivery import Message, Provider, Said
from sao_events.inputs.landing import Landing, Place
from sao_events.inputs.loads import object_of, path_or_proof
from sao_events.inputs.strict import Malformed

Block = Mapping[str, Any]
OWN = "_dlt"
STATE, LIMIT = "state", 8_000_000


@dataclass(slots=True)
class _Package:
    """One load: its tables with the dataset that each is in, those of which something was or was not loaded, and when
    it was complete.
    """

    tables: dict[str, str | None] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    loaded_at: float | None = None

    def is_loaded(self, table: str) -> bool:
        """Whether anything of the table is loaded, as far as is told."""
        return table in self.done or table not in self.undone


def read(message: Message, now: float) -> Said:
    """See `Provider.read`. A run that failed before it loaded, or loaded nothing, is no new data."""
    if message.path.rpartition("/")[2] == STATE:
        return Said(ignored="the state of a pipeline says nothing of its data")
    body = object_of(message)
    if "steps" not in body:
        fields.mappings(body, "load_packages")
        pipeline = fields.mapping_or_empty(body, "pipeline").get("pipeline_name")
        return _said(_landings({"load_info": body, "step_info": body}, {}, pipeline))
    steps = fields.mappings(body, "steps")
    known = {step["step"]: step for step in steps if isinstance(step.get("step"), str)}
    if "load" not in known:
        return Said(ignored="the run ended before it loaded anything")
    return _said(_landings(known["load"], known, body.get("pipeline_name")))


def _said(landings: list[Landing]) -> Said:
    """Its loads have ids, and a trace may be sent by dlt and by the pipeline's own code: a message has none."""
    if len(landings) > MOST:
        raise Malformed(f"{len(landings)} tables in one message", hint=f"at most {MOST} are read")
    return Said(landings=tuple(landings), ignored=None if landings else "the run loaded nothing")


def _landings(load: Block, steps: Mapping[str, Block], pipeline: object) -> list[Landing]:
    info = fields.mapping_or_empty(load, "load_info")
    rows, replaced = _rows(steps.get("normalize", {})), _replaced(steps.get("extract", {}), info)
    labels = told.labels({"pipeline_name": pipeline} | info, "pipeline_name", "destination_type", "destination_name")
    broken = load.get("step_exception") is not None

    def landing(load_id: str, package: _Package, table: str) -> Landing:
        dataset = package.tables[table] or fields.text_or_none(info, "dataset_name")
        return Landing(
            load_id=load_id,
            loaded_at=package.loaded_at,
            rows=rows.get((load_id, table)),
            partial=broken or table in package.undone,
            replaces=True if table in replaced else None,
            scope="table",
            place=Place(dataset, table),
            labels=labels | {"table": table} | ({"dataset_name": dataset} if dataset else {}),
        )

    return [
        landing(load_id, package, table)
        for load_id, package in _packages(info, fields.mapping_or_empty(load, "step_info")).items()
        for table in package.tables
        if not table.startswith(OWN) and package.is_loaded(table)
    ]


def _packages(info: Block, inner: Block) -> dict[str, _Package]:
    """The loads by id: what was done of them, and where what they put out is."""
    packages = dict[str, _Package]()
    for block in _blocks(inner, "load_packages"):
        package = packages.setdefault(fields.text(block, "load_id"), _Package())
        package.loaded_at = told.instant(block.get("completed_at"))
        for job in _blocks(block, "jobs"):
            table = fields.text(job, "table_name")
            package.tables.setdefault(table, None)
            (package.done if job.get("state") == "completed_jobs" else package.undone).add(table)
    for output in _blocks(info, "outputs"):
        package = packages.setdefault(fields.text(output, "load_id"), _Package())
        dataset = fields.text_or_none(output, "physical_dataset_name") or fields.text_or_none(output, "dataset_name")
        package.tables.update(dict.fromkeys(_names(output.get("tables")), dataset))
    return packages


def _blocks(block: Block, key: str) -> list[dict[str, Any]]:
    return fields.mappings(block, key) if block.get(key) is not None else []


def _names(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) and 0 < len(name) <= 256 for name in value):
        raise fields.missing("tables")
    return value


def _rows(step: Block) -> dict[tuple[str, str], int]:
    found = dict[tuple[str, str], int]()
    for item in _blocks(fields.mapping_or_empty(step, "normalize_info"), "table_metrics"):
        rows, table, load = told.count(item.get("items_count")), item.get("table_name"), item.get("load_id")
        if rows is not None and isinstance(table, str) and isinstance(load, str):
            found[load, table] = rows
    return found


def _replaced(step: Block, info: Block) -> frozenset[str]:
    """The tables of resources that exchange their whole content."""
    hints = _blocks(fields.mapping_or_empty(step, "extract_info"), "hints")
    names = [hint.get("resource_name") for hint in hints if hint.get("write_disposition") == "replace"]
    outputs = (output for output in _blocks(info, "outputs") if output.get("resource_name") in names)
    return frozenset(table for output in outputs for table in _names(output.get("tables")))


PROVIDER = Provider(
    name="dlt",
    title="dlt",
    kind="data",
    verify=path_or_proof,
    read=read,
    kept=("user-agent",),
    methods=("POST", "PUT"),
    body_limit=LIMIT,
    paths=True,
)
