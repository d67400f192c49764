"""Tests that need not run: on which record a proof is accepted, and what takes it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sao_events.core import events as e
from sao_events.core.claims import Claim
from sao_events.core.graph import Graph
from sao_events.core.lineage import Code
from sao_events.core.nodes import Node, Source, Test
from sao_events.core.policy import Settings
from sao_events.core.project import Project, project_digest, project_from_bytes, project_to_bytes
from sao_events.core.proven import Chain, Proofs, Question, hoped
from sao_events.engine.loop import Engine
from sao_events.ports import Draft, NodeBegan, NodeEnded, Piece, PieceEnded, Report, TestEnded
from sao_events.simulate import VirtualClock
from sao_events.store.memory import MemoryStore
from tests.record import Record

SQL = {
    "customers": "select id as customer_id from raw_customers",
    "orders": "select id as order_id, customer_id from raw_orders",
    "joined": "select customers.customer_id, orders.order_id from customers left join orders "
    "on customers.customer_id = orders.customer_id",
    "shown": "select order_id from joined",
    "read": "select order_id from shown where order_id is not null",
}


def model(name: str, *reads: str, kind: str = "table", **more: Any) -> Node:
    """A model whose SQL is known."""
    fields: dict[str, Any] = {"relation": name, "compiled": name, "verbatim": True} | more
    return Node(name, name, kind, reads, Code(name), **fields)


def plain(kind: Any, column: str, relation: str, *reads: str, **more: Any) -> Test:
    """A plain test, named after what it asserts."""
    claim = Claim(relation, kind, column, to=more.pop("to", ""), field=more.pop("field", ""))
    return Test(f"{kind}_{relation}_{column}", "test", (relation, *reads), kind=kind, claim=claim, **more)


NODES = [
    model("customers", "raw_customers"),
    model("orders", "raw_orders"),
    model("joined", "customers", "orders"),
    model("shown", "joined", kind="view"),
    model("read", "shown"),
]
SOURCES = [
    Source("raw_customers", "raw_customers", relation="raw_customers"),
    Source("raw_orders", "o", relation="raw_orders"),
]
TESTS = [
    plain("unique", "customer_id", "customers"),
    plain("not_null", "customer_id", "customers"),
    plain("unique", "order_id", "orders"),
    plain("unique", "order_id", "joined"),
    plain("not_null", "order_id", "joined"),
    plain("relationships", "customer_id", "joined", "customers", to="customers", field="customer_id"),
    plain("not_null", "order_id", "read"),
    plain("unique", "order_id", "read"),
    plain("not_null", "id", "raw_customers"),
]
TYPES = {"customers": {"customer_id": "INTEGER"}, "orders": {"order_id": "INTEGER", "customer_id": "INTEGER"}}
UNIQUE = "unique_joined_order_id"
PREMISES = ("unique_customers_customer_id", "unique_orders_order_id")


def graph(
    *, nodes: Sequence[Node] = NODES, tests: Sequence[Test] = TESTS, sources: Sequence[Source] = SOURCES
) -> Graph:
    """The graph of all these, on DuckDB."""
    return Graph(nodes, sources, tests, "duckdb")


def record(of: Graph | None = None) -> Record:
    """Everything is landed, built, and tested upstream of `joined`."""
    made = Record()
    made.graph = of or graph()
    made.land("raw_customers", "raw_orders").build()
    for name, columns in TYPES.items():
        run = made.start(name)
        made.add(e.NodeBuilt(run, name, columns=columns), e.RunFinished(run, "success"))
    made.build("joined", "shown", "read")
    for test in (*PREMISES, "not_null_customers_customer_id", "not_null_raw_customers_id"):
        made.test(test)
    return made


def proof(made: Record, test: str = UNIQUE) -> Chain | None:
    """The proof of a test on the record."""
    return Question(Proofs(made.graph, SQL.get), made.world).proof_of(made.graph.tests[test])


def with_node(name: str, **changes: Any) -> Graph:
    """The graph with one node that is different."""
    return graph(nodes=[replace(node, **changes) if node.id == name else node for node in NODES])


def with_test(name: str, **changes: Any) -> Graph:
    """The graph with one test that is different."""
    return graph(tests=[replace(test, **changes) if test.id == name else test for test in TESTS])


def test_the_chain_names_each_step() -> None:
    assert proof(record()) == (
        "unique(order_id) of joined: by the SQL of joined",
        "unique(customer_id) of customers: test unique_customers_customer_id",
        "unique(order_id) of orders: test unique_orders_order_id",
    )


def test_a_proof_goes_through_views_and_models_without_tests() -> None:
    made = record()
    assert proof(made, "not_null_read_order_id") == ("not_null(order_id) of read: by the SQL of read",)
    chain = proof(made, "unique_read_order_id")
    assert chain is not None
    assert [step.rpartition(" ")[2] for step in chain] == ["read", "shown", "joined", *PREMISES]


def test_what_the_join_makes_null_is_not_proven() -> None:
    assert proof(record(), "not_null_joined_order_id") is None


def test_what_was_joined_with_is_still_there() -> None:
    made = record()
    assert proof(made, "relationships_joined_customer_id") is not None
    made.build("customers").test("unique_customers_customer_id")
    assert proof(made, "relationships_joined_customer_id") is None  # joined was built from other customers


@pytest.mark.parametrize("name", PREMISES)
@pytest.mark.parametrize("status", ["fail", "warn", "error"])
def test_a_test_that_did_not_pass_proves_nothing(name: str, status: str) -> None:
    assert proof(record().test(name, status)) is None


@pytest.mark.parametrize("name", PREMISES)
def test_a_test_that_never_ran_proves_nothing(name: str) -> None:
    made = record()
    del made.world.tests[name]
    assert proof(made) is None


def test_a_test_of_what_stood_there_before_proves_nothing() -> None:
    made = record().build("orders")
    assert proof(made) is None  # neither was `joined` built from it, nor was it tested
    assert proof(made.build("joined")) is None
    assert proof(made.test("unique_orders_order_id")) is not None


def test_a_test_of_other_data_than_was_read_proves_nothing() -> None:
    made = record().build("orders").test("unique_orders_order_id")
    assert proof(made) is None
    assert proof(made.build("joined")) is not None


def test_a_test_with_another_definition_proves_nothing() -> None:
    made = record()
    made.graph = with_test("unique_orders_order_id", own="edited")
    assert proof(made) is None


def test_a_model_that_stands_as_other_code_made_it_is_not_proven() -> None:
    made = record()
    made.graph = with_node("joined", own=Code("edited"))
    assert proof(made) is None
    made.build("joined")
    assert proof(made) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "incremental"},
        {"kind": "snapshot"},
        {"kind": "python"},
        {"kind": "materialized_view"},
        {"verbatim": False},
        {"compiled": None},
        {"compiled": "no such text"},
        {"relation": "orders"},
    ],
)
def test_only_what_holds_the_rows_of_its_sql_is_proven(changes: dict[str, Any]) -> None:
    of = with_node("joined", **changes)
    if "relation" in changes:
        of = with_node("shown", relation="orders")  # two nodes of one name
    assert proof(record(of)) is None


@pytest.mark.parametrize("kind", ["incremental", "seed", "snapshot", "python"])
def test_whatever_was_tested_as_it_stands_may_be_rested_on(kind: str) -> None:
    assert proof(record(with_node("orders", kind=kind))) is not None


def test_a_materialized_view_is_not_rested_on() -> None:
    assert proof(record(with_node("orders", kind="materialized_view"))) is None


@pytest.mark.parametrize("name", ["joined", "orders"])
def test_what_may_hold_other_rows_than_is_known_is_not_rested_on(name: str) -> None:
    made = record()
    run = made.start(name)
    assert proof(made) is None  # it is being built
    made.add(e.BuildInterrupted(run, name), e.RunFinished(run, "interrupted"))
    assert proof(made) is None
    assert proof(record().fail(name)) is None
    assert proof(record().drop(name)) is None


def test_without_types_a_join_may_make_several_rows_of_one() -> None:
    made = record()
    made.world.nodes["orders"] = replace(
        made.world.nodes["orders"], columns={"order_id": "INTEGER", "customer_id": "VARCHAR"}
    )
    assert proof(made) is None
    made.world.nodes["orders"] = replace(made.world.nodes["orders"], columns={})
    assert proof(made) is None


def test_a_source_is_rested_on_only_where_it_says_what_is_new() -> None:
    claim = plain("not_null", "customer_id", "customers")

    def found(**flags: Any) -> Chain | None:
        sources = [replace(source, **flags) for source in SOURCES]
        return proof(record(graph(sources=sources)), claim.id)

    assert found() is not None
    assert found(view=True) is None
    made = record()
    made.at(1).land("raw_customers")
    assert proof(made, claim.id) is None
    made.build("customers")
    assert proof(made, claim.id) is None
    made.test("not_null_raw_customers_id")
    assert proof(made, claim.id) is not None
    made.world.sources.clear()
    assert proof(made, claim.id) is None  # nobody ever said when it has new data


def test_a_view_that_shows_something_else_each_time_is_not_rested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [*TESTS, plain("unique", "order_id", "shown")]
    made = record(graph(tests=tests, nodes=[*NODES[:3], NODES[3], model("read", "shown")]))
    del made.world.tests["unique_orders_order_id"]
    made.test("unique_shown_order_id")
    assert proof(made, "unique_read_order_id") is not None
    monkeypatch.setitem(SQL, "shown", "select order_id from joined where random() < 0.5")
    assert proof(made, "unique_read_order_id") is None


# What is hoped for before the nodes are built

PIECE = ("customers", "orders", "joined", "shown", "read")


def hopes(made: Record, *tests: str, nodes: Sequence[str] = PIECE) -> set[str]:
    """What is expected to be proven of a piece with all these tests."""
    return set(hoped(Proofs(made.graph, SQL.get), made.world, nodes, tests, tests))


def test_a_test_of_the_same_piece_is_hoped_for_where_its_failure_keeps_the_node_from_being_built() -> None:
    made = record().land("raw_customers", "raw_orders")
    assert hopes(made, *PREMISES, UNIQUE, "unique_read_order_id") == {UNIQUE, "unique_read_order_id"}
    assert hopes(made, PREMISES[0], UNIQUE) == set()
    made.graph = with_test(PREMISES[0], severity="warn")
    assert hopes(made, *PREMISES, UNIQUE) == set()


def test_nothing_is_hoped_of_a_piece_that_builds_less_than_what_is_read() -> None:
    made = record()
    made.drop("orders")
    assert hopes(made, PREMISES[0], UNIQUE, nodes=("customers", "joined")) == set()


class Builds:
    """A builder that does one piece after another, as told."""

    gated = False

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.queue: list[Report] = []
        self.outcome: dict[str, str] = {}
        self.columns: dict[str, dict[str, str]] = dict(TYPES)

    def ready(self, project: str) -> bool:
        return True

    def hashes(self, adapter: str) -> bool:
        return False

    def start(self, piece: Piece, project: Project) -> None:
        self.pieces.append(piece)
        tests = [project.graph.tests[test] for test in piece.tests]
        self.queue += [self._tested(piece, test) for test in tests if test.reads[0] not in piece.nodes]
        for node in piece.nodes:
            self.queue += [NodeBegan(piece.id, node)]
            self.queue += [NodeEnded(piece.id, node, "success", 1.0, columns=self.columns.get(node, {}))]
            self.queue += [self._tested(piece, test) for test in tests if test.reads[0] == node]
        self.queue.append(PieceEnded(piece.id))

    def _tested(self, piece: Piece, test: Test) -> TestEnded:
        return TestEnded(piece.id, test.id, self.outcome.get(test.id, "pass"))

    def reports(self) -> list[Report]:
        found, self.queue = self.queue, []
        return found

    def cancel(self, run: str) -> None:
        self.queue.clear()


class Bench:
    """An engine on the graph, with everything landed and built twice: the second time with the types known."""

    def __init__(self, **settings: Any) -> None:
        self.store, self.builds, self.clock = MemoryStore(), Builds(), VirtualClock(0.0)
        self.store.put_texts(SQL)
        data = project_to_bytes(Project(graph(), adapter="duckdb"))
        self.store.put_project(project_digest(data), data)
        self.engine = Engine(self.store, self.builds, self.clock, Settings(**settings))
        self.append(e.ProjectLoaded(project_digest(data)))
        self.land()

    def append(self, event: e.Event) -> None:
        self.store.append([Draft(event, self.clock.now())])

    def land(self) -> dict[str, e.TestFinished]:
        """New data, and what came of each test then."""
        self.clock.set(self.clock.now() + 10)
        before = self.store.last()
        for source in SOURCES:
            self.append(e.DataLanded(source.id))
        self.engine.step()
        events = [recorded.event for recorded in self.store.read(before)]
        return {event.test: event for event in events if isinstance(event, e.TestFinished)}


def test_a_proven_test_is_left_out_and_recorded_with_its_chain() -> None:
    bench = Bench()
    bench.builds.pieces.clear()
    found = bench.land()
    [piece] = bench.builds.pieces
    assert {test for test, event in found.items() if event.proven} == {
        UNIQUE, "relationships_joined_customer_id", "not_null_read_order_id", "unique_read_order_id",
        "not_null_customers_customer_id",
    }  # fmt: skip
    assert set(piece.tests) == found.keys() - {test for test, event in found.items() if event.proven}
    assert found[UNIQUE].status == "pass"
    assert bench.engine.world.tests[UNIQUE].proven == found[UNIQUE].proven
    assert bench.land().keys() == found.keys()


def test_what_was_hoped_for_and_is_not_proven_runs_in_the_same_run() -> None:
    bench = Bench()
    bench.builds.pieces.clear()
    bench.builds.columns["orders"] = {"order_id": "INTEGER", "customer_id": "VARCHAR"}
    found = bench.land()
    first, second = bench.builds.pieces
    assert UNIQUE not in first.tests
    assert UNIQUE in second.tests
    assert first.run == second.run
    assert not found[UNIQUE].proven


def test_types_that_nobody_looked_at_are_not_those_of_the_build_before() -> None:
    bench = Bench()
    assert bench.land()[UNIQUE].proven
    bench.builds.columns.clear()  # as by a dbt that is not kept warm
    assert not bench.land()[UNIQUE].proven
    assert bench.engine.world.node("orders").columns == {}


def test_a_job_that_is_to_run_all_tests_runs_them() -> None:
    bench = Bench()
    bench.builds.pieces.clear()
    bench.append(e.JobRequested("job", "full", bench.clock.now(), state_aware=False))
    bench.engine.step()
    assert set(bench.builds.pieces[0].tests) == {test.id for test in TESTS}


@pytest.mark.parametrize("settings", [{"prove_tests": False}])
def test_proofs_can_be_turned_off(settings: dict[str, Any]) -> None:
    bench = Bench(**settings)
    assert not any(event.proven for event in bench.land().values())


def test_a_project_keeps_what_tests_assert() -> None:
    project = Project(graph(tests=[*TESTS, replace(TESTS[0], id="other", prove=False, reuse=False)]), adapter="duckdb")
    copy = project_from_bytes(project_to_bytes(project))
    assert list(copy.graph.tests.values()) == list(project.graph.tests.values())
    assert list(copy.graph.nodes.values()) == list(project.graph.nodes.values())
