"""Previews of pull and merge requests: fetched from the configured remote, merged, parsed, planned, told to the host.

One thread, one after the other, the newest state of each request. Its code is only parsed: dbt renders its Jinja,
without a warehouse and without the secrets of the environment. What was asked for and not yet made is taken up at the
next start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sao_events.config import Config
from sao_events.core import events as e
from sao_events.core.errors import DbtError, GraphError, PolicyError, SaoError
from sao_events.core.events import Event
from sao_events.deploy import preview as previews
from sao_events.git.checkout import Checkout
from sao_events.git.host import GitHost, open_host
from sao_events.ports import Store
from sao_events.report import View

LOG = logging.getLogger("sao_events")
NODES, ERROR, LOOK_BACK = 50, 4000, 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is told: the state and one line for the commit, and the comment."""

    commit: str
    state: str
    summary: str
    comment: str


class Pulls:
    """Makes the previews of an environment. `view` holds what is on record still; `record` appends an event."""

    def __init__(
        self,
        config: Config,
        store: Store,
        view: Callable[[], AbstractContextManager[View]],
        record: Callable[[Event], None],
    ) -> None:
        assert config.git is not None
        self.config, self.store, self.view, self.record = config, store, view, record
        self.files = config.state_dir / "previews"
        self.checkout = Checkout(config.git.remote, config.git.branch, self.files, links=False)
        self._asked: dict[int, e.PreviewAsked] = {}
        self._changed = threading.Condition()
        self._stopping = False

    def ask(self, asked: e.PreviewAsked) -> None:
        """Take up a request; an earlier one for the same number that has not begun is superseded."""
        with self._changed:
            self._asked[asked.number] = asked
            self._changed.notify()

    def run(self) -> None:
        """Until `close`: what was left at the last end first."""
        self._take_up()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
                asked = self._asked.pop(next(iter(self._asked)))
            self._do(asked)

    def close(self) -> None:
        """Begin no more; end the fetch that is under way."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.checkout.close()

    def _take_up(self) -> None:
        done: set[int] = set()
        for recorded in self.store.find(["PreviewAsked", "PreviewMade"], limit=LOOK_BACK):
            event = recorded.event
            if isinstance(event, (e.PreviewAsked, e.PreviewMade)):
                if isinstance(event, e.PreviewAsked) and event.number not in done:
                    self._asked.setdefault(event.number, event)
                done.add(event.number)

    def _do(self, asked: e.PreviewAsked) -> None:
        try:
            made = self.make(asked)
            error = self._tell(asked, made)
        except Exception as problem:  # noqa: BLE001 - one request must not keep the others from theirs
            if self._stopping:
                return
            LOG.warning("no preview of %s %s: %s", asked.provider, asked.number, problem)
            self.record(e.PreviewMade(asked.number, asked.commit, error=str(problem)))
        else:
            self.record(e.PreviewMade(asked.number, made.commit, made.summary, error))

    def make(self, asked: e.PreviewAsked) -> Outcome:
        """The preview of a request as it is now. Raises SaoError where it cannot be fetched."""
        assert self.config.git is not None
        base, head = self.checkout.head(), self.checkout.pull(ref(asked))
        merged = self.checkout.merged(base, head)
        what = f"merging {head[:10]} into {self.config.git.branch} ({base[:10]})"
        if merged is None:
            what = f"{head[:10]} by itself, since it does not merge with {self.config.git.branch} ({base[:10]})"
        folder = self.checkout.lay_out(merged or head) / self.config.git.subdir
        try:
            project = previews.parse(self.config, self.store, folder, self.files, trusted=False)
        except (DbtError, GraphError, PolicyError) as error:
            return refused(self.config.environment, head, what, "" if asked.fork else str(error), str(folder))
        with self.view() as view:
            found = previews.preview(view, project, head)
        return Outcome(head, "success", previews.summary(found), comment(self.config.environment, what, found))

    def _tell(self, asked: e.PreviewAsked, made: Outcome) -> str | None:
        """Tell the git host; why it could not be told, where it could not."""
        try:
            host, link = self._host(asked.provider), self.config.previews.url if self.config.previews else None
            name = f"sao-events/{self.config.environment}"
            host.status(made.commit, made.state, name, made.summary, link)
            host.comment(asked.number, mark(self.config.environment), made.comment)
        except SaoError as error:
            LOG.warning("the preview of %s %s could not be told: %s", asked.provider, asked.number, error)
            return str(error)
        return None

    def _host(self, provider: str) -> GitHost:
        assert self.config.git is not None
        told = self.config.previews
        token = told.token.value() if told else None
        if told is None or token is None:
            raise SaoError("the token of previews is not set", hint="set what previews.token names")
        return open_host(provider, self.config.git.remote, told.api, token)


def ref(asked: e.PreviewAsked) -> str:
    """The ref of a request at the configured remote."""
    kind = "pull" if asked.provider == "github" else "merge-requests"
    return f"refs/{kind}/{asked.number}/head"


def mark(environment: str) -> str:
    """The line by which the comment is found again."""
    return f"<!-- sao-events preview of {plain(environment)} -->"


def comment(environment: str, what: str, found: Mapping[str, Any]) -> str:
    """The comment for a preview: one line, what would be built and why, what not."""
    built = previews.built(found)
    lines = [mark(environment), f"**sao-events** · {code(environment)}: {what} {previews.summary(found)}.", ""]
    if built:
        lines += ["| would be built | why |", "|---|---|"]
        lines += [f"| {code(node['name'])} | {plain(node['text'])} |" for node in built[:NODES]]
        lines += [f"| and {len(built) - NODES} more | |"] if len(built) > NODES else []
    held = [node for node in found["nodes"] if node["action"] in ("wait", "blocked")]
    lines += [f"- {code(node['name'])} {node['action']}: {plain(node['text'])}" for node in held[:NODES]]
    if found["gone"]:
        lines += ["", f"No longer there: {', '.join(code(name) for name in found['gone'][:NODES])}"]
    after = "Each edit counts as a change here; after the merge the code is compared as dbt compiles it."
    lines += ["", f"<sub>On what was on record at {found['at']}. {after}</sub>"]
    return "\n".join(lines)


def refused(environment: str, commit: str, what: str, error: str, folder: str) -> Outcome:
    """The outcome for code that dbt refuses; without its words where they must not be repeated."""
    lines = [mark(environment), f"**sao-events** · {code(environment)}: dbt refuses {what}.", ""]
    if said := error.replace(folder, ".").replace("```", "'''")[:ERROR]:
        lines += ["```", said, "```"]
    return Outcome(commit, "failure", "dbt refuses this code", "\n".join(lines))


def code(text: str) -> str:
    """A name as code, whatever is in it."""
    return f"`{plain(text).replace('`', '')}`"


def plain(text: str) -> str:
    """Words without anything that Markdown or HTML would act on, on one line."""
    return "".join(letter for letter in " ".join(text.split()) if letter not in "<>|@[]`\\")
