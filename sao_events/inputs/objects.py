"""Files that arrive in object stores, as the notifications of Amazon S3, Google Cloud Storage and Azure tell of them.

A file is in no table yet: which source it belongs to is for the rules of the configuration, by its labels `bucket` and
`key`. When it is heard of is its load time: the clocks of a store give two files the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus, urlsplit

from sao_events.inputs import fields, told
from sao_events.inputs.data import MOST
from sao_events.inputs.landing import Landing
from sao_events.inputs.strict import Malformed

Block = Mapping[str, Any]


def landed(bucket: str, key: str, version: str | None, size: object, **labels: str) -> Landing:
    """A file that is there now; `version` tells it from others under the same key."""
    return Landing(
        load_id=told.identity(f"{key} {version}"[-256:]) if version else None,
        size=told.count(size),
        scope="file",
        labels={"bucket": bucket, "key": key, **labels},
    )


def s3_records(body: Block) -> list[Landing]:
    """The files created in an event of S3's own form: https://docs.aws.amazon.com/AmazonS3/latest/userguide/
    notification-content-structure.html. Raises Malformed.
    """
    records = fields.mappings(body, "Records")
    if len(records) > MOST:
        raise Malformed(f"{len(records)} records in one message", hint=f"at most {MOST} are read")
    created = [r for r in records if fields.text(r, "eventName").removeprefix("s3:").startswith("ObjectCreated:")]
    return [_s3(fields.mapping(record, "s3")) for record in created]


def _s3(block: Block) -> Landing:
    bucket, item = fields.text(fields.mapping(block, "bucket"), "name"), fields.mapping(block, "object")
    key = unquote_plus(fields.text(item, "key"))
    return landed(bucket, key, _version(item), item.get("size"))


def s3_detail(detail: Block) -> Landing:
    """The file in the detail of EventBridge's `Object Created`. Raises Malformed."""
    bucket, item = fields.text(fields.mapping(detail, "bucket"), "name"), fields.mapping(detail, "object")
    return landed(bucket, fields.text(item, "key"), _version(item), item.get("size"))


def _version(item: Block) -> str | None:
    found = (told.identity(item.get(key)) for key in ("sequencer", "versionId", "version-id", "eTag", "etag"))
    return next((version for version in found if version), None)


def gcs(bucket: str, name: str, item: Block) -> Landing:
    """A file of Google Cloud Storage; `item` is its resource."""
    size = item.get("size")
    if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) < 19:
        size = int(size)
    return landed(bucket, name, told.identity(item.get("generation")), size)


def azure(data: Block) -> Landing:
    """The file of Azure's `Microsoft.Storage.BlobCreated`; the container is its bucket. Raises Malformed."""
    try:
        url = urlsplit(fields.text(data, "url"))
        account, path = url.hostname or "", url.path.lstrip("/")
    except ValueError:
        raise fields.missing("url") from None
    container, _, key = path.partition("/")
    if not (account and container and key):
        raise fields.missing("url")
    version = told.identity(data.get("sequencer")) or told.identity(data.get("eTag"))
    return landed(container, unquote_plus(key), version, data.get("contentLength"), account=account.partition(".")[0])
