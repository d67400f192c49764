"""Every reason and every event has its words, and the words name what the evidence names."""

from __future__ import annotations

import pytest

from sao_events.core import events as e
from sao_events.core.decision import Action, Decision, Reason
from sao_events.core.events import Observed
from sao_events.core.lineage import Code
from sao_events.report.explain import describe, explain, listed, reason_text

NAMES = {"model.p.orders": "orders", "source.p.raw.orders": "raw.orders", "source.p.raw.payments": "raw.payments"}
NEWER = {"newer": {"source.p.raw.orders": {"built_with": 1, "now": 2}}}


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("action", Action)
def test_every_reason_has_a_sentence_whatever_the_evidence(reason: Reason, action: Action) -> None:
    text = explain(Decision(action, reason), {})
    assert len(text) > 5
    assert "_" not in text.replace("updates_on", "")


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words_without_evidence(reason: Reason) -> None:
    assert " " in reason_text(reason.value) or reason is Reason.forced


def test_a_reason_of_a_newer_release_is_shown_as_it_is() -> None:
    assert reason_text("quiet_hours") == "quiet hours"


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (Decision(Action.build, Reason.forced, evidence={"job": "nightly"}), ["nightly"]),
        (Decision(Action.build, Reason.relation_missing, evidence={"relation": "dev.orders"}), ["dev.orders"]),
        (Decision(Action.build, Reason.new_data, evidence=NEWER), ["new data in raw.orders"]),
        (Decision(Action.wait, Reason.within_build_after, 9.0, evidence=NEWER), ["raw.orders", "window"]),
        (Decision(Action.wait, Reason.within_build_after, 9.0, evidence={"held": "code_changed"}), ["code changed"]),
        (
            Decision(
                Action.wait,
                Reason.within_build_after,
                9.0,
                evidence={"held": "upstream_code_changed", "changed": ("model.p.orders",)},
            ),
            ["upstream: orders", "window"],
        ),
        (
            Decision(
                Action.wait,
                Reason.waiting_for_upstreams,
                waiting_for=("source.p.raw.payments",),
                evidence=NEWER,
            ),
            ["waits for new data in raw.payments", "new is raw.orders"],
        ),
        (Decision(Action.wait, Reason.no_reader_due, evidence=NEWER), ["lazy", "raw.orders"]),
        (Decision(Action.build, Reason.upstream_code_changed, evidence={"changed": ("model.p.orders",)}), ["orders"]),
        (
            Decision(Action.build, Reason.retry, evidence={"arrived": ("code", "model.p.orders")}),
            ["its code", "orders"],
        ),
        (Decision(Action.build, Reason.retry, evidence={"job": "nightly"}), ["nightly asks"]),
        (Decision(Action.wait, Reason.retry, 9.0, evidence={"retries": 1}), ["the last build failed", "pause"]),
        (Decision(Action.wait, Reason.retry, 9.0, evidence={"test": "test.p.t"}), ["test.p.t failed on it", "pause"]),
        (Decision(Action.blocked, Reason.retries_exhausted, evidence={"retries": 2}), ["2 retries failed too"]),
        (Decision(Action.blocked, Reason.retries_exhausted, evidence={"retries": 0}), ["no retries are allowed"]),
        (
            Decision(
                Action.blocked,
                Reason.upstream_not_ready,
                waiting_for=("model.p.orders",),
                evidence={"would_be": "new_data"},
            ),
            ["before orders", "new data"],
        ),
    ],
)
def test_the_sentence_tells_the_evidence(decision: Decision, words: list[str]) -> None:
    text = explain(decision, NAMES)
    assert [word for word in words if word not in text] == [], text


def test_long_lists_are_cut_and_counted() -> None:
    assert listed(["a", "b", "c", "d", "e"], {"a": "first"}) == "first, b, c and 2 more"
    assert listed(["a", "b"], {}) == "a, b"


EVENTS: dict[type[e.Event], tuple[e.Event, str]] = {
    type(event): (event, words)
    for event, words in (
        (e.RelationsSeen(("model.p.orders",)), "orders seen in the warehouse again"),
        (e.EngineStarted(), "started"),
        (e.PreviewAsked(7, "0123456789abcdef"), "preview of request 7 asked for at commit 0123456789"),
        (
            e.PreviewMade(7, "0123456789abcdef", "would build 1 of 2"),
            "request 7 at commit 0123456789: would build 1 of 2",
        ),
        (e.HeadSeen("0123456789abcdef", "refs/heads/main"), "main is at commit 0123456789"),
        (e.ProjectLoaded("digest", "0123456789abcdef", ("w",)), "project loaded at commit 0123456789, 1 warning"),
        (e.ProjectRejected("no such model\nline 2", "0123456789abcdef"), "refused at commit 0123456789: no such model"),
        (e.CodePushed("refs/heads/main", None, ("models/a.sql",)), "code changed to refs/heads/main: models/a.sql"),
        (e.DataLanded("source.p.raw.orders", "l1", None, 20), "new data in raw.orders, load l1, 20 rows"),
        (e.SourceProbed("source.p.raw.orders", "metadata", error="locked"), "raw.orders cannot be looked at: locked"),
        (e.RelationDropped("model.p.orders"), "orders is missing"),
        (e.RelationsKnown({"db.s.a": {"node": "model.p.a", "kind": "table", "built": 1.0}}), "relations on record: 1"),
        (e.RelationsCleaned(("db.s.a", "db.s.b")), "having left the project: db.s.a, db.s.b"),
        (e.CleanAsked("c1", ("db.s.a", "db.s.b")), "to be dropped: db.s.a, db.s.b"),
        (
            e.CleanAnswered("c1", {"a": {"status": "gone"}, "b": {"status": "left"}, "c": {"status": "gone"}}),
            "left behind: 2 gone, 1 left",
        ),
        (e.StateCleared(None), "state cleared of all nodes"),
        (e.JobRequested("j", "nightly", 0.0, ("model.p.orders",), False), "job nightly asks for orders, whatever"),
        (e.JobFinished("j1", "failed"), "job j1: failed"),
        (e.RunStarted("r1", {"model.p.orders": "new_data"}, ("t",)), "run r1 of 1 node, 1 test (event)"),
        (e.RunFinished("r1", "error", "dbt is missing"), "run r1: error: dbt is missing"),
        (
            e.BuildStarted("r1", "model.p.orders", "new_data", 0.0, Observed("f"), Code("c")),
            "orders is being built: new data upstream",
        ),
        (e.NodeBuilt("r1", "model.p.orders", 1.25), "orders built in 1.2 s"),
        (e.NodeFailed("r1", "model.p.orders", "Binder Error\nmore"), "orders failed: Binder Error"),
        (e.BuildInterrupted("r1", "model.p.orders"), "orders interrupted"),
        (e.TestFinished("r1", "unique_orders", "fail", message="3 rows"), "test unique_orders: fail: 3 rows"),
    )
}


@pytest.mark.parametrize("kind", e.EVENTS.values(), ids=lambda kind: kind.__name__)
def test_every_kind_of_event_has_its_words(kind: type[e.Event]) -> None:
    event, words = EVENTS[kind]
    assert words in describe(event, NAMES)
