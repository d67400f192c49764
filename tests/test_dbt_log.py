"""What dbt's events mean, those included that the tests on the real dbt do not see: batches, broken threads, dbt 2."""

from __future__ import annotations

from typing import Any

import pytest

from sao_events.dbt.log import Follower
from sao_events.ports import NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded

PIECE = Piece("p", "r", ("model.a", "model.b"), ("test.t",), "d")
Event = tuple[str, str, dict[str, Any]]


def about(node: str, **fields: Any) -> dict[str, Any]:
    return {"node_info": {"unique_id": node}, **fields}


def start(node: str) -> list[Event]:
    return [("NodeStart", "debug", about(node)), ("LogStartLine", "info", about(node))]


def finish(node: str, status: str, message: str | None = None, seconds: float = 1.5) -> Event:
    result = {"status": status, "message": message, "execution_time": seconds}
    return ("NodeFinished", "debug", about(node, run_result=result))


def follow(*events: Event, code: int = 0, output: str = "", **options: Any) -> list[Report]:
    follower = Follower(PIECE, **options)
    found: list[Report] = []
    for name, level, data in events:
        found += follower.event(name, level, str(data.get("text", "")), data)
    return found + follower.end(code, output)


REST = [*start("model.b"), finish("model.b", "success"), *start("test.t"), finish("test.t", "pass")]
REST_REPORTS: list[Report] = [
    NodeBegan("p", "model.b"),
    NodeEnded("p", "model.b", "success", 1.5, words="success"),
    TestEnded("p", "test.t", "pass", 1.5),
]


def test_a_model_in_batches_begins_and_ends_once() -> None:
    batch = [("NodeStart", "debug", about("model.a")), finish("model.a", "success", "batch 1", 0.5)]
    reports = follow(*start("model.a"), *batch, *batch, finish("model.a", "partial success", "2 of 3"), *REST)
    assert reports == [
        NodeBegan("p", "model.a"),
        NodeEnded("p", "model.a", "error", 1.5, "2 of 3", words="partial success"),
        *REST_REPORTS,
        PieceEnded("p"),
    ]


def test_a_node_whose_thread_broke_is_an_error_with_the_exception() -> None:
    broken = ("GenericExceptionOnRun", "error", about("model.a", exc="\x1b[31mout of range\x1b[0m"))
    assert follow(*start("model.a"), broken, *REST, code=1) == [
        NodeBegan("p", "model.a"),
        *REST_REPORTS,
        NodeEnded("p", "model.a", "error", 0.0, "out of range", words="error"),
        PieceEnded("p"),
    ]


def test_dbt_2_tells_the_error_before_the_end() -> None:
    said = ("Generic", "error", about("model.a", text="[error] boom\n   0: <unknown>\n  1: start_thread\n"))
    reports = follow(*start("model.a"), said, finish("model.a", "error"), *REST, code=1)
    assert reports[1] == NodeEnded("p", "model.a", "error", 1.5, "[error] boom", words="error")
    assert reports[-1] == PieceEnded("p")


def test_dbt_2_calls_a_cancelled_node_a_success() -> None:
    follower = Follower(PIECE)
    follower.event("MainReportVersion", "info", "", {"version": "=2.0.9"})
    for name, level, data in start("model.a"):
        follower.event(name, level, "", data)
    follower.cancelled = True
    _, _, data = finish("model.a", "success")
    assert follower.event("NodeFinished", "debug", "", data) == [
        NodeEnded("p", "model.a", "interrupted", 1.5, words="success")
    ]
    assert follower.end(1) == [PieceEnded("p", "interrupted", "cancelled")]


def test_a_node_that_ended_before_the_cancel_is_what_it_is() -> None:
    follower = Follower(PIECE)
    for name, level, data in [*start("model.a"), finish("model.a", "error", "broken"), *start("model.b")]:
        follower.event(name, level, "", data)
    follower.cancelled = True
    assert follower.end(2) == [
        NodeEnded("p", "model.b", "interrupted", words="interrupted"),
        PieceEnded("p", "interrupted", "cancelled"),
    ]


def test_what_dbt_does_not_run_is_skipped() -> None:
    reports = follow(*start("model.a"), finish("model.a", "success"))
    assert reports[2:] == [
        NodeEnded("p", "model.b", "skipped", 0.0, "dbt did not run it", words="skipped"),
        TestEnded("p", "test.t", "skipped", 0.0, "dbt did not run it"),
        PieceEnded("p"),
    ]


@pytest.mark.parametrize(
    ("events", "code", "output", "told"),
    [
        ([("MainEncounteredError", "error", {"exc": "no such profile"})], 2, "", "no such profile"),
        ([("Generic", "error", {"text": "[error] wrong key"})], 1, "", "[error] wrong key"),
        ([], 2, "Traceback ...\nImportError: no adapter\n", "ImportError: no adapter"),
        ([], 3, "", "exit status 3"),
        ([], -9, "", "out of memory"),
        ([("LogHookEndLine", "info", {"status": "error", "statement": "shop.on-run-end.0"})], 1, "", "on-run-end"),
    ],
)
def test_why_dbt_itself_could_not(events: list[Event], code: int, output: str, told: str) -> None:
    (last,) = follow(*events, code=code, output=output)
    assert isinstance(last, PieceEnded)
    assert last.status == "error"
    assert told in (last.message or "")


def test_a_killed_dbt_fails_what_it_was_at_and_a_stopped_one_interrupts_it() -> None:
    for code, status in ((-9, "error"), (-15, "interrupted")):
        _, ended, last = follow(*start("model.a"), code=code)
        assert isinstance(ended, NodeEnded)
        assert isinstance(last, PieceEnded)
        assert (ended.status, last.status) == (status, "error")


def test_what_was_built_from_another_text_is_never_a_success() -> None:
    asked: list[int] = []

    def changed() -> str:
        asked.append(1)
        return "the files changed"

    reports = follow(*start("model.a"), finish("model.a", "success"), finish("model.b", "skipped"), changed=changed)
    assert reports == [
        NodeBegan("p", "model.a"),
        NodeEnded("p", "model.a", "error", 1.5, "the files changed", words="success"),
        NodeEnded("p", "model.b", "skipped", 1.5, words="skipped"),
        PieceEnded("p", "error", "the files changed"),
    ]
    assert asked == [1]


def test_events_of_other_nodes_say_nothing() -> None:
    other = [*start("operation.hook"), finish("operation.hook", "success"), ("NodeStart", "debug", {})]
    assert follow(*other, *start("model.a"), finish("model.a", "success"), *REST)[2:] == [
        *REST_REPORTS,
        PieceEnded("p"),
    ]


def test_a_test_may_end_in_any_of_its_ways() -> None:
    for status in ("pass", "warn", "fail", "error", "skipped"):
        reports = follow(*start("test.t"), finish("test.t", status, "Got 1 result"))
        assert reports[0] == TestEnded("p", "test.t", status, 1.5, "Got 1 result")
    assert follow(*start("test.t"), finish("test.t", "runtime error"))[0] == TestEnded("p", "test.t", "error", 1.5)
