"""What each loader sends, what is taken from it, and that nothing it could send instead does any harm."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sao_events.inputs import loads
from sao_events.inputs.delivery import Message, Said, Unknown, Unverified
from sao_events.inputs.landing import Landing, Place, landing_from_json, landing_to_json
from sao_events.inputs.providers import PROVIDERS
from sao_events.inputs.strict import Malformed, Refused, UnknownForm
from tests.loader_payloads import (
    AIRBYTE,
    BRIDGE,
    CASES,
    CLOUD,
    DLT,
    FIVETRAN,
    GENERIC,
    GRID,
    LINEAGE,
    LOADED,
    PUBSUB,
    RUN,
    SECRET,
    STITCH,
    Case,
    paths,
    pushed,
    put,
    without,
    zipped,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
BAD = (Malformed, UnknownForm, Refused)
CORPUS = Path(__file__).parent.parent.parent / "shared" / "payloads" / "loaders"
IDS = [case.provider for case in CASES]


def read(case: Case, body: Any = None) -> Said:
    provider, message = PROVIDERS[case.provider], case.message(body)
    assert provider.verify([SECRET], message, NOW) == SECRET
    return provider.read(message, NOW)


def one(case: Case, body: Any = None) -> Landing:
    [landing] = read(case, body).landings
    return landing


def ignored(case: Case, body: Any = None) -> str:
    said = read(case, body)
    assert said.landings == ()
    assert said.ignored
    return said.ignored


def at(minute: int) -> float:
    return NOW - 3600 + minute * 60


# What they say


def test_any_sender_in_our_own_words() -> None:
    assert one(GENERIC) == Landing("raw.orders", "7", None, 3)
    parts = {"relation": '"DB".raw.orders', "status": "partial", "bytes": 5, "loaded_at": "2026-03-01T11:00:00Z"}
    assert one(GENERIC, parts) == Landing(
        None, None, at(0), None, partial=True, size=5, place=Place("raw", "orders", '"DB"')
    )
    assert ignored(GENERIC, {"source": "raw.orders", "status": "failed"})
    assert one(GENERIC, {"labels": {"pipeline": "shop"}}).labels == {"pipeline": "shop"}


def test_fivetran_names_a_connection() -> None:
    landing = one(FIVETRAN)
    assert (landing.load_id, landing.loaded_at, landing.place, landing.scope) == (
        "2b3c", at(59), Place("raw"), "connection",
    )  # fmt: skip
    assert landing.labels["connector_id"] == "upset_river"
    assert read(FIVETRAN).delivery == "2b3c/sync_end"
    assert one(FIVETRAN.changed(connector_name="raw.orders")).place == Place("raw", "orders")


@pytest.mark.parametrize("status", ["FAILURE", "FAILURE_WITH_TASK", "RESCHEDULED", "CANCELED", "successful", "NEW"])
def test_a_fivetran_sync_that_did_not_succeed_is_no_data(status: str) -> None:
    assert ignored(FIVETRAN.changed(data={"status": status}))


@pytest.mark.parametrize("event", ["sync_start", "test", "connection_successful", "dbt_run_start"])
def test_other_events_of_fivetran_are_acknowledged(event: str) -> None:
    assert ignored(FIVETRAN.changed(event=event, data={}))


def test_airbyte_names_a_connection() -> None:
    landing = one(AIRBYTE)
    assert (landing.load_id, landing.loaded_at, landing.rows, landing.size) == ("c1/42", at(58), 89, 1000)
    assert landing.labels["connection_name"] == "postgres to duckdb"
    assert (landing.partial, landing.scope) == (False, "connection")


def test_an_airbyte_sync_that_failed_after_it_wrote_is_a_part() -> None:
    failed = put(AIRBYTE.body, "data.success", False)
    assert one(AIRBYTE, failed).partial
    assert ignored(AIRBYTE, put(failed, "data.recordsCommitted", 0))
    assert ignored(AIRBYTE, without(failed, "data.recordsCommitted"))


def test_airbyte_tests_and_notices_are_acknowledged() -> None:
    assert ignored(AIRBYTE, {"text": "Hello World! This is a test from Airbyte"})
    assert ignored(AIRBYTE, {"data": {"connection": {"id": "c1"}, "isBreaking": True}})


@pytest.mark.parametrize("job", ["42", 42, -42, 10**30, "x" * 300, "", True, None, [], {}])
def test_whatever_airbytes_job_is_called(job: Any) -> None:
    assert one(AIRBYTE, put(AIRBYTE.body, "data.jobId", job)).load_id in ("c1/42", "c1/-42", None)


def test_stitch_names_tables() -> None:
    orders, items = read(STITCH).landings
    assert (orders.place, orders.rows, items.rows) == (Place("raw", "orders"), 10, 20)
    assert orders.load_id == items.load_id == "2026-03-01T11:57:00.000Z/5"
    assert orders.labels == {"integration_name": "raw", "table": "orders"}
    assert all(it.replaces for it in read(STITCH.changed(new_version=True)).landings)


@pytest.mark.parametrize(("rows", "known"), [(0, 0), (-1, None), ("100", None), (1.5, None), (None, None)])
def test_a_count_that_is_none_is_not_known(rows: Any, known: int | None) -> None:
    assert read(STITCH, put(STITCH.body, "tables.0.num_rows", rows)).landings[0].rows == known


def test_dlt_names_tables_with_rows_and_leaves_out_its_own() -> None:
    orders, items = read(DLT).landings
    assert (orders.place, orders.rows, orders.load_id, orders.loaded_at) == (Place("raw", "orders"), 10, LOADED, at(56))
    assert (items.place, items.rows, items.replaces, orders.replaces) == (Place("raw", "items"), None, True, None)
    assert orders.labels == {
        "pipeline_name": "shop", "dataset_name": "raw", "table": "orders",
        "destination_type": "dlt.destinations.duckdb",
    }  # fmt: skip


def test_a_load_info_that_a_pipeline_posts_itself_says_the_same() -> None:
    load = DLT.body["steps"][2]
    info = {"pipeline": {"pipeline_name": "shop"}, **load["load_info"], **load["step_info"]}
    posted = replace(DLT, method="POST", path=SECRET)
    assert [it.place for it in read(posted, info).landings] == [Place("raw", "orders"), Place("raw", "items")]
    with pytest.raises(Malformed):
        read(posted, {"text": "hello"})


def test_dlt_runs_that_loaded_nothing_are_no_data() -> None:
    assert ignored(replace(DLT, path=f"{SECRET}/state"), {"pipeline_name": "shop"})
    assert ignored(DLT, put(DLT.body, "steps", DLT.body["steps"][:2]))
    assert ignored(DLT, {"steps": []})
    empty = put(put(DLT.body, "steps.2.load_info.outputs", []), "steps.2.step_info.load_packages", [])
    assert ignored(DLT, empty)
    own = put(DLT.body, "steps.2.load_info.outputs", DLT.body["steps"][2]["load_info"]["outputs"][2:])
    own = put(own, "steps.2.step_info.load_packages.0.jobs", [{"state": "completed_jobs", "table_name": "_dlt_loads"}])
    assert ignored(DLT, own)


def test_a_dlt_job_that_failed_leaves_a_part_or_nothing() -> None:
    jobs = "steps.2.step_info.load_packages.0.jobs"
    failed = {"state": "failed_jobs", "table_name": "orders", "failed_message": "no such column"}
    [items] = read(DLT, put(DLT.body, f"{jobs}.0", failed)).landings
    assert items.place == Place("raw", "items")
    both = [*DLT.body["steps"][2]["step_info"]["load_packages"][0]["jobs"], failed]
    assert [it.partial for it in read(DLT, put(DLT.body, jobs, both)).landings] == [True, False]
    broken = read(DLT, put(DLT.body, "steps.2.step_exception", "Traceback")).landings
    assert [it.partial for it in broken] == [True, True]


def test_openlineage_names_datasets() -> None:
    landing = one(LINEAGE)
    assert (landing.place, landing.adapters) == (Place("raw", "orders", "db"), ("duckdb",))
    assert (landing.load_id, landing.loaded_at, landing.rows, landing.size) == (RUN, at(55), 10, 100)
    assert landing.labels["job_name"] == "shop.load"


@pytest.mark.parametrize("kind", ["START", "RUNNING", "OTHER", "complete", "NEW"])
def test_only_runs_that_have_ended_count(kind: str) -> None:
    assert ignored(LINEAGE.changed(eventType=kind))


@pytest.mark.parametrize("kind", ["FAIL", "ABORT"])
def test_a_run_that_failed_after_it_wrote_is_a_part(kind: str) -> None:
    assert one(LINEAGE.changed(eventType=kind)).partial
    assert ignored(LINEAGE, put(LINEAGE.changed(eventType=kind).body, "outputs.0.outputFacets", {}))


def test_a_run_without_outputs_and_an_event_about_a_job_are_no_data() -> None:
    assert ignored(LINEAGE.changed(outputs=[]))
    assert ignored(LINEAGE, without(LINEAGE.body, "outputs"))
    assert ignored(LINEAGE, without(without(LINEAGE.body, "run"), "eventType"))


def test_a_dataset_event_is_data() -> None:
    event = {
        "eventTime": "2026-03-01T11:00:00Z", "producer": "https://x/y", "schemaURL": "https://x/z",
        "dataset": {"namespace": "postgres://db:5432", "name": "shop.raw.orders",
                    "facets": {"version": {"datasetVersion": "9"},
                               "lifecycleStateChange": {"lifecycleStateChange": "OVERWRITE"}}},
    }  # fmt: skip
    landing = one(LINEAGE, event)
    assert (landing.place, landing.load_id, landing.replaces) == (Place("raw", "orders", "shop"), "version 9", True)


@pytest.mark.parametrize(
    ("namespace", "name", "place"),
    [
        ("snowflake://org-acct", "RAW.SHOP.ORDERS", Place("SHOP", "ORDERS", "RAW")),
        ("bigquery", "proj.ds.t", Place("ds", "t", "proj")),
        ("hive://host:9083", "db.t", Place("db", "t")),
        ("postgres://h:5432", 'db."a.b"."T"', Place('"a.b"', '"T"', "db")),
        ("duckdb", "t", Place(None, "t")),
        ("duckdb", "a.b.c.d", None),
        ("duckdb", "a..c", None),
        ("duckdb", 'a."b', None),
        ("s3://bucket", "path/to/file.parquet", None),
        ("file", "/a.b", Place(None, "b", None)),
        ("warehouse", "raw.orders", Place("raw", "orders")),
    ],
)
def test_names_of_datasets(namespace: str, name: str, place: Place | None) -> None:
    body = put(put(LINEAGE.body, "outputs.0.namespace", namespace), "outputs.0.name", name)
    if namespace != "file":
        assert one(LINEAGE, body).place == place
    assert one(LINEAGE, body).labels["name"] == name


def test_a_file_that_is_a_table_too_is_found_by_its_symlink() -> None:
    links = {"symlinks": {"identifiers": [{"namespace": "hive://h:1", "name": "raw.orders", "type": "TABLE"}]}}
    body = put(put(LINEAGE.body, "outputs.0.namespace", "s3://bucket"), "outputs.0.name", "a/b")
    assert one(LINEAGE, put(body, "outputs.0.facets", links)).place == Place("raw", "orders")


def test_a_batch_passes_over_what_is_wrong_in_it() -> None:
    batch = replace(LINEAGE, path="api/v1/lineage/batch")
    assert len(read(batch, [LINEAGE.body, {"no": 1}, LINEAGE.body]).landings) == 2
    assert ignored(batch, [])
    assert ignored(batch, [LINEAGE.changed(eventType="START").body])
    with pytest.raises(Malformed):
        read(batch, [{"no": 1}])


def test_too_many_datasets_are_refused() -> None:
    with pytest.raises(Malformed, match="10000 datasets"):
        read(LINEAGE.changed(outputs=LINEAGE.body["outputs"] * 10_000))


# Compressed


def test_a_gzip_body_is_read_once_and_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = replace(LINEAGE, headers={"content-encoding": "gzip"})
    assert one(packed, zipped(LINEAGE.body)).rows == 10
    twice, bomb = gzip.compress(zipped(LINEAGE.body)), gzip.compress(b" " * 3_000_000)
    for raw in (twice, bomb, b"", b"\x1f\x8b", zipped(LINEAGE.body)[:-9], zipped({}) + b"more", b"{}"):
        with pytest.raises(Malformed):
            read(packed, raw)
    with pytest.raises(UnknownForm):
        read(replace(LINEAGE, headers={"content-encoding": "gzip, gzip"}), twice)
    monkeypatch.setattr(loads, "UNPACKED", 100)
    with pytest.raises(Malformed):
        read(packed, zipped(LINEAGE.body))


# CloudEvents


def test_cloudevents_structured() -> None:
    assert one(CLOUD) == Landing("raw.orders", "/loaders/shop e1", at(54), 4)
    assert read(CLOUD).delivery == "/loaders/shop e1"


def binary(**headers: str) -> Case:
    given = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "e1",
        "ce-source": "/a",
        "ce-type": "t",
        **{f"ce-{name}": value for name, value in headers.items()},
    }
    return replace(CLOUD, headers=given, body={"source": "raw.orders"})


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ('"with spaces"', "with spaces"),
        (r'"a \"quote\""', 'a "quote"'),
        ("100%2525", "100%25"),
        ("plain", "plain"),
        ("%", "%"),
    ],
)
def test_headers_are_unquoted_and_decoded_exactly_once(sent: str, meant: str) -> None:
    assert one(binary(id=sent)).load_id == f"/a {meant}"


@pytest.mark.parametrize("sent", ["%C0%A0", "%FF", "%ED%A0%80", "\xe9"])
def test_headers_that_are_not_utf_8_are_refused(sent: str) -> None:
    with pytest.raises(Malformed):
        read(binary(id=sent))


def test_binary_mode_without_data_has_its_labels() -> None:
    landing = one(replace(binary(subject="orders"), headers={**binary(subject="orders").headers}), {"pipeline": "shop"})
    assert landing.labels == {"pipeline": "shop", "type": "t", "source": "/a", "subject": "orders"}


def test_a_batch_is_taken_whole_or_not_at_all() -> None:
    batch = replace(CLOUD, headers={"content-type": "application/cloudevents-batch+json"})
    second = {**CLOUD.body, "id": "e2"}
    assert [it.load_id for it in read(batch, [CLOUD.body, second]).landings] == ["/loaders/shop e1", "/loaders/shop e2"]
    assert ignored(batch, [])
    wrong: tuple[Any, ...] = ([CLOUD.body, without(CLOUD.body, "id")], {}, [CLOUD.body] * 10_001, [1], "x")
    for body in wrong:
        with pytest.raises(Malformed):
            read(batch, body)


def test_other_formats_and_versions_are_refused() -> None:
    with pytest.raises(UnknownForm):
        read(replace(CLOUD, headers={"content-type": "application/cloudevents+avro"}))
    for case in (CLOUD.changed(specversion="0.3"), binary(specversion="0.3"), replace(GENERIC, provider="cloudevents")):
        with pytest.raises(Malformed):
            read(case)


def test_a_sender_that_asks_whether_it_may_send_is_told_when_it_knows_the_address() -> None:
    asks = Message("OPTIONS", SECRET, {}, {"webhook-request-origin": "eventgrid.azure.net"})
    said = PROVIDERS["cloudevents"].read(asks, NOW)
    assert said.answer is not None
    assert said.answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    with pytest.raises(Unverified):
        PROVIDERS["cloudevents"].verify([SECRET], replace(asks, path=""), NOW)
    with pytest.raises(Unknown):
        PROVIDERS["cloudevents"].verify([SECRET], replace(asks, path="wrong"), NOW)
    for origin in ("", "a b", "x\r\ny: z", "http://x", "é"):
        with pytest.raises(Malformed):
            PROVIDERS["eventgrid"].read(replace(asks, headers={"webhook-request-origin": origin}), NOW)
    with pytest.raises(Malformed):
        PROVIDERS["eventgrid"].read(replace(asks, headers={}), NOW)


def test_a_bigquery_load_names_its_table() -> None:
    table = {"projectId": "proj", "datasetId": "raw", "tableId": "orders"}
    job = {"jobCompletedEvent": {"job": {"jobConfiguration": {"load": {"destinationTable": table}}}}}
    body = {"protoPayload": {"serviceData": job}}
    assert one(CLOUD.changed(type="google.cloud.audit.log.v1.written", data=body)).place == Place(
        "raw", "orders", "proj"
    )


# Files in object stores


FILE = {"bucket": "landing", "key": "shop/orders/1.parquet"}


def test_every_store_tells_of_a_file_alike() -> None:
    gcs = {"bucket": "landing", "name": "shop/orders/1.parquet", "size": "9", "generation": "1700000000"}
    eventarc = CLOUD.changed(type="google.cloud.storage.object.v1.finalized", data=gcs)
    grid = replace(GRID, headers={"content-type": "application/cloudevents+json"})
    blob = {**CLOUD.body, "type": "Microsoft.Storage.BlobCreated", "data": GRID.body[0]["data"]}
    for landing in (one(BRIDGE), one(PUBSUB), one(GRID), one(eventarc), one(grid, blob)):
        assert {name: landing.labels[name] for name in FILE} == FILE
        assert (landing.size, landing.scope, landing.loaded_at) == (9, "file", None)
        assert landing.load_id
    assert one(GRID).labels["account"] == "acct"


def test_files_that_go_or_change_are_no_new_data() -> None:
    assert ignored(BRIDGE, put(BRIDGE.body, "detail-type", "Object Deleted"))
    assert ignored(PUBSUB, put(PUBSUB.body, "message.attributes.eventType", "OBJECT_DELETE"))
    assert ignored(GRID, put(GRID.body, "0.eventType", "Microsoft.Storage.BlobDeleted"))
    assert ignored(CLOUD.changed(type="google.cloud.storage.object.v1.deleted", data={}))


def test_other_messages_are_data_in_our_words_or_labels() -> None:
    ours = {"source": "raw.orders", "rows": 2}
    assert one(PUBSUB, pushed(ours)) == Landing("raw.orders", "m1", None, 2)
    assert (
        one(BRIDGE, {**BRIDGE.body, "source": "loader", "detail-type": "done", "detail": ours}).source == "raw.orders"
    )
    glue = {**BRIDGE.body, "source": "aws.glue", "detail-type": "Glue Job State Change",
            "detail": {"jobName": "load_shop", "state": "SUCCEEDED"}}  # fmt: skip
    assert one(BRIDGE, glue).labels["jobName"] == "load_shop"
    assert one(PUBSUB, pushed(b"\x00\x01", table="orders")).labels == {"table": "orders"}
    assert ignored(PUBSUB, pushed(b"no json"))
    custom = put(put(GRID.body, "0.eventType", "Loaded"), "0.data", {"table": "orders"})
    assert one(GRID, custom).labels["table"] == "orders"


def test_event_grid_is_answered_its_code() -> None:
    body = [{"id": "v1", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "topic": "/t", "subject": "",
             "data": {"validationCode": "512d38b6", "validationUrl": "https://rp.example.net/validate"}}]  # fmt: skip
    said = read(GRID, body)
    assert said.answer is not None
    assert said.answer.body == {"validationResponse": "512d38b6"}
    with pytest.raises(Unknown):
        PROVIDERS["eventgrid"].verify([SECRET], Message(path="", body=json.dumps(body).encode()), NOW)


def test_pubsub_data_is_base64() -> None:
    wrong: tuple[Any, ...] = ("***", "e30", 7, [], "é")
    for data in wrong:
        with pytest.raises(Malformed):
            read(PUBSUB, put(PUBSUB.body, "message.data", data))


# Who they are


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_nobody_passes_without_the_secret(case: Case) -> None:
    provider, message = PROVIDERS[case.provider], case.message()
    for wrong in (["another-secret-of-the-same-length-xxxx"], [], [""], [" "]):
        with pytest.raises(Unverified):
            provider.verify(wrong, message, NOW)
    bare = replace(message, headers={"content-type": "application/json"}, path="")
    with pytest.raises(Unverified):
        provider.verify([SECRET], bare, NOW)
    assert provider.verify(["a-new-secret-0123456789abcdefghijklmn", SECRET], message, NOW) == SECRET


def test_a_short_secret_is_none_in_an_address() -> None:
    with pytest.raises(Unknown):
        PROVIDERS["airbyte"].verify(["short"], Message(path="short"), NOW)


def test_fivetrans_signature_in_either_case_and_of_this_body_alone() -> None:
    message = FIVETRAN.message()
    name = "x-fivetran-signature-256"
    upper = replace(message, headers={name: message.headers[name].upper()})
    assert PROVIDERS["fivetran"].verify([SECRET], upper, NOW) == SECRET
    good = message.headers[name]
    for header in ("", good[:-1], good + "0", f"sha256={good}", "é", "\x00"):
        with pytest.raises(Unverified):
            PROVIDERS["fivetran"].verify([SECRET], replace(message, headers={name: header}), NOW)
    with pytest.raises(Unverified):
        PROVIDERS["fivetran"].verify([SECRET], replace(message, body=message.body + b"\n"), NOW)
    with pytest.raises(Malformed):
        PROVIDERS["fivetran"].verify([SECRET], replace(message, repeated=frozenset({name})), NOW)


# What comes instead


EMPTY: tuple[Any, ...] = (None, [], "")
WRONG: tuple[Any, ...] = (None, "", [], {}, 0, -1, "boom", True, 1.5, "x" * 5000, 10**400, [[]], {"a": {"b": []}})


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_a_message_cannot_do_without(case: Case) -> None:
    assert read(case).landings
    for path in case.needs:
        for body in (without(case.body, path), *(put(case.body, path, value) for value in EMPTY)):
            try:
                said = read(case, body)
            except BAD:
                continue
            assert said.ignored, path


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_no_change_of_a_message_is_an_accident(case: Case) -> None:
    for body in changed(case.body):
        tolerated(case, body)


def changed(body: Any) -> Iterator[Any]:
    for path in paths(body):
        yield without(body, path)
        for value in WRONG:
            yield put(body, path, value)


def tolerated(case: Case, body: Any) -> None:
    """Read, or refused as what a sender did; what is read can be kept and read back."""
    try:
        said = read(case, body)
    except BAD as error:
        told = error.message
    else:
        told, landings = "", said.landings
        assert landings or said.ignored or said.answer
        for landing in landings:
            kept(landing)
    assert len(told) < 300


def kept(landing: Landing) -> None:
    assert landing_from_json(json.loads(json.dumps(landing_to_json(landing)))) == landing
    draft = landing.draft("source.shop.raw.orders", NOW, "id", "webhook x")
    loaded_at = getattr(draft.event, "loaded_at", None)
    assert loaded_at is None or loaded_at <= NOW


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b'"x"', b"1", b"[" * 100_000, b"9" * 5000, b"NaN", b"1e999", b'{"a":1,"a":2}',
        b'{"a":"\\ud800"}', b'{"a":"\\u0000"}', "{}".encode("utf-16"), b"\xef\xbb\xbf{}", b"{}", b"[{}]", b"\xff",
    ],
)  # fmt: skip
def test_no_body_is_an_accident(case: Case, raw: bytes) -> None:
    tolerated(case, raw)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(CASES), st.data())
def test_no_made_up_value_is_an_accident(case: Case, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(case.body)))
    tolerated(case, put(case.body, path, data.draw(VALUES)))


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "2026-03-01T12:04:00Z", "1970-01-01T00:00:00Z"])
def test_a_time_ahead_is_now(time: str) -> None:
    draft = one(FIVETRAN.changed(created=time)).draft("source.a.b.c", NOW, None, "x")
    assert getattr(draft.event, "loaded_at", None) == (0.0 if time.startswith("1970") else NOW)


@pytest.mark.parametrize("time", ["2026-03-01T12:00:00", "yesterday", 7, None, "", []])
def test_a_time_that_cannot_be_read_is_when_it_is_heard_of(time: Any) -> None:
    assert one(FIVETRAN.changed(created=time)).loaded_at is None


# What was captured from them


SOME: tuple[Any, ...] = (None, "boom", [], {}, 0)
CAPTURED: dict[str, tuple[Case, list[Landing] | None]] = {
    "airbyte_test_button": (AIRBYTE, None),
    "dlt_1.31_state_ok": (replace(DLT, path=f"{SECRET}/state"), None),
    "dlt_1.31_trace_empty": (DLT, None),
    "dlt_1.31_trace_ok": (
        DLT,
        [
            Landing(None, "1795145470.044611", rows=10, place=Place("raw_shop", "orders")),
            Landing(None, "1795145470.044611", rows=20, place=Place("raw_shop", "orders__items")),
            Landing(None, "1795145470.044611", rows=3, replaces=True, place=Place("raw_shop", "customers")),
        ],
    ),
    "fivetran_sync_end_success_wire_287B": (
        FIVETRAN,
        [Landing(None, "b4703f73-6315-4e22-8d7a-3bfb18b2fed2", place=Place("ftar_pg"))],
    ),
    "openlineage_1.54_complete": (
        LINEAGE,
        [
            Landing(
                None, "01a1f702-caf9-7f6d-b2c8-393a53a40070", rows=10, size=100, place=Place("SHOP", "ORDERS", "RAW")
            )
        ],
    ),
    "stitch_post_load_doc": (
        STITCH,
        [Landing(None, "2019-07-15T14:45:08.026Z/0", rows=100, replaces=False, place=Place("shopify", "orders"))],
    ),
}


def told(landing: Landing) -> tuple[Any, ...]:
    return landing.place, landing.load_id, landing.rows, landing.size, landing.replaces, landing.partial


@pytest.mark.shared
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the captured payloads are not at hand ({CORPUS})")
def test_every_captured_payload_is_expected() -> None:
    assert {path.stem for path in CORPUS.glob("*.json")} - {"index"} == set(CAPTURED)


@pytest.mark.shared
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the captured payloads are not at hand ({CORPUS})")
@pytest.mark.parametrize("name", CAPTURED)
def test_what_was_captured_reads_as_expected(name: str) -> None:
    case, expected = CAPTURED[name]
    said = read(case, (CORPUS / f"{name}.json").read_bytes())
    if expected is None:
        assert said.ignored
    else:
        key = lambda it: str(it[0])  # noqa: E731
        assert sorted(map(told, said.landings), key=key) == sorted(map(told, expected), key=key)


@pytest.mark.shared
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"the captured payloads are not at hand ({CORPUS})")
@pytest.mark.slow
@pytest.mark.parametrize("name", CAPTURED)
def test_no_change_of_what_was_captured_is_an_accident(name: str) -> None:
    case = CAPTURED[name][0]
    body = json.loads((CORPUS / f"{name}.json").read_bytes())
    for path in paths(body):
        for changed_body in (without(body, path), *(put(body, path, value) for value in SOME)):
            tolerated(case, changed_body)
