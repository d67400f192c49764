"""Warnings about what happens in a scenario: what may not be as its author thinks, told beside the outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sao_events.core import events as e
from sao_events.core.evidence import is_ahead
from sao_events.report import RESTLESS
from sao_events.scenario.model import Happening, Scenario, offset
from sao_events.yamltext import Block


def doubts(scenario: Scenario) -> list[str]:
    """What is doubtful whatever comes of it: events out of the order of their times or after the end, landings that a
    service would not expect, content that counts for nothing.
    """
    return [*_backwards(scenario), *(text for each in scenario.happenings for text in _doubtful(scenario, each))]


def in_vain(scenario: Scenario, log: Iterable[e.Recorded]) -> list[str]:
    """A warning for each failure or equal content that could not come: nothing is built, or run, after it. What lies
    after the end is not among them: `doubts` tells of it.
    """
    last = dict[str, float]()
    for recorded in log:
        if isinstance(recorded.event, e.BuildStarted):
            last[recorded.event.node] = recorded.at
        elif isinstance(recorded.event, e.TestFinished):
            last[recorded.event.test] = recorded.at
    done = {"fail": "built", "same_output": "built", "fail_test": "run"}
    return [
        _told(scenario, each, f"comes to nothing: {each.subject} is not {done[each.kind]} after it")
        for each in scenario.happenings
        if each.kind in done and last.get(each.subject, each.at - 1) < each.at <= scenario.expected.until
    ]


def _backwards(scenario: Scenario) -> Iterator[str]:
    latest = scenario.start
    for each in scenario.happenings:
        if each.at < latest:
            after = offset(latest - scenario.start)
            wrong = f"stands after {after}: time does not run backwards, events happen in the order of their times"
            yield _told(scenario, each, wrong)
        latest = max(latest, each.at)


def _doubtful(scenario: Scenario, each: Happening) -> Iterator[str]:
    if each.at > scenario.expected.until:
        yield _told(scenario, each, "does not happen: it lies after until")
    if each.kind == "land":
        if any(source.static for source in scenario.sources if source.id == each.subject):
            yield f"{scenario.name}: {RESTLESS.format(each.subject)} ({scenario.place}:{each.line})"
        if is_ahead(each.values.get("loaded_at"), each.at):
            yield _told(scenario, each, "has a loaded_at that is still to come then; a service refuses that")
    elif each.kind == "same_output" and not any(
        scenario.cutoff(each.subject, config) for config in _configs(scenario, each)
    ):
        yield _told(scenario, each, f"counts for nothing: {each.subject} has no early_cutoff: true")


def _configs(scenario: Scenario, each: Happening) -> list[Block]:
    """The blocks `config` of its node that are in force from then on, one after the other."""
    happenings = [it for it in scenario.happenings if it.kind == "policy" and it.subject == each.subject]
    before = [it.values["config"] for it in happenings if it.at <= each.at]
    first = scenario.nodes[each.subject].block(scenario.place, "config")
    return [*(before[-1:] or [first]), *(it.values["config"] for it in happenings if it.at > each.at)]


def _told(scenario: Scenario, each: Happening, what: str) -> str:
    at = offset(each.at - scenario.start)
    return f"{scenario.name}: `{each.kind}: {each.subject}` at {at} {what} ({scenario.place}:{each.line})"
