"""What every sender has in common: the message as it came, what it says once it is verified, and what reads it.

Which provider reads an endpoint's messages follows from the configuration, never from the message: senders send
each other's headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl

from sao_events.core.errors import UsageError
from sao_events.core.events import CodePushed, PreviewAsked
from sao_events.inputs.git import is_nothing
from sao_events.inputs.landing import Landing
from sao_events.inputs.strict import Malformed, UnknownForm, media_type, read_json
from sao_events.ports import Draft

Kind: TypeAlias = Literal["git", "data"]
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
GIT_LIMIT = 25_000_000  # what GitHub and GitLab send at most
FORM_LIMIT = 3_000_000  # to take a form apart costs many times its size, and some must be before it is verified
PATHS = 100  # of the files in a push, so many are kept for the record


class Unverified(UsageError):
    """The message is not from who may send here, or nobody can tell (HTTP 401)."""


class Unknown(Unverified):
    """The secret in the address is wrong: to who asks there is nothing at that address (HTTP 404)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it came. `path` is what follows the endpoint's name; names of headers are in lower case; `repeated`
    are those that came more than once.
    """

    method: str = "POST"
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    repeated: frozenset[str] = frozenset()

    def header(self, name: str) -> str | None:
        """The header `name` (lower case), None where it is not there. Raises Malformed where it came twice: then
        nobody can say which is meant.
        """
        if name in self.repeated:
            raise Malformed(f"the header {name} is there more than once", hint="send it once")
        return self.headers.get(name)

    @property
    def digest(self) -> str:
        """Identity of the body."""
        return sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository that a message is about: its name (`owner/name`), and every address that the message gives it."""

    name: str
    addresses: tuple[str, ...] = ()
    default_branch: str | None = None


@dataclass(frozen=True, slots=True)
class Push:
    """`ref` was moved from commit `before` to `after`; all zeros stand for its being created or deleted. All None:
    something changed, and the sender does not say what.

    `forced` and `files` are None where the sender does not say; `files` lists what it named, and need not be all.
    `stamp` is its signed instant or number, where there is one: it tells apart pushes that are otherwise the same.
    """

    ref: str | None = None
    before: str | None = None
    after: str | None = None
    created: bool = False
    deleted: bool = False
    forced: bool | None = None
    files: tuple[str, ...] | None = None
    stamp: str = ""

    def draft(self, provider: str, repository: Repository | None, at: float, sender: str) -> Draft:
        """The event to be appended, received at the instant `at`. Its key is the same for every delivery of this push
        and another one for every other push: delivery ids are in headers, which most signatures do not cover.
        """
        name = repository.name.lower() if repository else ""
        said = " ".join((name, self.ref or "", self.before or "", self.after or "", self.stamp))
        event = CodePushed(self.ref, self.after, (self.files or ())[:PATHS])
        return Draft(event, at, f"{provider}/{sha256(said.encode()).hexdigest()}", sender)


def moved(ref: str, before: str, after: str, *, deleted: bool = False, **more: Any) -> Push:
    """The push of a sender that says with zeros what was created or, if it does not say so otherwise, `deleted`."""
    return Push(ref, before, after, is_nothing(before), deleted or is_nothing(after), **more)


@dataclass(frozen=True, slots=True)
class Pull:
    """An open pull or merge request: its number, the commit at its head, the branch that it is for; `fork`: it comes
    from another repository.
    """

    number: int
    head: str
    base: str
    fork: bool

    def draft(self, provider: str, repository: Repository | None, at: float, sender: str) -> Draft:
        """The event to be appended: one for each state of the request."""
        name = repository.name.lower() if repository else ""
        key = f"{provider}/preview/{sha256(f'{name} {self.number} {self.head}'.encode()).hexdigest()}"
        return Draft(PreviewAsked(self.number, self.head, provider, self.fork), at, key, sender)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handshake is answered with, where it is not one of the usual answers."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Said:
    """What a verified message says. `delivery` is the sender's own id of it, which is the same when it sends again;
    `ignored` says, for people, why it asks for nothing. `visit` is an address, checked, that is to be asked for once to
    confirm a subscription.
    """

    delivery: str | None = None
    repository: Repository | None = None
    pushes: tuple[Push, ...] = ()
    landings: tuple[Landing, ...] = ()
    ignored: str | None = None
    answer: Answer | None = None
    visit: str | None = None
    pull: Pull | None = None


@dataclass(frozen=True, slots=True)
class Provider:
    """A kind of sender. A new one is a module beside this one and a line in `providers.py`.

    `verify(secrets, message, now)` returns that of the active secrets which the message proves to know, looking at raw
    bytes alone, in the same time whichever it is; it raises Unverified otherwise, and for no secrets.
    `read(message, now)` is pure and called after that; it raises Malformed, UnknownForm or Refused. `now` is UTC epoch
    seconds. `kept` are the headers that may be shown beside a delivery: none that holds a secret.
    """

    name: str
    title: str
    kind: Kind
    verify: Callable[[Sequence[str], Message, float], str]
    read: Callable[[Message, float], Said]
    kept: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("POST",)
    body_limit: int = GIT_LIMIT
    paths: bool = False  # whether something may follow the endpoint's name in the address
    least: int = 8  # the fewest characters of a secret that is taken
    compressed: bool = False  # whether a body with Content-Encoding: gzip is handed on as it came
    remote: bool = False  # whether `verify` may have to ask the network, and takes its time
    topics: Callable[[Sequence[str]], Provider] | None = None  # makes the provider that takes those topics alone


def payload_of(message: Message) -> bytes:
    """The bytes of the JSON text that a git host sent, as the body or as the field `payload` of a form.

    Raises UnknownForm for another media type, Malformed for a form without that one field.
    """
    kind = media_type(message.header("content-type"))
    if kind == JSON:
        return message.body
    if kind != FORM:
        hint = "set the webhook's content type to application/json"
        raise UnknownForm("the body is neither JSON nor a form", hint=hint)
    if len(message.body) > FORM_LIMIT:
        hint = "set the webhook's content type to application/json"
        raise Malformed(f"a form of more than {FORM_LIMIT} bytes is not read", hint=hint)
    try:
        fields = parse_qsl(message.body.decode("ascii"), strict_parsing=True, max_num_fields=8, errors="strict")
        [payload] = [value for name, value in fields if name == "payload"]
    except ValueError:
        raise Malformed("the form has no single field payload") from None
    return payload.encode()


def object_of(message: Message) -> dict[str, Any]:
    """The JSON object that a git host sent. Raises as `payload_of` does, and Malformed."""
    payload = read_json(payload_of(message))
    if not isinstance(payload, dict):
        raise Malformed("the payload is not an object")
    return payload
