"""What every store promises of deliveries, as a suite that the tests of each store inherit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sao_events.core.errors import UsageError
from sao_events.core.events import CodePushed
from sao_events.ports import VERDICTS, Delivered, Delivery, Draft, Incoming, Receipt, Store
from sao_events.store import deliveries


def push(key: str | None) -> Draft:
    """An event with this key."""
    return Draft(CodePushed("refs/heads/main"), 5.0, key, "webhook hub")


def came(delivery: str | None = "1", digest: str = "aa", at: float = 10.0, verdict: str = "accepted") -> Delivery:
    """A delivery of the endpoint hub."""
    return Delivery(at, "hub", "github", verdict, None, delivery, digest, "f1", {"x-github-event": "push"})


def receive(store: Store, delivery: Delivery, *keys: str | None, again: int | None = None) -> Receipt:
    """Record a delivery with events of these keys."""
    [receipt] = store.receive([Incoming(delivery, [push(key) for key in keys], again)]).result(20)
    return receipt


def told(store: Store, **asked: Any) -> list[tuple[str, int, tuple[int, ...]]]:
    """Verdict, times and events of what is on record, oldest first."""
    return [(it.delivery.verdict, it.delivery.times, it.events) for it in reversed(store.deliveries(**asked))]


class DeliveriesContract:
    """Part of `StoreContract`."""

    def test_a_delivery_is_recorded_with_its_events(self, store: Store) -> None:
        landings = ({"relation": "raw.orders", "rows": 3},)
        receipt = receive(store, replace(came(), landings=landings, reason="größer"), "a", None)
        assert [item and item.seq for item in receipt.recorded] == [1, 2]
        [delivered] = store.deliveries()
        assert delivered == receipt.delivered
        assert delivered == Delivered(1, replace(came(), landings=landings, reason="größer"), (1, 2), 10.0)
        assert [item.key for item in store.read()] == ["a", None]

    def test_the_same_delivery_again_makes_nothing(self, store: Store) -> None:
        receive(store, came(), "a")
        for at in (20.0, 30.0):
            receipt = receive(store, came(at=at), None, "b")
            assert receipt.recorded == (None, None)
            assert receipt.delivered.delivery.verdict == "duplicate"
        assert store.last() == 1
        assert told(store) == [("accepted", 1, (1,)), ("duplicate", 2, ())]
        [again] = store.deliveries(verdict="duplicate")
        assert (again.delivery.at, again.last) == (20.0, 30.0)

    def test_another_body_under_the_same_id_is_a_conflict(self, store: Store) -> None:
        receive(store, came(), "a")
        for digest in ("bb", "cc", "bb"):
            assert receive(store, came(digest=digest), "b").recorded == (None,)
        assert told(store) == [("accepted", 1, (1,)), ("conflict", 2, ()), ("conflict", 1, ())]
        assert receive(store, came(), "a").delivered.delivery.verdict == "duplicate"
        assert store.last() == 1

    def test_ids_are_those_of_an_endpoint(self, store: Store) -> None:
        receive(store, came(), "a")
        assert receive(store, replace(came(), endpoint="other"), "b").delivered.delivery.verdict == "accepted"
        assert store.last() == 2

    def test_what_is_in_the_log_under_another_id_is_a_duplicate(self, store: Store) -> None:
        receive(store, came("1"), "a")
        receive(store, came("2"), "a")
        receive(store, came("2"), "a")
        assert receive(store, came("2", "other"), "c").delivered.delivery.verdict == "conflict"
        assert receive(store, came("3"), "a", "b").delivered.delivery.verdict == "accepted"
        assert told(store, verdict="accepted") == [("accepted", 1, (1,)), ("accepted", 1, (2,))]

    @pytest.mark.parametrize("verdict", ["ignored", "unmatched", "waiting", "invalid"])
    def test_what_came_to_nothing_is_judged_again_in_its_place(self, store: Store, verdict: str) -> None:
        first = receive(store, came(verdict=verdict)).delivered
        receive(store, came(verdict=verdict, at=11.0))
        assert told(store) == [(verdict, 2, ())]
        receipt = receive(store, came(at=12.0), "a")
        assert receipt.delivered.id == first.id
        assert told(store) == [("accepted", 3, (1,))]
        assert receive(store, came(at=13.0), "b").recorded == (None,)

    def test_one_can_be_judged_again_by_its_number(self, store: Store) -> None:
        first = receive(store, replace(came(None, verdict="unmatched"), landings=({"x": 1},))).delivered
        receive(store, came(None), "a", again=first.id)
        assert told(store) == [("accepted", 1, (1,))]
        assert store.deliveries()[0].delivery.landings == ()

    def test_one_that_two_judge_again_makes_its_events_once(self, store: Store) -> None:
        first = receive(store, replace(came(None, verdict="waiting"), landings=({"x": 1},))).delivered
        assert receive(store, came(None), None, again=first.id).recorded != (None,)
        late = receive(store, came(None), None, again=first.id)
        assert (late.recorded, late.delivered) == ((None,), store.deliveries()[0])
        assert told(store) == [("accepted", 1, (1,))]
        assert store.last() == 1

    def test_those_with_landings_are_found_and_what_is_not_acted_on_has_none(self, store: Store) -> None:
        landings = ({"x": 1},)
        receive(store, replace(came("1"), landings=landings), "a")
        receive(store, came("2"), "b")
        receive(store, replace(came("3", verdict="unmatched"), landings=landings))
        for digest in ("aa", "bb"):
            assert receive(store, replace(came("1", digest), landings=landings), "a").delivered.delivery.landings == ()
        assert [it.id for it in store.deliveries(lost=True)] == [3, 1]
        assert [it.id for it in store.deliveries(verdict="accepted", lost=True)] == [1]

    def test_without_an_id_each_counts(self, store: Store) -> None:
        for _ in range(2):
            receive(store, came(None), None)
        assert told(store) == [("accepted", 1, (1,)), ("accepted", 1, (2,))]

    def test_rejected_ones_are_counted_by_the_minute(self, store: Store) -> None:
        for at, reason, times in ((0.0, "no signature", 1), (59.0, "no signature", 5), (60.0, "no signature", 1)):
            receive(store, Delivery(at, "hub", "github", "rejected", reason, times=times))
        receive(store, Delivery(61.0, "hub", "github", "rejected", "wrong signature"))
        assert told(store) == [("rejected", 6, ()), ("rejected", 1, ()), ("rejected", 1, ())]

    def test_those_that_made_no_event_do_not_pile_up(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deliveries, "MOST", 20)
        monkeypatch.setattr(deliveries, "MOST_REJECTED", 10)
        for number in range(100):
            receive(store, came(f"a{number}"), None)
            receive(store, came(f"i{number}", verdict="ignored"))
            receive(store, Delivery(60.0 * number, "hub", "github", "rejected", "no signature"))
        for number in range(100):
            receive(store, came(f"w{number}", verdict="waiting"))
        for verdict in ("accepted", "waiting"):
            assert len(store.deliveries(verdict=verdict, limit=1000)) == 100
        assert 20 <= len(store.deliveries(verdict="ignored", limit=1000)) <= 20 + 3 * deliveries.PRUNE
        assert 10 <= len(store.deliveries(verdict="rejected", limit=1000)) <= 10 + 3 * deliveries.PRUNE
        assert store.deliveries(verdict="ignored", limit=1)[0].delivery.delivery == "i99"

    def test_they_are_found_by_endpoint_verdict_and_number(self, store: Store) -> None:
        for number, verdict in enumerate(VERDICTS):
            receive(store, replace(came(str(number), verdict=verdict), endpoint=f"hub{number % 2}"))
        assert [it.id for it in store.deliveries()] == [8, 7, 6, 5, 4, 3, 2, 1]
        assert [it.id for it in store.deliveries(limit=2)] == [8, 7]
        assert [it.id for it in store.deliveries("hub1", before=6)] == [4, 2]
        assert [it.id for it in store.deliveries(verdict="conflict")] == [6]
        assert store.deliveries("nobody") == []

    def test_fifty_at_once_are_one(self, store: Store) -> None:
        with ThreadPoolExecutor(50) as pool:
            receipts = list(pool.map(lambda _: receive(store, came(), None), range(50)))
        assert sum(receipt.delivered.delivery.verdict == "accepted" for receipt in receipts) == 1
        assert store.last() == 1
        assert told(store) == [("accepted", 1, (1,)), ("duplicate", 49, ())]

    def test_what_no_database_can_hold_is_refused(self, store: Store) -> None:
        for wrong in (
            replace(came(), delivery="a\0b"),
            replace(came(), headers={"user-agent": "\ud800"}),
            replace(came(), at=float("nan")),
            replace(came(), landings=({"rows": float("inf")},)),
        ):
            with pytest.raises(UsageError):
                receive(store, wrong, "a")
        with pytest.raises(UsageError):
            receive(store, came(), "a\0b")
        assert (store.last(), store.deliveries()) == (0, [])
