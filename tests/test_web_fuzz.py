"""Nothing that is sent makes the service fail: anything that the published description allows, and anything else."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sao_events.config import GitConfig, Secret, WebhookConfig
from sao_events.store.memory import MemoryStore
from sao_events.web import live
from tests import senders
from tests.loader_payloads import CASES, SECRET, Case
from tests.senders import payload
from tests.test_inputs_hosts import mutations
from tests.web_service import MART, ORDERS, TOKEN, Service, busy_day, served

DESCRIPTION = json.loads((Path(live.__file__).parent / "openapi.json").read_text())
OPERATIONS = [(method, path) for path, operations in DESCRIPTION["paths"].items() for method in operations]
METHODS = ("get", "put", "post", "delete", "options", "patch", "trace", "propfind")
HOSTS = [name for name in senders.PUSHES if name not in ("forgejo", "gogs")]
LOADERS = [case.provider for case in CASES]
NAMES = st.sampled_from([ORDERS, MART, "raw.orders", "orders", "r20", "github", *LOADERS, SECRET, "style.css", "1"])
ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
ANYTHING = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner), max_leaves=8
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """One with a day behind it, and a webhook of each host and each loader; the token of the data opens these too."""
    folder = tmp_path_factory.mktemp("service")
    found = Service(folder)
    hooks = {}
    for name in HOSTS:
        (folder / name).write_text(secret_of(name))
        hooks[name] = WebhookConfig(name, (Secret(file=folder / name),), repository="git.example:acme/shop")
    (folder / "loader").write_text(SECRET)
    secrets = (Secret(file=folder / "token"), Secret(file=folder / "loader"))
    hooks |= {name: WebhookConfig(name, secrets) for name in LOADERS}
    object.__setattr__(found.config, "webhooks", hooks)
    object.__setattr__(found.config, "git", GitConfig("/srv/git/shop.git", "main"))
    busy_day(found)
    return found


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with served(service) as found:
        yield found


def secret_of(name: str) -> str:
    return f"secret of the host {name}"


# By the description


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference names."""
    if "$ref" not in schema:
        return schema
    found: Any = DESCRIPTION
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return resolved(found)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema of the description allows."""
    schema = resolved(schema)
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return st.one_of([values(each) for each in schema[key]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", "any")
    return st.one_of([_typed(schema, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])])


def _typed(schema: Mapping[str, Any], kind: str) -> st.SearchStrategy[Any]:
    if kind == "object":
        known = {name: values(inner) for name, inner in schema.get("properties", {}).items()}
        needed = {name: known[name] for name in schema.get("required", ()) if name in known}
        return st.fixed_dictionaries(needed, optional={name: it for name, it in known.items() if name not in needed})
    if kind == "array":
        return st.lists(values(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=4)
    if kind == "integer":
        return st.integers(schema.get("minimum", -(2**70)), schema.get("maximum", 2**70))
    if kind == "string":
        texts = NAMES | st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 60), 60))
        return texts | st.just("2026-03-01T11:00:00Z") if schema.get("format") == "date-time" else texts
    return {"null": st.none(), "boolean": st.booleans(), "number": st.floats(allow_nan=False)}.get(kind, ANYTHING)


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def as_header(value: Any) -> bytes:
    return re.sub(rb"[^\x21-\x7e\x80-\xff]", b"?", as_text(value).encode()[:200])


def request(data: st.DataObject, method: str, path: str, client: httpx.Client) -> httpx.Response:
    """A request as the description has it, or with something else in one of its places."""
    operation = DESCRIPTION["paths"][path][method]
    headers = {b"authorization": f"Bearer {TOKEN}".encode()}
    query: dict[str, str] = {}
    for parameter in operation.get("parameters", []):
        if not parameter.get("required") and not data.draw(st.booleans()):
            continue
        value = data.draw(values(parameter["schema"]) | ANYTHING)
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(as_text(value).encode("utf-8", "replace"), safe=""))
        elif parameter["in"] == "query":
            query[parameter["name"]] = as_text(value).encode("utf-8", "replace").decode()
        else:
            headers[parameter["name"].encode()] = as_header(value)
    body = b""
    if content := operation.get("requestBody", {}).get("content"):
        kind, described = data.draw(st.sampled_from(sorted(content.items(), key=lambda item: str(item[0]))))
        headers[b"content-type"] = kind.encode()
        value = data.draw(values(described["schema"]) | ANYTHING)
        body = data.draw(st.binary(max_size=50)) if data.draw(st.integers(0, 9)) == 0 else _encoded(value)
    asked = client.build_request(method.upper(), path, params=query, headers=list(headers.items()), content=body)
    answer = client.send(asked, stream=path == "/live")
    if path == "/live":  # does not end
        answer._content = next(answer.iter_raw()) if answer.status_code == 200 else answer.read()
        answer.close()
    return answer


@cache
def validator(path: str, method: str, status: int) -> Any:
    """Checks the JSON of an answer by the description; None where it describes none."""
    found = DESCRIPTION["paths"][path][method]["responses"][str(status)]
    found = resolved(found).get("content", {}).get("application/json")
    checker = pytest.importorskip("jsonschema").Draft202012Validator
    return checker({**found["schema"], "components": DESCRIPTION["components"]}) if found else None


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=True).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_what_the_description_allows_is_answered_as_it_says(
    client: httpx.Client, method: str, path: str, data: st.DataObject
) -> None:
    answer = request(data, method, path, client)
    assert answer.status_code < 500, f"{answer.request.url} {answer.request.content!r} {answer.text}"
    described = DESCRIPTION["paths"][path][method]["responses"]
    routed = answer.status_code in (404, 405) and "{" in path  # the value made another address of it
    assert routed or str(answer.status_code) in described, f"{answer.request.url} {answer.status_code} {answer.text}"
    if answer.status_code >= 400:
        assert {"error", "hint"} <= set(answer.json())
    elif check := validator(path, method, answer.status_code):
        check.validate(answer.json())


def test_whatever_a_loader_may_send_is_let_in_by_the_token(client: httpx.Client) -> None:
    """So that what is made up above is read, not refused at the door."""
    for address in ("/webhooks/generic", "/webhooks/cloudevents", "/api/v1/lineage", f"/webhooks/dlt/{SECRET}/trace"):
        answer = client.post(address, headers={"authorization": f"Bearer {TOKEN}"}, content=b"[1")
        assert (answer.status_code, "JSON" in answer.text) == (400, True), answer.text


@pytest.mark.parametrize("path", DESCRIPTION["paths"])
def test_other_methods_are_told_which_there_are(client: httpx.Client, service: Service, path: str) -> None:
    address, before = re.sub(r"\{\w+\}", "generic", path), service.store.last()
    for method in METHODS:
        if method in DESCRIPTION["paths"][path]:
            continue
        answer = client.request(method.upper(), address, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code in (404, 405), f"{method} {answer.text}"
        if answer.status_code == 405:
            assert {it.strip().lower() for it in answer.headers["allow"].split(",")} >= set(DESCRIPTION["paths"][path])
    assert service.store.last() == before


@pytest.mark.parametrize("case", CASES, ids=LOADERS)
def test_a_loaders_message_with_anything_in_it_is_refused_or_on_record(
    client: httpx.Client, service: Service, case: Case
) -> None:
    service.store = MemoryStore()
    address, sent = f"/webhooks/{case.provider}" + (f"/{case.path}" if case.path else ""), 0
    for what, content in mutations(case.body, [None, [], {}, -1, "boom", "x" * 5000]):
        message = case.message(content)
        answer = client.request(case.method, address, headers=dict(message.headers), content=message.body)
        assert answer.status_code in (200, 202, 400, 409, 413, 415, 422), f"{what} {answer.text}"
        sent += 1
    found = service.store.deliveries(limit=10_000)
    assert sum(it.delivery.times for it in found) == sent
    assert service.store.last() == sum(len(it.events) for it in found)


# By what hosts send


@pytest.mark.parametrize("provider", HOSTS)
def test_a_signed_message_with_anything_in_it_is_refused_or_on_record(
    client: httpx.Client, service: Service, provider: str
) -> None:
    service.store = MemoryStore()
    sent = 0
    for number, (what, content) in enumerate(mutations(payload(provider), [None, [], {}, 0, "boom", "x" * 5000])):
        body = json.dumps(content).encode()
        headers = senders.headers(provider, secret_of(provider), body, delivery=f"d{number}")
        answer = client.post(f"/webhooks/{provider}", content=body, headers=headers)
        assert answer.status_code in (200, 202, 400, 409), f"{what} {answer.text}"
        sent += 1
    found = service.store.deliveries(limit=10_000)
    assert sum(it.delivery.times for it in found) == sent
    verdicts = {"accepted", "duplicate", "ignored", "unmatched", "invalid"}
    assert {it.delivery.verdict for it in found} <= verdicts | ({"conflict"} if provider == "azure_devops" else set())
    assert all(it.delivery.reason for it in found if it.delivery.verdict != "accepted")
    assert service.store.last() == sum(len(it.events) for it in found)


BODIES = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"1",
    b"[" * 90_000,
    b'{"a":' * 20_000,
    b"9" * 5_000,
    b'{"ref": NaN}',
    b'{"ref": 1e999}',
    b'{"after": "' + b"a" * 40 + b'", "after": "' + b"b" * 40 + b'"}',
    b'{"ref": "\\ud800"}',
    b'{"ref": "refs/heads/a\\u0000b"}',
    '{"ref": "main"}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"\xff\xfe\x00",
    b"{" + b", ".join(b'"k%d": 1' % number for number in range(20_000)) + b"}",
]


@pytest.mark.parametrize("provider", HOSTS)
def test_a_signed_body_that_is_not_strict_json_is_invalid(
    client: httpx.Client, service: Service, provider: str
) -> None:
    service.store = MemoryStore()
    for body in BODIES:
        headers = senders.headers(provider, secret_of(provider), body)
        assert client.post(f"/webhooks/{provider}", content=body, headers=headers).status_code == 400, body[:40]
    found = service.store.deliveries()
    assert [it.delivery.verdict for it in found] == ["invalid"] * len(BODIES)
    assert service.store.last() == 0


ODD_PARTS = ["..", "%2e%2e%2f", "//", "%00", "x" * 8_000, "github/../gitlab", "%ff", "a%0d%0aX: y", "?payload={}", "#x"]


@pytest.mark.parametrize("path", ["/webhooks/{}", "/events/data", "/events/code"])
@pytest.mark.parametrize("part", ODD_PARTS)
def test_odd_addresses_are_nothing(client: httpx.Client, service: Service, path: str, part: str) -> None:
    service.store = MemoryStore()
    address = path.format(part) if "{" in path else f"{path}/{part}"
    answer = client.post(address, content=b"{}")
    assert answer.status_code in (400, 401, 403, 404, 405, 414), answer.text
    assert service.store.last() == 0


# By hand

BEARER = b"authorization: Bearer " + TOKEN.encode()
CHUNKED = b"transfer-encoding: chunked"


def raw(line: bytes, *headers: bytes, body: bytes = b"", length: bytes | None = None) -> bytes:
    """A request as no client sends it."""
    size = b"content-length: " + (str(len(body)).encode() if length is None else length)
    return b"\r\n".join([line + b" HTTP/1.1", b"host: localhost", *headers, size, b"", body])


RAW = {
    "NUL in a header": raw(b"POST /webhooks/github", b"x-github-event: pu\0sh", body=b"{}"),
    "a signature in Latin-1": raw(b"POST /webhooks/github", b"x-hub-signature-256: sha256=\xe9\xff", body=b"{}"),
    "a token in Latin-1": raw(b"POST /events/data", b"authorization: Bearer \xff\xfe", body=b"{}"),
    "two tokens": raw(b"POST /events/data", BEARER, BEARER, body=b'{"source": "raw.orders"}'),
    "two lengths": raw(b"POST /events/data", BEARER, b"content-length: 3", body=b"{}"),
    "a length and chunks": raw(b"POST /events/data", BEARER, CHUNKED, body=b"2\r\n{}\r\n0\r\n\r\n"),
    "a negative length": raw(b"POST /events/data", BEARER, body=b"{}", length=b"-2"),
    "a length of 40 digits": raw(b"POST /events/data", BEARER, body=b"{}", length=b"9" * 40),
    "no gzip": raw(b"POST /events/data", BEARER, b"content-encoding: gzip", body=b"\x1f\x8b"),
    "an address elsewhere": raw(b"POST http://evil.example/events/data", BEARER, body=b"{}"),
    "no address": raw(b"OPTIONS *"),
    "a proxy": raw(b"CONNECT evil.example:443"),
    "no UTF-8": raw(b"GET /api/nodes/%ff%fe%00/why"),
    "a file elsewhere": raw(b"GET /api/runs/%00..%2f..%2fetc%2fpasswd/output"),
    "half a surrogate pair": raw(b"GET /api/events?node=%ed%a0%80&kind=%00"),
    "other digits": raw(b"GET /api/events?limit=%D9%A1"),
    "a delivery of 40 digits": raw(b"POST /api/deliveries/" + b"9" * 40 + b"/replay", BEARER),
    "a delivery in other digits": raw(b"POST /api/deliveries/%D9%A1/replay", BEARER),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a1"),
}


@pytest.mark.parametrize("request_", RAW.values(), ids=RAW)
def test_what_no_client_sends_is_refused(client: httpx.Client, service: Service, request_: bytes) -> None:
    before = service.store.last()
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=20) as connection:
        connection.sendall(request_)
        answer = connection.recv(1000)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer), answer
    assert service.store.last() == before
