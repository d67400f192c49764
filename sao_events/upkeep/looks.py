"""The service's looks at the warehouse: at intervals and before each job, in a thread of its own, all in one question.

What is looked for is a `Subject`; a look asks for all subjects that are due over one connection, between builds where
the warehouse takes one process at a time. What comes of it is recorded while the engine holds still, so that what is
concluded holds for the record that it is added to.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sao_events.core.probes import pause
from sao_events.core.project import Project
from sao_events.core.state import World
from sao_events.core.vanished import expected, judged
from sao_events.ports import Answer, Clock, Draft, Warehouse
from sao_events.report import View
from sao_events.warehouse import catalog

LOG = logging.getLogger("sao_events")
SECONDS, PAUSE = 60.0, 1.0  # that one statement is given; between looks at the clock
Judge = Callable[[Project, World], Sequence[Draft]]


class Subject(Protocol):
    """Something that is looked for."""

    def due(self) -> float | None:
        """The instant from which on it is to be looked for; None for not at all. `Look.answered` moves it on."""

    def look(self, view: View) -> Look:
        """What is to be asked now."""


class Look(Protocol):
    """One look for one subject."""

    statements: Sequence[str]

    def answered(self, answers: Sequence[Answer], now: float) -> Judge:
        """Take in an answer for each statement. Returns what follows from them for a record."""


class Asked(Warehouse, Protocol):
    """A warehouse that says whose it is."""

    def in_force(self, project: str) -> bool:
        """Whether it is that of the project with this digest."""


class Looks:
    """Looks for `subjects` in the warehouse of the project in force. `view` is what is on record, `record` adds what a
    judge says of the record as it is then; `notify` is told when that is done.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        warehouse: Asked,
        clock: Clock,
        view: Callable[[], AbstractContextManager[View]],
        record: Callable[[Judge], None],
        notify: Callable[[], None],
    ) -> None:
        self.subjects, self.warehouse, self.clock, self.view, self.record = subjects, warehouse, clock, view, record
        self.notify = notify
        self._closed, self._woken = threading.Event(), threading.Event()
        self._one = threading.Lock()
        self._asked: str | None = None  # the job that waits for a look
        self._answered: str | None = None  # the one that had it last

    def looked(self, job: str) -> bool:
        """Whether the warehouse was looked at for this job; if not, it will be at once. Does not block."""
        if self._answered == job or all(subject.due() is None for subject in self.subjects):
            return True
        if self._asked != job:
            self._asked = job
            self._woken.set()
        return False

    def close(self) -> None:
        """Look no more; what is being asked ends with the builders."""
        self._closed.set()
        self._woken.set()

    def run(self) -> None:
        """Look at short intervals whether something is due, and when a job asks, until `close`."""
        while not self._closed.is_set():
            self._woken.wait(PAUSE)
            self._woken.clear()
            job = self._asked
            try:
                self.look(asked=job != self._answered)
            except Exception:
                LOG.exception("the warehouse could not be looked at")
            if job != self._answered:
                self._answered = job
                self.notify()

    def look(self, asked: bool = True) -> None:
        """Look for what is due, or for all, where somebody has `asked`. Returns when what was seen is on record."""
        with self._one:
            now = self.clock.now()
            due = [it for it in self.subjects if (at := it.due()) is not None and (asked or at <= now)]
            if not due or self._closed.is_set():
                return
            with self.view() as view:
                if view.world.project is None or not self.warehouse.in_force(view.world.project):
                    return
                looks = [subject.look(view) for subject in due]
            statements = [statement for look in looks for statement in look.statements]
            answers = self.warehouse.ask(statements, SECONDS, catalog.MOST) if statements else []
            for look in looks:
                mine, answers = answers[: len(look.statements)], answers[len(look.statements) :]
                if not self._closed.is_set():
                    self.record(look.answered(mine, self.clock.now()))


class Relations:
    """Whether the relations of nodes are still there, every `every` seconds and as soon as there is a project; with
    longer pauses while the warehouse does not say.
    """

    def __init__(self, every: float) -> None:
        self.every = every
        self.next = 0.0
        self.error: str | None = None
        self.failures = 0

    def due(self) -> float | None:
        """See `Subject`."""
        return self.next if self.every > 0 else None

    def look(self, view: View) -> Look:
        """See `Subject`."""
        assert view.project is not None
        return _RelationsLook(self, view.project, view.world)


class _RelationsLook:
    def __init__(self, subject: Relations, project: Project, world: World) -> None:
        self.subject, self.project, self.world = subject, project, world
        self.questions = catalog.questions(expected(project.graph, world).values(), project.adapter)
        self.statements: Sequence[str] = [question.statement for question in self.questions]

    def answered(self, answers: Sequence[Answer], now: float) -> Judge:
        """See `Look`."""
        error = next((answer.error for answer in answers if answer.error), None)
        self.subject.failures = self.subject.failures + 1 if error else 0
        self.subject.next = now + pause(self.subject.every, self.subject.failures)
        if error and error != self.subject.error:
            LOG.warning("it is not known whether relations are gone: %s", error)
        self.subject.error = error
        found = catalog.seen(self.questions, answers, self.project.adapter)
        there = {relation: kind is not False for relation, kind in found.items()}

        def judge(project: Project, world: World) -> Sequence[Draft]:
            if project.graph is not self.project.graph:
                return []
            return [Draft(event, now, sender="looks") for event in judged(project.graph, self.world, world, there)]

        return judge
