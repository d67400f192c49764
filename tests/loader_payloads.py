"""Messages of loaders, written by hand after their documentation: small, one of each kind, and how they are proved."""

from __future__ import annotations

import gzip
import hmac
import json
from base64 import b64encode
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from sao_events.inputs.delivery import Message

SECRET = "secret-of-the-loader-0123456789abcdef"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Case:
    """A message of the provider `provider`: `body` is JSON, `needs` are the keys (paths) it cannot do without."""

    provider: str
    body: Any
    needs: tuple[str, ...] = ()
    path: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)

    def message(self, body: Any = None) -> Message:
        """The message, proved, with another body where one is given."""
        raw = body if isinstance(body, bytes) else json.dumps(self.body if body is None else body).encode()
        return Message(self.method, self.path, {}, proved(self.provider, raw, self.headers), raw)

    def changed(self, **changes: Any) -> Case:
        """The same with keys of the body changed."""
        return replace(self, body={**self.body, **changes})


def proved(provider: str, raw: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that prove a body of the provider."""
    if provider == "fivetran":
        return {**headers, "x-fivetran-signature-256": hmac.new(SECRET.encode(), raw, sha256).hexdigest()}
    if provider in ("generic", "cloudevents", "openlineage", "eventbridge"):
        return {**headers, "authorization": f"Bearer {SECRET}"}
    return dict(headers)


def without(body: Any, path: str) -> Any:
    """`body` without the key at `path`, `a.0.b`."""
    return put(body, path, None, gone=True)


def put(body: Any, path: str, value: Any, *, gone: bool = False) -> Any:
    """`body` with `value` at `path`."""
    made = deepcopy(body)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    at = made
    for part in way:
        at = at[part]
    if gone:
        del at[last]
    else:
        at[last] = value
    return made


def paths(value: Any, prefix: str = "") -> list[str]:
    """Every path to a value inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, inner in items:
        here = f"{prefix}{key}"
        found += [here, *paths(inner, f"{here}.")]
    return found


GENERIC = Case("generic", {"source": "raw.orders", "load_id": "7", "rows": 3}, ("source",))

FIVETRAN = Case(
    "fivetran",
    {
        "event": "sync_end",
        "created": "2026-03-01T11:59:00.000Z",
        "connector_type": "postgres",
        "connector_id": "upset_river",
        "connector_name": "raw",
        "sync_id": "2b3c",
        "destination_group_id": "dest",
        "data": {"status": "SUCCESSFUL"},
    },
    ("event", "connector_id", "data", "data.status"),
)

AIRBYTE = Case(
    "airbyte",
    {
        "data": {
            "workspace": {"id": "w1", "name": "Shop", "url": "https://example.com/w"},
            "connection": {"id": "c1", "name": "postgres to duckdb", "url": "https://example.com/c"},
            "source": {"id": "s1", "name": "postgres", "url": "https://example.com/s"},
            "destination": {"id": "d1", "name": "duckdb", "url": "https://example.com/d"},
            "jobId": 42,
            "startedAt": "2026-03-01T11:00:00Z",
            "finishedAt": "2026-03-01T11:58:00Z",
            "bytesEmitted": 1000,
            "bytesCommitted": 1000,
            "recordsEmitted": 90,
            "recordsCommitted": 89,
            "recordsFilteredOut": 0,
            "durationInSeconds": 3480,
            "success": True,
        }
    },
    ("data.connection", "data.connection.id"),
    path=SECRET,
)

STITCH = Case(
    "stitch",
    {
        "version": "1.0",
        "integration_name": "raw",
        "new_version": False,
        "destination_root_table_name": "orders",
        "minimum_sdc_batched_at": "2026-03-01T11:57:00.000Z",
        "table_version": 5,
        "tables": [
            {"destination_table_name": "orders", "num_rows": 10, "num_rows_rejected": 0},
            {"destination_table_name": "items", "num_rows": 20, "num_rows_rejected": 1},
        ],
    },
    ("integration_name", "destination_root_table_name", "tables", "tables.0.destination_table_name"),
    path=SECRET,
)

LOADED = "1795640523.54"
DLT = Case(
    "dlt",
    {
        "transaction_id": "t1",
        "pipeline_name": "shop",
        "steps": [
            {
                "step": "extract",
                "step_exception": None,
                "extract_info": {"hints": [{"resource_name": "items", "write_disposition": "replace"}]},
            },
            {
                "step": "normalize",
                "step_exception": None,
                "normalize_info": {
                    "table_metrics": [
                        {"load_id": LOADED, "table_name": "orders", "items_count": 10},
                        {"load_id": LOADED, "table_name": "_dlt_pipeline_state", "items_count": 1},
                    ]
                },
            },
            {
                "step": "load",
                "step_exception": None,
                "load_info": {
                    "destination_type": "dlt.destinations.duckdb",
                    "dataset_name": "raw",
                    "outputs": [
                        {
                            "load_id": LOADED,
                            "resource_name": "orders",
                            "tables": ["orders"],
                            "physical_dataset_name": "raw",
                        },
                        {
                            "load_id": LOADED,
                            "resource_name": "items",
                            "tables": ["items"],
                            "physical_dataset_name": "raw",
                        },
                        {
                            "load_id": LOADED,
                            "resource_name": "_dlt_pipeline_state",
                            "tables": ["_dlt_pipeline_state"],
                            "physical_dataset_name": "raw",
                        },
                    ],
                },
                "step_info": {
                    "load_packages": [
                        {
                            "load_id": LOADED,
                            "state": "loaded",
                            "completed_at": "2026-03-01T11:56:00+00:00",
                            "jobs": [
                                {"state": "completed_jobs", "table_name": "orders", "failed_message": None},
                                {"state": "completed_jobs", "table_name": "items", "failed_message": None},
                                {"state": "completed_jobs", "table_name": "_dlt_pipeline_state"},
                            ],
                        }
                    ]
                },
            },
        ],
    },
    (),
    path=f"{SECRET}/trace",
    method="PUT",
    headers={},
)

RUN = "01a1f702-caf9-7f6d-b2c8-393a53a40070"
LINEAGE = Case(
    "openlineage",
    {
        "eventTime": "2026-03-01T11:55:00.000Z",
        "eventType": "COMPLETE",
        "producer": "https://example.com/airflow",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {"runId": RUN, "facets": {}},
        "job": {"namespace": "airflow", "name": "shop.load", "facets": {}},
        "inputs": [],
        "outputs": [
            {
                "namespace": "duckdb",
                "name": "db.raw.orders",
                "facets": {},
                "outputFacets": {"outputStatistics": {"rowCount": 10, "size": 100}},
            }
        ],
    },
    ("eventTime", "run.runId", "job", "job.namespace", "job.name", "outputs.0.namespace", "outputs.0.name"),
    path="api/v1/lineage",
)

CLOUD = Case(
    "cloudevents",
    {
        "specversion": "1.0",
        "id": "e1",
        "source": "/loaders/shop",
        "type": "com.example.loaded",
        "time": "2026-03-01T11:54:00Z",
        "data": {"source": "raw.orders", "rows": 4},
    },
    ("specversion", "id", "source", "type"),
    headers={"content-type": "application/cloudevents+json; charset=utf-8"},
)

BRIDGE = Case(
    "eventbridge",
    {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-03-01T11:53:00Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:s3:::landing"],
        "detail": {
            "bucket": {"name": "landing"},
            "object": {"key": "shop/orders/1.parquet", "size": 9, "etag": "b1", "sequencer": "00617F08299329D189"},
        },
    },
    ("id", "detail-type", "source", "detail", "detail.bucket", "detail.bucket.name", "detail.object.key"),
)


def pushed(data: Any, **attributes: str) -> dict[str, Any]:
    """A message of Pub/Sub."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return {
        "message": {
            "data": b64encode(raw).decode(),
            "attributes": attributes,
            "messageId": "m1",
            "publishTime": "2026-03-01T11:52:00.1Z",
        },
        "subscription": "projects/shop/subscriptions/sao",
    }


PUBSUB = Case(
    "pubsub",
    pushed(
        {"bucket": "landing", "name": "shop/orders/1.parquet", "size": "9"},
        eventType="OBJECT_FINALIZE",
        bucketId="landing",
        objectId="shop/orders/1.parquet",
        objectGeneration="1700000000",
    ),
    ("message", "message.messageId", "message.attributes.objectId"),
    path=SECRET,
)

GRID = Case(
    "eventgrid",
    [
        {
            "id": "g1",
            "eventType": "Microsoft.Storage.BlobCreated",
            "subject": "/blobServices/default/containers/landing/blobs/shop/orders/1.parquet",
            "eventTime": "2026-03-01T11:51:00Z",
            "topic": "/subscriptions/s/resourceGroups/r",
            "data": {
                "api": "PutBlob",
                "url": "https://acct.blob.core.windows.net/landing/shop/orders/1.parquet",
                "contentLength": 9,
                "eTag": "0x8D",
                "sequencer": "0001",
            },
            "dataVersion": "",
            "metadataVersion": "1",
        }
    ],
    ("0.id", "0.eventType", "0.data.url"),
    path=SECRET,
)

CASES = (GENERIC, FIVETRAN, AIRBYTE, STITCH, DLT, LINEAGE, CLOUD, BRIDGE, PUBSUB, GRID)


def zipped(body: Any) -> bytes:
    """A JSON body as gzip."""
    return gzip.compress(json.dumps(body).encode())
